//! HTTP/1 (RFC 9112) by hyper.
//!
//! - `serve`: the task of a connection: its requests, deadlines and end
//! - `deadlines`: when the head of a request has to be there
//! - `head_scanner`: what of it hyper does not see as it came

pub(crate) mod deadlines;
pub(crate) mod head_scanner;
mod serve;

pub(crate) use serve::{Outcome, serve};
