//! `load get`: pages over connections that are kept alive.

use anyhow::Result;

use crate::answer::Page;
use crate::args::Get;
use crate::drive::{self, Load, Pace};
use crate::handshake;
use crate::report::LoadReport;

pub fn run(args: &Get) -> Result<LoadReport> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\n\r\n",
        args.server.path, args.server.addr
    );
    let load = Load {
        request: request.into_bytes().into(),
        messages: 1,
        pace: Pace::Each,
    };

    let streams = handshake::open_all(&args.server, args.conns, handshake::connect)?;
    let figures = drive::run(streams, &load, Page::default, args.server.pid, &args.timing)?;
    Ok(LoadReport {
        mode: "get",
        unit: "responses",
        conns: args.conns,
        depth: 1,
        size: 0,
        figures,
    })
}
