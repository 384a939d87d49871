//! What goes to the peer. A sender writes to the kernel itself, from whatever thread it is on; only
//! what the kernel does not take is queued, and the socket's task is woken for that alone.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::time::Instant;

use crate::flow::{Budget, Waiter, Watermark};
use crate::net::writer::WRITE_AT_ONCE;
use crate::rt;
use crate::ws::encoder::{COPY_UP_TO, Compression, Encoder, Message, PlainMessage, Segment};
use crate::ws::extension::Agreed;
use crate::ws::queue::Queue;
use crate::ws::transport::Sender;

/// The kernel takes no more than 1024 at once; few are needed.
const MAX_SLICES: usize = 64;

/// How much a sender writes itself. The kernel would copy megabytes, and keep the sender's thread for
/// milliseconds; the task writes the rest.
const SENDER_WRITES_AT_ONCE: usize = 512 * 1024;

/// A payload that is certain to wait is held instead of copied from this size on: many sockets may wait
/// with the same one.
const HOLD_FROM: usize = 4 * 1024;

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
    queue: Queue,
    encoder: Encoder,
    mark: Watermark,
    /// A write failed: the connection is gone, whatever its read half still says.
    broken: Option<io::ErrorKind>,
}

impl Outbound {
    pub(super) fn new(
        high_water_mark: usize,
        budget: Arc<Budget>,
        agreed: Option<&Agreed>,
    ) -> Self {
        Self {
            sender: None,
            queue: Queue::default(),
            encoder: Encoder::new(agreed),
            mark: Watermark::new(high_water_mark, budget),
            broken: None,
        }
    }

    pub(super) fn connect(&mut self, sender: Sender) {
        self.sender = Some(sender);
    }

    /// Drops everything, and its half of the transport with it. Returns those to tell.
    pub(super) fn disconnect(&mut self) -> Vec<Waiter> {
        self.sender = None;
        self.queue = Queue::default();
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

    /// Those who wait for room that will not come: returns those to tell.
    pub(super) fn give_up(&mut self) -> Vec<Waiter> {
        self.mark.give_up()
    }

    /// Since when the peer takes nothing of what waits, whoever it is from.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        self.sender.as_ref()?.stalled_since()
    }

    /// Writes the messages, or queues what the kernel does not take. `hold` turns the payload of
    /// the message with that index into bytes that outlive the call.
    ///
    /// Returns whether the task must see to the queue.
    pub(super) fn send(&mut self, messages: &[Message], hold: impl Fn(usize) -> Bytes) -> bool {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            let copy_up_to = if self.is_empty() {
                COPY_UP_TO
            } else {
                HOLD_FROM
            };
            let has_plain = self.queue.has_plain() || self.encoder.is_lent();
            let segments = self
                .encoder
                .encode(messages, has_plain, copy_up_to, scratch);
            let written = self.write_now(&segments, messages, scratch);
            self.queue_rest(&segments, messages, scratch, written, hold);
            scratch.shrink_to(SCRATCH_KEPT);
        });
        !self.is_empty() || self.broken.is_some()
    }

    /// Answers pings by frames one after the other, in one write where the kernel takes it. Where they
    /// have to wait, only the last of them does.
    ///
    /// Returns whether the task must see to the queue.
    pub(super) fn send_pongs(&mut self, frames: &[u8]) -> bool {
        let sender = self.sender.as_ref().filter(|_| self.is_empty());
        let written = match sender.map(|sender| sender.try_write(frames)) {
            None => 0,
            Some(result) => self.taken(result),
        };
        if written < frames.len() && self.broken.is_none() {
            let (begun, last) = split_frames(frames, written);
            let mut weight = 0;
            if !begun.is_empty() {
                weight += self.queue.push_copy(begun);
            }
            if !last.is_empty() {
                weight += self.queue.push_pong(last);
            }
            self.mark.add(weight);
        }
        !self.is_empty() || self.broken.is_some()
    }

    /// How much a write took.
    fn taken(&mut self, result: io::Result<usize>) -> usize {
        match result {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Err(e) => {
                self.broken = Some(e.kind());
                0
            }
        }
    }

    fn write_now(&mut self, segments: &[Segment], messages: &[Message], scratch: &[u8]) -> usize {
        let Some(sender) = self.sender.as_ref().filter(|_| self.is_empty()) else {
            return 0;
        };
        let mut room = SENDER_WRITES_AT_ONCE;
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
        self.taken(result)
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
            let weight = match segment {
                Segment::Scratch(range) => self.queue.push_copy(&scratch[range.clone()][written..]),
                Segment::Payload(index) => self.queue.push_held(hold(*index).slice(written..)),
                Segment::Later(index) => self.queue.push_plain(PlainMessage {
                    opcode: messages[*index].opcode,
                    payload: hold(*index),
                }),
            };
            written = 0;
            self.mark.add(weight);
        }
    }

    /// Writes what is queued, up to a message that has to be compressed first, or until others should
    /// have the thread. Returns also those to tell that there is room again: there may be some before a
    /// failure.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> (Vec<Waiter>, io::Result<()>) {
        let mut waiters = Vec::new();
        if let Some(kind) = self.broken {
            return (waiters, Err(kind.into()));
        }
        let Some(sender) = self.sender.clone().filter(|_| !self.encoder.is_lent()) else {
            return (waiters, Ok(()));
        };
        while self.queue.is_ready() {
            match self.poll_write(cx, &sender) {
                Poll::Ready(Ok(n)) => {
                    let weight = self.queue.advance(n);
                    waiters.append(&mut self.mark.remove(weight));
                }
                Poll::Ready(Err(e)) => return (waiters, Err(e)),
                Poll::Pending => return (waiters, Ok(())),
            }
            if rt::is_late(Instant::now()) {
                cx.waker().wake_by_ref();
                return (waiters, Ok(()));
            }
        }
        match sender.poll_flush(cx) {
            Poll::Ready(flushed) => (waiters, flushed),
            Poll::Pending => (waiters, Ok(())),
        }
    }

    /// The message that keeps the queue from being written, for the task to compress.
    pub(super) fn next_compression(&mut self) -> Option<Compression> {
        if self.encoder.is_lent() {
            return None;
        }
        let (message, weight) = self.queue.pop_plain()?;
        self.encoder.lend(message, weight)
    }

    /// Queues what was compressed. Returns the waiters to tell that there is room.
    pub(super) fn compressed(&mut self, compression: Compression) -> Vec<Waiter> {
        let weight = compression.weight;
        let frame = self.encoder.take_back(compression);
        let frame_weight = self.queue.push_front(frame);
        self.mark.add(frame_weight);
        self.mark.remove(weight)
    }

    fn poll_write(&self, cx: &mut Context<'_>, sender: &Sender) -> Poll<io::Result<usize>> {
        sender.poll_try(cx, || {
            sender.try_write_vectored(&self.queue.slices(MAX_SLICES, WRITE_AT_ONCE))
        })
    }
}

/// What is left of the frame that a write has begun, and the last of the frames after it: either may be
/// nothing. The frames are pongs of ours: a header of two bytes, and a payload of up to 125.
fn split_frames(frames: &[u8], written: usize) -> (&[u8], &[u8]) {
    let (mut start, mut begun, mut last) = (0, &frames[..0], &frames[..0]);
    while start < frames.len() {
        let end = start + 2 + usize::from(frames[start + 1]);
        if start >= written {
            last = &frames[start..end];
        } else if end > written {
            begun = &frames[written..end];
        }
        start = end;
    }
    (begun, last)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_pongs_that_are_written_in_part_the_begun_one_and_the_last_are_left() {
        let frames = [0x8a, 1, b'a', 0x8a, 0, 0x8a, 2, b'b', b'c'];
        let (a, bc) = (&frames[..3], &frames[5..]);
        assert_eq!(split_frames(&frames, 0), (&[][..], bc));
        assert_eq!(split_frames(&frames, 1), (&a[1..], bc));
        assert_eq!(split_frames(&frames, 3), (&[][..], bc));
        assert_eq!(split_frames(&frames, 4), (&[0][..], bc));
        assert_eq!(split_frames(&frames, 5), (&[][..], bc));
        assert_eq!(split_frames(&frames, 6), (&bc[1..], &[][..]));
        assert_eq!(split_frames(&frames, 9), (&[][..], &[][..]));
    }
}
