//! The clients of all connections.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::server::Server;

#[derive(Clone, Copy)]
pub enum Kind {
    /// That many messages at once on each connection.
    Echo(usize),
    Get,
}

const SIZE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);
const GET: &[u8] = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
const UPGRADE: &[u8] =
    b"GET /echo HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
      sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

pub struct Clients {
    streams: Vec<TcpStream>,
    messages: usize,
    request: Vec<u8>,
    /// The end of an answer, and how long the answer is.
    ending: Vec<u8>,
    length: Option<usize>,
}

impl Clients {
    pub fn connect(server: &Server, kind: Kind, count: usize) -> Self {
        let connect = |_| {
            let mut stream = TcpStream::connect(server.addr).expect("it listens");
            stream.set_nodelay(true).expect("TCP");
            stream.set_read_timeout(Some(PATIENCE)).expect("TCP");
            if let Kind::Echo(_) = kind {
                stream.write_all(UPGRADE).expect("room");
                await_queued(server, UPGRADE.len());
                clock::stopped(|| server.settle());
                receive(&mut stream, b"\r\n\r\n", None);
            }
            stream
        };
        let streams = (0..count).map(connect).collect();
        let (messages, request, ending, length) = match kind {
            Kind::Echo(depth) => {
                // Masked with zeros, which is as much work.
                let request = [&[0x82, 0x80 + SIZE as u8, 0, 0, 0, 0][..], &[b'a'; SIZE]].concat();
                let answer = [&[0x82, SIZE as u8][..], &[b'a'; SIZE]].concat();
                let length = answer.len() * depth;
                (depth, request.repeat(depth), answer, Some(length))
            }
            Kind::Get => (1, GET.to_vec(), b"\r\n\r\nok".to_vec(), None),
        };
        Self {
            streams,
            messages,
            request,
            ending,
            length,
        }
    }

    /// Of a round.
    pub fn messages(&self) -> u64 {
        (self.streams.len() * self.messages) as u64
    }

    pub fn send(&mut self, server: &Server) {
        for stream in &mut self.streams {
            stream.write_all(&self.request).expect("room");
        }
        await_queued(server, self.request.len() * self.streams.len());
    }

    pub fn receive(&mut self) {
        for stream in &mut self.streams {
            receive(stream, &self.ending, self.length);
        }
    }
}

/// Up to this end, and of this length.
fn receive(stream: &mut TcpStream, ending: &[u8], length: Option<usize>) {
    let mut buffer = [0; 4096];
    let mut filled = 0;
    while !buffer[..filled].ends_with(ending) || length.is_some_and(|length| filled < length) {
        let count = stream.read(&mut buffer[filled..]).expect("an answer");
        assert!(count > 0, "the server has closed, or answers too much");
        filled += count;
    }
}

/// Until that much waits in the kernel for the sockets of the server.
fn await_queued(server: &Server, bytes: usize) {
    while queued(server.addr.port()) != bytes {
        thread::sleep(Duration::from_millis(1));
    }
}

/// A line of 150 bytes for each socket of the machine, as which a closed one counts for a minute.
const MOST: usize = 16 << 20;

/// proc_net_tcp(5): local address, remote address, state, tx_queue:rx_queue.
fn queued(port: u16) -> usize {
    thread_local! {
        static SOCKETS: RefCell<Box<[u8]>> = RefCell::new(vec![0; MOST].into_boxed_slice());
    }
    SOCKETS.with_borrow_mut(|sockets| {
        let mut file = File::open("/proc/net/tcp").expect("Linux");
        let mut filled = 0;
        while let count @ 1.. = file.read(&mut sockets[filled..]).expect("Linux") {
            filled += count;
        }
        let sockets = str::from_utf8(&sockets[..filled]).expect("ASCII");
        sockets
            .lines()
            .skip(1)
            .map(|line| of_socket(line, port))
            .sum()
    })
}

fn of_socket(line: &str, port: u16) -> usize {
    let number = |hex| usize::from_str_radix(hex, 16).expect("a number");
    let mut fields = line.split_whitespace().skip(1);
    let (_, local) = fields
        .next()
        .and_then(|address| address.split_once(':'))
        .expect("an address");
    let is_connected = fields.nth(1) == Some("01");
    let (_, received) = fields
        .next()
        .and_then(|queues| queues.split_once(':'))
        .expect("two queues");
    match is_connected && number(local) == usize::from(port) {
        true => number(received),
        false => 0,
    }
}
