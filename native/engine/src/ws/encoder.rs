//! Messages into frames. Small ones are compressed where their sender stands. A large one would keep
//! that thread for too long: it is left as it is for the socket's task, which compresses it piece by
//! piece; what comes after it waits for it, because a compressor may refer to what it saw before.

use std::ops::Range;

use bytes::Bytes;

use crate::ws::cache;
use crate::ws::deflate::{CompressedMessage, Deflater};
use crate::ws::extension::Agreed;
use crate::ws::frame::{Opcode, encode_header};

/// A payload up to this size is copied behind its header, so that many go in one plain write. A
/// larger one is written from where it lies.
pub(super) const COPY_UP_TO: usize = 16 * 1024;

/// A message up to this size is compressed where its sender stands: some tens of microseconds.
const COMPRESS_UP_TO: usize = 16 * 1024;

/// What the task compresses at a time, in about a tenth of a millisecond at the highest level.
const COMPRESS_PIECE: usize = 16 * 1024;

/// A message to send.
pub struct Message<'a> {
    pub opcode: Opcode,
    pub payload: &'a [u8],
}

/// A part of what goes out.
pub(super) enum Segment {
    /// Headers and small payloads.
    Scratch(Range<usize>),
    /// The payload of the message with this index.
    Payload(usize),
    /// The whole message with this index, for the task.
    Later(usize),
}

#[derive(Default)]
pub(super) struct Encoder {
    /// Messages of at least so many bytes are compressed. `None`: no messages are.
    threshold: Option<usize>,
    /// The task has it while it compresses a message.
    deflater: Option<Deflater>,
}

impl Encoder {
    pub(super) fn new(agreed: Option<&Agreed>) -> Self {
        Self {
            threshold: agreed.map(|agreed| agreed.threshold),
            deflater: agreed.map(Deflater::new),
        }
    }

    /// Appends to the scratch buffer, and payloads up to `copy_up_to` bytes with it. `after_plain`: a
    /// message for the task comes before these.
    pub(super) fn encode(
        &mut self,
        messages: &[Message],
        after_plain: bool,
        copy_up_to: usize,
        scratch: &mut Vec<u8>,
    ) -> Vec<Segment> {
        let mut segments = Segments {
            done: Vec::with_capacity(1),
            start: scratch.len(),
        };
        let mut later = after_plain;
        for (index, message) in messages.iter().enumerate() {
            let size = message.payload.len();
            if self.wants(message) && (later || size > COMPRESS_UP_TO) {
                later = true;
                segments.push(scratch, Segment::Later(index));
            } else if !self.compress(message, scratch) {
                encode_header(scratch, message.opcode, false, size);
                if size <= copy_up_to {
                    scratch.extend_from_slice(message.payload);
                } else {
                    segments.push(scratch, Segment::Payload(index));
                }
            }
        }
        segments.end(scratch)
    }

    pub(super) fn is_lent(&self) -> bool {
        self.threshold.is_some() && self.deflater.is_none()
    }

    /// Lends the compressor for one message; `None` while it is lent.
    pub(super) fn lend(&mut self, message: PlainMessage, weight: usize) -> Option<Compression> {
        let deflater = self.deflater.take()?;
        Some(Compression::new(deflater, message, weight))
    }

    /// Takes it back, and gives the frame.
    pub(super) fn take_back(&mut self, compression: Compression) -> Bytes {
        let (deflater, frame) = compression.finish();
        self.deflater = Some(deflater);
        frame
    }

    fn wants(&self, message: &Message) -> bool {
        let is_long = |threshold| message.payload.len() >= threshold;
        !message.opcode.is_control() && self.threshold.is_some_and(is_long)
    }

    /// `false`: it goes as it is.
    fn compress(&mut self, message: &Message, scratch: &mut Vec<u8>) -> bool {
        let wanted = self.wants(message);
        let Some(deflater) = self.deflater.as_mut().filter(|_| wanted) else {
            return false;
        };
        cache::compress(deflater, message.payload, |compressed| {
            if let Some(compressed) = compressed {
                encode_header(scratch, message.opcode, true, compressed.len());
                scratch.extend_from_slice(compressed);
            }
            compressed.is_some()
        })
    }
}

struct Segments {
    done: Vec<Segment>,
    /// Where the part of the scratch buffer begins that no segment has yet.
    start: usize,
}

impl Segments {
    fn push(&mut self, scratch: &[u8], segment: Segment) {
        if self.start < scratch.len() {
            self.done.push(Segment::Scratch(self.start..scratch.len()));
            self.start = scratch.len();
        }
        self.done.push(segment);
    }

    fn end(mut self, scratch: &[u8]) -> Vec<Segment> {
        if self.start < scratch.len() {
            self.done.push(Segment::Scratch(self.start..scratch.len()));
        }
        self.done
    }
}

/// A message that the task is to compress.
pub(super) struct PlainMessage {
    pub(super) opcode: Opcode,
    pub(super) payload: Bytes,
}

/// A message that is compressed piece by piece.
pub(super) struct Compression {
    deflater: Deflater,
    message: CompressedMessage,
    opcode: Opcode,
    payload: Bytes,
    /// What it still counts for among what waits.
    pub(super) weight: usize,
    pushed: usize,
    compressed: Vec<u8>,
}

impl Compression {
    fn new(mut deflater: Deflater, message: PlainMessage, weight: usize) -> Self {
        Self {
            message: deflater.start(),
            deflater,
            opcode: message.opcode,
            payload: message.payload,
            weight,
            pushed: 0,
            compressed: Vec::new(),
        }
    }

    /// `false` when all of it is compressed.
    pub(super) fn step(&mut self) -> bool {
        let end = self.payload.len().min(self.pushed + COMPRESS_PIECE);
        self.message
            .push(&self.payload[self.pushed..end], &mut self.compressed);
        self.pushed = end;
        end < self.payload.len()
    }

    fn finish(mut self) -> (Deflater, Bytes) {
        self.deflater.finish(self.message, &mut self.compressed);
        let mut frame = Vec::with_capacity(self.compressed.len() + MAX_HEADER);
        encode_header(&mut frame, self.opcode, true, self.compressed.len());
        frame.extend_from_slice(&self.compressed);
        (self.deflater, frame.into())
    }
}

/// Bytes of the longest header of a server's frame (RFC6455§5.2).
const MAX_HEADER: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DeflateConfig;
    use crate::ws::extension::negotiate;

    /// The first byte of each frame, and which messages are left for the task.
    fn encode(encoder: &mut Encoder, messages: &[(Opcode, &[u8])]) -> (Vec<u8>, Vec<usize>) {
        let messages: Vec<_> = messages
            .iter()
            .map(|&(opcode, payload)| Message { opcode, payload })
            .collect();
        let (mut first, mut later) = (Vec::new(), Vec::new());
        for message in &messages {
            let mut scratch = Vec::new();
            let after_plain = !later.is_empty();
            let message = std::slice::from_ref(message);
            for segment in encoder.encode(message, after_plain, COPY_UP_TO, &mut scratch) {
                match segment {
                    Segment::Scratch(range) => first.push(scratch[range][0]),
                    Segment::Later(_) => later.push(first.len() + later.len()),
                    Segment::Payload(_) => {}
                }
            }
        }
        (first, later)
    }

    fn compressing() -> Encoder {
        let config = DeflateConfig {
            threshold: 100,
            ..DeflateConfig::default()
        };
        let agreed = negotiate(["permessage-deflate"].into_iter(), &config);
        Encoder::new(agreed.as_ref())
    }

    #[test]
    fn data_from_the_threshold_on_is_compressed() {
        let messages: [(Opcode, &[u8]); 3] = [
            (Opcode::Text, &[b'a'; 99]),
            (Opcode::Text, &[b'a'; 100]),
            (Opcode::Ping, &[b'a'; 125]),
        ];
        assert_eq!(
            encode(&mut compressing(), &messages),
            (vec![0x81, 0xc1, 0x89], vec![])
        );
        assert_eq!(
            encode(&mut Encoder::default(), &messages),
            (vec![0x81, 0x81, 0x89], vec![])
        );
    }

    #[test]
    fn what_does_not_get_smaller_goes_as_it_is() {
        let noise: Vec<u8> = (0..200u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        assert_eq!(
            encode(&mut compressing(), &[(Opcode::Binary, &noise)]).0,
            [0x82]
        );
    }

    #[test]
    fn a_large_message_is_left_for_the_task_and_so_is_data_after_it() {
        let large = vec![b'a'; COMPRESS_UP_TO + 1];
        let messages: [(Opcode, &[u8]); 4] = [
            (Opcode::Text, &[b'a'; 100]),
            (Opcode::Text, &large),
            (Opcode::Pong, b""),
            (Opcode::Text, &[b'a'; 100]),
        ];
        assert_eq!(
            encode(&mut compressing(), &messages),
            (vec![0xc1, 0x8a], vec![1, 3])
        );
    }

    #[test]
    fn the_task_gives_the_compressor_back() {
        let mut encoder = compressing();
        let message = |length| PlainMessage {
            opcode: Opcode::Text,
            payload: vec![b'a'; length].into(),
        };
        let mut compression = encoder.lend(message(200_000), 0).unwrap();
        assert!(encoder.is_lent());
        assert!(encoder.lend(message(1), 0).is_none());
        let mut steps = 1;
        while compression.step() {
            steps += 1;
        }
        assert_eq!(steps, 13);
        assert_eq!(encoder.take_back(compression)[0], 0xc1);
        assert!(!encoder.is_lent());
    }
}
