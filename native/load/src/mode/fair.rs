//! `load fair`: one connection sends as much as its server takes. Another one sends a message now
//! and then, and how long its echo takes is the latency here. What is counted is the flood.
//!
//! Each connection has threads of its own: on one thread, the flood's bytes would keep the quiet
//! one's echo waiting here.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::args::Fair;
use crate::frame;
use crate::handshake;
use crate::meter::{Figures, Meter};
use crate::report::LoadReport;
use crate::stream::Stream;

/// Between an echo of the quiet connection and its next message.
const PAUSE: Duration = Duration::from_millis(1);
/// Messages of the flood that are handed to the kernel at once.
const BURST: usize = 256;
const READ_BUFFER: usize = 1 << 18;
const NORMAL: [u8; 2] = 1000u16.to_be_bytes();

pub fn run(args: &Fair) -> Result<LoadReport> {
    let streams = handshake::open_all(&args.server, 2, handshake::websocket)?
        .into_iter()
        .map(without_tls)
        .collect::<Result<Vec<_>>>()?;
    for stream in &streams {
        stream.set_read_timeout(Some(args.timing.patience))?;
        stream.set_write_timeout(Some(args.timing.patience))?;
    }
    let (quiet, flood) = (&streams[0], Flood::new(&streams[1], args.size as usize));

    let figures = thread::scope(|scope| {
        let sent = scope.spawn(|| flood.send());
        let received = scope.spawn(|| flood.receive());
        let figures = ask_now_and_then(quiet, &flood, args);
        flood.over.store(true, Relaxed);
        let sent = sent.join().expect("no panic").context("the flood")?;
        let received = received.join().expect("no panic").context("the flood")?;
        ensure!(
            sent == received,
            "the flood sent {sent} messages and got {received} back"
        );
        figures
    })?;
    Ok(LoadReport {
        mode: "fair",
        unit: "messages",
        conns: 2,
        depth: 1,
        size: args.size,
        figures,
    })
}

/// The flood is sent and received by two threads at once.
fn without_tls(stream: Stream) -> Result<TcpStream> {
    match stream {
        Stream::Tcp(socket) => Ok(socket),
        Stream::Tls(_) => bail!("fair has no TLS"),
    }
}

fn ask_now_and_then(mut stream: &TcpStream, flood: &Flood, args: &Fair) -> Result<Figures> {
    let payload = vec![b'q'; args.size as usize];
    let request = frame::masked(frame::BINARY, &payload);
    let expected = frame::unmasked(frame::BINARY, &payload);
    let mut answer = vec![0; expected.len()];
    let mut meter = Meter::new(args.server.pid, &args.timing);
    loop {
        let asked_at = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut answer).context("awaiting an echo")?;
        meter.latency(asked_at.elapsed());
        ensure!(answer == expected, "the quiet connection's echo is wrong");
        meter.count(flood.echoed.swap(0, Relaxed));
        if let Some(figures) = meter.tick(Instant::now())? {
            return Ok(figures);
        }
        thread::sleep(PAUSE);
    }
}

struct Flood<'a> {
    stream: &'a TcpStream,
    payload: Vec<u8>,
    over: AtomicBool,
    /// Since this was last looked at.
    echoed: AtomicU64,
}

impl<'a> Flood<'a> {
    fn new(stream: &'a TcpStream, size: usize) -> Self {
        Self {
            stream,
            payload: vec![b'f'; size],
            over: AtomicBool::new(false),
            echoed: AtomicU64::new(0),
        }
    }

    /// Ends with a close frame, which the server answers once it has answered all else. Gives the
    /// number of messages.
    fn send(&self) -> Result<u64> {
        let burst = frame::masked(frame::BINARY, &self.payload).repeat(BURST);
        let mut stream = self.stream;
        let mut sent = 0;
        while !self.over.load(Relaxed) {
            stream.write_all(&burst).context("sending")?;
            sent += BURST as u64;
        }
        stream.write_all(&frame::masked(frame::CLOSE, &NORMAL))?;
        Ok(sent)
    }

    /// Counts what comes until the server closes. Gives the number of messages.
    fn receive(&self) -> Result<u64> {
        let frame_len = frame::unmasked(frame::BINARY, &self.payload).len() as u64;
        let mut stream = self.stream;
        let mut buffer = vec![0; READ_BUFFER];
        let mut bytes = 0;
        loop {
            let count = stream.read(&mut buffer).context("reading")? as u64;
            if count == 0 {
                break;
            }
            let before = bytes / frame_len;
            bytes += count;
            self.echoed.fetch_add(bytes / frame_len - before, Relaxed);
        }
        let close = frame::unmasked(frame::CLOSE, &NORMAL).len() as u64;
        let messages = bytes
            .checked_sub(close)
            .context("the server closed without a close frame")?;
        ensure!(
            messages.is_multiple_of(frame_len),
            "the answer ended in the middle of a message"
        );
        Ok(messages / frame_len)
    }
}
