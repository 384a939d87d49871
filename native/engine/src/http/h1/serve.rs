//! A connection while it speaks HTTP/1 (RFC 9112): hyper, and the deadlines that hyper does not keep. What
//! becomes of a request is the concern of [`crate::service`].

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::deadlines::Awaited;
use crate::config::ListenerConfig;
use crate::connection::{Connection, LAST_CALL};
use crate::http::head::Refusal;
use crate::http::request_body::known_length;
use crate::http::service::serve_http1;
use crate::listener::Stage;
use crate::net::io::Io;
use crate::net::shared::Shared;
use crate::owner::Owner;
use crate::rt::timer::Timer;

/// hyper's own limit is on its buffer, which cannot be smaller than this.
const MIN_BUFFER: usize = 8192;

/// How it ended.
pub(crate) enum Outcome {
    Ended(hyper::Result<()>),
    TimedOut,
    /// The client takes nothing of its response.
    Stalled,
    Closed,
    /// A request was not given to hyper.
    Refused(Refusal),
    /// The client speaks another protocol.
    Http2(Io),
}

/// Serves one request after the other until the connection has ended, or turns out to be one of HTTP/2.
pub(crate) async fn serve<O: Owner>(connection: &Arc<Connection<O>>, mut io: Io) -> Outcome {
    let listener = connection.listener.clone();
    let ListenerConfig {
        header_timeout,
        idle_timeout,
        send_timeout,
        ..
    } = listener.config;
    io.expect_http1(listener.config.max_request_line_length);
    let shared = io.shared.clone();
    let service = service_fn(|request: Request<Incoming>| {
        // At once, and not when the future is polled: hyper goes on to read the body before that.
        shared.request_started(known_length(request.body()));
        serve_http1(connection.clone(), shared.clone(), request)
    });
    let mut http = builder(&listener.config)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut stages = listener.stage.clone();
    let mut stage = Stage::Accepting;
    let mut is_last = false;
    let mut timer = Timer::default();
    let mut send_timer = Timer::default();
    let mut last_call = Timer::default();
    let may_be_http2 = listener.config.http2.is_some();
    // hyper does not read while a request is served, so it does not see that the client is gone.
    let mut failed = pin!(shared.stream().failed());

    loop {
        let mut http = Pin::new(&mut http);
        tokio::select! {
            biased;
            result = http.as_mut() => return Outcome::Ended(result),
            // After hyper, so that it sees what hyper has just read.
            () = poll_fn(|cx| match shared.deadline(header_timeout, idle_timeout) {
                Some(due) => timer.poll(cx, due),
                None => Poll::Pending,
            }) => return Outcome::TimedOut,
            () = poll_fn(|cx| match shared.send_deadline(send_timeout) {
                Some(due) => send_timer.poll(cx, due),
                None => Poll::Pending,
            }) => return Outcome::Stalled,
            refusal = poll_fn(|_| match shared.refused() {
                // The response before it goes first.
                Some(refusal) if !shared.in_response() => Poll::Ready(refusal),
                _ => Poll::Pending,
            }) => return Outcome::Refused(refusal),
            () = failed.as_mut() => return Outcome::Closed,
            () = poll_fn(|_| match shared.found_preface() {
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
                if stage == Stage::Closed && shared.awaited() != Awaited::Response {
                    return Outcome::Closed;
                }
            }
            // Not at once: hyper would drop what it has of a request.
            () = poll_fn(|cx| poll_last_call(cx, &shared, &mut last_call)),
                if stage > Stage::Accepting && !is_last =>
            {
                // Its client has the response, and has not begun the next request.
                if shared.awaited() == Awaited::RestOfBody && !shared.in_response() {
                    return Outcome::Closed;
                }
                http.as_mut().graceful_shutdown();
                is_last = true;
            }
        }
    }
    let parts = http.into_parts();
    parts.map_or(Outcome::Closed, |parts| {
        Outcome::Http2(parts.io.into_inner())
    })
}

fn builder(config: &ListenerConfig) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_headers(config.max_header_count)
        .max_header_size(config.max_header_length)
        .max_buf_size(config.max_header_length.max(MIN_BUFFER))
        // `Shared::deadline` is the time for a head, also for the first byte.
        .header_read_timeout(None)
        .half_close(config.half_close);
    builder
}

/// Ready when the last request is being served, or when there is none to wait for.
fn poll_last_call(cx: &mut Context<'_>, shared: &Shared, timer: &mut Timer) -> Poll<()> {
    match shared.awaited() {
        Awaited::Response | Awaited::NextRequest | Awaited::RestOfBody => Poll::Ready(()),
        // hyper reads it, and this is polled again.
        Awaited::Rest => Poll::Pending,
        Awaited::FirstRequest { since } => timer.poll(cx, since + LAST_CALL),
    }
}
