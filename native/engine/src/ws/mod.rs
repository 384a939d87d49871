//! WebSockets (RFC 6455).
//!
//! - [`frame`], [`message`]: frames and messages, without I/O: bytes in, events out; `partial`: what has been read
//!   in part
//! - `handshake`: what the opening handshake needs of a request, and adds to its response
//! - [`extension`], [`deflate`]: permessage-deflate (RFC 7692): the negotiation and the coding
//! - [`transport`]: the connection or the stream that the frames travel on
//! - [`ending`]: the last event, for an owner that asks again
//! - [`cache`]: what was compressed of late
//! - [`encoder`]: messages into frames, compressed where that takes no time
//! - [`outbound`]: what goes to the peer: written where the sender stands, queued when it must be
//! - [`protocol`]: the life of a socket as a machine: its times, its end, and what its owner hears of it
//! - [`credit`]: how far the owner may be behind
//! - [`task`]: reads, writes and waits as that machine says
//! - [`socket`]: the handle that the owner sends through, from any thread

mod cache;
mod credit;
pub mod deflate;
mod encoder;
pub mod ending;
pub mod extension;
pub mod frame;
pub(crate) mod handshake;
pub mod message;
mod outbound;
mod partial;
mod protocol;
mod queue;
pub mod socket;
pub(crate) mod task;
pub(crate) mod transport;
mod utf8;

pub use encoder::Message;
pub use outbound::Sent;

/// Bytes: a control frame's 125 less the code (RFC6455§5.5).
pub const MAX_CLOSE_REASON: usize = 123;
