//! The WebSocket protocol core as bytes in, events out.

mod cut;
mod deflate;
mod inflate;
mod peer;
mod puff;
mod reader;
mod split;
mod support;
