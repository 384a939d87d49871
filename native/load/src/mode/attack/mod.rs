//! `load attack`: connections do harm, as fast as the server lets them. Another one sends a message
//! every 20 ms, and how long its echo takes is the latency here.
//!
//! What an attacker meets is not judged: a server may well end its connection, and it comes again.

mod hello;
mod websocket;
mod window;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::args::{Attack, Server, Timing, Weapon};
use crate::frame;
use crate::handshake;
use crate::meter::{Figures, Meter};
use crate::report::{AttackReport, LoadReport};
use crate::stream::Stream;

/// From a message to the next one.
const EVERY: Duration = Duration::from_millis(20);
const ECHO_SIZE: u32 = 64;
/// Before an attacker that was thrown out comes again.
const PAUSE: Duration = Duration::from_millis(10);

pub fn run(args: &Attack) -> Result<AttackReport> {
    let mut echo = Echo::open(args)?;
    let attackers = Attackers::new(args);
    let opened = attackers.open_all()?;
    echo.ask_for(args.timing.warm)?;
    let figures = measure_beside(&mut echo, &attackers, opened, args)?;
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

/// The figures of the echo, while the attackers are at it.
fn measure_beside(
    echo: &mut Echo,
    attackers: &Attackers,
    opened: Vec<TcpStream>,
    args: &Attack,
) -> Result<Figures> {
    thread::scope(|scope| {
        let attack = scope.spawn(|| attackers.run(opened));
        let figures = echo.measure(args, &attackers.over);
        attackers.end();
        attack.join().expect("no panic").context("the attack")?;
        figures
    })
}

/// The connection that does no harm.
struct Echo {
    stream: TcpStream,
    request: Vec<u8>,
    expected: Vec<u8>,
}

impl Echo {
    fn open(args: &Attack) -> Result<Self> {
        ensure!(args.server.tls.is_none(), "the echo of attack has no TLS");
        let opened = handshake::open_all(&args.server, 1, handshake::websocket)?.remove(0);
        let Stream::Tcp(stream) = opened else {
            bail!("the echo of attack has no TLS");
        };
        stream.set_read_timeout(Some(args.timing.patience))?;
        stream.set_write_timeout(Some(args.timing.patience))?;
        let payload = [b'q'; ECHO_SIZE as usize];
        Ok(Self {
            stream,
            request: frame::masked(frame::BINARY, &payload),
            expected: frame::unmasked(frame::BINARY, &payload),
        })
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
        let timing = Timing {
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
    fn new(args: &Attack) -> Self {
        let path = args.target_path.as_ref().unwrap_or(&args.server.path);
        Self {
            weapon: args.weapon,
            target: Server {
                addr: args.target.unwrap_or(args.server.addr),
                path: path.clone(),
                tls: None,
                pid: None,
            },
            conns: args.conns,
            over: AtomicBool::new(false),
            made: AtomicU64::new(0),
            sockets: Mutex::default(),
        }
    }

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

    fn sockets(&self) -> MutexGuard<'_, Vec<TcpStream>> {
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
}
