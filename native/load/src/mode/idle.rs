//! `load idle`: what connections weigh that do nothing.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::args::Idle;
use crate::handshake;
use crate::process::Process;
use crate::report::IdleReport;

/// For the last connection to reach its handler.
const SETTLE_TIME: Duration = Duration::from_millis(500);

const CLOSE_FRAME: u8 = 0x88;

pub fn run(args: &Idle) -> Result<IdleReport> {
    let server = args.server.pid.map(Process::new);
    let before = usage(server.as_ref())?;

    let began = Instant::now();
    let streams = handshake::open_all(&args.server, args.conns, handshake::websocket)?;
    let open_secs = began.elapsed().as_secs_f64();
    thread::sleep(SETTLE_TIME);
    let opened = usage(server.as_ref())?;

    thread::sleep(args.secs);
    let after = usage(server.as_ref())?;
    streams.iter().try_for_each(check_open)?;

    let conns = f64::from(args.conns);
    let per_cent = 100.0 / args.secs.as_secs_f64().max(f64::MIN_POSITIVE);
    Ok(IdleReport {
        mode: "idle",
        conns: args.conns,
        open_secs,
        open_cpu_us: server
            .as_ref()
            .map(|_| (opened.cpu - before.cpu) * 1e6 / conns),
        idle_cpu_percent: server.as_ref().map(|_| (after.cpu - opened.cpu) * per_cent),
        rss_kib: server.as_ref().map(|_| after.rss_kib),
        rss_kib_per_conn: server
            .as_ref()
            .map(|_| (after.rss_kib as f64 - before.rss_kib as f64) / conns),
    })
}

#[derive(Default)]
struct Usage {
    /// Seconds.
    cpu: f64,
    rss_kib: u64,
}

fn usage(process: Option<&Process>) -> Result<Usage> {
    process.map_or(Ok(Usage::default()), |process| {
        Ok(Usage {
            cpu: process.cpu()?.as_secs_f64(),
            rss_kib: process.rss_kib()?,
        })
    })
}

/// A server may have sent pings meanwhile, but not have closed.
fn check_open(stream: &TcpStream) -> Result<()> {
    stream.set_nonblocking(true)?;
    let mut first = [0];
    match stream.peek(&mut first) {
        Ok(0) => bail!("the server closed an idle connection"),
        Ok(_) if first == [CLOSE_FRAME] => bail!("the server closed an idle WebSocket"),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error).context("an idle connection ended"),
    }
}
