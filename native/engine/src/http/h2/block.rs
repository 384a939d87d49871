//! The frames of a header block, put together (RFC9113§4.3, §6.10).

use std::borrow::Cow;

use h2::Reason;

use super::frame::{
    CONTINUATION, END_HEADERS, HEAD_LEN, Head, MAX_31_BITS, MAX_FRAME_SIZE, PADDED, WITH_PRIORITY,
};

/// HEADERS and what continues them.
pub(super) struct Block<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    /// Of all the frames.
    pub(super) len: usize,
    /// On which stream it depends. On itself no stream can, for which h2 would reset it without a look at
    /// its fields; to RFC 9113 (§5.3.2) priorities say nothing.
    pub(super) priority: Option<u32>,
}

impl<'a> Block<'a> {
    /// `None` as long as it is not all there.
    pub(super) fn collect(
        head: &Head,
        bytes: &'a [u8],
        found: &mut Found,
    ) -> Result<Option<Self>, Reason> {
        let Some(payload) = head.payload(bytes) else {
            return Ok(None);
        };
        let (first, priority) = fragment(head, payload)?;
        found.look(bytes)?;
        if !found.is_end {
            return Ok(None);
        }
        let mut block = Self {
            bytes: first.into(),
            len: HEAD_LEN + head.len,
            priority,
        };
        while block.len < found.len {
            let rest = &bytes[block.len..];
            let payload = Head::parse(rest).and_then(|head| head.payload(rest));
            let payload = payload.expect("it was there before");
            block.bytes.to_mut().extend_from_slice(payload);
            block.len += HEAD_LEN + payload.len();
        }
        Ok(Some(block))
    }
}

/// How much of HEADERS and what continues them is there. Kept from read to read, so that no frame is looked
/// at for each byte of the others.
pub(super) struct Found {
    stream: u32,
    len: usize,
    is_end: bool,
    /// How many frames may follow that are not the last, which are as many as with h2 (CVE-2024-27316).
    left: usize,
}

impl Found {
    pub(super) fn new(head: &Head, max: usize) -> Self {
        let most = (max / MAX_FRAME_SIZE).max(1);
        Self {
            stream: head.stream,
            len: HEAD_LEN + head.len,
            is_end: head.has(END_HEADERS),
            left: (most + most / 4).max(5),
        }
    }

    /// Looks at the frames that have come, from HEADERS on.
    fn look(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        while !self.is_end {
            let rest = &bytes[self.len..];
            let Some(head) = Head::parse(rest) else {
                return Ok(());
            };
            if head.kind != CONTINUATION || head.stream != self.stream {
                return Err(Reason::PROTOCOL_ERROR);
            }
            if head.len > MAX_FRAME_SIZE {
                return Err(Reason::FRAME_SIZE_ERROR);
            }
            let is_end = head.has(END_HEADERS);
            if !is_end && self.left == 0 {
                return Err(Reason::ENHANCE_YOUR_CALM);
            }
            if head.payload(rest).is_none() {
                return Ok(());
            }
            self.is_end = is_end;
            self.left = self.left.saturating_sub(1);
            self.len += HEAD_LEN + head.len;
        }
        Ok(())
    }
}

/// What is left of HEADERS without padding and priority.
fn fragment<'a>(head: &Head, payload: &'a [u8]) -> Result<(&'a [u8], Option<u32>), Reason> {
    let mut rest = payload;
    let mut padding = 0;
    if head.has(PADDED) {
        let (first, after) = rest.split_first().ok_or(Reason::FRAME_SIZE_ERROR)?;
        (padding, rest) = (usize::from(*first), after);
    }
    let mut priority = None;
    if head.has(WITH_PRIORITY) {
        let (stream, after) = rest.split_first_chunk().ok_or(Reason::FRAME_SIZE_ERROR)?;
        priority = Some(u32::from_be_bytes(*stream) & MAX_31_BITS);
        rest = after.get(1..).ok_or(Reason::FRAME_SIZE_ERROR)?;
    }
    let len = rest.len().checked_sub(padding);
    let len = len.ok_or(Reason::PROTOCOL_ERROR)?;
    Ok((&rest[..len], priority))
}
