//! The bytes of HTTP/1 (RFC 9112) around hyper.
//!
//! - `io`: what hyper reads and writes
//! - `wire`: what is known of the connection by all who have to do with its bytes
//! - `deadlines`: when the head of a request has to be there
//! - `head_scanner`: what of a head hyper does not see as it came
//! - `heads`: those that are written without hyper

pub(crate) mod deadlines;
mod head_scanner;
pub(crate) mod heads;
pub(crate) mod io;
pub(crate) mod wire;
