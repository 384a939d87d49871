//! The WebSocket protocol core as bytes in, events out.

mod peer;
mod reader;
mod split;
mod support;
