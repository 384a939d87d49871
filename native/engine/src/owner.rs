//! The process that owns a connection, as the engine sees it.

use std::io;

use crate::buffer::Buffer;
use crate::error::HttpError;
use crate::net::Address;

/// A message's bytes, inflated: lent when its frame was read as a whole, given away otherwise.
/// A given buffer may have spare capacity.
#[derive(Debug)]
pub enum Payload<'a, B> {
    Slice(&'a [u8]),
    Buffer(B),
}

/// Takes what was read of a WebSocket, in order.
pub trait Sink<B: Buffer> {
    fn text(&mut self, payload: Payload<'_, B>);
    fn binary(&mut self, payload: Payload<'_, B>);
    fn ping(&mut self, payload: &[u8]);
    fn pong(&mut self, payload: &[u8]);
    /// The last call there is. `code` is `None` when the frame had none.
    fn close(&mut self, code: Option<u16>, reason: &[u8]);
}

/// What a batch of WebSocket events is collected into. The last four end it.
pub trait Events<B: Buffer>: Sink<B> {
    fn error(&mut self, code: u16, reason: &'static str);
    fn timeout(&mut self);
    fn lifetime(&mut self);
    fn closed(&mut self, reason: &io::Error);
    /// Whether there is nothing to send.
    fn is_empty(&self) -> bool;
}

/// One for each connection. Every call sends a message and returns; a message to a dead owner is
/// dropped, because its death ends the connection by another way. Only tasks of
/// the engine call these.
pub trait Owner: Send + Sync + Sized + 'static {
    type Buffer: Buffer;
    type Batch<'a>: Events<Self::Buffer>;

    /// What the owner is offered: a request with what answers it.
    type Request: Send;

    /// A request waits to be taken
    /// ([`Connection::take`](crate::connection::Connection::take)). `false` when there is nobody to do so.
    fn request(&self) -> bool;

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
