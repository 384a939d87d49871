//! A connection while it speaks HTTP/2 (RFC 9113): h2, the deadlines and limits that h2 does not keep, and how
//! the request of a stream becomes an exchange.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{self, Builder, SendResponse};
use http::header::UPGRADE;
use http::{HeaderMap, Request};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Http2Config;
use crate::connection::Connection;
use crate::error::HttpError;
use crate::http::exchange::Exchange;
use crate::http::h2::deadlines::{Deadlines, Late, Limits};
use crate::http::h2::{Fault, Filtered};
use crate::http::handler::{self, Handler};
use crate::http::head::check_http2;
use crate::http::reply::Reply;
use crate::http::request_body::{RequestBody, Source};
use crate::http::response::content_length;
use crate::net::io::Io;
use crate::net::writer::Writer;
use crate::rt;
use crate::rt::timer::Timer;
use crate::server::Stage;

/// Bytes that a connection may have received for handlers that do not read. A few that are slow must not
/// keep the others from receiving.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Bytes of each stream that wait for the connection, beside what waits for the client's windows: a client
/// that opens its windows wide and reads nothing has us keep this for each of its streams. Nobody counts
/// these bytes, so they are one frame.
const SEND_BUFFER: usize = 16 * 1024;

/// Serves the streams until the connection has ended. An error is the client's fault.
pub(super) async fn serve<O: Handler>(
    connection: &Arc<Connection<O>>,
    config: &Http2Config,
    io: Io,
    early: Vec<u8>,
) -> Result<(), HttpError> {
    let mut stages = connection.server.stage.clone();
    let writer = io.writer.clone();
    let io = Filtered::new(io, config.max_header_length)
        .after(early)
        .telling(writer.clone());
    let fault = io.fault();
    let mut patience = Patience::new(connection, config, &writer);
    let preface = builder(config).handshake(io);
    let Some(http2) = await_preface(preface, &mut patience, &mut stages).await? else {
        return Ok(());
    };
    let mut server = Server::new(connection, config, http2, fault, patience);
    loop {
        tokio::select! {
            biased;
            result = poll_fn(|cx| server.poll(cx)) => return result,
            // A handler has ended, and another may start.
            () = connection.wake.notified() => {}
            _ = stages.wait_for(|stage| *stage > Stage::Accepting), if !server.is_last() => {
                server.shut_down();
            }
        }
    }
}

type Http2 = server::Connection<Filtered<Io>, Bytes>;

/// h2 once the client has sent its preface; `None` where there is no such client any more.
async fn await_preface(
    preface: impl Future<Output = Result<Http2, h2::Error>>,
    patience: &mut Patience<'_>,
    stages: &mut watch::Receiver<Stage>,
) -> Result<Option<Http2>, HttpError> {
    let mut preface = pin!(preface);
    let mut is_draining = false;
    loop {
        tokio::select! {
            biased;
            result = preface.as_mut() => {
                patience.deadlines.preface_read();
                return result.map(Some).or_else(|e| blame(&e).map(|()| None));
            }
            late = poll_fn(|cx| patience.poll(cx)) => return match late {
                Late::LastCall => Ok(None),
                _ => Err(HttpError::HandshakeTimeout),
            },
            _ = stages.wait_for(|stage| *stage > Stage::Accepting), if !is_draining => {
                is_draining = true;
                patience.deadlines.drain_started(Instant::now());
            }
        }
    }
}

/// The deadlines, and the clock.
struct Patience<'a> {
    deadlines: Deadlines,
    timer: Timer,
    writer: &'a Writer,
}

impl<'a> Patience<'a> {
    fn new<O: Handler>(
        connection: &Connection<O>,
        config: &Http2Config,
        writer: &'a Writer,
    ) -> Self {
        let limits = Limits {
            preface: connection.server.config.handshake_timeout,
            idle: config.idle_timeout,
            send: config.send_timeout,
        };
        Self {
            deadlines: Deadlines::new(limits, Instant::now()),
            timer: Timer::default(),
            writer,
        }
    }

    /// Ready when the client is late.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Late> {
        let (deadlines, writer) = (&self.deadlines, self.writer);
        while let Some(due) = deadlines.next_timeout(writer.stalled_since()) {
            ready!(self.timer.poll(cx, due));
            if let Some(late) = deadlines.handle_timeout(writer.stalled_since(), Instant::now()) {
                return Poll::Ready(late);
            }
        }
        Poll::Pending
    }
}

fn builder(config: &Http2Config) -> Builder {
    let window = config.initial_window_size;
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(config.max_concurrent_streams)
        .max_header_list_size(config.max_header_length)
        .initial_window_size(window)
        .initial_connection_window_size(window.max(CONNECTION_WINDOW))
        .max_send_buffer_size(SEND_BUFFER)
        .enable_connect_protocol();
    builder
}

/// A client that goes away is none to complain about.
fn blame(error: &h2::Error) -> Result<(), HttpError> {
    if error.is_library() {
        Err(HttpError::Http2)
    } else {
        Ok(())
    }
}

struct Server<'a, O: Handler> {
    connection: &'a Arc<Connection<O>>,
    config: &'a Http2Config,
    http2: Http2,
    fault: Fault,
    /// The client is told that it has made one.
    is_faulty: bool,
    patience: Patience<'a>,
}

impl<'a, O: Handler> Server<'a, O> {
    fn new(
        connection: &'a Arc<Connection<O>>,
        config: &'a Http2Config,
        http2: Http2,
        fault: Fault,
        patience: Patience<'a>,
    ) -> Self {
        Self {
            connection,
            config,
            http2,
            fault,
            is_faulty: false,
            patience,
        }
    }

    /// Ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HttpError>> {
        loop {
            if let Poll::Ready(result) = self.poll_streams(cx) {
                return Poll::Ready(result.or_else(|e| blame(&e)).and(self.blame()));
            }
            if self.is_at_fault() {
                continue;
            }
            // After h2, which has just tried to write: what waits for the client may be of any stream, and
            // most of that has no task of ours that would notice.
            match ready!(self.poll_late(cx)) {
                Late::Stream => self.shut_down(),
                Late::Receipt => return Poll::Ready(Err(HttpError::SlowClient)),
                // The first two are over by now.
                Late::Preface | Late::LastCall | Late::End => return Poll::Ready(self.blame()),
            }
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Late> {
        let has_streams = self.http2.has_streams();
        self.patience.deadlines.look(has_streams, Instant::now);
        self.patience.poll(cx)
    }

    /// Whether the client has just made a fault, of which h2 has yet to tell it.
    fn is_at_fault(&mut self) -> bool {
        let reason = self.fault.get().filter(|_| !self.is_faulty);
        if let Some(reason) = reason {
            self.is_faulty = true;
            self.patience.deadlines.goaway_sent();
            self.http2.abrupt_shutdown(reason);
        }
        reason.is_some()
    }

    fn blame(&self) -> Result<(), HttpError> {
        match self.is_faulty {
            true => Err(HttpError::Http2),
            false => Ok(()),
        }
    }

    fn poll_streams(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        while self.has_room() {
            match self.http2.poll_accept(cx)? {
                Poll::Ready(Some((request, reply))) => self.start(request, reply),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
            if rt::is_late(Instant::now()) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        self.http2.poll_closed(cx)
    }

    /// Whether one more handler may be at work. A client that resets its streams leaves theirs behind,
    /// and may open new ones at once (CVE-2023-44487).
    fn has_room(&self) -> bool {
        let max = self.config.max_concurrent_streams as usize * 2;
        self.connection.streams.load(Ordering::Relaxed) < max && !self.is_burden()
    }

    /// Whether the client takes nothing while more waits in the server than may: it gets no more to wait
    /// for.
    fn is_burden(&self) -> bool {
        self.connection.server.budget.is_exceeded()
            && self.patience.writer.stalled_since().is_some()
    }

    fn start(&mut self, request: Request<RecvStream>, reply: SendResponse<Bytes>) {
        if self.connection.count_request() == self.config.max_requests {
            self.shut_down();
        }
        let owner = |stream| self.connection.owner.of_stream(stream);
        if let Some(stream) = Connection::of_stream(self.connection, owner) {
            serve_stream(stream, self.config, request, reply);
        }
    }

    /// Whether no stream may be opened any more.
    fn is_last(&self) -> bool {
        self.patience.deadlines.is_last()
    }

    /// Lets the streams that there are come to their end, and takes no others (RFC9113§6.8).
    fn shut_down(&mut self) {
        if !self.is_last() {
            self.patience.deadlines.goaway_sent();
            self.http2.graceful_shutdown();
        }
    }
}

/// Hands the request of a stream to its owner.
fn serve_stream<O: Handler>(
    connection: Arc<Connection<O>>,
    config: &Http2Config,
    request: Request<RecvStream>,
    stream: SendResponse<Bytes>,
) {
    let (mut head, body) = request.into_parts();
    let checked = check_http2(&mut head, config);
    let (body, receiving) = if head.headers.contains_key(UPGRADE) {
        (RequestBody::none(), Some(body))
    } else {
        let length = content_length(&head.headers).ok().flatten();
        (RequestBody::new(Source::Http2 { body, length }), None)
    };
    let reply = Reply::Http2 { stream, receiving };
    let exchange = Exchange::new(connection, &head, reply, body, None);
    if let Err(status) = handler::offer(&exchange, head, checked) {
        // It fails where the client is gone.
        let _ = exchange.respond(status.as_u16(), HeaderMap::new(), Bytes::new());
    }
}
