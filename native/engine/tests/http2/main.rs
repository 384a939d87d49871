//! What a client of HTTP/2 sends, through the filter and into h2, without I/O.

mod client;
mod isolation;
mod judge;
mod passing;
mod split;
