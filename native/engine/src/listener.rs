//! Binds, accepts, and stops accepting.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::{ListenerConfig, Overload};
use crate::connection::Connection;
use crate::http::handler::Handler;
use crate::net::Address;
use crate::net::bind::{Binding, SocketFile, bind};
use crate::net::io::Io;
use crate::net::stream::{Listening, Stream};
use crate::net::tls::Tls;
use crate::net::tls::config::TlsConfig;
use crate::rt::{self, Reactor, lock, stats, timer};
use crate::serve;
use crate::server::{Server, Stage};

/// Pause after an error that will still be there at once: out of descriptors or of memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const ACCEPT_ERROR_EVERY: Duration = Duration::from_secs(1);

/// Connections at once that are told that they are too many; the others are reset.
const MAX_REFUSED: usize = 64;

/// Who serves the connections of a listener.
pub trait Host: Send + Sync + 'static {
    type Owner: Handler;

    /// The owner of a connection that was accepted; nothing is asked of it yet.
    fn owner(&self, connection: Weak<Connection<Self::Owner>>) -> Self::Owner;

    /// Accepting failed; it goes on. At most one call a second.
    fn accept_error(&self, error: &io::Error);
}

pub struct Listener {
    addr: Address,
    /// Removed as soon as nothing is accepted any more.
    file: Mutex<Option<SocketFile>>,
    /// The task that accepts has it, and closes it by dropping it.
    socket: Weak<Listening>,
    server: Arc<Server>,
    stage: watch::Sender<Stage>,
    /// Its sender lives as long as that task.
    accepting: watch::Receiver<()>,
    reactor: &'static Reactor,
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
        let (socket, file) = bind(&Binding {
            addr: &config.address,
            backlog: config.backlog,
            reuse_port: config.reuse_port,
            user_timeout: config.user_timeout,
        })?;
        let reactor = rt::next();
        let socket = {
            let _guard = reactor.enter();
            Arc::new(Listening::new(socket, &config.address)?)
        };
        let addr = socket.local_addr()?;
        let (stage, stages) = watch::channel(Stage::Accepting);
        let (alive, accepting) = watch::channel(());
        let server = Server::new(config, tls, stages.clone());
        let weak = Arc::downgrade(&socket);
        let task = accept(socket, reactor, host, server.clone(), stages);
        reactor.spawn(async move {
            task.await;
            // Not before the task has let go of the socket.
            drop(alive);
        });
        Ok(Self {
            addr,
            file: Mutex::new(Some(file)),
            socket: weak,
            server,
            stage,
            accepting,
            reactor,
        })
    }

    pub fn info(&self) -> Info {
        let connections = self.server.connections.load(Ordering::Relaxed);
        Info {
            addr: self.addr.clone(),
            connections,
            lingering: self.server.lingering(connections),
            queued_bytes: self.server.budget.queued(),
            accepted: self.server.accepted.load(Ordering::Relaxed),
            requests: self.server.requests.load(Ordering::Relaxed),
            bytes_received: self.server.traffic.received(),
            bytes_sent: self.server.traffic.sent(),
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
        self.server.set_tls(config);
    }

    pub fn is_closed(&self) -> bool {
        !self.server.is_accepting()
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
    server: Arc<Server>,
    mut stage: watch::Receiver<Stage>,
) {
    let _count = stats::LISTENERS.count();
    let mut last_error: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stage.wait_for(|stage| *stage > Stage::Accepting) => break,
            accepted = async {
                has_room(&server).await;
                socket.accept().await
            } => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let next = rt::next();
                welcome(stream.move_to(next, reactor), peer, next, &host, &server).await;
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
    accept_rest(&socket, &stage, &host, &server).await;
}

async fn has_room(server: &Server) {
    while server.overload() == Some(Overload::Wait) {
        server.descriptors.freed().await;
    }
}

/// Takes what the kernel has accepted, which it would reset when the socket is closed.
async fn accept_rest<H: Host>(
    socket: &Listening,
    stage: &watch::Receiver<Stage>,
    host: &H,
    server: &Arc<Server>,
) {
    // Not by way of tokio, which may not have heard of all that there is.
    loop {
        match socket.accept_now() {
            Ok((stream, peer)) => {
                let reactor = rt::next();
                welcome(stream.watch_by(reactor), peer, reactor, host, server).await;
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
    server: &Arc<Server>,
) {
    // Without memory for the reactor's epoll, the connection is lost.
    if let Ok(stream) = stream {
        start(stream, peer, reactor, host, server);
    }
    if rt::is_late(Instant::now()) {
        rt::yield_now().await;
    }
}

fn start<H: Host>(
    stream: Stream,
    peer: Address,
    reactor: &'static Reactor,
    host: &H,
    server: &Arc<Server>,
) {
    server.accepted.fetch_add(1, Ordering::Relaxed);
    stream.set_nodelay(server.config.nodelay);
    // When the listener drains, a connection may be served although it is one too many.
    let is_refused = server.overload() == Some(Overload::Refuse);
    let Ok(tls) = server.tls().map(Tls::new).transpose() else {
        return;
    };
    if is_refused && server.descriptors.refused() >= MAX_REFUSED {
        // As many are being told already.
        stream.reset();
        return;
    }
    let permit = server.descriptors.permit(is_refused);
    let io = Io::new(stream, tls, server.traffic.clone(), Some(permit));
    let connection = Connection::new(peer, reactor, server.clone(), io.writer.clone(), |weak| {
        host.owner(weak)
    });
    if is_refused {
        reactor.spawn(serve::refuse(connection, io));
    } else {
        reactor.spawn(serve::serve(connection, io, Instant::now()));
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
