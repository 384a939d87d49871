//! One connection while it speaks HTTP. Its concern is hyper, the deadlines that hyper does not
//! keep, and how the connection ends; a request is the concern of [`crate::exchange`].

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
const LAST_CALL: Duration = Duration::from_millis(250);

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
    pub(crate) requests: AtomicU64,
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
        Arc::new_cyclic(|weak| Self {
            owner: owner(weak.clone()),
            peer,
            proxied: OnceCell::new(),
            reactor,
            open: Mutex::new(Some(Open::new(&listener, io))),
            listener,
            wake: Notify::new(),
            requests: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            current: Mutex::new(Weak::new()),
            socket: OnceCell::new(),
        })
    }

    /// The owner is dead: whatever this connection is by now ends.
    pub fn owner_down(&self) {
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

/// The stream, which a handle to the [`Connection`] may outlive.
struct Open {
    io: Arc<io::Shared>,
    unsettled: Option<Unsettled>,
    _count: Counted,
}

impl Open {
    fn new(listener: &Arc<Shared>, io: Arc<io::Shared>) -> Self {
        listener.connections.fetch_add(1, Ordering::Relaxed);
        Self {
            io,
            unsettled: Some(Unsettled(listener.clone())),
            _count: stats::CONNECTIONS.count(),
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
    let listener = connection.listener.clone();
    let ListenerConfig {
        header_timeout,
        idle_timeout,
        ..
    } = listener.config;
    let shared = io.shared.clone();
    let _end = End(connection.clone());

    let service =
        service_fn(|request| exchange::serve(connection.clone(), shared.clone(), request));
    let http = builder(&listener.config).serve_connection(TokioIo::new(io), service);
    let mut http = pin!(http.with_upgrades());
    let mut stages = listener.stage.clone();
    let mut stage = Stage::Accepting;
    let mut is_last = false;
    let mut timer = Timer::default();
    let mut last_call = Timer::default();

    let outcome = loop {
        tokio::select! {
            biased;
            result = http.as_mut() => break Outcome::Ended(result),
            // After hyper, so that it sees what hyper has just read.
            () = poll_fn(|cx| match shared.deadline(header_timeout, idle_timeout) {
                Some(due) => timer.poll(cx, due),
                None => Poll::Pending,
            }) => break Outcome::TimedOut,
            () = connection.wake.notified() => {
                if connection.retired.load(Ordering::Acquire) {
                    http.as_mut().graceful_shutdown();
                }
            }
            Ok(next) = stages.wait_for(|next| *next > stage) => {
                stage = *next;
                if stage == Stage::Closed && shared.awaited() != Awaited::Response {
                    break Outcome::Closed;
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
    };
    if connection.socket.get().is_some() {
        return;
    }
    finish(&connection, &shared, outcome);
    connection.settle();
    io::linger_for(&shared, io::LINGER_SENDING).await;
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
    Closed,
}

fn finish<O: Owner>(connection: &Connection<O>, shared: &io::Shared, outcome: Outcome) {
    match outcome {
        Outcome::Ended(Ok(())) => {}
        Outcome::Ended(Err(e)) if e.is_parse_too_large() => {
            connection
                .owner
                .http_error(connection.peer(), HttpError::HeadTooLarge);
        }
        Outcome::Ended(Err(e)) if e.is_parse() => {
            connection
                .owner
                .http_error(connection.peer(), HttpError::Malformed);
        }
        Outcome::Ended(Err(_)) => {}
        Outcome::TimedOut if shared.has_partial_head() => {
            connection
                .owner
                .http_error(connection.peer(), HttpError::HeaderTimeout);
            let _ = shared.try_write(REQUEST_TIMEOUT);
        }
        Outcome::TimedOut | Outcome::Closed => {}
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
