//! One thread that reads, unmasks and writes.
//!
//! It trusts its clients: a message is one masked frame, and nothing is checked. So it is no
//! server to learn from, but what the kernel alone costs.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;

use anyhow::{Context, Result};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::frame::{self, Header, MASK_LEN};
use crate::handshake::{head_len, header};

const LISTENER: Token = Token(usize::MAX >> 1);
const READ_BUFFER: usize = 1 << 18;

pub fn serve(listener: std::net::TcpListener) -> Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;

    let mut peers = Peers::default();
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            let token = event.token();
            if token == LISTENER {
                peers.accept(&listener, &poll)?;
            } else if let Some(peer) = &mut peers.slots[token.0] {
                match peer.ready(&mut buffer, event.is_read_closed()) {
                    Ok(Flow::Open) => {}
                    // An error is the end of its connection, and of nothing else.
                    Ok(Flow::Closed) | Err(_) => peers.remove(token),
                }
            }
        }
    }
}

#[derive(Default)]
struct Peers {
    slots: Vec<Option<Peer>>,
    free: Vec<usize>,
}

impl Peers {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("accepting"),
            };
            stream.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                self.slots.len() - 1
            });
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry()
                .register(&mut stream, Token(index), interest)?;
            self.slots[index] = Some(Peer::new(stream));
        }
    }

    fn remove(&mut self, token: Token) {
        self.slots[token.0] = None;
        self.free.push(token.0);
    }
}

enum Flow {
    Open,
    Closed,
}

struct Peer {
    stream: TcpStream,
    /// Bytes that are not a whole frame, or a whole handshake, yet.
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of the output has been written.
    written: usize,
    upgraded: bool,
    /// A close frame was answered: nothing is read any more.
    closing: bool,
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            upgraded: false,
            closing: false,
        }
    }

    /// Goes on until the socket would block. While it takes no output it gets nothing read.
    ///
    /// A read that does not fill the buffer emptied the socket, which saves asking it again. Not so
    /// when the peer has closed: no event would tell of that once more.
    fn ready(&mut self, buffer: &mut [u8], closed: bool) -> io::Result<Flow> {
        let mut emptied = false;
        while self.flush()? {
            if self.closing {
                return Ok(Flow::Closed);
            }
            if emptied {
                break;
            }
            match self.stream.read(buffer) {
                Ok(0) => return Ok(Flow::Closed),
                Ok(count) => {
                    emptied = count < buffer.len() && !closed;
                    self.input.extend_from_slice(&buffer[..count]);
                    self.answer()?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Flow::Open)
    }

    /// False when the socket takes no more.
    fn flush(&mut self) -> io::Result<bool> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(true)
    }

    fn answer(&mut self) -> io::Result<()> {
        let input = mem::take(&mut self.input);
        let used = if self.upgraded {
            self.echo(&input)
        } else {
            self.upgrade(&input)?
        };
        self.input = input;
        self.input.drain(..used);
        Ok(())
    }

    fn upgrade(&mut self, input: &[u8]) -> io::Result<usize> {
        let Some(len) = head_len(input) else {
            return Ok(0);
        };
        let key = str::from_utf8(&input[..len])
            .ok()
            .and_then(|head| header(head, "sec-websocket-key"))
            .ok_or(ErrorKind::InvalidData)?;
        let accept = derive_accept_key(key.as_bytes());
        write!(
            self.output,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )?;
        self.upgraded = true;
        Ok(len)
    }

    /// Echoes the whole frames, and returns their length.
    fn echo(&mut self, input: &[u8]) -> usize {
        let mut used = 0;
        while !self.closing
            && let Some(len) = self.echo_frame(&input[used..])
        {
            used += len;
        }
        used
    }

    fn echo_frame(&mut self, input: &[u8]) -> Option<usize> {
        const MASK_BIT: u8 = 0x80;
        let header = Header::parse(input)?;
        let end = (header.len + MASK_LEN).checked_add(header.payload_len)?;
        let (head, rest) = input.get(..end)?.split_at(header.len);
        let (key, payload) = rest.split_first_chunk()?;

        let start = self.output.len();
        self.output.extend_from_slice(head);
        self.output[start + 1] &= !MASK_BIT;
        self.output.extend_from_slice(payload);
        frame::apply_mask(&mut self.output[start + header.len..], *key);
        self.closing = header.opcode == frame::CLOSE;
        Some(end)
    }
}
