//! What a client might send: frames that are mostly well formed, and bytes that are not.

use ferrosock_engine::ws::deflate::Deflater;
use ferrosock_engine::ws::frame::apply_mask;

use crate::source::Source;

/// More would only make each run slower. It is enough for payloads that are read by their tail and
/// for every form of the length.
const MAX_LEN: usize = 128 * 1024;

/// The first byte of each piece.
const RAW: u8 = 0x80;
const MASKED: u8 = 0x40;
const REPEATED: u8 = 0x20;
/// A whole compressed message, where the stream has a deflater.
const DEFLATED: u8 = 0x10;
/// Of a compressed message: in two fragments.
const HALVED: u8 = 0x08;
/// Two bits: the shortest form of the length, the 16-bit form, the 64-bit form, or a length that is
/// not the payload's.
const LENGTH: u8 = 0x03;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

/// Reads pieces until the source is empty, then drops the last few bytes: a stream ends anywhere.
pub fn stream(source: &mut Source, deflater: Option<Deflater>) -> Vec<u8> {
    let dropped = usize::from(source.u8());
    let mut stream = Stream {
        out: vec![],
        deflater,
    };
    while !source.is_empty() && stream.out.len() < MAX_LEN {
        let piece = source.u8();
        if piece & RAW != 0 {
            let bytes = source.bytes(usize::from(piece & !RAW));
            stream.out.extend(bytes);
        } else {
            stream.piece(piece, source);
        }
    }
    stream
        .out
        .truncate(stream.out.len().saturating_sub(dropped));
    stream.out
}

struct Stream {
    out: Vec<u8>,
    deflater: Option<Deflater>,
}

impl Stream {
    fn piece(&mut self, piece: u8, source: &mut Source) {
        let first = source.u8();
        let mask = match piece & MASKED {
            0 => [0; 4],
            _ => [source.u8(), source.u8(), source.u8(), source.u8()],
        };
        let len = usize::from(source.u8());
        let mut payload = source.bytes(len).to_vec();
        if piece & REPEATED != 0 {
            payload = payload.repeat(usize::from(source.u16() % 1024));
        }

        let deflater = self.deflater.as_mut().filter(|_| piece & DEFLATED != 0);
        let Some(deflater) = deflater else {
            return self.frame(piece, first, mask, payload, source);
        };
        let mut compressed = vec![];
        if !deflater.compress(&payload, &mut compressed) {
            return self.frame(piece, first, mask, payload, source);
        }
        if piece & HALVED == 0 {
            self.frame(piece, first | RSV1, mask, compressed, source);
        } else {
            let rest = compressed.split_off(compressed.len() / 2);
            self.frame(piece, first & !FIN | RSV1, mask, compressed, source);
            self.frame(piece, FIN, mask, rest, source);
        }
    }

    fn frame(
        &mut self,
        piece: u8,
        first: u8,
        mask: [u8; 4],
        mut payload: Vec<u8>,
        source: &mut Source,
    ) {
        apply_mask(&mut payload, mask, 0);
        let len = payload.len();
        let out = &mut self.out;
        out.push(first);
        match (piece & LENGTH, len) {
            (0, 0..=125) => out.push(0x80 | len as u8),
            (0 | 1, 0..=0xffff) => {
                out.push(0x80 | 126);
                out.extend((len as u16).to_be_bytes());
            }
            (3, _) => {
                out.push(0x80 | 127);
                // From near zero to far over every limit.
                out.extend((u64::from(source.u16()) << (source.u8() % 64)).to_be_bytes());
            }
            _ => {
                out.push(0x80 | 127);
                out.extend((len as u64).to_be_bytes());
            }
        }
        out.extend(mask);
        out.extend(payload);
    }
}
