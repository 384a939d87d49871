//! Frames (RFC9113§4.1), as far as all kinds are alike.

pub(super) const HEAD_LEN: usize = 9;

/// SETTINGS_MAX_FRAME_SIZE, which we leave as it is.
pub(super) const MAX_FRAME_SIZE: usize = 16_384;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const WITH_PRIORITY: u8 = 32;

/// Of a stream identifier, and of a window.
pub(super) const MAX_31_BITS: u32 = (1 << 31) - 1;

/// Of a frame (RFC9113§4.1).
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) len: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = bytes.first_chunk::<HEAD_LEN>()?;
        Some(Self {
            len: u32::from_be_bytes([0, *a, *b, *c]) as usize,
            kind: *kind,
            flags: *flags,
            stream: u32::from_be_bytes(*stream) & MAX_31_BITS,
        })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// `None` as long as it is not all there.
    pub(super) fn payload<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(HEAD_LEN..HEAD_LEN + self.len)
    }

    /// The frames of another header block.
    pub(super) fn frames(&self, block: &[u8]) -> Vec<u8> {
        let count = block.len().div_ceil(MAX_FRAME_SIZE).max(1);
        let mut frames = Vec::with_capacity(block.len() + count * HEAD_LEN);
        for n in 0..count {
            let (kind, mut flags) = match n {
                0 => (HEADERS, self.flags & END_STREAM),
                _ => (CONTINUATION, 0),
            };
            let part = &block[n * MAX_FRAME_SIZE..];
            let part = &part[..part.len().min(MAX_FRAME_SIZE)];
            if n == count - 1 {
                flags |= END_HEADERS;
            }
            frames.extend_from_slice(&(part.len() as u32).to_be_bytes()[1..]);
            frames.extend_from_slice(&[kind, flags]);
            frames.extend_from_slice(&self.stream.to_be_bytes());
            frames.extend_from_slice(part);
        }
        frames
    }
}
