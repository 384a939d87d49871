//! Requests and their responses, whatever version carries them.
//!
//! - [`exchange`]: one request and its response, as the handler drives it
//! - `service`: how a request becomes one; `reply`: how its response gets to the client
//! - `head`, `response`: what the heads of the two have to be like; [`status`]: the first line of the second
//! - [`request_body`], `response_body`: whole, streamed or from a file
//! - `h1`, [`h2`]: what runs on a connection meanwhile: hyper or h2, and the deadlines that these do not keep

pub mod exchange;
pub(crate) mod h1;
pub mod h2;
pub(crate) mod head;
pub(crate) mod reply;
pub mod request_body;
pub(crate) mod response;
pub(crate) mod response_body;
pub(crate) mod service;
pub mod status;
