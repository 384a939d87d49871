//! The process that owns a connection, as the engine sees it.

use std::sync::Weak;

use http::{HeaderMap, Method, Version};

use crate::buffer::Buffer;
use crate::connection::Connection;
use crate::error::HttpError;
use crate::net::Address;
use crate::ws::message::Sink;

/// The head of a request, checked: what the handler gets.
pub struct Request<'a> {
    pub method: &'a Method,
    /// Empty when an HTTP/1.0 request named none.
    pub host: &'a str,
    pub port: Option<u16>,
    pub path: &'a str,
    pub query: &'a str,
    pub version: Version,
    pub headers: &'a HeaderMap,
    pub peer: &'a Address,
}

/// What a batch of WebSocket events is collected into. The last four end it.
pub trait Events<B: Buffer>: Sink<B> {
    fn error(&mut self, code: u16, reason: &'static str);
    fn timeout(&mut self);
    fn lifetime(&mut self);
    fn closed(&mut self, reason: &std::io::Error);
    /// Whether there is nothing to send.
    fn is_empty(&self) -> bool;
}

/// One for each connection. Every call sends a message and returns; a message to a dead owner is
/// dropped, because its death ends the connection by another way. Only tasks of
/// the engine call these.
pub trait Owner: Send + Sync + Sized + 'static {
    type Buffer: Buffer;
    type Batch<'a>: Events<Self::Buffer>;

    /// A request waits to be taken ([`Connection::take`]). `false` when there is nobody to do so.
    fn request(&self) -> bool;

    /// The owner-to-be of one stream of a connection that this one accepted.
    fn of_stream(&self, stream: Weak<Connection<Self>>) -> Self;

    /// The HTTP connection has ended without becoming a WebSocket.
    fn closed(&self);

    /// Sends what `fill` collects as one message; none if that is nothing.
    fn deliver<R>(&self, fill: impl for<'a> FnOnce(&mut Self::Batch<'a>) -> R) -> R;

    /// The WebSocket has been idle for a while. Not an event: nothing has to be answered.
    fn idle(&self);

    /// Reading has waited for answers for a while. Whatever came before this has been handled when this
    /// is, so that so many batches are answered, also those that were lost
    /// ([`Socket::resume`](crate::ws::socket::Socket::resume)).
    fn paused(&self, batches: u32);

    /// A peer was answered without the owner.
    fn http_error(&self, peer: &Address, error: HttpError);
}
