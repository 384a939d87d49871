//! The engine without a BEAM: the same listener, connections and sockets, with handlers in Rust.

mod file;
mod http;
mod support;
mod websocket;
