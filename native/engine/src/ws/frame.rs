//! One frame: its header is read and written here, its payload unmasked, and what a peer can do wrong
//! has its name. What frames mean to each other (fragments, limits) is the concern of
//! [`message`](super::message).

use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// A client's longest header: two bytes, the 64-bit form of the length, and the mask (RFC6455§5.2).
pub const MAX_HEADER_LEN: usize = 14;
/// A control frame's payload has no more bytes than this (RFC6455§5.5).
pub const MAX_CONTROL_LEN: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
/// The reserved bit that permessage-deflate gives a meaning (RFC7692§6).
const RSV1: u8 = 0x40;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn from_bits(bits: u8) -> Result<Opcode, Error> {
        match OpCode::from(bits & OPCODE) {
            OpCode::Data(Data::Continue) => Ok(Opcode::Continuation),
            OpCode::Data(Data::Text) => Ok(Opcode::Text),
            OpCode::Data(Data::Binary) => Ok(Opcode::Binary),
            OpCode::Control(Control::Close) => Ok(Opcode::Close),
            OpCode::Control(Control::Ping) => Ok(Opcode::Ping),
            OpCode::Control(Control::Pong) => Ok(Opcode::Pong),
            OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
                Err(Error::ReservedOpcode)
            }
        }
    }

    pub fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

impl From<Opcode> for OpCode {
    fn from(opcode: Opcode) -> OpCode {
        match opcode {
            Opcode::Continuation => OpCode::Data(Data::Continue),
            Opcode::Text => OpCode::Data(Data::Text),
            Opcode::Binary => OpCode::Data(Data::Binary),
            Opcode::Close => OpCode::Control(Control::Close),
            Opcode::Ping => OpCode::Control(Control::Ping),
            Opcode::Pong => OpCode::Control(Control::Pong),
        }
    }
}

/// A frame's header as a server reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub fin: bool,
    /// RSV1 is set: this is the first frame of a compressed message (RFC7692§6).
    pub compressed: bool,
    pub opcode: Opcode,
    pub mask: [u8; 4],
    pub payload_len: u64,
    /// The header itself takes this many bytes, after which the payload begins.
    pub header_len: usize,
}

/// What a peer did wrong. Each of these ends the connection (RFC6455§7.1.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// A reserved bit is set that no extension gave a meaning (RFC6455§5.2).
    ReservedBits,
    /// The opcode is one that no RFC gave a meaning (RFC6455§5.2).
    ReservedOpcode,
    /// The 64-bit form of the length has its most significant bit set (RFC6455§5.2).
    InvalidLength,
    /// A client's frame has no mask (RFC6455§5.1).
    UnmaskedFrame,
    /// A control frame has more than 125 bytes of payload (RFC6455§5.5).
    ControlFrameTooBig,
    /// A control frame is fragmented (RFC6455§5.5).
    FragmentedControlFrame,
    /// A continuation frame has no message to continue (RFC6455§5.4).
    UnexpectedContinuation,
    /// A message begins before the last fragment of the one before (RFC6455§5.4).
    ExpectedContinuation,
    /// A text or the reason of a close frame is not UTF-8 (RFC6455§8.1).
    InvalidUtf8,
    /// A frame or message is over the size limit (RFC6455§10.4).
    TooBig,
    /// A message has too many fragments (RFC6455§10.4).
    TooManyFragments,
    /// A close frame has one byte of payload, which is half a code (RFC6455§5.5.1).
    InvalidCloseFrame,
    /// The code of a close frame is one that must not be sent (RFC6455§7.4).
    InvalidCloseCode,
    /// A compressed message is not DEFLATE data (RFC7692§7.2.2).
    InvalidDeflate,
}

impl Error {
    /// The code of the close frame that answers it (RFC6455§7.4.1).
    pub fn close_code(&self) -> u16 {
        match self {
            Error::InvalidUtf8 | Error::InvalidDeflate => 1007,
            Error::TooBig | Error::TooManyFragments => 1009,
            _ => 1002,
        }
    }

    /// The atom that Elixir has for it.
    pub fn name(&self) -> &'static str {
        match self {
            Error::ReservedBits => "reserved_bits",
            Error::ReservedOpcode => "reserved_opcode",
            Error::InvalidLength => "invalid_length",
            Error::UnmaskedFrame => "unmasked_frame",
            Error::ControlFrameTooBig => "control_frame_too_big",
            Error::FragmentedControlFrame => "fragmented_control_frame",
            Error::UnexpectedContinuation => "unexpected_continuation",
            Error::ExpectedContinuation => "expected_continuation",
            Error::InvalidUtf8 => "invalid_utf8",
            Error::TooBig => "too_big",
            Error::TooManyFragments => "too_many_fragments",
            Error::InvalidCloseFrame => "invalid_close_frame",
            Error::InvalidCloseCode => "invalid_close_code",
            Error::InvalidDeflate => "invalid_deflate",
        }
    }
}

/// Reads the header that `buf` begins with; `None` when more bytes are needed. `deflate` says that
/// permessage-deflate was agreed, so that a message may be compressed.
///
/// The first byte that is wrong is an error, also when the header is not complete: nobody waits for
/// bytes of a frame that is refused anyway. tungstenite's `FrameHeader::parse`, which looks at nothing
/// before the last byte, cannot serve for that reason. A length in a longer form than it needs is
/// accepted, as tungstenite does: only senders have to use the shortest (RFC6455§5.2), and what the
/// longer one means is clear.
#[inline]
pub fn parse_header(buf: &[u8], deflate: bool) -> Result<Option<Header>, Error> {
    let Some(&first) = buf.first() else {
        return Ok(None);
    };
    if first & RESERVED & !meaningful_bits(first, deflate) != 0 {
        return Err(Error::ReservedBits);
    }
    let compressed = first & RSV1 != 0;
    let fin = first & FIN != 0;
    let opcode = Opcode::from_bits(first)?;
    if opcode.is_control() && !fin {
        return Err(Error::FragmentedControlFrame);
    }

    let Some(&second) = buf.get(1) else {
        return Ok(None);
    };
    if second & MASKED == 0 {
        return Err(Error::UnmaskedFrame);
    }
    let short_len = second & !MASKED;
    if opcode.is_control() && usize::from(short_len) > MAX_CONTROL_LEN {
        return Err(Error::ControlFrameTooBig);
    }

    let Some((payload_len, rest)) = parse_length(short_len, &buf[2..])? else {
        return Ok(None);
    };
    let Some(&mask) = rest.first_chunk() else {
        return Ok(None);
    };
    let header_len = buf.len() - rest.len() + mask.len();
    Ok(Some(Header {
        fin,
        compressed,
        opcode,
        mask,
        payload_len,
        header_len,
    }))
}

/// The reserved bits that may be set in a header's first byte: RSV1 on the first frame of a data
/// message, never on a continuation or a control frame (RFC7692§6.1).
#[inline]
fn meaningful_bits(first: u8, deflate: bool) -> u8 {
    const TEXT: u8 = 0x1;
    const BINARY: u8 = 0x2;
    if deflate && matches!(first & OPCODE, TEXT | BINARY) {
        RSV1
    } else {
        0
    }
}

#[inline]
fn parse_length(short: u8, buf: &[u8]) -> Result<Option<(u64, &[u8])>, Error> {
    match short {
        126 => Ok(buf
            .split_first_chunk()
            .map(|(bytes, rest)| (u16::from_be_bytes(*bytes).into(), rest))),
        127 if buf.first().is_some_and(|byte| byte & 0x80 != 0) => Err(Error::InvalidLength),
        127 => Ok(buf
            .split_first_chunk()
            .map(|(bytes, rest)| (u64::from_be_bytes(*bytes), rest))),
        len => Ok(Some((len.into(), buf))),
    }
}

/// Appends a server's header: a whole message, unmasked (RFC6455§5.1), its length in the shortest form
/// (RFC6455§5.2). `compressed` is for text and binary payloads that a
/// [`Deflater`](super::deflate::Deflater) made.
#[inline]
pub fn encode_header(out: &mut Vec<u8>, opcode: Opcode, compressed: bool, payload_len: usize) {
    let mut header = [0; 10];
    let rsv1 = if compressed { RSV1 } else { 0 };
    header[0] = FIN | rsv1 | u8::from(OpCode::from(opcode));
    let header_len = match payload_len {
        0..=125 => {
            header[1] = payload_len as u8;
            2
        }
        126..=0xffff => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        }
    };
    out.extend_from_slice(&header[..header_len]);
}

/// Masks or unmasks a part of a frame's payload that begins `offset` bytes into it (RFC6455§5.3).
#[inline]
pub fn apply_mask(payload: &mut [u8], mask: [u8; 4], offset: usize) {
    let mut mask = mask;
    mask.rotate_left(offset % 4);
    let [a, b, c, d] = mask;
    let key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);

    // Whole words are what the compiler turns into the vectors of the target.
    let (words, rest) = payload.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.to_ne_bytes()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn header(first: u8, rest: &[u8]) -> Vec<u8> {
        [&[first], rest, &MASK].concat()
    }

    fn read(buf: &[u8]) -> (bool, Opcode, u64, usize) {
        let header = parse_header(buf, false).unwrap().unwrap();
        assert_eq!(header.mask, MASK);
        (
            header.fin,
            header.opcode,
            header.payload_len,
            header.header_len,
        )
    }

    #[test]
    fn reads_every_form_of_the_length() {
        let table: &[(&[u8], u64, usize)] = &[
            (&[0x80], 0, 6),
            (&[0x80 | 125], 125, 6),
            (&[0x80 | 126, 0, 126], 126, 8),
            (&[0x80 | 126, 0xff, 0xff], 65_535, 8),
            (&[0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0], 65_536, 14),
            (
                &[0x80 | 127, 0x7f, 255, 255, 255, 255, 255, 255, 255],
                u64::MAX >> 1,
                14,
            ),
            // The longer forms of a length that the shortest has room for.
            (&[0x80 | 126, 0, 5], 5, 8),
            (&[0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 5], 5, 14),
        ];
        for &(bytes, payload_len, header_len) in table {
            let buf = header(0x82, bytes);
            assert_eq!(read(&buf), (true, Opcode::Binary, payload_len, header_len));
            for cut in 0..buf.len() {
                assert_eq!(
                    parse_header(&buf[..cut], false),
                    Ok(None),
                    "{cut} of {buf:x?}"
                );
            }
        }
    }

    #[test]
    fn knows_the_opcodes_and_the_fin_bit() {
        let opcodes = [
            (0x0, Opcode::Continuation),
            (0x1, Opcode::Text),
            (0x2, Opcode::Binary),
            (0x8, Opcode::Close),
            (0x9, Opcode::Ping),
            (0xa, Opcode::Pong),
        ];
        for (bits, opcode) in opcodes {
            assert_eq!(read(&header(0x80 | bits, &[0x80])), (true, opcode, 0, 6));
            if !opcode.is_control() {
                assert_eq!(read(&header(bits, &[0x80])), (false, opcode, 0, 6));
            }
        }
        for bits in (0x3..=0x7).chain(0xb..=0xf) {
            assert_eq!(
                parse_header(&[0x80 | bits], false),
                Err(Error::ReservedOpcode)
            );
        }
    }

    #[test]
    fn refuses_a_header_on_its_first_wrong_byte() {
        let table: &[(&[u8], Error)] = &[
            (&[0xc1], Error::ReservedBits),
            (&[0xa1], Error::ReservedBits),
            (&[0x91], Error::ReservedBits),
            (&[0x08], Error::FragmentedControlFrame),
            (&[0x09], Error::FragmentedControlFrame),
            (&[0x0a], Error::FragmentedControlFrame),
            (&[0x81, 0x05], Error::UnmaskedFrame),
            (&[0x88, 0x00], Error::UnmaskedFrame),
            (&[0x88, 0xfe], Error::ControlFrameTooBig),
            (&[0x89, 0xfe], Error::ControlFrameTooBig),
            (&[0x8a, 0xff], Error::ControlFrameTooBig),
            (&[0x82, 0xff, 0x80], Error::InvalidLength),
        ];
        for &(bytes, error) in table {
            assert_eq!(parse_header(bytes, false), Err(error), "{bytes:x?}");
            let before = &bytes[..bytes.len() - 1];
            assert_eq!(parse_header(before, false), Ok(None), "{before:x?}");
            assert_eq!(
                parse_header(&[bytes, &[0; 16]].concat(), false),
                Err(error),
                "{bytes:x?}"
            );
        }
    }

    #[test]
    fn writes_the_shortest_form_of_the_length() {
        let table: &[(usize, &[u8])] = &[
            (0, &[0x82, 0]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xff, 0xff]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ];
        for &(len, bytes) in table {
            let mut out = b"before".to_vec();
            encode_header(&mut out, Opcode::Binary, false, len);
            assert_eq!(out, [b"before", bytes].concat());
        }
    }

    #[test]
    fn rsv1_marks_the_first_frame_of_a_compressed_message_and_nothing_else() {
        for first in 0..=u8::MAX {
            let compressed = |deflate| {
                let header = parse_header(&header(first, &[0x80]), deflate);
                header.map(|header| header.unwrap().compressed)
            };
            let plain = compressed(false);
            let expected = match first & 0x7f {
                0x41 | 0x42 => Ok(true),
                _ => plain,
            };
            assert_eq!(compressed(true), expected, "{first:x}");
            assert_ne!(plain, Ok(true), "{first:x}");
        }
        let mut out = vec![];
        encode_header(&mut out, Opcode::Text, true, 5);
        assert_eq!(out, [0xc1, 5]);
    }

    #[test]
    fn masks_like_the_loop_of_the_rfc_at_every_offset_and_length() {
        for offset in 0..8 {
            for len in 0..40u8 {
                let plain: Vec<u8> = (1..=len).collect();
                // Octet i is masked with octet i mod 4 of the key (RFC6455§5.3).
                let expected: Vec<u8> = plain
                    .iter()
                    .enumerate()
                    .map(|(i, byte)| byte ^ MASK[(offset + i) % 4])
                    .collect();
                let mut masked = plain.clone();
                apply_mask(&mut masked, MASK, offset);
                assert_eq!(masked, expected, "offset {offset}, length {len}");
            }
        }
    }
}
