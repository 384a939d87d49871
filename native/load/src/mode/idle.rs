//! `load idle`: what connections weigh that do nothing, or send nothing but pings.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::args::Idle;
use crate::exchange::exchange;
use crate::frame::{self, Header};
use crate::handshake;
use crate::message::Message;
use crate::phoenix::Room;
use crate::process::Process;
use crate::report::IdleReport;
use crate::stream::Stream;
use crate::tls::SMALL_BUFFER;

/// What a server loads and allocates for its first connections is not the weight of one.
const FIRST_CONNS: u32 = 50;
/// For connections to end, and for the last pongs to arrive.
const SETTLE_TIME: Duration = Duration::from_secs(1);

pub fn run(args: &Idle) -> Result<IdleReport> {
    let message = Message::new(args.kind);
    drop(open(args, FIRST_CONNS, &message)?);
    thread::sleep(SETTLE_TIME);
    let server = args.server.pid.map(Process::new);
    let before = usage(server.as_ref())?;

    let began = Instant::now();
    let mut streams = open(args, args.conns, &message)?;
    let open_secs = began.elapsed().as_secs_f64();
    let opened = usage(server.as_ref())?;
    thread::sleep(args.rest);
    let rested = usage(server.as_ref())?;

    let pinged_from = Instant::now();
    let pings = ping(&mut streams, args)?;
    let pinged_for = pinged_from.elapsed().as_secs_f64();
    let after = usage(server.as_ref())?;
    if pings > 0 {
        thread::sleep(SETTLE_TIME);
    }
    let pongs: u64 = streams.iter_mut().map(pongs).sum::<Result<u64>>()?;
    ensure!(pongs == pings, "{pings} pings and {pongs} pongs");

    let conns = f64::from(args.conns);
    let known = |value: f64| server.is_some().then_some(value);
    Ok(IdleReport {
        mode: "idle",
        conns: args.conns,
        pings,
        open_secs,
        open_cpu_us: known((opened.cpu - before.cpu) * 1e6 / conns),
        idle_cpu_percent: known((after.cpu - rested.cpu) * 100.0 / pinged_for),
        rss_kib: server.is_some().then_some(rested.rss_kib),
        rss_kib_per_conn: known((rested.rss_kib as f64 - before.rss_kib as f64) / conns),
    })
}

/// Connections that have each exchanged a message, or joined.
fn open(args: &Idle, count: u32, message: &Message) -> Result<Vec<Stream>> {
    if args.join {
        return Room::new(json!({}), args.kind.deflate).open_all(&args.server, count);
    }
    let mut streams = handshake::open_all(&args.server, count, |server, deadline| {
        message.open(server, deadline)
    })?;
    exchange(&mut streams, &message.request(), || message.answer(1))?;
    Ok(streams)
}

/// For the time of the measurement, with the connections' pings spread evenly over it. Gives the
/// number of pings.
fn ping(streams: &mut [Stream], args: &Idle) -> Result<u64> {
    let began = Instant::now();
    let Some(every) = args.ping_every else {
        thread::sleep(args.secs);
        return Ok(0);
    };
    let ping = frame::masked(frame::PING, b"");
    let mut pings = 0;
    loop {
        let due = every.mul_f64(pings as f64 / streams.len() as f64);
        if due >= args.secs {
            break;
        }
        thread::sleep(due.saturating_sub(began.elapsed()));
        let index = pings as usize % streams.len();
        streams[index].write_all(&ping).context("sending a ping")?;
        pings += 1;
    }
    thread::sleep(args.secs.saturating_sub(began.elapsed()));
    Ok(pings)
}

/// How many pongs have come. A server may have sent pings of its own, but not have closed.
fn pongs(stream: &mut Stream) -> Result<u64> {
    let mut buffer = vec![0; SMALL_BUFFER];
    let mut bytes = Vec::new();
    loop {
        match stream.receive(&mut buffer) {
            Ok(0) => bail!("the server closed an idle connection"),
            Ok(count) => stream.decrypt(&mut buffer[..count], |frames| {
                bytes.extend_from_slice(frames);
                Ok(())
            })?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error).context("an idle connection ended"),
        }
    }
    let mut rest = &bytes[..];
    let mut pongs = 0;
    while !rest.is_empty() {
        let header = Header::parse(rest).context("a frame of an idle connection is cut")?;
        match header.opcode {
            frame::PONG => pongs += 1,
            frame::PING => {}
            other => bail!("the server sent a frame with opcode {other} to an idle connection"),
        }
        rest = rest
            .get(header.len + header.payload_len..)
            .context("a frame of an idle connection is cut")?;
    }
    Ok(pongs)
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
