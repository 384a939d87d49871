//! HTTP/2 (RFC 9113) by h2, which knows the frames, the streams and their windows.
//!
//! - `serve`: the task of a connection: its streams, deadlines and end
//! - [`filter`]: what is wrong with a client's frames, before h2 sees them; `filtered`: around the socket
//! - `frame`, `block`, `hpack`, `huffman`, `field`, `streams`: what the filter is made of
//! - `preface`: how a client without TLS says that it speaks it
//! - `response`: a response on its stream, as fast as the client takes it

mod block;
mod field;
pub mod filter;
mod filtered;
mod frame;
mod hpack;
mod huffman;
mod preface;
mod response;
mod serve;
mod streams;

pub(crate) use preface::{Guess, Opening, guess};
pub(crate) use response::{await_end, inform, leave, open, send};
pub(crate) use serve::serve;
