//! HTTP/2 (RFC 9113) by h2, which knows the frames, the streams and their windows.
//!
//! - `serve`: the task of a connection: its streams, deadlines and end
//! - `preface`: how a client without TLS says that it speaks it
//! - `response`: a response on its stream, as fast as the client takes it

mod preface;
mod response;
mod serve;

pub(crate) use preface::{Guess, Opening, guess};
pub(crate) use response::{await_end, inform, leave, open, send};
pub(crate) use serve::serve;
