//! `load echo` and `load push`: messages out, the same messages back.

use std::rc::Rc;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::answer::Echo;
use crate::args::Messages;
use crate::drive::{self, Load, Pace};
use crate::frame;
use crate::handshake;
use crate::report::LoadReport;

/// A server answers the handshake before its handler runs: whom a push should reach must first have
/// been made known to the others.
const JOIN_TIME: Duration = Duration::from_millis(500);

pub fn run(mode: &'static str, pace: Pace, args: &Messages) -> Result<LoadReport> {
    let opcode = if args.text {
        frame::TEXT
    } else {
        frame::BINARY
    };
    let payload: Vec<u8> = (b'a'..=b'z').cycle().take(args.size as usize).collect();
    let depth = args.depth as usize;
    let message: Rc<[u8]> = frame::unmasked(opcode, &payload).into();
    let load = Load {
        request: frame::masked(opcode, &payload).repeat(depth).into(),
        messages: depth as u64,
        pace,
    };

    let streams = handshake::open_all(&args.server, args.conns, handshake::websocket)?;
    if pace == Pace::Together {
        thread::sleep(JOIN_TIME);
    }
    let answer = || Echo::new(message.clone(), depth);
    let figures = drive::run(streams, &load, answer, args.server.pid, &args.timing)?;
    Ok(LoadReport {
        mode,
        unit: "messages",
        conns: args.conns,
        depth: args.depth,
        size: args.size,
        figures,
    })
}
