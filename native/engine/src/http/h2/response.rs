//! A response on its stream, and the end of that. What the client's windows have no room for waits in a
//! task of its own.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::body::{Body, Frame};

use crate::error::SendError;
use crate::flow::{HeldBytes, Stall};
use crate::http::response::added_length;
use crate::http::response_body::{Data, ResponseBody, Tracked};
use crate::net::linger::linger_on_stream;
use crate::rt::Reactor;
use crate::rt::timer::Timer;

/// What a stream asks for at once of the room that it shares with the others of its connection.
const PIECE: usize = 64 * 1024;

/// Sends a response, or as much of it as there is room for; a task sends the rest.
pub(crate) fn send(
    mut stream: SendResponse<Bytes>,
    response: Response<Tracked>,
) -> Result<(), SendError> {
    let (head, body) = response.into_parts();
    let mut head = Response::from_parts(head, ());
    complete(head.headers_mut());
    let is_head = body.origin.is_head();
    if let Some(length) = added_length(&body.body, is_head) {
        let headers = head.headers_mut();
        headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
    let is_whole = is_head || body.body.is_empty();
    let stream = stream
        .send_response(head, is_whole)
        .map_err(|_| SendError::Closed)?;
    if is_whole {
        return Ok(());
    }
    let reactor = body.origin.reactor();
    let mut rest = Rest::new(stream, body);
    // Mostly there is room for all of it.
    let mut context = Context::from_waker(Waker::noop());
    if Pin::new(&mut rest).poll(&mut context).is_pending() {
        rest.hold_whole();
        reactor.spawn(rest);
    }
    Ok(())
}

/// Sends an informational response.
pub(crate) fn inform(
    stream: &mut SendResponse<Bytes>,
    status: StatusCode,
    mut headers: HeaderMap,
) -> Result<(), SendError> {
    strip(&mut headers);
    let mut head = Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = headers;
    stream
        .send_informational(head)
        .map_err(|_| SendError::Closed)
}

/// Sends the head of a response that has no end of its own.
pub(crate) fn open(
    mut stream: SendResponse<Bytes>,
    response: Response<ResponseBody>,
) -> Result<SendStream<Bytes>, SendError> {
    let mut head = response.map(|_body| ());
    complete(head.headers_mut());
    stream
        .send_response(head, false)
        .map_err(|_| SendError::Closed)
}

/// Lets the client end a stream whose response it gets. Some take a reset for a failure of the response,
/// although it may say NO_ERROR (RFC9113§8.1). What they send meanwhile is not received.
pub(crate) fn drain(reactor: &Reactor, body: RecvStream) {
    let mut end = Box::pin(linger_on_stream(body));
    let mut context = Context::from_waker(Waker::noop());
    if end.as_mut().poll(&mut context).is_pending() {
        reactor.spawn(end);
    }
}

fn complete(headers: &mut HeaderMap) {
    strip(headers);
    headers.entry(DATE).or_insert_with(date);
}

/// Takes out what is for HTTP/1 alone (RFC9113§8.2.2).
fn strip(headers: &mut HeaderMap) {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// That of now, made once a second.
fn date() -> HeaderValue {
    thread_local! {
        static DATE: RefCell<(u64, HeaderValue)> =
            const { RefCell::new((0, HeaderValue::from_static(""))) };
    }
    let now = SystemTime::now();
    let second = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    DATE.with_borrow_mut(|(made, date)| {
        if *made != second {
            let text = httpdate::fmt_http_date(now);
            *date = HeaderValue::try_from(text).expect("a date is a header value");
            *made = second;
        }
        date.clone()
    })
}

/// What is left of a response.
struct Rest {
    stream: SendStream<Bytes>,
    body: Tracked,
    /// Of the body, but not yet given to the stream.
    piece: Bytes,
    timer: Timer,
    /// Since when the client takes nothing.
    stalled: Option<Stall>,
    /// Counts a whole body, which nobody else does.
    held: Option<HeldBytes>,
}

impl Rest {
    fn new(stream: SendStream<Bytes>, body: Tracked) -> Self {
        Self {
            stream,
            body,
            piece: Bytes::new(),
            timer: Timer::default(),
            stalled: None,
            held: None,
        }
    }

    fn hold_whole(&mut self) {
        if let ResponseBody::Whole(_) = self.body.body {
            self.held = Some(self.body.origin.budget().hold(self.piece.len()));
        }
    }

    /// Ready when there is a piece to send; `None` when there is nothing more to do.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        if !self.piece.is_empty() {
            return Poll::Ready(Some(()));
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match frame.map_ok(Frame::into_data) {
            Poll::Ready(Some(Ok(Ok(Data::Bytes(piece))))) => {
                self.piece = piece;
                Poll::Ready(Some(()))
            }
            Poll::Ready(None) => {
                // It fails where the client is gone.
                let _ = self.stream.send_data(Bytes::new(), true);
                Poll::Ready(None)
            }
            // A placeholder, too, would be an error: only HTTP/1 can write it.
            Poll::Ready(Some(_)) => {
                self.stream.send_reset(Reason::INTERNAL_ERROR);
                Poll::Ready(None)
            }
            // The client may lose interest while the handler takes its time.
            Poll::Pending => self.stream.poll_reset(cx).map(|_| None),
        }
    }

    /// Ready when the client's windows have room for something; `None` when it will never be sent.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        self.stream.reserve_capacity(self.piece.len().min(PIECE));
        loop {
            let room = self.stream.capacity();
            if room > 0 || self.piece.is_empty() {
                self.stalled = None;
                return Poll::Ready(Some(room));
            }
            match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        let origin = &self.body.origin;
        let since = Stall::note(&mut self.stalled, origin.data_sent());
        let due = since + origin.send_timeout();
        if self.body.body.is_aborted(cx) || self.timer.poll(cx, due).is_ready() {
            self.stream.send_reset(Reason::CANCEL);
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

impl Future for Rest {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            let Some(()) = ready!(this.poll_piece(cx)) else {
                return Poll::Ready(());
            };
            let Some(room) = ready!(this.poll_room(cx)) else {
                return Poll::Ready(());
            };
            let part = this.piece.split_to(room.min(this.piece.len()));
            let is_last = this.piece.is_empty() && this.body.is_end_stream();
            if this.stream.send_data(part, is_last).is_err() || is_last {
                return Poll::Ready(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_for_http_1_alone_is_not_sent() {
        let mut headers = HeaderMap::new();
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "transfer-encoding",
            "upgrade",
            "x",
        ] {
            headers.append(name, HeaderValue::from_static("1"));
            headers.append(name, HeaderValue::from_static("2"));
        }
        strip(&mut headers);
        let left: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(left, ["x", "x"]);
    }

    #[test]
    fn a_final_response_has_a_date_and_keeps_the_handlers() {
        let mut headers = HeaderMap::new();
        complete(&mut headers);
        let date = headers[DATE].to_str().unwrap();
        let age = SystemTime::now().duration_since(httpdate::parse_http_date(date).unwrap());
        assert!(age.unwrap() < Duration::from_secs(60));

        headers.insert(DATE, HeaderValue::from_static("today"));
        complete(&mut headers);
        assert_eq!(headers[DATE], "today");
    }
}
