//! One connection, or a stream of one, as its exchange and its socket need it. To its owner the two look the
//! same. What is spoken on it is no concern of it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use once_cell::sync::OnceCell;
use tokio::sync::Notify;

use crate::net::Address;
use crate::net::tls::TlsInfo;
use crate::net::writer::Writer;
use crate::owner::Owner;
use crate::rt::Reactor;
use crate::rt::lock;
use crate::rt::stats::{self, Counted};
use crate::server::{InUse, Server};

/// What a connection is at present: a request that is served, or a WebSocket.
pub(crate) trait Ward: Send + Sync {
    /// Its owner is dead.
    fn owner_down(self: Arc<Self>);
}

pub struct Connection<O: Owner> {
    pub(crate) owner: O,
    peer: Address,
    /// Who the peer is a proxy of.
    pub(crate) proxied: OnceCell<Box<Address>>,
    /// What runs its tasks.
    pub(crate) reactor: &'static Reactor,
    pub(crate) server: Arc<Server>,
    /// Wakes the task that runs hyper, or h2.
    pub(crate) wake: Notify,
    requests: AtomicU64,
    /// Those of its streams that have an owner, although they may be gone.
    pub(crate) streams: AtomicUsize,
    /// The connection that it is a stream of, as long as it has an owner.
    parent: Mutex<Option<Arc<Self>>>,
    /// No request may follow the one that is served now.
    retired: AtomicBool,
    /// Who has to hear of the owner's death.
    ward: Mutex<Option<Weak<dyn Ward>>>,
    /// The end is the socket's to tell. Set while `open` is locked.
    is_socket: AtomicBool,
    offer: Mutex<Offer<O>>,
    open: Mutex<Option<Open>>,
    /// What a handler may ask for when the connection has ended.
    facts: OnceCell<Box<Facts>>,
}

impl<O: Owner> Connection<O> {
    pub(crate) fn new(
        peer: Address,
        reactor: &'static Reactor,
        server: Arc<Server>,
        writer: Arc<Writer>,
        owner: impl FnOnce(Weak<Self>) -> O,
    ) -> Arc<Self> {
        let open = Open::new(&server, writer);
        Self::with(peer, reactor, server, open, None, owner)
    }

    /// A stream of HTTP/2, which to its owner is a connection with one request. `None`: it has ended.
    pub(crate) fn of_stream(
        parent: &Arc<Self>,
        owner: impl FnOnce(Weak<Self>) -> O,
    ) -> Option<Arc<Self>> {
        let open = Open::of_stream(parent.io()?);
        parent.streams.fetch_add(1, Ordering::Relaxed);
        Some(Self::with(
            parent.peer().clone(),
            parent.reactor,
            parent.server.clone(),
            open,
            Some(parent.clone()),
            owner,
        ))
    }

    fn with(
        peer: Address,
        reactor: &'static Reactor,
        server: Arc<Server>,
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
            server,
            wake: Notify::new(),
            requests: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            parent: Mutex::new(parent),
            retired: AtomicBool::new(false),
            ward: Mutex::new(None),
            is_socket: AtomicBool::new(false),
            offer: Mutex::new(Offer {
                request: None,
                is_awaited: true,
                is_vain: false,
            }),
            facts: OnceCell::new(),
        })
    }

    /// Returns how many there were, with this one.
    pub(crate) fn count_request(&self) -> u64 {
        self.server.requests.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The owner is dead: whatever this connection is by now ends.
    pub fn owner_down(&self) {
        self.leave_parent();
        let is_http = !self.is_socket();
        self.tell_ward();
        if is_http {
            self.withdraw();
            self.retire();
        }
    }

    fn tell_ward(&self) {
        let ward = lock(&self.ward).as_ref().and_then(Weak::upgrade);
        if let Some(ward) = ward {
            ward.owner_down();
        }
    }

    /// Hands a request to the owner, or to whoever is to become it: keeps it until it is taken. `false`:
    /// there is nobody.
    pub(crate) fn offer(&self, request: O::Request) -> bool {
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

    /// Nobody will take the request any more.
    fn withdraw(&self) {
        let mut offer = lock(&self.offer);
        offer.is_vain = true;
        let request = offer.request.take();
        drop(offer);
        if request.is_some() {
            // It is the one that is served now, or would be.
            self.tell_ward();
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

    /// Our own address, which the connection still knows after its end.
    pub fn local_addr(&self) -> io::Result<Address> {
        if let Some(io) = self.io() {
            return io.stream().local_addr();
        }
        let local = self.facts.get().and_then(|facts| facts.local.clone());
        local.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    pub(crate) fn peer(&self) -> &Address {
        self.proxied.get().map_or(&self.peer, |client| client)
    }

    /// What TLS has agreed on, which the connection still knows after its end. `None` without TLS.
    pub fn tls(&self) -> Option<TlsInfo> {
        match self.io() {
            Some(io) => io.tls().map(|tls| tls.info()),
            None => self.facts.get()?.tls.clone(),
        }
    }

    pub(crate) fn io(&self) -> Option<Arc<Writer>> {
        lock(&self.open).as_ref().map(|open| open.writer.clone())
    }

    /// Ends the HTTP connection as soon as its response is out. A stream ends with its response anyway.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// From here on it is this that has to hear of the owner's death.
    pub(crate) fn serves(&self, ward: Weak<dyn Ward>) {
        *lock(&self.ward) = Some(ward);
    }

    /// Notes that we have closed our half. What is left is to wait for the peer to close its own.
    pub(crate) fn half_closed(&self) {
        if let Some(open) = lock(&self.open).as_mut() {
            open.in_use = None;
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
    pub(crate) fn becomes(&self, socket: Weak<dyn Ward>) -> bool {
        let open = lock(&self.open);
        // In the place of the exchange: a weak reference, too, keeps its memory.
        let mut ward = lock(&self.ward);
        if open.is_none() || self.is_socket.swap(true, Ordering::AcqRel) {
            *ward = None;
            return false;
        }
        *ward = Some(socket);
        true
    }

    pub(crate) fn is_socket(&self) -> bool {
        self.is_socket.load(Ordering::Acquire)
    }

    /// Ends the connection unless it has become a socket, which ends it itself. Returns whether it did.
    pub(crate) fn end_http(&self) -> bool {
        self.remember();
        let mut open = lock(&self.open);
        let is_http = !self.is_socket();
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
    request: Option<Box<O::Request>>,
    /// The owner has asked in vain, so that it has to be told of the next request.
    is_awaited: bool,
    /// The owner is gone, so that nobody will ever ask.
    is_vain: bool,
}

/// See [`Connection::take`].
pub enum Taken<O: Owner> {
    Request(Box<O::Request>),
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
    writer: Arc<Writer>,
    in_use: Option<InUse>,
    _count: Option<Counted>,
}

impl Open {
    fn new(server: &Arc<Server>, writer: Arc<Writer>) -> Self {
        Self {
            writer,
            in_use: Some(server.count_connection()),
            _count: Some(stats::CONNECTIONS.count()),
        }
    }

    /// Only the connection that the stream is on counts.
    fn of_stream(writer: Arc<Writer>) -> Self {
        Self {
            writer,
            in_use: None,
            _count: None,
        }
    }
}
