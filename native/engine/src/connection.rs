//! One connection while it speaks HTTP. Its concern is hyper, the deadlines that hyper does not
//! keep, and how the connection ends; a request is the concern of [`crate::exchange`].

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use once_cell::sync::OnceCell;
use tokio::sync::Notify;

use crate::config::ListenerConfig;
use crate::error::HttpError;
use crate::exchange::{self, Exchange};
use crate::http2;
use crate::io::{self, Awaited, Io};
use crate::listener::{Shared, Stage};
use crate::lock;
use crate::owner::Owner;
use crate::runtime::Reactor;
use crate::stats::{self, Counted};
use crate::stream::Address;
use crate::timer::{Timer, timeout};
use crate::tls::TlsInfo;
use crate::ws::socket::Socket;

const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

const SERVICE_UNAVAILABLE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// hyper's own limit is on its buffer, which cannot be smaller than this.
const MIN_BUFFER: usize = 8192;

/// How long a client that has connected as the listener began to drain has to send its request.
pub(crate) const LAST_CALL: Duration = Duration::from_millis(250);

pub struct Connection<O: Owner> {
    pub(crate) owner: O,
    peer: Address,
    /// Who the peer is a proxy of.
    proxied: OnceCell<Box<Address>>,
    /// What runs its tasks.
    pub(crate) reactor: &'static Reactor,
    pub(crate) listener: Arc<Shared>,
    /// Wakes the task that runs hyper.
    pub(crate) wake: Notify,
    requests: AtomicU64,
    /// Those of its streams that have an owner, although they may be gone.
    pub(crate) streams: AtomicUsize,
    /// What it is a stream of, as long as it has an owner.
    parent: Mutex<Option<Arc<Self>>>,
    /// No request may follow the one that is served now.
    retired: AtomicBool,
    current: Mutex<Weak<Exchange<O>>>,
    open: Mutex<Option<Open>>,
    socket: OnceCell<Weak<Socket<O>>>,
}

impl<O: Owner> Connection<O> {
    pub(crate) fn new(
        peer: Address,
        reactor: &'static Reactor,
        listener: Arc<Shared>,
        io: Arc<io::Shared>,
        owner: impl FnOnce(Weak<Self>) -> O,
    ) -> Arc<Self> {
        let open = Open::new(&listener, io);
        Self::with(peer, reactor, listener, open, None, owner)
    }

    /// A stream of HTTP/2, which to its owner is a connection with one request. `None`: it has ended.
    pub(crate) fn of_stream(parent: &Arc<Self>) -> Option<Arc<Self>> {
        let open = Open::of_stream(parent.io()?);
        parent.streams.fetch_add(1, Ordering::Relaxed);
        Some(Self::with(
            parent.peer().clone(),
            parent.reactor,
            parent.listener.clone(),
            open,
            Some(parent.clone()),
            |stream| parent.owner.of_stream(stream),
        ))
    }

    fn with(
        peer: Address,
        reactor: &'static Reactor,
        listener: Arc<Shared>,
        open: Open,
        parent: Option<Arc<Self>>,
        owner: impl FnOnce(Weak<Self>) -> O,
    ) -> Arc<Self> {
        Arc::new_cyclic(|weak| Self {
            owner: owner(weak.clone()),
            peer,
            proxied: OnceCell::new(),
            reactor,
            open: Mutex::new(Some(open)),
            listener,
            wake: Notify::new(),
            requests: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            parent: Mutex::new(parent),
            retired: AtomicBool::new(false),
            current: Mutex::new(Weak::new()),
            socket: OnceCell::new(),
        })
    }

    /// Returns how many there were, with this one.
    pub(crate) fn count_request(&self) -> u64 {
        self.listener.requests.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The owner is dead: whatever this connection is by now ends.
    pub fn owner_down(&self) {
        self.leave();
        if let Some(socket) = self.socket.get() {
            if let Some(socket) = socket.upgrade() {
                socket.owner_down();
            }
            return;
        }
        let exchange = lock(&self.current).upgrade();
        if let Some(exchange) = exchange {
            exchange.abandon();
        }
        self.retire();
    }

    /// Makes room for another stream.
    fn leave(&self) {
        let parent = lock(&self.parent).take();
        if let Some(parent) = parent {
            parent.streams.fetch_sub(1, Ordering::Relaxed);
            parent.wake.notify_one();
        }
    }

    /// Whether nothing will come to the owner any more.
    pub fn has_ended(&self) -> bool {
        lock(&self.open).is_none()
    }

    pub fn local_addr(&self) -> std::io::Result<Address> {
        let io = self.io().ok_or(std::io::ErrorKind::NotConnected)?;
        io.stream().local_addr()
    }

    pub(crate) fn peer(&self) -> &Address {
        self.proxied.get().map_or(&self.peer, |client| client)
    }

    /// `None` without TLS, and after the end.
    pub fn tls(&self) -> Option<TlsInfo> {
        self.io()?.tls().map(|tls| tls.info())
    }

    pub(crate) fn io(&self) -> Option<Arc<io::Shared>> {
        lock(&self.open).as_ref().map(|open| open.io.clone())
    }

    /// Ends the HTTP connection as soon as its response is out.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(crate) fn serves(&self, exchange: &Arc<Exchange<O>>) {
        *lock(&self.current) = Arc::downgrade(exchange);
    }

    /// All is said. What is left is to wait for the peer.
    pub(crate) fn settle(&self) {
        if let Some(open) = lock(&self.open).as_mut() {
            open.unsettled = None;
        }
    }

    /// The connection is gone, or will be as soon as its last bytes are out.
    pub(crate) fn end(&self) {
        *lock(&self.open) = None;
    }

    /// From here on the end is the socket's to tell. `false`: it was told already.
    pub(crate) fn becomes(&self, socket: &Arc<Socket<O>>) -> bool {
        let open = lock(&self.open);
        // A weak reference, too, keeps the exchange's memory.
        *lock(&self.current) = Weak::new();
        open.is_some() && self.socket.set(Arc::downgrade(socket)).is_ok()
    }

    /// Ends the connection unless it has become a socket, which ends it itself. `true`: it did.
    fn end_http(&self) -> bool {
        let mut open = lock(&self.open);
        let is_http = self.socket.get().is_none();
        if is_http {
            *open = None;
        }
        is_http
    }
}

impl<O: Owner> Drop for Connection<O> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The stream, which a handle to the [`Connection`] may outlive.
struct Open {
    io: Arc<io::Shared>,
    unsettled: Option<Unsettled>,
    _count: Option<Counted>,
}

impl Open {
    fn new(listener: &Arc<Shared>, io: Arc<io::Shared>) -> Self {
        listener.connections.fetch_add(1, Ordering::Relaxed);
        Self {
            io,
            unsettled: Some(Unsettled(listener.clone())),
            _count: Some(stats::CONNECTIONS.count()),
        }
    }

    /// Only the connection that the stream is on counts.
    fn of_stream(io: Arc<io::Shared>) -> Self {
        Self {
            io,
            unsettled: None,
            _count: None,
        }
    }
}

/// Counts for the listener a connection on which there may be something to say.
struct Unsettled(Arc<Shared>);

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_one();
    }
}

/// Tells the owner, by whatever way the task ends.
struct End<O: Owner>(Arc<Connection<O>>);

impl<O: Owner> Drop for End<O> {
    fn drop(&mut self) {
        if self.0.end_http() {
            self.0.owner.closed();
        }
    }
}

pub(crate) async fn serve<O: Owner>(connection: Arc<Connection<O>>, mut io: Io) {
    // Boxed, as it would make the task of every connection larger.
    let has_handshake = connection.listener.config.proxy_protocol || io.shared.tls().is_some();
    if has_handshake && !Box::pin(shake_hands(&connection, &mut io)).await {
        connection.end();
        return;
    }
    let shared = io.shared.clone();
    let _end = End(connection.clone());
    let is_http2 = shared.tls().map(|tls| tls.is_http2());
    if is_http2.is_none() && connection.listener.config.http2.is_some() {
        io.expect_preface();
    }
    let outcome = match is_http2 {
        Some(true) => Outcome::Http2(io),
        _ => serve_http1(&connection, io).await,
    };
    if connection.socket.get().is_some() {
        return;
    }
    // Boxed as above.
    if let Some(error) = Box::pin(finish(&connection, &shared, outcome)).await {
        connection.owner.http_error(connection.peer(), error);
    }
    connection.settle();
    io::linger_for(&shared, io::LINGER_SENDING).await;
}

async fn serve_http1<O: Owner>(connection: &Arc<Connection<O>>, io: Io) -> Outcome {
    let listener = connection.listener.clone();
    let ListenerConfig {
        header_timeout,
        idle_timeout,
        send_timeout,
        ..
    } = listener.config;
    let shared = io.shared.clone();
    let service =
        service_fn(|request| exchange::serve(connection.clone(), shared.clone(), request));
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
            () = poll_fn(|_| match shared.found_preface() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }), if may_be_http2 => break,
            () = connection.wake.notified() => {
                if connection.retired.load(Ordering::Acquire) {
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

/// Ready when the last request is being served, or when there is none to wait for.
fn poll_last_call(cx: &mut Context<'_>, shared: &io::Shared, timer: &mut Timer) -> Poll<()> {
    match shared.awaited() {
        Awaited::Response | Awaited::NextRequest => Poll::Ready(()),
        // hyper reads it, and this is polled again.
        Awaited::Rest => Poll::Pending,
        Awaited::FirstRequest { since } => timer.poll(cx, since + LAST_CALL),
    }
}

/// What comes before HTTP. `false`: it came to nothing.
async fn shake_hands<O: Owner>(connection: &Connection<O>, io: &mut Io) -> bool {
    let limit = connection.listener.config.handshake_timeout;
    let error = match timeout(limit, introduce(connection, io)).await {
        Ok(Ok(())) => return true,
        // The peer went away.
        Ok(Err(None)) => return false,
        Ok(Err(Some(error))) => error,
        Err(_elapsed) => HttpError::HandshakeTimeout,
    };
    connection.owner.http_error(connection.peer(), error);
    connection.settle();
    io::linger(&io.shared).await;
    false
}

async fn introduce<O: Owner>(
    connection: &Connection<O>,
    io: &mut Io,
) -> Result<(), Option<HttpError>> {
    let wrong =
        |error| move |e: std::io::Error| (e.kind() == ErrorKind::InvalidData).then_some(error);
    if connection.listener.config.proxy_protocol {
        let client = io.read_proxy_header().await;
        if let Some(client) = client.map_err(wrong(HttpError::ProxyHeader))? {
            let _ = connection.proxied.set(Box::new(client));
        }
    }
    io.handshake().await.map_err(wrong(HttpError::TlsHandshake))
}

/// Ends a connection that is one too many.
pub(crate) async fn refuse<O: Owner>(connection: Arc<Connection<O>>, io: Io) {
    connection
        .owner
        .http_error(connection.peer(), HttpError::Overload);
    if io.shared.tls().is_none() {
        let _ = io.shared.try_write(SERVICE_UNAVAILABLE);
        connection.settle();
        io::linger(&io.shared).await;
    }
    connection.end();
}

enum Outcome {
    Ended(hyper::Result<()>),
    TimedOut,
    /// The client takes nothing of its response.
    Stalled,
    Closed,
    /// The client speaks another protocol.
    Http2(Io),
}

/// What the client did wrong, if it did.
async fn finish<O: Owner>(
    connection: &Arc<Connection<O>>,
    shared: &io::Shared,
    outcome: Outcome,
) -> Option<HttpError> {
    match outcome {
        Outcome::Ended(Err(e)) if e.is_parse_too_large() => Some(HttpError::HeadTooLarge),
        Outcome::Ended(Err(e)) if e.is_parse() => Some(HttpError::Malformed),
        Outcome::TimedOut if shared.has_partial_head() => {
            // Some of an earlier response may still wait for the client.
            if !shared.in_response() {
                let _ = shared.try_write(REQUEST_TIMEOUT);
            }
            Some(HttpError::HeaderTimeout)
        }
        Outcome::Http2(mut io) => {
            let config = connection.listener.config.http2.as_ref()?;
            io.becomes_http2();
            http2::serve(connection, config, io).await.err()
        }
        Outcome::Stalled => {
            // What waits for it would stay with the kernel.
            shared.stream().reset();
            None
        }
        Outcome::Ended(_) | Outcome::TimedOut | Outcome::Closed => None,
    }
}

fn builder(config: &ListenerConfig) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .max_headers(config.max_header_count)
        .max_header_size(config.max_header_length)
        .max_buf_size(config.max_header_length.max(MIN_BUFFER))
        // Its timer does not run before the first byte; `Deadline` covers both.
        .header_read_timeout(None);
    builder
}
