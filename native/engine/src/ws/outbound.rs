//! What goes to the peer. A sender writes to the kernel itself, from whatever thread it is on; only
//! what the kernel does not take is queued, and the socket's task is woken for that alone.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;

use crate::backpressure::{Waiter, Watermark};
use crate::io::Shared;
use crate::ws::frame::{Opcode, encode_header};

/// A payload up to this size is copied behind its header, so that many go in one plain write. A
/// larger one is written from where it lies.
const COPY_UP_TO: usize = 16 * 1024;

/// The kernel takes no more than 1024 at once; few are needed.
const MAX_SLICES: usize = 64;

/// A message to send.
pub struct Message<'a> {
    pub opcode: Opcode,
    pub payload: &'a [u8],
}

/// What became of what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Ok,
    /// Taken, but the sender should wait before it sends more.
    Full,
    /// Dropped: the connection is closing or gone.
    Closed,
}

pub(super) struct Outbound {
    /// `None` before the 101 is out and after the end.
    io: Option<Arc<Shared>>,
    queue: VecDeque<Bytes>,
    mark: Watermark,
    /// A write failed: the connection is gone, whatever its read half still says.
    broken: Option<io::ErrorKind>,
}

impl Outbound {
    pub(super) fn new(high_water_mark: usize) -> Self {
        let mark = Watermark::new(high_water_mark);
        Self {
            io: None,
            queue: VecDeque::new(),
            mark,
            broken: None,
        }
    }

    pub(super) fn connect(&mut self, io: Arc<Shared>) {
        self.io = Some(io);
    }

    /// Drops everything, and the TCP stream with it. Returns those to tell.
    pub(super) fn disconnect(&mut self) -> Vec<Waiter> {
        self.io = None;
        self.queue = VecDeque::new();
        self.mark.close()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.mark.is_full()
    }

    pub(super) fn wait(&mut self, waiter: Waiter) -> bool {
        self.mark.wait(waiter)
    }

    /// Writes the messages, or queues what the kernel does not take. `hold` turns the payload of
    /// the message with that index into bytes that outlive the call.
    ///
    /// Returns whether the task must see to the queue.
    pub(super) fn send<'a>(
        &mut self,
        messages: &[Message<'a>],
        hold: impl Fn(usize) -> Bytes,
    ) -> bool {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            let segments = encode(messages, scratch);
            let written = self.write_now(&segments, messages, scratch);
            self.queue_rest(&segments, messages, scratch, written, hold);
            scratch.shrink_to(SCRATCH_KEPT);
        });
        !self.queue.is_empty() || self.broken.is_some()
    }

    fn write_now(&mut self, segments: &[Segment], messages: &[Message], scratch: &[u8]) -> usize {
        let Some(io) = self.io.as_ref().filter(|_| self.queue.is_empty()) else {
            return 0;
        };
        let slice = |segment: &Segment| segment.bytes(messages, scratch);
        let result = match segments {
            [] => Ok(0),
            [segment] => io.stream().try_write(slice(segment)),
            segments => {
                let slices: Vec<_> = segments
                    .iter()
                    .take(MAX_SLICES)
                    .map(|s| IoSlice::new(slice(s)))
                    .collect();
                io.stream().try_write_vectored(&slices)
            }
        };
        match result {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Err(e) => {
                self.broken = Some(e.kind());
                0
            }
        }
    }

    fn queue_rest(
        &mut self,
        segments: &[Segment],
        messages: &[Message],
        scratch: &[u8],
        mut written: usize,
        hold: impl Fn(usize) -> Bytes,
    ) {
        if self.broken.is_some() {
            return;
        }
        for segment in segments {
            let bytes = segment.bytes(messages, scratch);
            if written >= bytes.len() {
                written -= bytes.len();
                continue;
            }
            let rest = match segment {
                Segment::Scratch(_) => Bytes::copy_from_slice(&bytes[written..]),
                Segment::Payload(index) => hold(*index).slice(written..),
            };
            written = 0;
            self.mark.add(rest.len());
            self.queue.push_back(rest);
        }
    }

    /// Writes what is queued. Returns those to tell that there is room again.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<Vec<Waiter>> {
        let mut waiters = Vec::new();
        if let Some(kind) = self.broken {
            return Err(kind.into());
        }
        if self.queue.is_empty() {
            return Ok(waiters);
        }
        let Some(io) = self.io.clone() else {
            return Ok(waiters);
        };
        while !self.queue.is_empty() {
            match self.poll_write(cx, io.stream()) {
                Poll::Ready(n) => waiters.append(&mut self.advance(n?)),
                Poll::Pending => break,
            }
        }
        Ok(waiters)
    }

    fn poll_write(&self, cx: &mut Context<'_>, stream: &TcpStream) -> Poll<io::Result<usize>> {
        loop {
            ready!(stream.poll_write_ready(cx))?;
            let slices: Vec<_> = self
                .queue
                .iter()
                .take(MAX_SLICES)
                .map(|bytes| IoSlice::new(bytes))
                .collect();
            match stream.try_write_vectored(&slices) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn advance(&mut self, mut written: usize) -> Vec<Waiter> {
        let waiters = self.mark.remove(written);
        while let Some(first) = self.queue.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            self.queue.pop_front();
        }
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        waiters
    }
}

thread_local! {
    /// Encoded frames. It belongs to the thread, so that a socket has none of its own.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
const SCRATCH_KEPT: usize = 256 * 1024;

enum Segment {
    /// Headers and copied payloads.
    Scratch(Range<usize>),
    /// The payload of the message with this index.
    Payload(usize),
}

impl Segment {
    fn bytes<'a>(&self, messages: &[Message<'a>], scratch: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Scratch(range) => &scratch[range.clone()],
            Self::Payload(index) => messages[*index].payload,
        }
    }
}

fn encode(messages: &[Message], scratch: &mut Vec<u8>) -> Vec<Segment> {
    let mut segments = Vec::with_capacity(1);
    let mut start = 0;
    for (index, message) in messages.iter().enumerate() {
        encode_header(scratch, message.opcode, message.payload.len());
        if message.payload.len() <= COPY_UP_TO {
            scratch.extend_from_slice(message.payload);
        } else {
            segments.push(Segment::Scratch(start..scratch.len()));
            segments.push(Segment::Payload(index));
            start = scratch.len();
        }
    }
    if start < scratch.len() {
        segments.push(Segment::Scratch(start..scratch.len()));
    }
    segments
}
