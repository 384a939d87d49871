//! `load attack`: connections do harm, as fast as the server lets them. Another one sends a message
//! every 20 ms, and how long its echo takes is the latency here.
//!
//! What an attacker meets is not judged: a server may well end its connection, and it comes again.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use h2::ext::Protocol;
use http::{Method, Request};
use rustls::crypto::ring;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::args::{Attack, Server, Weapon};
use crate::frame::{self, Header};
use crate::handshake;
use crate::meter::{Figures, Meter};
use crate::report::{AttackReport, LoadReport};
use crate::stream::Stream;

/// From a message to the next one.
const EVERY: Duration = Duration::from_millis(20);
const ECHO_SIZE: u32 = 64;
/// Pings that are handed to the kernel at once.
const BURST: usize = 2048;
const READ_BUFFER: usize = 1 << 18;
const PUSH_SIZE: &[u8] = b"300000000";
/// Pings in a DATA frame.
const PINGS_IN_DATA: usize = 1000;
/// Before an attacker that was thrown out comes again.
const PAUSE: Duration = Duration::from_millis(10);

pub fn run(args: &Attack) -> Result<AttackReport> {
    ensure!(args.server.tls.is_none(), "the echo of attack has no TLS");
    let Stream::Tcp(quiet) = handshake::open_all(&args.server, 1, handshake::websocket)?.remove(0)
    else {
        bail!("the echo of attack has no TLS");
    };
    quiet.set_read_timeout(Some(args.timing.patience))?;
    quiet.set_write_timeout(Some(args.timing.patience))?;

    let attackers = Attackers {
        weapon: args.weapon,
        target: Server {
            addr: args.target.unwrap_or(args.server.addr),
            path: args
                .target_path
                .clone()
                .unwrap_or_else(|| args.server.path.clone()),
            tls: None,
            pid: None,
        },
        conns: args.conns,
        over: AtomicBool::new(false),
        made: AtomicU64::new(0),
        sockets: Mutex::default(),
    };
    let opened = attackers.open_all()?;
    let mut echo = Echo::new(quiet);
    echo.ask_for(args.timing.warm)?;
    let figures = thread::scope(|scope| {
        let attack = scope.spawn(|| attackers.run(opened));
        let figures = echo.measure(args, &attackers.over);
        attackers.end();
        attack.join().expect("no panic").context("the attack")?;
        figures
    })?;
    let attacks = attackers.made.load(Relaxed);
    ensure!(attacks > 0, "the attack did nothing");
    Ok(AttackReport {
        weapon: attackers.unit(),
        attacks,
        load: LoadReport {
            mode: "attack",
            unit: "messages",
            conns: args.conns,
            depth: 1,
            size: ECHO_SIZE,
            figures,
        },
    })
}

/// The connection that does no harm.
struct Echo {
    stream: TcpStream,
    request: Vec<u8>,
    expected: Vec<u8>,
}

impl Echo {
    fn new(stream: TcpStream) -> Self {
        let payload = [b'q'; ECHO_SIZE as usize];
        Self {
            stream,
            request: frame::masked(frame::BINARY, &payload),
            expected: frame::unmasked(frame::BINARY, &payload),
        }
    }

    fn ask_for(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.ask()?;
            thread::sleep(EVERY);
        }
        Ok(())
    }

    /// A message that could not be sent in its time, because the one before was not answered, has
    /// waited since then.
    fn measure(&mut self, args: &Attack, over: &AtomicBool) -> Result<Figures> {
        let timing = crate::args::Timing {
            warm: Duration::ZERO,
            ..args.timing
        };
        let mut meter = Meter::new(args.server.pid, &timing);
        meter.tick(Instant::now())?;
        let mut due = Instant::now();
        loop {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            self.ask()?;
            meter.latency(due.elapsed());
            meter.count(1);
            if let Some(figures) = meter.tick(Instant::now())? {
                return Ok(figures);
            }
            // The attack could not begin: what it says is the reason.
            ensure!(!over.load(Relaxed), "the attack has ended");
            due += EVERY;
        }
    }

    fn ask(&mut self) -> Result<()> {
        let mut answer = vec![0; self.expected.len()];
        self.stream.write_all(&self.request)?;
        self.stream
            .read_exact(&mut answer)
            .context("awaiting an echo beside the attack")?;
        ensure!(
            answer == self.expected,
            "the echo beside the attack is wrong"
        );
        Ok(())
    }
}

struct Attackers {
    weapon: Weapon,
    target: Server,
    conns: u32,
    over: AtomicBool,
    made: AtomicU64,
    /// Those that may have to be torn from a read or a write.
    sockets: Mutex<Vec<TcpStream>>,
}

impl Attackers {
    /// What is counted.
    fn unit(&self) -> &'static str {
        match self.weapon {
            Weapon::Ping | Weapon::PingRead | Weapon::Window => "pings",
            Weapon::Hello => "handshakes",
            Weapon::Push => "MB",
        }
    }

    /// The WebSockets over HTTP/1.1 of this attack: to open them is none. If they cannot be opened, the
    /// target is none.
    fn open_all(&self) -> Result<Vec<TcpStream>> {
        match self.weapon {
            Weapon::Hello | Weapon::Window => Ok(Vec::new()),
            _ => (0..self.conns).map(|_| self.open()).collect(),
        }
    }

    /// Until it is over.
    fn run(&self, opened: Vec<TcpStream>) -> Result<()> {
        let result = match self.weapon {
            Weapon::Hello => self.hellos(),
            Weapon::Window => self.windows(),
            Weapon::Ping => self.each(opened, |stream| self.ping(stream)),
            Weapon::PingRead => self.each(opened, |stream| {
                thread::scope(|scope| {
                    scope.spawn(|| std::io::copy(&mut { stream }, &mut std::io::sink()));
                    self.ping(stream)
                })
            }),
            Weapon::Push => self.each(opened, |stream| self.read_pushes(stream)),
        };
        self.over.store(true, Relaxed);
        result
    }

    fn end(&self) {
        self.over.store(true, Relaxed);
        for socket in self.sockets().drain(..) {
            // One that the server has closed is no socket to shut down any more.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn sockets(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    fn made(&self, count: usize) {
        self.made.fetch_add(count as u64, Relaxed);
    }

    /// A thread for each WebSocket, which is opened anew when it has ended.
    fn each(
        &self,
        opened: Vec<TcpStream>,
        attack: impl Fn(&TcpStream) -> Result<()> + Sync,
    ) -> Result<()> {
        thread::scope(|scope| {
            for mut stream in opened {
                let attack = &attack;
                scope.spawn(move || {
                    while !self.is_over() {
                        // How it ends is the server's affair.
                        let _ = attack(&stream);
                        while !self.is_over() {
                            thread::sleep(PAUSE);
                            if let Ok(new) = self.open() {
                                stream = new;
                                break;
                            }
                        }
                    }
                });
            }
        });
        Ok(())
    }

    fn open(&self) -> Result<TcpStream> {
        let deadline = Instant::now() + handshake::OPEN_TIMEOUT;
        let Stream::Tcp(stream) = handshake::websocket(&self.target, deadline)? else {
            bail!("the target has no TLS");
        };
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        let mut sockets = self.sockets();
        ensure!(!self.is_over(), "it is over");
        sockets.push(stream.try_clone()?);
        Ok(stream)
    }

    fn ping(&self, mut stream: &TcpStream) -> Result<()> {
        let ping = frame::masked(frame::PING, &[]);
        let burst = ping.repeat(BURST);
        let mut bytes = 0;
        loop {
            let written = stream.write(&burst[bytes % ping.len()..])?;
            self.made((bytes % ping.len() + written) / ping.len());
            bytes += written;
        }
    }

    fn read_pushes(&self, mut stream: &TcpStream) -> Result<()> {
        let request = frame::masked(frame::TEXT, PUSH_SIZE);
        let mut buffer = vec![0; READ_BUFFER];
        loop {
            stream.write_all(&request)?;
            // The header of a frame of more than 64 KiB.
            stream.read_exact(&mut buffer[..10])?;
            let header = Header::parse(&buffer[..10]).context("no frame")?;
            ensure!(header.len == 10, "a push of {} bytes", header.payload_len);
            let mut left = header.payload_len;
            while left > 0 {
                let room = left.min(buffer.len());
                let count = stream.read(&mut buffer[..room])?;
                ensure!(count > 0, "the server closed within a push");
                let before = left / 1_000_000;
                left -= count;
                self.made(before - left / 1_000_000);
            }
        }
    }

    /// All connections at once: that many signatures are to be made in one go.
    fn hellos(&self) -> Result<()> {
        let hello = client_hello(self.target.addr)?;
        let mut sockets = Vec::new();
        while !self.is_over() {
            for _ in 0..self.conns {
                let mut socket = TcpStream::connect(self.target.addr)?;
                socket.set_read_timeout(Some(Duration::from_secs(1)))?;
                socket.write_all(&hello)?;
                sockets.push(socket);
            }
            for mut socket in sockets.drain(..) {
                match socket.read(&mut [0; 1]) {
                    Ok(1) => self.made(1),
                    Ok(_) => {}
                    // The server has ended it, or is busy with others.
                    Err(error) if is_about_the_server(error.kind()) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// A thread for each connection.
    fn windows(&self) -> Result<()> {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.conns)
                .map(|_| scope.spawn(|| self.window()))
                .collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().expect("no panic"))
        })
    }

    fn window(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut has_attacked = false;
            while !self.is_over() {
                match self.ping_without_window(&mut has_attacked).await {
                    Err(error) if !has_attacked => return Err(error),
                    _ => tokio::time::sleep(PAUSE).await,
                }
            }
            Ok(())
        })
    }

    async fn ping_without_window(&self, has_attacked: &mut bool) -> Result<()> {
        let socket = tokio::net::TcpStream::connect(self.target.addr).await?;
        let (mut client, mut connection) = h2::client::Builder::new()
            .initial_window_size(0)
            .handshake::<_, Bytes>(socket)
            .await?;
        let attack = async {
            client = client.ready().await?;
            // Not before the server's SETTINGS have come (RFC8441§3).
            let deadline = Instant::now() + handshake::OPEN_TIMEOUT;
            while !client.is_extended_connect_protocol_enabled() {
                ensure!(
                    Instant::now() < deadline,
                    "the server has no extended CONNECT"
                );
                tokio::time::sleep(PAUSE).await;
                ensure!(!self.is_over(), "the server has no extended CONNECT");
            }
            let (addr, path) = (self.target.addr, &self.target.path);
            let mut request = Request::builder()
                .method(Method::CONNECT)
                .uri(format!("http://{addr}{path}"))
                .header("sec-websocket-version", "13")
                .body(())?;
            request
                .extensions_mut()
                .insert(Protocol::from_static("websocket"));
            let (response, mut stream) = client.send_request(request, false)?;
            let status = response.await?.status();
            ensure!(status == 200, "the handshake was refused: {status}");
            *has_attacked = true;
            let ping = frame::masked(frame::PING, &[]);
            let data = Bytes::from(ping.repeat(PINGS_IN_DATA));
            loop {
                stream.reserve_capacity(data.len());
                while stream.capacity() < data.len() {
                    let more = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                    more.context("the stream has ended")??;
                }
                stream.send_data(data.clone(), false)?;
                self.made(PINGS_IN_DATA);
            }
        };
        // The connection does what all its streams need, and it ends with the attack.
        tokio::select! {
            result = attack => result,
            ended = &mut connection => Ok(ended?),
            () = self.until_over() => Ok(()),
        }
    }

    async fn until_over(&self) {
        while !self.is_over() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn is_about_the_server(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::WouldBlock | ErrorKind::TimedOut
    )
}

/// Always the same: a client can have it ready, and pays nothing for what the server computes.
fn client_hello(addr: SocketAddr) -> Result<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), addr.ip().into())?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello)?;
    Ok(hello)
}
