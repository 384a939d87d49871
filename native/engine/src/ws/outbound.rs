//! What goes to the peer. A sender writes to the kernel itself, from whatever thread it is on; only
//! what the kernel does not take is queued, and the socket's task is woken for that alone.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};

use crate::backpressure::{Waiter, Watermark};
use crate::ws::carrier::Sender;
use crate::ws::encoder::{Compression, Encoder, Message, Segment};
use crate::ws::extension::Agreed;
use crate::ws::frame::Opcode;

/// The kernel takes no more than 1024 at once; few are needed.
const MAX_SLICES: usize = 64;

/// How much a sender writes itself. The kernel would copy megabytes, and keep the sender's thread for
/// milliseconds; the task writes the rest.
const WRITE_AT_ONCE: usize = 512 * 1024;

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
    sender: Option<Sender>,
    queue: VecDeque<Queued>,
    encoder: Encoder,
    mark: Watermark,
    /// A write failed: the connection is gone, whatever its read half still says.
    broken: Option<io::ErrorKind>,
}

enum Queued {
    Bytes(Bytes),
    /// A message that the task is to compress.
    Plain(Opcode, Bytes),
}

impl Outbound {
    pub(super) fn new(high_water_mark: usize, agreed: Option<&Agreed>) -> Self {
        Self {
            sender: None,
            queue: VecDeque::new(),
            encoder: Encoder::new(agreed),
            mark: Watermark::new(high_water_mark),
            broken: None,
        }
    }

    pub(super) fn connect(&mut self, sender: Sender) {
        self.sender = Some(sender);
    }

    /// Drops everything, and its half of the carrier with it. Returns those to tell.
    pub(super) fn disconnect(&mut self) -> Vec<Waiter> {
        self.sender = None;
        self.queue = VecDeque::new();
        self.encoder = Encoder::default();
        self.mark.close()
    }

    /// Whether nothing waits for the peer.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
            && !self.encoder.is_lent()
            && self
                .sender
                .as_ref()
                .is_none_or(|sender| sender.is_flushed())
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
    pub(super) fn send(&mut self, messages: &[Message], hold: impl Fn(usize) -> Bytes) -> bool {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            let segments = self.encoder.encode(messages, self.has_plain(), scratch);
            let written = self.write_now(&segments, messages, scratch);
            self.queue_rest(&segments, messages, scratch, written, hold);
            scratch.shrink_to(SCRATCH_KEPT);
        });
        !self.is_empty() || self.broken.is_some()
    }

    fn has_plain(&self) -> bool {
        let is_plain = |queued: &Queued| matches!(queued, Queued::Plain(..));
        self.encoder.is_lent() || self.queue.iter().any(is_plain)
    }

    fn write_now(&mut self, segments: &[Segment], messages: &[Message], scratch: &[u8]) -> usize {
        let Some(sender) = self.sender.as_ref().filter(|_| self.is_empty()) else {
            return 0;
        };
        let mut room = WRITE_AT_ONCE;
        let mut slices = segments
            .iter()
            .map_while(|segment| slice(segment, messages, scratch))
            .map(|bytes| {
                let part = &bytes[..bytes.len().min(room)];
                room -= part.len();
                part
            })
            .take_while(|part| !part.is_empty());
        let result = match segments {
            [] => Ok(0),
            [_] => slices.next().map_or(Ok(0), |only| sender.try_write(only)),
            _ => {
                let slices: Vec<_> = slices.take(MAX_SLICES).map(IoSlice::new).collect();
                sender.try_write_vectored(&slices)
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
            let length = slice(segment, messages, scratch).map_or(usize::MAX, <[u8]>::len);
            if written >= length {
                written -= length;
                continue;
            }
            let rest = match segment {
                Segment::Scratch(range) => {
                    Queued::Bytes(Bytes::copy_from_slice(&scratch[range.clone()][written..]))
                }
                Segment::Payload(index) => Queued::Bytes(hold(*index).slice(written..)),
                Segment::Later(index) => Queued::Plain(messages[*index].opcode, hold(*index)),
            };
            written = 0;
            self.mark.add(rest.len());
            self.queue.push_back(rest);
        }
    }

    /// Writes what is queued, up to a message that has to be compressed first. Returns also those to
    /// tell that there is room again: there may be some before a failure.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> (Vec<Waiter>, io::Result<()>) {
        let mut waiters = Vec::new();
        if let Some(kind) = self.broken {
            return (waiters, Err(kind.into()));
        }
        let Some(sender) = self.sender.clone().filter(|_| !self.encoder.is_lent()) else {
            return (waiters, Ok(()));
        };
        while let Some(Queued::Bytes(_)) = self.queue.front() {
            match self.poll_write(cx, &sender) {
                Poll::Ready(Ok(n)) => waiters.append(&mut self.advance(n)),
                Poll::Ready(Err(e)) => return (waiters, Err(e)),
                Poll::Pending => return (waiters, Ok(())),
            }
        }
        match sender.poll_flush(cx) {
            Poll::Ready(flushed) => (waiters, flushed),
            Poll::Pending => (waiters, Ok(())),
        }
    }

    /// The message that keeps the queue from being written, for the task to compress.
    pub(super) fn next_compression(&mut self) -> Option<Compression> {
        let Some(Queued::Plain(opcode, payload)) = self.queue.front() else {
            return None;
        };
        let compression = self.encoder.lend(*opcode, payload.clone())?;
        self.queue.pop_front();
        Some(compression)
    }

    /// It is ready to be written. Returns those to tell.
    pub(super) fn compressed(&mut self, compression: Compression) -> Vec<Waiter> {
        let plain = compression.payload_len();
        let frame = self.encoder.take_back(compression);
        self.mark.add(frame.len());
        self.queue.push_front(Queued::Bytes(frame));
        self.mark.remove(plain)
    }

    fn poll_write(&self, cx: &mut Context<'_>, sender: &Sender) -> Poll<io::Result<usize>> {
        sender.poll_try(cx, || {
            let slices: Vec<_> = self
                .queue
                .iter()
                .map_while(|queued| match queued {
                    Queued::Bytes(bytes) => Some(IoSlice::new(bytes)),
                    Queued::Plain(..) => None,
                })
                .take(MAX_SLICES)
                .collect();
            sender.try_write_vectored(&slices)
        })
    }

    fn advance(&mut self, mut written: usize) -> Vec<Waiter> {
        let waiters = self.mark.remove(written);
        while let Some(Queued::Bytes(first)) = self.queue.front_mut() {
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

impl Queued {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) | Self::Plain(_, bytes) => bytes.len(),
        }
    }
}

thread_local! {
    /// Encoded frames. It belongs to the thread, so that a socket has none of its own.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
const SCRATCH_KEPT: usize = 256 * 1024;

/// The bytes of a segment that can be written as it is.
fn slice<'a>(segment: &Segment, messages: &[Message<'a>], scratch: &'a [u8]) -> Option<&'a [u8]> {
    match segment {
        Segment::Scratch(range) => Some(&scratch[range.clone()]),
        Segment::Payload(index) => Some(messages[*index].payload),
        Segment::Later(_) => None,
    }
}
