//! Binds, accepts, and stops accepting.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::bind::{SocketFile, bind};
use crate::config::{ListenerConfig, Overload, SocketConfig};
use crate::connection::{self, Connection};
use crate::io::Io;
use crate::owner::Owner;
use crate::runtime::{self, Reactor};
use crate::stream::{Address, Listening, Stream};
use crate::tls::Tls;
use crate::tls::config::TlsConfig;
use crate::{lock, stats, timer};

/// Pause after an error that will still be there at once: out of descriptors or of memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const ACCEPT_ERROR_EVERY: Duration = Duration::from_secs(1);

/// Who serves the connections of a listener.
pub trait Host: Send + Sync + 'static {
    type Owner: Owner;

    /// The owner of a connection that was accepted; nothing is asked of it yet.
    fn owner(&self, connection: std::sync::Weak<Connection<Self::Owner>>) -> Self::Owner;

    /// Accepting failed; it goes on. At most one call a second.
    fn accept_error(&self, error: &io::Error);
}

pub struct Listener {
    addr: Address,
    open: Mutex<Option<(Arc<Listening>, SocketFile)>>,
    shared: Arc<Shared>,
    close: watch::Sender<bool>,
}

pub(crate) struct Shared {
    pub(crate) config: ListenerConfig,
    pub(crate) connections: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) closing: watch::Receiver<bool>,
    tls: Option<Mutex<TlsConfig>>,
    /// Wakes the accepting when a connection has ended.
    pub(crate) freed: Notify,
    /// Of the latest socket: mostly that of the next one.
    socket_config: Mutex<Option<Arc<SocketConfig>>>,
}

impl Shared {
    fn is_full(&self) -> bool {
        self.connections.load(Ordering::Relaxed) >= self.config.max_connections
    }

    async fn has_room(&self) {
        while self.config.overload == Overload::Wait && self.is_full() {
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

/// Counts since the start, but for `connections`, which are those open now.
pub struct Info {
    pub addr: Address,
    pub connections: usize,
    pub accepted: u64,
    pub requests: u64,
}

impl Listener {
    /// The runtime must have been started ([`runtime::start`]).
    pub fn open<H: Host>(
        config: ListenerConfig,
        tls: Option<TlsConfig>,
        host: H,
    ) -> io::Result<Self> {
        let (socket, file) = bind(&config)?;
        let reactor = runtime::next();
        let socket = {
            let _guard = reactor.enter();
            Arc::new(Listening::new(socket, &config.addr)?)
        };
        let addr = socket.local_addr()?;
        let (close, closing) = watch::channel(false);
        let shared = Arc::new(Shared {
            config,
            connections: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            closing: closing.clone(),
            tls: tls.map(Mutex::new),
            freed: Notify::new(),
            socket_config: Mutex::new(None),
        });
        reactor.spawn(accept(
            socket.clone(),
            reactor,
            host,
            shared.clone(),
            closing,
        ));
        Ok(Self {
            addr,
            open: Mutex::new(Some((socket, file))),
            shared,
            close,
        })
    }

    pub fn info(&self) -> Info {
        Info {
            addr: self.addr.clone(),
            connections: self.shared.connections.load(Ordering::Relaxed),
            accepted: self.shared.accepted.load(Ordering::Relaxed),
            requests: self.shared.requests.load(Ordering::Relaxed),
        }
    }

    /// Stops accepting; idle connections close, busy ones after their response.
    pub fn close(&self) {
        self.close.send_replace(true);
        if let Some((socket, file)) = lock(&self.open).take() {
            drop(file);
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
        *self.close.borrow()
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
    mut closing: watch::Receiver<bool>,
) {
    let _count = stats::LISTENERS.count();
    let mut last_error: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            accepted = async {
                shared.has_room().await;
                socket.accept().await
            } => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let next = runtime::next();
                // Out of memory for the other epoll: the connection is lost.
                if let Ok(stream) = next.adopt(stream, reactor) {
                    serve(stream, peer, next, &host, &shared);
                }
                if runtime::is_late(Instant::now()) {
                    runtime::yield_now().await;
                }
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
}

/// accept(2) hands over the errors of a connection that ended before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::*;
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | ConnectionRefused | Interrupted
    )
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
    let is_full = shared.is_full();
    let Ok(tls) = shared.tls().map(Tls::new).transpose() else {
        return;
    };
    let io = Io::new(stream, tls);
    let connection = Connection::new(peer, reactor, shared.clone(), io.shared.clone(), |weak| {
        host.owner(weak)
    });
    if is_full {
        reactor.spawn(connection::refuse(connection, io));
    } else {
        reactor.spawn(connection::serve(connection, io));
    }
}
