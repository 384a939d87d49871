//! The body of a request, as the handler reads it, and what becomes of the rest.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use super::{Exchange, State};
use crate::error::ReadError;
use crate::http::h2 as http2;
use crate::http::reply::Reply;
use crate::http::request_body::{Piece, RequestBody, Rest, Source};
use crate::owner::Owner;
use crate::rt::lock;

/// How often hyper may read more of a body before what it has counts as all that has arrived.
const LOOKS: usize = 2;

impl<O: Owner> Exchange<O> {
    /// Reads up to `length` bytes of the body; `timeout` is for each piece of it.
    pub fn read(
        self: &Arc<Self>,
        length: usize,
        timeout: Option<Duration>,
        answer: impl FnOnce(Result<Piece<O::Buffer>, ReadError>) + Send + 'static,
    ) {
        let exchange = self.clone();
        let body = {
            let mut state = lock(&self.state);
            state.ask_for_body();
            if let Some(body) = &state.body {
                state.being_read = body.rest();
            }
            state.body.take()
        };
        self.connection.reactor.spawn(async move {
            let Some(mut body) = body else {
                return answer(Err(ReadError::AlreadyReading));
            };
            let result = body.read(length, timeout).await;
            let mut state = lock(&exchange.state);
            state.body_error = result.as_ref().err().copied();
            let has_ended = state.ended;
            let rest = has_ended.then(|| body.end()).flatten();
            let drains = state.drains;
            state.body = Some(body);
            drop(state);
            if has_ended {
                exchange.let_go(rest, drains);
            }
            answer(result);
        });
    }

    /// Why the last read of the body came to nothing, if it did: what the client has done wrong.
    pub fn body_error(&self) -> Option<ReadError> {
        lock(&self.state).body_error
    }

    /// Whether another request can follow, although nobody may have read all of this one's body: it is at
    /// its end, or so near to it that the rest can be read. Asked as the head of the response goes out,
    /// which tells the client; so this looks at what has arrived, but waits for nothing.
    pub(crate) async fn can_go_on(&self, max_unread: u64) -> bool {
        let mut looks = Looks::default();
        poll_fn(|cx| {
            let mut state = lock(&self.state);
            state.drains = ready!(state.poll_can_go_on(cx, max_unread, &mut looks));
            Poll::Ready(state.drains)
        })
        .await
    }

    /// The response is out, or will never be.
    pub(super) fn response_ended(&self) {
        let mut state = lock(&self.state);
        state.ended = true;
        state.has_left();
        let drains = state.drains;
        let Some(body) = state.body.as_mut() else {
            drop(state);
            // By whoever reads it, later.
            return self.request_ended(drains);
        };
        let rest = body.end();
        drop(state);
        self.request_ended(drains && rest.is_some());
        if rest.is_some() {
            self.let_go(rest, drains);
        }
    }

    /// `drains`: what is left of the body comes before the next request.
    fn request_ended(&self, drains: bool) {
        if let Some(wire) = self.wire() {
            match drains {
                true => wire.drain_started(),
                false => wire.request_ended(),
            }
        }
    }

    fn let_go(&self, rest: Option<Source>, drains: bool) {
        match rest {
            Some(rest) if drains => self.drain(rest),
            rest => {
                self.discard(rest);
                if drains && let Some(wire) = self.wire() {
                    wire.drain_ended();
                }
            }
        }
    }

    /// Reads the rest of a body, which hyper then takes for read. The client has sent it before it knew of
    /// the response, so its next request comes after it. The deadline is the connection's.
    fn drain(&self, mut rest: Source) {
        let wire = self.wire();
        self.reactor().spawn(async move {
            while let Some(Ok(_)) = poll_fn(|cx| rest.poll_data(cx)).await {}
            drop(rest);
            if let Some(wire) = wire {
                wire.drain_ended();
            }
        });
    }

    /// Lets go of what nobody has read of a body. With HTTP/1 that ends the connection: hyper cannot find
    /// the next request.
    fn discard(&self, rest: Option<Source>) {
        if let Some(Source::Http2 { body, .. }) = rest {
            http2::drain(self.reactor(), body);
        }
    }
}

impl State {
    fn ask_for_body(&mut self) {
        if std::mem::take(&mut self.expects_continue)
            && let Some(Reply::Http2 { stream, .. }) = &mut self.reply
        {
            // It fails where the client is gone, which reading will tell.
            let _ = http2::inform(stream, StatusCode::CONTINUE, HeaderMap::new());
        }
    }

    fn poll_can_go_on(
        &mut self,
        cx: &mut Context<'_>,
        max_unread: u64,
        looks: &mut Looks,
    ) -> Poll<bool> {
        let body = self.body.as_mut();
        let rest = body.as_ref().map_or(self.being_read, |body| body.rest());
        Poll::Ready(match (rest, body) {
            (Rest::Nothing, _) => true,
            // A client that was not asked may send the body or the next request.
            _ if self.expects_continue => false,
            (Rest::Bytes(length), _) => length <= max_unread,
            // Whoever reads it may want all of it, or not.
            (Rest::Unknown, None) => false,
            (Rest::Unknown, Some(body)) => ready!(looks.poll_is_at_end(cx, body, max_unread)),
        })
    }
}

/// Looks whether the end of a body of unknown length has arrived.
#[derive(Default)]
struct Looks {
    /// Pieces of it.
    seen: usize,
    /// Looks since there was a new one.
    count: usize,
}

impl Looks {
    fn poll_is_at_end(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut RequestBody,
        max_unread: u64,
    ) -> Poll<bool> {
        if let Poll::Ready(rest) = body.poll_ahead(cx, max_unread) {
            return Poll::Ready(rest == Rest::Nothing);
        }
        if body.pieces_ahead() > self.seen {
            self.seen = body.pieces_ahead();
            self.count = 0;
        }
        self.count += 1;
        if self.count > LOOKS {
            return Poll::Ready(false);
        }
        // hyper reads when this has returned, and comes back.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
