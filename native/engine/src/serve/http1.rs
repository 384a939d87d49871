//! A connection while it speaks HTTP/1 (RFC 9112): hyper, the deadlines that hyper does not keep, and how a
//! request that hyper has read becomes an exchange.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version, request, response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::{oneshot, watch};

use crate::config::ListenerConfig;
use crate::connection::Connection;
use crate::error::HttpError;
use crate::http::exchange::Exchange;
use crate::http::h1::deadlines::{Awaited, LastCall, Late, Limits};
use crate::http::h1::heads::closing_head;
use crate::http::h1::io::Io;
use crate::http::h1::wire::Wire;
use crate::http::handler::{self, Handler};
use crate::http::head::{Refusal, check_http1, has_close, keeps_alive};
use crate::http::reply::Reply;
use crate::http::request_body::{RequestBody, Source, known_length};
use crate::http::response::closing;
use crate::http::response_body::{ResponseBody, Tracked};
use crate::net;
use crate::net::writer::Writer;
use crate::rt::timer::Timer;
use crate::server::Stage;

/// hyper's own limit is on its buffer, which cannot be smaller than this.
const MIN_BUFFER: usize = 8192;

/// How it ended.
pub(crate) enum Outcome {
    Ended(hyper::Result<()>),
    Late(Late),
    Closed,
    /// A request was not given to hyper.
    Refused(Refusal),
    /// The client speaks another protocol, of which this was read.
    Http2(net::io::Io, Vec<u8>),
}

/// Serves one request after the other until the connection has ended, or turns out to be one of HTTP/2.
pub(super) async fn serve<O: Handler>(
    connection: &Arc<Connection<O>>,
    io: net::io::Io,
    wire: &Arc<Wire>,
) -> Outcome {
    let config = &connection.server.config;
    let writer = io.writer.clone();
    // With TLS, it is known by now what is spoken.
    let may_be_http2 = config.http2.is_some() && !writer.is_tls();
    let max_line = config.max_request_line_length;
    let io = Io::new(io, wire.clone(), max_line, may_be_http2);
    let service = service_fn(|request: Request<Incoming>| {
        // At once, and not when the future is polled: hyper goes on to read the body before that.
        wire.request_started(known_length(request.body()));
        respond(connection.clone(), wire.clone(), request)
    });
    let mut http = builder(config)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut ends = Ends::new(config, wire, &writer);
    let mut drain = Drain::new(connection.server.stage.clone());
    // hyper does not read while a request is served, so it does not see that the client is gone.
    let mut failed = pin!(writer.stream().failed());

    loop {
        let mut http = Pin::new(&mut http);
        tokio::select! {
            biased;
            result = http.as_mut() => return Outcome::Ended(result),
            // After hyper, so that it sees what hyper has just read.
            end = poll_fn(|cx| ends.poll(cx)) => return end,
            () = failed.as_mut() => return Outcome::Closed,
            () = poll_fn(|_| wire.poll_preface()), if may_be_http2 => break,
            () = connection.wake.notified() => {
                if connection.is_retired() {
                    http.as_mut().graceful_shutdown();
                }
            }
            step = drain.next(wire, &writer) => match step {
                DrainStep::None => {}
                DrainStep::NoFurtherRequest => http.as_mut().graceful_shutdown(),
                DrainStep::Close => return Outcome::Closed,
            }
        }
    }
    http.into_parts().map_or(Outcome::Closed, |parts| {
        let (io, early) = parts.io.into_inner().into_parts();
        Outcome::Http2(io, early)
    })
}

fn builder(config: &ListenerConfig) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_headers(config.max_header_count)
        .max_header_size(config.max_header_length)
        .max_buf_size(config.max_header_length.max(MIN_BUFFER))
        // `Limits::header` is the time for a head, also for the first byte.
        .header_read_timeout(None)
        .half_close(config.half_close);
    builder
}

impl Outcome {
    /// What the client did wrong, if it did. It is answered where that is possible.
    pub(super) fn finish(self, wire: &Wire, writer: &Writer) -> Option<HttpError> {
        match self {
            Self::Ended(Err(e)) if e.is_parse_too_large() => Some(HttpError::HeadTooLarge),
            Self::Ended(Err(e)) if e.is_parse() => Some(HttpError::Malformed),
            Self::Late(Late::Head) => {
                // Some of an earlier response may still wait for the client.
                if !wire.in_response() {
                    let _ = writer.try_write(&closing_head(StatusCode::REQUEST_TIMEOUT));
                }
                Some(HttpError::HeaderTimeout)
            }
            Self::Refused((status, error)) => {
                let _ = writer.try_write(&closing_head(status));
                Some(error)
            }
            Self::Late(Late::Receipt) => Some(HttpError::SlowClient),
            Self::Late(Late::Request) | Self::Ended(_) | Self::Closed | Self::Http2(..) => None,
        }
    }
}

/// What ends a connection although hyper would go on.
struct Ends<'a> {
    config: &'a ListenerConfig,
    wire: &'a Wire,
    writer: &'a Writer,
    timer: Timer,
}

impl<'a> Ends<'a> {
    fn new(config: &'a ListenerConfig, wire: &'a Wire, writer: &'a Writer) -> Self {
        Self {
            config,
            wire,
            writer,
            timer: Timer::default(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        if let Poll::Ready(late) = self.poll_late(cx) {
            return Poll::Ready(Outcome::Late(late));
        }
        match self.wire.refused() {
            // The response before it goes first.
            Some(refusal) if !self.wire.in_response() => Poll::Ready(Outcome::Refused(refusal)),
            _ => Poll::Pending,
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Late> {
        let (wire, writer) = (self.wire, self.writer);
        let limits = Limits {
            header: self.config.header_timeout,
            idle: self.config.idle_timeout,
            send: self.config.send_timeout,
        };
        while let Some(due) = wire.next_timeout(&limits, writer) {
            ready!(self.timer.poll(cx, due));
            if let Some(late) = wire.handle_timeout(&limits, writer) {
                return Poll::Ready(late);
            }
        }
        Poll::Pending
    }
}

/// What becomes of the connection as its listener drains, or is closed.
struct Drain {
    stages: watch::Receiver<Stage>,
    stage: Stage,
    /// No request may follow the one that is served.
    is_last: bool,
    last_call: Timer,
}

enum DrainStep {
    None,
    NoFurtherRequest,
    Close,
}

impl Drain {
    fn new(stages: watch::Receiver<Stage>) -> Self {
        Self {
            stages,
            stage: Stage::Accepting,
            is_last: false,
            last_call: Timer::default(),
        }
    }

    /// May be dropped and called anew.
    async fn next(&mut self, wire: &Wire, writer: &Writer) -> DrainStep {
        let (stage, last_call) = (self.stage, &mut self.last_call);
        tokio::select! {
            biased;
            Ok(next) = self.stages.wait_for(|next| *next > stage) => {
                self.stage = *next;
                match *next == Stage::Closed && wire.awaited(writer) != Awaited::Response {
                    true => DrainStep::Close,
                    false => DrainStep::None,
                }
            }
            // Not at once: hyper would drop what it has of a request.
            () = poll_fn(|cx| poll_last_call(cx, wire, writer, last_call)),
                if stage > Stage::Accepting && !self.is_last =>
            {
                // Its client has the response, and has not begun the next request.
                if wire.awaited(writer) == Awaited::RestOfBody && !wire.in_response() {
                    return DrainStep::Close;
                }
                self.is_last = true;
                DrainStep::NoFurtherRequest
            }
            // The listener is gone, and nothing is left to do about it.
            () = pending() => DrainStep::None,
        }
    }
}

/// Ready when the last request is being served, or when there is none to wait for.
fn poll_last_call(
    cx: &mut Context<'_>,
    wire: &Wire,
    writer: &Writer,
    timer: &mut Timer,
) -> Poll<()> {
    match wire.awaited(writer).last_call() {
        LastCall::Over => Poll::Ready(()),
        LastCall::OverAt(due) => timer.poll(cx, due),
        // hyper reads it, and this is polled again.
        LastCall::Later => Poll::Pending,
    }
}

/// hyper's service: hands the request to the owner and waits for its response.
async fn respond<O: Handler>(
    connection: Arc<Connection<O>>,
    wire: Arc<Wire>,
    request: Request<Incoming>,
) -> Result<Response<Tracked>, Infallible> {
    let config = &connection.server.config;
    let is_last = connection.count_request() == config.max_requests;
    let max_line = config.max_request_line_length;
    let keeps_alive = keeps_alive(request.version(), request.headers());
    let (exchange, head, response) = exchange(connection, wire, request);
    // Made before the wait: also when hyper drops this future, the exchange is ended.
    let mut tracked = Tracked {
        body: ResponseBody::Whole(Bytes::new()),
        origin: exchange.clone(),
    };

    let checked = check_http1(&head, max_line);
    let response = match handler::offer(&exchange, head, checked) {
        Ok(()) => response
            .await
            .unwrap_or_else(|_| closing(StatusCode::INTERNAL_SERVER_ERROR)),
        Err(status) => closing(status),
    };
    let (mut head, body) = response.into_parts();
    complete(&mut head, &exchange, keeps_alive, is_last).await;
    tracked.body = body;
    Ok(Response::from_parts(head, tracked))
}

/// The exchange that a request begins, with the request's head, and where its response will be.
fn exchange<O: Handler>(
    connection: Arc<Connection<O>>,
    wire: Arc<Wire>,
    mut request: Request<Incoming>,
) -> (
    Arc<Exchange<O>>,
    request::Parts,
    oneshot::Receiver<Response<ResponseBody>>,
) {
    let on_upgrade = request
        .headers()
        .contains_key(UPGRADE)
        .then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let (service, response) = oneshot::channel();
    let reply = Reply::Http1 {
        service,
        on_upgrade,
    };
    let weak = Arc::downgrade(&wire);
    let body = RequestBody::new(Source::Http1 { body, wire });
    let exchange = Exchange::new(connection, &head, reply, body, Some(weak));
    (exchange, head, response)
}

/// Says in the head whether the connection goes on. `keeps_alive`: the client would have it so.
async fn complete<O: Handler>(
    head: &mut response::Parts,
    exchange: &Exchange<O>,
    keeps_alive: bool,
    is_last: bool,
) {
    let server = &exchange.connection.server;
    // Not left to hyper: it may write this response before it hears that the listener closes.
    let is_last = is_last || !server.is_accepting();
    if head.status != StatusCode::SWITCHING_PROTOCOLS
        && !has_close(&head.headers)
        && (is_last || keeps_alive && !exchange.can_go_on(server.config.max_unread_length).await)
    {
        head.headers
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // To a client of HTTP/1.0 that asked for keep-alive, hyper would promise it next to our `close`.
    if exchange.version < Version::HTTP_11 && head.headers.contains_key(CONNECTION) {
        head.version = Version::HTTP_10;
    }
}
