//! Frames (RFC6455§5.2), as far as an echo needs them.

pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// Beside the opcode of a message: its payload is compressed (RFC7692§6).
pub const COMPRESSED: u8 = 0x40;

pub const MASK_LEN: usize = 4;

/// One key for all frames: they are masked once, before the clock starts.
const MASK: [u8; MASK_LEN] = [0x11, 0x22, 0x33, 0x44];

pub const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// A whole message as a client sends it. The opcode may have [`COMPRESSED`] beside it.
pub fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(opcode, MASKED, payload.len());
    frame.extend_from_slice(&MASK);
    let start = frame.len();
    frame.extend_from_slice(payload);
    apply_mask(&mut frame[start..], MASK);
    frame
}

/// A whole message as a server sends it.
pub fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(opcode, 0, payload.len());
    frame.extend_from_slice(payload);
    frame
}

/// Masks, and unmasks.
pub fn apply_mask(data: &mut [u8], key: [u8; MASK_LEN]) {
    let word = u32::from_ne_bytes(key);
    let (words, rest) = data.as_chunks_mut::<MASK_LEN>();
    for chunk in words {
        *chunk = (u32::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

fn header(opcode: u8, masked: u8, len: usize) -> Vec<u8> {
    let mut header = vec![FIN | opcode];
    match len {
        0..126 => header.push(masked | len as u8),
        126..65536 => {
            header.push(masked | 126);
            header.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            header.push(masked | 127);
            header.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    header
}

/// What stands before the mask and the payload of a frame.
#[derive(Debug, PartialEq)]
pub struct Header {
    pub opcode: u8,
    /// Without the mask.
    pub len: usize,
    pub payload_len: usize,
}

impl Header {
    /// `None` when not all of it has arrived.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let (&first, rest) = bytes.split_first()?;
        let (&second, rest) = rest.split_first()?;
        let (len, payload_len) = match second & !MASKED {
            126 => (4, u16::from_be_bytes(*rest.first_chunk()?) as usize),
            127 => (10, u64::from_be_bytes(*rest.first_chunk()?) as usize),
            len => (2, len as usize),
        };
        Some(Header {
            opcode: first & 0x0F,
            len,
            payload_len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masked_hello_of_the_rfc() {
        // RFC6455§5.7 has it with the key 37 fa 21 3d.
        let mut payload = *b"Hello";
        apply_mask(&mut payload, [0x37, 0xFA, 0x21, 0x3D]);
        assert_eq!(payload, [0x7F, 0x9F, 0x4D, 0x51, 0x58]);
        assert_eq!(masked(TEXT, b"")[..], [0x81, 0x80, 0x11, 0x22, 0x33, 0x44]);
        assert_eq!(unmasked(TEXT, b"Hello")[..], *b"\x81\x05Hello");
    }

    #[test]
    fn a_length_takes_the_shortest_form() {
        for (len, header_len) in [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)] {
            let payload = vec![b'x'; len];
            let server = unmasked(BINARY, &payload);
            let client = masked(BINARY, &payload);
            assert_eq!(server.len(), header_len + len);
            assert_eq!(client.len(), header_len + MASK_LEN + len);
            let header = Header {
                opcode: BINARY,
                len: header_len,
                payload_len: len,
            };
            assert_eq!(Header::parse(&server), Some(header));
            assert_eq!(Header::parse(&client), Header::parse(&server));
            assert_eq!(Header::parse(&server[..header_len - 1]), None);
        }
    }

    #[test]
    fn masking_twice_gives_the_payload_back() {
        for len in 0..20 {
            let payload: Vec<u8> = (0..len).collect();
            let frame = masked(BINARY, &payload);
            let mut data = frame[2 + MASK_LEN..].to_vec();
            assert_eq!(
                data.first().copied(),
                payload.first().map(|byte| byte ^ MASK[0])
            );
            apply_mask(&mut data, MASK);
            assert_eq!(data, payload);
        }
    }
}
