//! `load echo` and `load push`: messages out, the same messages back.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::args::Messages;
use crate::drive::{self, Load, Pace};
use crate::handshake;
use crate::message::Message;
use crate::report::LoadReport;

/// A server answers the handshake before its handler runs: whom a push should reach must first have
/// been made known to the others.
const JOIN_TIME: Duration = Duration::from_millis(500);

pub fn run(mode: &'static str, pace: Pace, args: &Messages) -> Result<LoadReport> {
    let message = Message::new(args.kind);
    let depth = args.depth as usize;
    let load = Load {
        request: message.request().repeat(depth).into(),
        messages: depth as u64,
        pace,
    };

    let streams = handshake::open_all(&args.server, args.conns, |server, deadline| {
        message.open(server, deadline)
    })?;
    if pace != Pace::Each {
        thread::sleep(JOIN_TIME);
    }
    let answer = || message.answer(depth);
    let figures = drive::run(streams, &load, answer, args.server.pid, &args.timing)?;
    Ok(LoadReport {
        mode,
        unit: "messages",
        conns: args.conns,
        depth: args.depth,
        size: args.kind.size,
        figures,
    })
}
