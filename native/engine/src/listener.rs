//! Binds, accepts, and stops accepting.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::config::{ListenerConfig, Overload, SocketConfig};
use crate::connection::{self, Connection};
use crate::flow::Budget;
use crate::net::Address;
use crate::net::bind::{SocketFile, bind};
use crate::net::io::Io;
use crate::net::stream::{Listening, Stream};
use crate::net::tls::Tls;
use crate::net::tls::config::TlsConfig;
use crate::net::traffic::Traffic;
use crate::owner::Owner;
use crate::rt::{self, Reactor};
use crate::rt::{lock, stats, timer};

/// Pause after an error that will still be there at once: out of descriptors or of memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const ACCEPT_ERROR_EVERY: Duration = Duration::from_secs(1);

/// Connections at once that are told that they are too many; the others are reset.
const MAX_REFUSED: usize = 64;

/// Who serves the connections of a listener.
pub trait Host: Send + Sync + 'static {
    type Owner: Owner;

    /// The owner of a connection that was accepted; nothing is asked of it yet.
    fn owner(&self, connection: Weak<Connection<Self::Owner>>) -> Self::Owner;

    /// Accepting failed; it goes on. At most one call a second.
    fn accept_error(&self, error: &io::Error);
}

/// How far a listener is on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Accepting,
    /// Requests that have arrived are the last of their connections.
    Draining,
    /// The same for requests that have no response yet; all other connections end.
    Closed,
}

pub struct Listener {
    addr: Address,
    /// Removed as soon as nothing is accepted any more.
    file: Mutex<Option<SocketFile>>,
    /// The task that accepts has it, and closes it by dropping it.
    socket: Weak<Listening>,
    shared: Arc<Shared>,
    stage: watch::Sender<Stage>,
    /// Its sender lives as long as that task.
    accepting: watch::Receiver<()>,
    reactor: &'static Reactor,
}

pub(crate) struct Shared {
    pub(crate) config: ListenerConfig,
    /// Those on which there may be something to say.
    pub(crate) connections: AtomicUsize,
    /// Those that have a descriptor, but for the refused.
    held: AtomicUsize,
    /// Those that were refused and whose descriptor is still open.
    refused: AtomicUsize,
    /// What waits for their peers.
    pub(crate) budget: Arc<Budget>,
    pub(crate) accepted: AtomicU64,
    pub(crate) requests: AtomicU64,
    traffic: Arc<Traffic>,
    pub(crate) stage: watch::Receiver<Stage>,
    tls: Option<Mutex<TlsConfig>>,
    /// Wakes the accepting when a connection has ended.
    freed: Notify,
    /// Of the latest socket: mostly that of the next one.
    socket_config: Mutex<Option<Arc<SocketConfig>>>,
}

impl Shared {
    /// Whether a connection may wait for a further request.
    pub(crate) fn is_accepting(&self) -> bool {
        *self.stage.borrow() == Stage::Accepting
    }

    /// What is to become of a connection too many.
    fn overload(&self) -> Option<Overload> {
        let count = self.held.load(Ordering::Relaxed);
        (count >= self.config.max_connections).then_some(self.config.overload)
    }

    /// Two counts that change one after the other may seem to contradict each other for a moment.
    fn lingering(&self, connections: usize) -> usize {
        let refused = self.refused.load(Ordering::Relaxed);
        let held = self.held.load(Ordering::Relaxed);
        (held + refused).saturating_sub(connections)
    }

    async fn has_room(&self) {
        while self.overload() == Some(Overload::Wait) {
            self.freed.notified().await;
        }
    }

    fn tls(&self) -> Option<TlsConfig> {
        self.tls.as_ref().map(|tls| lock(tls).clone())
    }

    /// Sockets of the same configuration share it.
    pub(crate) fn share(&self, config: SocketConfig) -> Arc<SocketConfig> {
        let mut latest = lock(&self.socket_config);
        match &*latest {
            Some(known) if **known == config => known.clone(),
            _ => latest.insert(Arc::new(config)).clone(),
        }
    }
}

/// A connection that its listener counts until its descriptor is closed.
pub(crate) struct Held {
    listener: Arc<Shared>,
    is_refused: bool,
}

impl Held {
    fn new(listener: &Arc<Shared>, is_refused: bool) -> Self {
        let held = Self {
            listener: listener.clone(),
            is_refused,
        };
        held.count().fetch_add(1, Ordering::Relaxed);
        held
    }

    fn count(&self) -> &AtomicUsize {
        match self.is_refused {
            true => &self.listener.refused,
            false => &self.listener.held,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.count().fetch_sub(1, Ordering::Relaxed);
        if !self.is_refused {
            self.listener.freed.notify_one();
        }
    }
}

/// Counts since the start, but for the first three.
pub struct Info {
    pub addr: Address,
    /// Those on which there may be something to say.
    pub connections: usize,
    /// Those that wait for their peer to close, and nothing else.
    pub lingering: usize,
    /// Bytes that wait for their peers.
    pub queued_bytes: usize,
    pub accepted: u64,
    pub requests: u64,
    /// As the kernel gave and took them: with TLS records and its handshakes.
    pub bytes_received: u64,
    pub bytes_sent: u64,
}

impl Listener {
    /// The runtime must have been started ([`rt::start`]).
    pub fn open<H: Host>(
        config: ListenerConfig,
        tls: Option<TlsConfig>,
        host: H,
    ) -> io::Result<Self> {
        let (socket, file) = bind(&config)?;
        let reactor = rt::next();
        let socket = {
            let _guard = reactor.enter();
            Arc::new(Listening::new(socket, &config.address)?)
        };
        let addr = socket.local_addr()?;
        let (stage, stages) = watch::channel(Stage::Accepting);
        let (alive, accepting) = watch::channel(());
        let shared = Arc::new(Shared {
            budget: Budget::new(config.max_queued_bytes),
            config,
            connections: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            traffic: Arc::default(),
            stage: stages.clone(),
            tls: tls.map(Mutex::new),
            freed: Notify::new(),
            socket_config: Mutex::new(None),
        });
        let weak = Arc::downgrade(&socket);
        let task = accept(socket, reactor, host, shared.clone(), stages);
        reactor.spawn(async move {
            task.await;
            // Not before the task has let go of the socket.
            drop(alive);
        });
        Ok(Self {
            addr,
            file: Mutex::new(Some(file)),
            socket: weak,
            shared,
            stage,
            accepting,
            reactor,
        })
    }

    pub fn info(&self) -> Info {
        let connections = self.shared.connections.load(Ordering::Relaxed);
        Info {
            addr: self.addr.clone(),
            connections,
            lingering: self.shared.lingering(connections),
            queued_bytes: self.shared.budget.queued(),
            accepted: self.shared.accepted.load(Ordering::Relaxed),
            requests: self.shared.requests.load(Ordering::Relaxed),
            bytes_received: self.shared.traffic.received(),
            bytes_sent: self.shared.traffic.sent(),
        }
    }

    /// Stops accepting, but takes what the kernel has accepted. Connections without a request close;
    /// the others after the response to what has arrived of one. `done` is called when the address is
    /// free.
    pub fn drain(&self, done: impl FnOnce() + Send + 'static) {
        self.advance(Stage::Draining);
        let mut accepting = self.accepting.clone();
        self.reactor.spawn(async move {
            // An error: the task has ended.
            let _ = accepting.changed().await;
            done();
        });
    }

    /// Stops accepting at once. A connection whose request has no response yet closes after it, the
    /// others at once.
    pub fn close(&self) {
        self.advance(Stage::Closed);
        if let Some(socket) = self.socket.upgrade() {
            // The address is free when this returns; the task drops the socket a little later.
            socket.shut_down();
        }
    }

    /// For the connections to come. Nothing where TLS is not spoken.
    pub fn set_tls(&self, config: TlsConfig) {
        if let Some(tls) = &self.shared.tls {
            *lock(tls) = config;
        }
    }

    pub fn is_closed(&self) -> bool {
        !self.shared.is_accepting()
    }

    fn advance(&self, to: Stage) {
        lock(&self.file).take();
        self.stage.send_if_modified(|stage| {
            let is_later = to > *stage;
            *stage = to.max(*stage);
            is_later
        });
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

async fn accept<H: Host>(
    socket: Arc<Listening>,
    reactor: &'static Reactor,
    host: H,
    shared: Arc<Shared>,
    mut stage: watch::Receiver<Stage>,
) {
    let _count = stats::LISTENERS.count();
    let mut last_error: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stage.wait_for(|stage| *stage > Stage::Accepting) => break,
            accepted = async {
                shared.has_room().await;
                socket.accept().await
            } => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let next = rt::next();
                welcome(next.adopt(stream, reactor), peer, next, &host, &shared).await;
            }
            Err(e) if is_of_one_connection(&e) => {}
            Err(e) => {
                if last_error.is_none_or(|at| at.elapsed() >= ACCEPT_ERROR_EVERY) {
                    last_error = Some(Instant::now());
                    host.accept_error(&e);
                }
                timer::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    accept_rest(&socket, &stage, &host, &shared).await;
}

/// Takes what the kernel has accepted, which it would reset when the socket is closed.
async fn accept_rest<H: Host>(
    socket: &Listening,
    stage: &watch::Receiver<Stage>,
    host: &H,
    shared: &Arc<Shared>,
) {
    // Not by way of tokio, which may not have heard of all that there is.
    loop {
        match socket.accept_now() {
            Ok((stream, peer)) => {
                let reactor = rt::next();
                welcome(reactor.take(stream), peer, reactor, host, shared).await;
            }
            Err(e) if is_of_one_connection(&e) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            // Connections are closing, which may help.
            Err(_) if *stage.borrow() == Stage::Draining => timer::sleep(ACCEPT_PAUSE).await,
            Err(_) => return,
        }
    }
}

/// accept(2) hands over the errors of a connection that ended before it was accepted, those of the
/// network among them.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | ConnectionRefused
            | Interrupted
            | HostUnreachable
            | NetworkDown
            | NetworkUnreachable
            | TimedOut
    ) || is_of_the_network(error)
}

/// Those that std has no names for.
#[cfg(target_os = "linux")]
fn is_of_the_network(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let of_the_network = [
        Errno::PROTO,
        Errno::HOSTDOWN,
        Errno::OPNOTSUPP,
        Errno::NOPROTOOPT,
        Errno::NONET,
    ];
    Errno::from_io_error(error).is_some_and(|error| of_the_network.contains(&error))
}

#[cfg(not(target_os = "linux"))]
fn is_of_the_network(_error: &io::Error) -> bool {
    false
}

/// Serves a connection, and lets others have the thread when it is time.
async fn welcome<H: Host>(
    stream: io::Result<Stream>,
    peer: Address,
    reactor: &'static Reactor,
    host: &H,
    shared: &Arc<Shared>,
) {
    // Without memory for the reactor's epoll, the connection is lost.
    if let Ok(stream) = stream {
        serve(stream, peer, reactor, host, shared);
    }
    if rt::is_late(Instant::now()) {
        rt::yield_now().await;
    }
}

fn serve<H: Host>(
    stream: Stream,
    peer: Address,
    reactor: &'static Reactor,
    host: &H,
    shared: &Arc<Shared>,
) {
    shared.accepted.fetch_add(1, Ordering::Relaxed);
    stream.set_nodelay(shared.config.nodelay);
    // When the listener drains, a connection may be served although it is one too many.
    let is_refused = shared.overload() == Some(Overload::Refuse);
    let Ok(tls) = shared.tls().map(Tls::new).transpose() else {
        return;
    };
    if is_refused && shared.refused.load(Ordering::Relaxed) >= MAX_REFUSED {
        // As many are being told already.
        stream.reset();
        return;
    }
    let held = Held::new(shared, is_refused);
    let io = Io::new(stream, tls, shared.traffic.clone(), Some(held));
    let connection = Connection::new(peer, reactor, shared.clone(), io.shared.clone(), |weak| {
        host.owner(weak)
    });
    if is_refused {
        reactor.spawn(connection::refuse(connection, io));
    } else {
        reactor.spawn(connection::serve(connection, io));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// accept(2), "Error handling"
    #[test]
    #[cfg(target_os = "linux")]
    fn errors_of_one_connection_do_not_stop_the_accepting() {
        use rustix::io::Errno;
        let of_one = [
            Errno::NETDOWN,
            Errno::PROTO,
            Errno::NOPROTOOPT,
            Errno::HOSTDOWN,
            Errno::NONET,
            Errno::HOSTUNREACH,
            Errno::OPNOTSUPP,
            Errno::NETUNREACH,
            Errno::TIMEDOUT,
            Errno::CONNABORTED,
            Errno::INTR,
        ];
        for errno in of_one {
            assert!(is_of_one_connection(&errno.into()), "{errno}");
        }
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(!is_of_one_connection(&errno.into()), "{errno}");
        }
    }
}
