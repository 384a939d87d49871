//! Requests and their responses, whatever version carries them.
//!
//! - [`exchange`]: one request and its response, as the handler drives it
//! - [`handler`]: who handles requests; `reply`: how a response gets to the client
//! - `head`, `response`: what the heads of the two have to be like; [`status`]: the first line of the second
//! - [`request_body`], `response_body`: whole, streamed or from a file
//! - `h1`, [`h2`]: the bytes of the two versions around hyper and h2; `preface`: which of them a client speaks

pub mod exchange;
pub(crate) mod h1;
pub mod h2;
pub mod handler;
pub(crate) mod head;
mod preface;
pub(crate) mod reply;
pub mod request_body;
pub(crate) mod response;
pub(crate) mod response_body;
#[cfg(test)]
mod sim;
pub mod status;
