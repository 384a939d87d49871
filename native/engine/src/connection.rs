//! One connection while it speaks HTTP, and a stream of one, which looks the same to its owner. The
//! concern here is how it begins and ends; what it speaks meanwhile is that of `http1` and `http2`.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use once_cell::sync::OnceCell;
use tokio::sync::Notify;

use crate::error::HttpError;
use crate::http::exchange::{Exchange, Waiting};
use crate::http::h1::{self, Outcome};
use crate::http::h2;
use crate::listener::Shared;
use crate::net::Address;
use crate::net::io::Io;
use crate::net::linger::{LINGER_SENDING, linger, linger_for};
use crate::net::shared::Shared as IoShared;
use crate::net::tls::TlsInfo;
use crate::owner::Owner;
use crate::rt::Reactor;
use crate::rt::lock;
use crate::rt::stats::{self, Counted};
use crate::rt::timer::timeout;
use crate::ws::socket::Socket;

const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

const SERVICE_UNAVAILABLE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

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
    /// Wakes the task that runs hyper, or h2.
    pub(crate) wake: Notify,
    requests: AtomicU64,
    /// Those of its streams that have an owner, although they may be gone.
    pub(crate) streams: AtomicUsize,
    /// The connection that it is a stream of, as long as it has an owner.
    parent: Mutex<Option<Arc<Self>>>,
    /// No request may follow the one that is served now.
    retired: AtomicBool,
    current: Mutex<Weak<Exchange<O>>>,
    offer: Mutex<Offer<O>>,
    open: Mutex<Option<Open>>,
    /// What a handler may ask for when the connection has ended.
    facts: OnceCell<Box<Facts>>,
    socket: OnceCell<Weak<Socket<O>>>,
}

impl<O: Owner> Connection<O> {
    pub(crate) fn new(
        peer: Address,
        reactor: &'static Reactor,
        listener: Arc<Shared>,
        io: Arc<IoShared>,
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
            offer: Mutex::new(Offer {
                request: None,
                is_awaited: true,
                is_vain: false,
            }),
            facts: OnceCell::new(),
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
        self.leave_parent();
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
        self.withdraw();
        self.retire();
    }

    /// Hands a request to the owner, or to whoever is to become it: keeps it until it is taken. `false`:
    /// there is nobody.
    pub(crate) fn offer(&self, request: Waiting<O>) -> bool {
        let mut offer = lock(&self.offer);
        if offer.is_vain {
            return false;
        }
        offer.request = Some(Box::new(request));
        if !std::mem::take(&mut offer.is_awaited) {
            // An owner that is at work asks when it has done.
            return true;
        }
        drop(offer);
        if self.owner.request() {
            return true;
        }
        let _request = lock(&self.offer).request.take();
        false
    }

    /// What the owner has to do. Its messages only tell it to ask: it may have lost them.
    pub fn take(&self) -> Taken<O> {
        let mut offer = lock(&self.offer);
        if let Some(request) = offer.request.take() {
            return Taken::Request(request);
        }
        offer.is_awaited = true;
        drop(offer);
        // Last: an end from now on is told.
        if self.has_ended() {
            Taken::Ended
        } else {
            Taken::Nothing
        }
    }

    /// What runs the tasks that answering wakes.
    pub fn reactor(&self) -> &'static Reactor {
        self.reactor
    }

    /// There is no process that could serve the request: it is answered with 503, and is the last.
    pub fn refuse(&self) {
        if let Taken::Request(request) = self.take() {
            request.refuse();
        }
        self.retire();
    }

    /// Nobody will take the request any more.
    fn withdraw(&self) {
        let mut offer = lock(&self.offer);
        offer.is_vain = true;
        let request = offer.request.take();
        drop(offer);
        if let Some(request) = request {
            request.exchange.abandon();
        }
    }

    /// Makes room for another stream where this is one.
    fn leave_parent(&self) {
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

    /// Also after the end.
    pub fn local_addr(&self) -> std::io::Result<Address> {
        if let Some(io) = self.io() {
            return io.stream().local_addr();
        }
        let local = self.facts.get().and_then(|facts| facts.local.clone());
        local.ok_or_else(|| ErrorKind::NotConnected.into())
    }

    pub(crate) fn peer(&self) -> &Address {
        self.proxied.get().map_or(&self.peer, |client| client)
    }

    /// Also after the end. `None` without TLS.
    pub fn tls(&self) -> Option<TlsInfo> {
        match self.io() {
            Some(io) => io.tls().map(|tls| tls.info()),
            None => self.facts.get()?.tls.clone(),
        }
    }

    pub(crate) fn io(&self) -> Option<Arc<IoShared>> {
        lock(&self.open).as_ref().map(|open| open.io.clone())
    }

    /// Ends the HTTP connection as soon as its response is out. A stream ends with its response anyway.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
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
        self.remember();
        *lock(&self.open) = None;
    }

    /// Keeps what only the open connection knows, for the handlers that still have a request of it. Once
    /// for each connection, because they seldom ask, and never in time.
    fn remember(&self) {
        if let Some(io) = self.io() {
            self.facts.get_or_init(|| {
                Box::new(Facts {
                    local: io.stream().local_addr().ok(),
                    tls: io.tls().map(|tls| tls.info()),
                })
            });
        }
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
        self.remember();
        let mut open = lock(&self.open);
        let is_http = self.socket.get().is_none();
        if is_http {
            *open = None;
        }
        drop(open);
        if is_http {
            self.withdraw();
        }
        is_http
    }
}

impl<O: Owner> Drop for Connection<O> {
    fn drop(&mut self) {
        self.leave_parent();
    }
}

/// What waits for the owner.
struct Offer<O: Owner> {
    /// It keeps its connection alive, so whoever ends the one takes the other out.
    request: Option<Box<Waiting<O>>>,
    /// Nobody has it in mind to ask, so that the next one has to be told.
    is_awaited: bool,
    /// Nobody ever will.
    is_vain: bool,
}

/// See [`Connection::take`].
pub enum Taken<O: Owner> {
    Request(Box<Waiting<O>>),
    /// A message will come.
    Nothing,
    /// Nothing follows.
    Ended,
}

struct Facts {
    local: Option<Address>,
    tls: Option<TlsInfo>,
}

/// What a handle to the [`Connection`] may outlive.
struct Open {
    io: Arc<IoShared>,
    unsettled: Option<Unsettled>,
    _count: Option<Counted>,
}

impl Open {
    fn new(listener: &Arc<Shared>, io: Arc<IoShared>) -> Self {
        listener.connections.fetch_add(1, Ordering::Relaxed);
        Self {
            io,
            unsettled: Some(Unsettled(listener.clone())),
            _count: Some(stats::CONNECTIONS.count()),
        }
    }

    /// Only the connection that the stream is on counts.
    fn of_stream(io: Arc<IoShared>) -> Self {
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
    let has_handshake = connection.listener.config.proxy_protocol || io.shared.is_tls();
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
        _ => h1::serve(&connection, io).await,
    };
    if connection.socket.get().is_some() {
        return;
    }
    // Boxed as above.
    let error = Box::pin(finish(&connection, &shared, outcome)).await;
    if let Some(error) = error {
        connection.owner.http_error(connection.peer(), error);
    }
    connection.settle();
    if error == Some(HttpError::SlowClient) {
        // What waits for it would stay with the kernel.
        shared.stream().reset();
        return;
    }
    linger_for(&shared, LINGER_SENDING).await;
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
    linger(&io.shared).await;
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
    if !io.shared.is_tls() {
        let _ = io.shared.try_write(SERVICE_UNAVAILABLE);
        connection.settle();
        linger(&io.shared).await;
    }
    connection.end();
}

/// What the client did wrong, if it did.
async fn finish<O: Owner>(
    connection: &Arc<Connection<O>>,
    shared: &IoShared,
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
            h2::serve(connection, config, io).await.err()
        }
        Outcome::Refused((status, error)) => {
            let head =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            let _ = shared.try_write(head.as_bytes());
            Some(error)
        }
        Outcome::Stalled => Some(HttpError::SlowClient),
        Outcome::Ended(_) | Outcome::TimedOut | Outcome::Closed => None,
    }
}
