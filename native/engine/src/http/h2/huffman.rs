//! The Huffman code of HPACK (RFC 7541, appendix B).

/// How many bits each byte has. The code is canonical: codes are given out in the order of their lengths,
/// and among equals in that of the bytes, so that lengths tell all of it. The last one is EOS.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11,
    10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8,
    15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5,
    6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23,
    23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21,
    23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26,
    28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const EOS: u16 = 256;
const MAX_BITS: usize = 30;

/// The codes of one length.
#[derive(Clone, Copy)]
struct Row {
    bits: u32,
    /// The first code that is longer than these, or `1 << 32`; with its bits at the top.
    end: u64,
    /// The first of these, with its bits at the top.
    first: u32,
    /// Where its byte is in [`Code::bytes`].
    at: usize,
}

struct Code {
    rows: [Row; MAX_BITS],
    len: usize,
    /// In the order of their codes.
    bytes: [u16; 257],
}

static CODE: Code = code();

const fn code() -> Code {
    let none = Row {
        bits: 0,
        end: 0,
        first: 0,
        at: 0,
    };
    let mut code = Code {
        rows: [none; MAX_BITS],
        len: 0,
        bytes: [0; 257],
    };
    let (mut at, mut next) = (0, 0_u64);
    let mut bits = 1;
    while bits <= MAX_BITS {
        let shift = 32 - bits;
        let (first, start) = (next, at);
        let mut byte = 0;
        while byte < LENGTHS.len() {
            if LENGTHS[byte] as usize == bits {
                code.bytes[at] = byte as u16;
                at += 1;
                next += 1 << shift;
            }
            byte += 1;
        }
        if at > start {
            code.rows[code.len] = Row {
                bits: bits as u32,
                end: next,
                first: first as u32,
                at: start,
            };
            code.len += 1;
        }
        bits += 1;
    }
    code
}

/// Appends what is meant to `out`. `None`: it is no such code. What is appended by then is of no use.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let rows = &CODE.rows[..CODE.len];
    out.reserve(coded.len() * 8 / 5);
    let mut coded = coded.iter();
    // The next bits at the top, and how many there are.
    let (mut window, mut len) = (0_u64, 0_u32);
    loop {
        while len <= 56 {
            let Some(byte) = coded.next() else {
                break;
            };
            window |= u64::from(*byte) << (56 - len);
            len += 8;
        }
        if len == 0 {
            return Some(());
        }
        let top = window >> 32;
        let row = rows.iter().find(|row| top < row.end);
        let Some(row) = row.filter(|row| row.bits <= len) else {
            // What is left must be a beginning of EOS, and not a byte of it (RFC7541§5.2).
            let is_padding = len < 8 && window == !(u64::MAX >> len);
            return is_padding.then_some(());
        };
        let offset = (top as u32 - row.first) >> (32 - row.bits);
        match CODE.bytes[row.at + offset as usize] {
            EOS => return None,
            byte => out.push(byte as u8),
        }
        window <<= row.bits;
        len -= row.bits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541, appendix B, by sums.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = String::new();
        for byte in text {
            let at = CODE.bytes.iter().position(|b| *b == u16::from(*byte));
            let at = at.unwrap();
            let row = CODE.rows[..CODE.len].iter().rfind(|row| row.at <= at);
            let row = row.unwrap();
            let code = (row.first >> (32 - row.bits)) + (at - row.at) as u32;
            bits += &format!("{code:0width$b}", width = row.bits as usize);
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        let bytes = bits.as_bytes().chunks(8).map(str::from_utf8);
        bytes
            .map(|bits| u8::from_str_radix(bits.unwrap(), 2).unwrap())
            .collect()
    }

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![];
        decode(coded, &mut out).map(|()| out)
    }

    #[test]
    fn the_examples_of_the_rfc() {
        let example: &[u8] = b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(encode(b"www.example.com"), example);
        assert_eq!(decoded(example).unwrap(), b"www.example.com");
        assert_eq!(decoded(b"\xa8\xeb\x10\x64\x9c\xbf").unwrap(), b"no-cache");
        assert_eq!(decoded(b"").unwrap(), b"");
    }

    #[test]
    fn every_byte_has_its_code() {
        let all: Vec<u8> = (0..=255).collect();
        for n in 0..=256 {
            assert_eq!(decoded(&encode(&all[..n])).unwrap(), all[..n]);
            assert_eq!(
                decoded(&encode(&all[n.min(255)..])).unwrap(),
                all[n.min(255)..]
            );
        }
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for coded in [
            // EOS, alone and after a byte
            &b"\xff\xff\xff\xff"[..],
            b"\x1f\xff\xff\xff\xff",
            // padded by zeros, and by a byte
            b"\x18",
            b"\x1f\xff",
            b"\xff",
        ] {
            assert_eq!(decoded(coded), None, "{coded:x?}");
        }
    }
}
