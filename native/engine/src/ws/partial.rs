//! What has been read in part: a header, a frame, a message. Without I/O.

use std::mem;

use super::deflate::Inflater;
use super::frame::{Error, Header, MAX_HEADER_LEN, parse_header};
use super::utf8::Utf8;
use crate::buffer::Buffer;

/// Of a message with RSV1 set.
pub(super) const AGREED: &str = "a header is compressed only if that was agreed";

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes in one frame of any kind, and in the joined and inflated message. `u64::MAX` is no limit.
    pub max_frame_size: u64,
    /// Frames in one message: empty ones count too, and would otherwise be free without end.
    pub max_fragments: u32,
    /// Of text and close reasons.
    pub validate_utf8: bool,
}

/// The bytes of a header that came without its end.
#[derive(Debug, Default)]
pub(super) struct PartialHeader {
    bytes: [u8; MAX_HEADER_LEN],
    len: u8,
}

impl PartialHeader {
    /// Takes the header's bytes off `input`. When the header does not end there, all of it was kept.
    #[inline]
    pub(super) fn complete(
        &mut self,
        input: &mut &mut [u8],
        deflate: bool,
    ) -> Result<Option<Header>, Error> {
        if self.len > 0 {
            return self.resume(input, deflate);
        }
        let header = parse_header(input, deflate)?;
        match header {
            Some(header) => {
                take(input, header.header_len);
            }
            None => self.keep(input),
        }
        Ok(header)
    }

    fn resume(&mut self, input: &mut &mut [u8], deflate: bool) -> Result<Option<Header>, Error> {
        let kept = usize::from(self.len);
        let more = input.len().min(MAX_HEADER_LEN - kept);
        self.keep(&input[..more]);
        let header = parse_header(&self.bytes[..kept + more], deflate)?;
        if let Some(header) = header {
            self.len = 0;
            take(input, header.header_len - kept);
        }
        Ok(header)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let kept = usize::from(self.len);
        self.bytes[kept..kept + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }
}

/// A frame whose payload did not come as a whole.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) header: Header,
    /// Bytes of the payload so far.
    pub(super) read: u64,
}

impl Frame {
    pub(super) fn new(header: Header) -> Frame {
        Frame { header, read: 0 }
    }

    pub(super) fn missing(&self) -> u64 {
        self.header.payload_len - self.read
    }

    /// How many of `available` bytes belong to this frame.
    pub(super) fn missing_in(&self, available: usize) -> usize {
        self.missing().min(available as u64) as usize
    }
}

/// A message from its first frame to its last.
#[derive(Debug)]
pub(super) struct Message<B> {
    pub(super) is_text: bool,
    /// Its buffer has what came out of the inflater so far.
    pub(super) is_compressed: bool,
    pub(super) fragments: u32,
    pub(super) utf8: Utf8,
    pub(super) buffer: B,
}

impl<B: Buffer> Message<B> {
    /// Takes in a part of the compressed payload, unmasked.
    pub(super) fn inflate(
        &mut self,
        part: &[u8],
        inflater: &mut Inflater,
        limits: &Limits,
    ) -> Result<(), Error> {
        let limit = usize::try_from(limits.max_frame_size).unwrap_or(usize::MAX);
        let is_checked = self.is_text && limits.validate_utf8;
        let check = |inflated: &[u8]| match is_checked {
            true => Ok(self.utf8.feed(inflated)?),
            false => Ok(()),
        };
        inflater.push(part, &mut self.buffer, limit, check)
    }

    pub(super) fn finish(&mut self, inflater: Option<&mut Inflater>) -> Result<(), Error> {
        if self.is_compressed {
            inflater.expect(AGREED).finish(self.buffer.filled())?;
        }
        if !self.utf8.is_complete() {
            return Err(Error::InvalidUtf8);
        }
        Ok(())
    }

    /// Makes room for `n` more bytes of `frame`, at the least. The capacity doubles, for linear time
    /// over any number of fragments, but stops at the message's length where that is known.
    pub(super) fn make_room(&mut self, n: usize, frame: &Frame) {
        let len = self.buffer.len();
        let capacity = self.buffer.capacity();
        if len + n <= capacity {
            return;
        }
        let doubled = capacity.saturating_mul(2).max(len + n);
        let end = frame.missing_in(usize::MAX - len) + len;
        let is_last = frame.header.fin;
        self.buffer
            .reserve(if is_last { doubled.min(end) } else { doubled });
    }
}

/// Takes the first `n` bytes off `input`.
#[inline]
pub(super) fn take<'a>(input: &mut &'a mut [u8], n: usize) -> &'a mut [u8] {
    let (taken, rest) = mem::take(input).split_at_mut(n);
    *input = rest;
    taken
}
