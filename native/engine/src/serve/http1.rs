//! A connection while it speaks HTTP/1 (RFC 9112): hyper, the deadlines that hyper does not keep, and how a
//! request that hyper has read becomes an exchange.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use crate::config::ListenerConfig;
use crate::connection::Connection;
use crate::error::HttpError;
use crate::http::exchange::Exchange;
use crate::http::h1::deadlines::{Awaited, LastCall, Late, Limits};
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

const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

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
    let listener = connection.listener.clone();
    let limits = Limits {
        header: listener.config.header_timeout,
        idle: listener.config.idle_timeout,
        send: listener.config.send_timeout,
    };
    let writer = io.writer.clone();
    // With TLS, it is known by now what is spoken.
    let may_be_http2 = listener.config.http2.is_some() && !writer.is_tls();
    let max_line = listener.config.max_request_line_length;
    let io = Io::new(io, wire.clone(), max_line, may_be_http2);
    let service = service_fn(|request: Request<Incoming>| {
        // At once, and not when the future is polled: hyper goes on to read the body before that.
        wire.request_started(known_length(request.body()));
        respond(connection.clone(), wire.clone(), request)
    });
    let mut http = builder(&listener.config)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut stages = listener.stage.clone();
    let mut stage = Stage::Accepting;
    let mut is_last = false;
    let mut timer = Timer::default();
    let mut last_call = Timer::default();
    // hyper does not read while a request is served, so it does not see that the client is gone.
    let mut failed = pin!(writer.stream().failed());

    loop {
        let mut http = Pin::new(&mut http);
        tokio::select! {
            biased;
            result = http.as_mut() => return Outcome::Ended(result),
            // After hyper, so that it sees what hyper has just read.
            late = poll_fn(|cx| poll_late(cx, wire, &writer, &limits, &mut timer)) => {
                return Outcome::Late(late);
            }
            refusal = poll_fn(|_| match wire.refused() {
                // The response before it goes first.
                Some(refusal) if !wire.in_response() => Poll::Ready(refusal),
                _ => Poll::Pending,
            }) => return Outcome::Refused(refusal),
            () = failed.as_mut() => return Outcome::Closed,
            () = poll_fn(|_| match wire.found_preface() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }), if may_be_http2 => break,
            () = connection.wake.notified() => {
                if connection.is_retired() {
                    http.as_mut().graceful_shutdown();
                }
            }
            Ok(next) = stages.wait_for(|next| *next > stage) => {
                stage = *next;
                if stage == Stage::Closed && wire.awaited(&writer) != Awaited::Response {
                    return Outcome::Closed;
                }
            }
            // Not at once: hyper would drop what it has of a request.
            () = poll_fn(|cx| poll_last_call(cx, wire, &writer, &mut last_call)),
                if stage > Stage::Accepting && !is_last =>
            {
                // Its client has the response, and has not begun the next request.
                if wire.awaited(&writer) == Awaited::RestOfBody && !wire.in_response() {
                    return Outcome::Closed;
                }
                http.as_mut().graceful_shutdown();
                is_last = true;
            }
        }
    }
    let parts = http.into_parts();
    parts.map_or(Outcome::Closed, |parts| {
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
                    let _ = writer.try_write(REQUEST_TIMEOUT);
                }
                Some(HttpError::HeaderTimeout)
            }
            Self::Refused((status, error)) => {
                let head =
                    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
                let _ = writer.try_write(head.as_bytes());
                Some(error)
            }
            Self::Late(Late::Receipt) => Some(HttpError::SlowClient),
            Self::Late(Late::Request) | Self::Ended(_) | Self::Closed | Self::Http2(..) => None,
        }
    }
}

/// Ready when the client is late.
fn poll_late(
    cx: &mut Context<'_>,
    wire: &Wire,
    writer: &Writer,
    limits: &Limits,
    timer: &mut Timer,
) -> Poll<Late> {
    while let Some(due) = wire.next_timeout(limits, writer) {
        ready!(timer.poll(cx, due));
        if let Some(late) = wire.handle_timeout(limits, writer) {
            return Poll::Ready(late);
        }
    }
    Poll::Pending
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
    mut request: Request<Incoming>,
) -> Result<Response<Tracked>, Infallible> {
    let config = &connection.listener.config;
    let is_last = connection.count_request() == config.max_requests;
    let max_line = config.max_request_line_length;
    let max_unread = config.max_unread_length;

    let keeps_alive = keeps_alive(request.version(), request.headers());
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
    let upload = RequestBody::new(Source::Http1 { body, wire });
    let exchange = Exchange::new(connection, &head, reply, upload, Some(weak));
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
    // Not left to hyper: it may write this response before it hears that the listener closes.
    let is_last = is_last || !exchange.connection.listener.is_accepting();
    if head.status != StatusCode::SWITCHING_PROTOCOLS
        && !has_close(&head.headers)
        && (is_last || keeps_alive && !exchange.can_go_on(max_unread).await)
    {
        head.headers
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // To a client of HTTP/1.0 that asked for keep-alive, hyper would promise it next to our `close`.
    if exchange.version < Version::HTTP_11 && head.headers.contains_key(CONNECTION) {
        head.version = Version::HTTP_10;
    }
    tracked.body = body;
    Ok(Response::from_parts(head, tracked))
}
