//! The bytes of HTTP/2 (RFC 9113) around h2, which knows the frames, the streams and their windows.
//!
//! - [`filter`]: what is wrong with a client's frames, before h2 sees them; `filtered`: around the socket
//! - `frame`, `block`, `hpack`, `huffman`, `field`, `rewrite`, `streams`: what the filter is made of
//! - `deadlines`: when a preface, a stream or an end has to be there
//! - `response`: a response on its stream, as fast as the client takes it

mod block;
pub(crate) mod deadlines;
mod field;
pub mod filter;
mod filtered;
mod frame;
mod hpack;
mod huffman;
mod response;
mod rewrite;
mod streams;

pub(crate) use filtered::{Fault, Filtered};
pub(crate) use response::{drain, inform, open, send};
