//! WebSockets (RFC 6455).
//!
//! - [`frame`], [`message`]: the protocol, without I/O: bytes in, events out
//! - `handshake`: what the opening handshake needs of a request, and adds to its response
//! - [`extension`], [`deflate`]: permessage-deflate (RFC 7692): the negotiation and the coding
//! - [`transport`]: the connection or the stream that the frames travel on
//! - [`ending`]: the last event, for an owner that asks again
//! - [`encoder`]: messages into frames, compressed where that takes no time
//! - [`outbound`]: what goes to the peer: written where the sender stands, queued when it must be
//! - [`socket`]: the task that reads, keeps the times, and ends the connection

pub mod deflate;
mod encoder;
pub mod ending;
pub mod extension;
pub mod frame;
pub(crate) mod handshake;
pub mod message;
mod outbound;
mod queue;
pub mod socket;
pub(crate) mod transport;
mod utf8;

pub use encoder::Message;
pub use outbound::Sent;

/// Bytes: a control frame's 125 less the code (RFC6455§5.5).
pub const MAX_CLOSE_REASON: usize = 123;
