//! Frames that wait for the peer, in order. Whatever is asked of it takes the same time however many
//! there are, and what it weighs is what it is said to weigh: many small frames lie in few blocks.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::ws::encoder::PlainMessage;

/// Small frames are put together up to this many bytes.
const BLOCK: usize = 16 * 1024;

/// What an entry costs besides its bytes.
const ENTRY_COST: usize = 64;

/// What keeps a held payload alive costs as much besides: memory of the VM's in which its term lies.
const HELD_COST: usize = 2048;

/// What a pong counts for, whatever its payload: header, payload and entry.
const PONG_COST: usize = 192;

#[derive(Default)]
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    /// How many of them are still to be compressed.
    plain: usize,
    /// How many have left the front, so that an entry can be found again by its number.
    left: u64,
    /// The number of the pong that waits.
    pong: Option<u64>,
    /// A part of the first entry is written.
    has_begun: bool,
}

enum Entry {
    Copied(BytesMut),
    Held(Bytes),
    Pong(Bytes),
    Plain(PlainMessage),
}

impl Entry {
    /// The weight of the entry itself, which goes as a whole when the entry does. The bytes of a frame weigh besides,
    /// and go one by one as they are written.
    fn cost(&self) -> usize {
        match self {
            Self::Copied(_) => ENTRY_COST,
            Self::Held(_) => ENTRY_COST + HELD_COST,
            Self::Pong(_) => PONG_COST,
            Self::Plain(message) => ENTRY_COST + HELD_COST + message.payload.len(),
        }
    }

    /// The bytes to write. `None` where they have to be compressed first.
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Copied(bytes) => Some(bytes),
            Self::Held(bytes) | Self::Pong(bytes) => Some(bytes),
            Self::Plain(_) => None,
        }
    }
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether there is a message that is still to be compressed.
    pub(super) fn has_plain(&self) -> bool {
        self.plain > 0
    }

    /// Whether the first entry can be written as it is.
    pub(super) fn is_ready(&self) -> bool {
        self.entries
            .front()
            .is_some_and(|entry| entry.bytes().is_some())
    }

    /// Appends frames, or the rest of some. Returns what that weighs; so do the others.
    pub(super) fn push_copy(&mut self, bytes: &[u8]) -> usize {
        if let Some(Entry::Copied(block)) = self.entries.back_mut()
            && block.len() + bytes.len() <= BLOCK
        {
            block.extend_from_slice(bytes);
            return bytes.len();
        }
        bytes.len() + self.push(Entry::Copied(bytes.into()))
    }

    pub(super) fn push_held(&mut self, bytes: Bytes) -> usize {
        bytes.len() + self.push(Entry::Held(bytes))
    }

    pub(super) fn push_plain(&mut self, message: PlainMessage) -> usize {
        self.plain += 1;
        self.push(Entry::Plain(message))
    }

    /// In the place of one that waits: only the latest ping needs an answer (RFC6455§5.5.3).
    pub(super) fn push_pong(&mut self, frame: &[u8]) -> usize {
        let frame = Bytes::copy_from_slice(frame);
        if let Some(waiting) = self.waiting_pong() {
            *waiting = frame;
            return 0;
        }
        self.pong = Some(self.left.wrapping_add(self.entries.len() as u64));
        self.push(Entry::Pong(frame))
    }

    /// The first message, if it is to be compressed, and what it weighed.
    pub(super) fn pop_plain(&mut self) -> Option<(PlainMessage, usize)> {
        if self.is_empty() || self.is_ready() {
            return None;
        }
        let cost = self.entries[0].cost();
        let Some(Entry::Plain(message)) = self.pop() else {
            unreachable!("it is not ready");
        };
        self.plain -= 1;
        Some((message, cost))
    }

    /// Puts what became of it in its place.
    pub(super) fn push_front(&mut self, frame: Bytes) -> usize {
        let entry = Entry::Copied(frame.into());
        let weight = entry.cost() + entry.bytes().map_or(0, <[u8]>::len);
        self.entries.push_front(entry);
        self.left = self.left.wrapping_sub(1);
        weight
    }

    /// What can be written, up to so many slices and bytes; the first slice may be cut.
    pub(super) fn slices(&self, max_slices: usize, max_bytes: usize) -> Vec<IoSlice<'_>> {
        let mut room = max_bytes;
        self.entries
            .iter()
            .map_while(Entry::bytes)
            .take(max_slices)
            .map(|bytes| {
                let part = &bytes[..bytes.len().min(room)];
                room -= part.len();
                part
            })
            .take_while(|part| !part.is_empty())
            .map(IoSlice::new)
            .collect()
    }

    /// Takes out what was written, and returns what that weighed.
    pub(super) fn advance(&mut self, mut written: usize) -> usize {
        let mut weight = 0;
        while let Some(first) = self.entries.front_mut() {
            let (length, counts) = match first {
                Entry::Copied(bytes) => (bytes.len(), true),
                Entry::Held(bytes) => (bytes.len(), true),
                Entry::Pong(bytes) => (bytes.len(), false),
                Entry::Plain(_) => break,
            };
            let part = written.min(length);
            if counts {
                weight += part;
            }
            written -= part;
            if part < length {
                self.has_begun |= part > 0;
                match first {
                    Entry::Copied(bytes) => bytes.advance(part),
                    Entry::Held(bytes) | Entry::Pong(bytes) => bytes.advance(part),
                    Entry::Plain(_) => {}
                }
                break;
            }
            weight += first.cost();
            self.pop();
        }
        if self.entries.is_empty() {
            // An idle connection should be small.
            self.entries = VecDeque::new();
        }
        weight
    }

    fn push(&mut self, entry: Entry) -> usize {
        let cost = entry.cost();
        self.entries.push_back(entry);
        cost
    }

    fn pop(&mut self) -> Option<Entry> {
        self.left = self.left.wrapping_add(1);
        self.has_begun = false;
        self.entries.pop_front()
    }

    /// The one of which nothing is written yet.
    fn waiting_pong(&mut self) -> Option<&mut Bytes> {
        let at = self.pong?.wrapping_sub(self.left);
        if at == 0 && self.has_begun {
            return None;
        }
        match self.entries.get_mut(usize::try_from(at).ok()?)? {
            Entry::Pong(bytes) => Some(bytes),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::frame::Opcode;
    use proptest::prelude::*;

    fn plain(length: usize) -> PlainMessage {
        PlainMessage {
            opcode: Opcode::Text,
            payload: vec![b'p'; length].into(),
        }
    }

    fn all(queue: &Queue) -> Vec<u8> {
        queue
            .slices(usize::MAX, usize::MAX)
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }

    #[test]
    fn many_small_frames_weigh_little_more_than_their_bytes() {
        let mut queue = Queue::default();
        let weight: usize = (0..100_000).map(|_| queue.push_copy(b"abc")).sum();
        assert!(weight < 302_000, "{weight}");
        assert!(queue.entries.len() < 20);
        assert_eq!(queue.advance(300_000), weight);
        assert!(queue.is_empty());
    }

    #[test]
    fn of_the_pongs_that_wait_only_the_last_is_sent() {
        let mut queue = Queue::default();
        let mut weight = queue.push_copy(b"data");
        for n in 0..100u8 {
            weight += queue.push_pong(&[b'0', n]);
        }
        assert_eq!(weight, 4 + ENTRY_COST + PONG_COST);
        assert_eq!(all(&queue), [b'd', b'a', b't', b'a', b'0', 99]);
        assert_eq!(queue.advance(6), weight);
    }

    #[test]
    fn a_pong_that_has_begun_is_finished() {
        let mut queue = Queue::default();
        queue.push_pong(b"12");
        queue.advance(1);
        queue.push_pong(b"ab");
        queue.push_pong(b"cd");
        assert_eq!(all(&queue), b"2cd");
        queue.advance(1);
        queue.push_pong(b"ef");
        assert_eq!(all(&queue), b"ef");
    }

    #[test]
    fn what_is_to_be_compressed_keeps_its_place() {
        let mut queue = Queue::default();
        queue.push_copy(b"a");
        let weight = queue.push_plain(plain(100));
        queue.push_pong(b"b");
        assert!(queue.has_plain() && queue.is_ready());
        assert!(queue.pop_plain().is_none());
        assert_eq!(all(&queue), b"a");
        queue.advance(1);
        assert!(!queue.is_ready());
        let (message, removed) = queue.pop_plain().unwrap();
        assert_eq!((message.payload.len(), removed), (100, weight));
        assert!(!queue.has_plain());
        queue.push_front(Bytes::from_static(b"c"));
        queue.push_pong(b"d");
        assert_eq!(all(&queue), b"cd");
    }

    #[test]
    fn a_write_has_a_bound_in_bytes_and_in_slices() {
        let mut queue = Queue::default();
        queue.push_held(vec![1; 100].into());
        queue.push_held(vec![2; 100].into());
        let lengths = |slices: Vec<IoSlice<'_>>| -> Vec<_> {
            slices.iter().map(|slice| slice.len()).collect()
        };
        assert_eq!(lengths(queue.slices(9, 150)), [100, 50]);
        assert_eq!(lengths(queue.slices(9, 100)), [100]);
        assert_eq!(lengths(queue.slices(1, 150)), [100]);
    }

    proptest! {
        /// Whatever is pushed and however it is written: the bytes come out in order, pongs apart, and at
        /// the end nothing weighs anything.
        #[test]
        fn bytes_leave_in_order_and_weights_add_up(
            steps in prop::collection::vec((0..5u8, 0..6_000usize), 1..60)
        ) {
            let mut queue = Queue::default();
            let (mut pushed, mut left, mut weight) = (Vec::new(), Vec::new(), 0usize);
            let mut next = 0u8;
            let take = |queue: &mut Queue, length: usize, left: &mut Vec<u8>| {
                let bytes = all(queue);
                let length = length.min(bytes.len());
                left.extend(bytes[..length].iter().filter(|byte| **byte != 255));
                queue.advance(length)
            };
            for (kind, length) in steps {
                next = (next + 1) % 255;
                let bytes = vec![next; length + 1];
                match kind {
                    0 => weight += queue.push_copy(&bytes),
                    1 => weight += queue.push_held(bytes.clone().into()),
                    2 => weight += queue.push_plain(PlainMessage {
                        opcode: Opcode::Text,
                        payload: bytes.clone().into(),
                    }),
                    3 => weight += queue.push_pong(&vec![255; length % 125 + 2]),
                    _ => {
                        if let Some((message, removed)) = queue.pop_plain() {
                            weight -= removed;
                            weight += queue.push_front(message.payload);
                        }
                        weight -= take(&mut queue, length, &mut left);
                    }
                }
                if kind < 3 {
                    pushed.extend(bytes);
                }
            }
            while !queue.is_empty() {
                if let Some((message, removed)) = queue.pop_plain() {
                    weight -= removed;
                    weight += queue.push_front(message.payload);
                }
                weight -= take(&mut queue, 1_000_000, &mut left);
            }
            prop_assert!(left == pushed);
            prop_assert_eq!(weight, 0);
            prop_assert!(!queue.has_plain());
        }
    }
}
