//! What WebSockets over HTTP/1.1 do: ping without end, and ask for more than fits anywhere.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};

use super::Attackers;
use crate::frame::{self, Header};

/// Pings that are handed to the kernel at once.
const BURST: usize = 2048;
const READ_BUFFER: usize = 1 << 18;
const PUSH_SIZE: &[u8] = b"300000000";

impl Attackers {
    pub(super) fn ping(&self, mut stream: &TcpStream) -> Result<()> {
        let ping = frame::masked(frame::PING, &[]);
        let burst = ping.repeat(BURST);
        let mut bytes = 0;
        loop {
            let written = stream.write(&burst[bytes % ping.len()..])?;
            self.made((bytes % ping.len() + written) / ping.len());
            bytes += written;
        }
    }

    pub(super) fn read_pushes(&self, mut stream: &TcpStream) -> Result<()> {
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
}
