//! `load connect`: a handshake and a closing handshake, one WebSocket after the other.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::args::Connect;
use crate::frame;
use crate::handshake;
use crate::meter::Meter;
use crate::report::LoadReport;
use crate::stream::Stream;
use crate::tls::SMALL_BUFFER;

const NORMAL: [u8; 2] = 1000u16.to_be_bytes();

pub fn run(args: &Connect) -> Result<LoadReport> {
    let mut meter = Meter::new(args.server.pid, &args.timing);
    let figures = loop {
        let began = Instant::now();
        let deadline = began + args.timing.patience;
        close(handshake::websocket(&args.server, deadline)?, args)?;
        meter.count(1);
        meter.latency(began.elapsed());
        if let Some(figures) = meter.tick(Instant::now())? {
            break figures;
        }
    };
    Ok(LoadReport {
        mode: "connect",
        unit: "handshakes",
        conns: 1,
        depth: 1,
        size: 0,
        figures,
    })
}

/// The server answers the close frame and is the one who closes the connection (RFC6455§7.1.1).
fn close(mut stream: Stream, args: &Connect) -> Result<()> {
    let patience = Some(args.timing.patience);
    stream.socket().set_read_timeout(patience)?;
    stream.write_all(&frame::masked(frame::CLOSE, &NORMAL))?;
    let expected = frame::unmasked(frame::CLOSE, &NORMAL);
    let mut buffer = vec![0; SMALL_BUFFER];
    let mut answer = Vec::new();
    // One byte more than expected shows that there is no more.
    while answer.len() <= expected.len() {
        let count = stream
            .receive(&mut buffer)
            .context("awaiting the end of a connection")?;
        if count == 0 {
            break;
        }
        stream.decrypt(&mut buffer[..count], |bytes| {
            answer.extend_from_slice(bytes);
            Ok(())
        })?;
    }
    ensure!(
        answer == expected,
        "the close frame was answered with {answer:02x?}"
    );
    Ok(())
}
