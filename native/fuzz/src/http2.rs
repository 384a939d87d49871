//! A client's bytes of HTTP/2 through the filter: cut anywhere, the same passes; what has passed is right,
//! so that it passes again as it is; and what h2 alone would have served arrives.

use crate::client::*;
use crate::judge::{Outcome, filter, h2};
use crate::source::Source;

/// What a fuzzer would find only slowly. The rest of a field is made of single bytes.
const WORDS: [&str; 16] = [
    ":method",
    ":scheme",
    ":path",
    ":authority",
    ":protocol",
    ":status",
    "GET",
    "CONNECT",
    "http",
    "/",
    "localhost",
    "te",
    "trailers",
    "connection",
    "content-length",
    "x-a",
];

/// More would only make each run slower.
const MAX_LEN: usize = 64 * 1024;

pub fn check(data: &[u8]) {
    let mut source = Source::new(data);
    let sizes = [usize::from(source.u8()) + 1, usize::from(source.u16()) + 1];
    let spaces = [usize::from(source.u8()) + 1, usize::from(source.u16()) + 1];
    let bytes = bytes(&mut source);

    let (passed, fault) = filter(&bytes, &[bytes.len()], &[bytes.len() + 1]);
    let cut = filter(&bytes, &sizes, &spaces);
    assert_eq!(cut, (passed.clone(), fault), "cut to {sizes:?}, {spaces:?}");
    let again = filter(&passed, &[bytes.len()], &[bytes.len() + 1]);
    assert_eq!(again, (passed.clone(), None), "again");

    let (alone, filtered) = (h2(&bytes), h2(&passed));
    if passed == bytes {
        assert_eq!(alone, filtered);
    }
    if alone.goaway.is_none() && !is_told_apart(&bytes) {
        assert_eq!(fault, None, "h2 alone has no fault to find");
        check_requests(&alone, &filtered);
    }
}

/// Where we differ from h2 on purpose although it finds no fault with the connection.
fn is_told_apart(bytes: &[u8]) -> bool {
    let mut frames = frames(bytes.get(PREFACE.len()..).unwrap_or_default());
    let first = frames.next();
    let mut last = 0;
    let mut opened = [false; 32];
    // It waits for all of a frame, takes others before SETTINGS, and names with quotation marks. It looks
    // neither at a priority nor at the fields of a head that depends on itself, and resets what nobody may
    // open.
    !is_whole(bytes)
        || first.is_some_and(|(kind, flags, ..)| kind != SETTINGS || flags & 1 != 0)
        || bytes.contains(&b'"')
        || frames.any(|(kind, flags, stream, payload)| match kind {
            HEADERS => {
                let is_misplaced =
                    stream % 2 == 0 || stream < last && !opened[stream as usize % 32];
                opened[stream as usize % 32] = true;
                last = last.max(stream);
                let has_priority = flags & PRIORITY != 0;
                is_misplaced
                    || has_priority && depends_on(flags, payload) == Some(stream)
                    || flags & END_HEADERS == 0 && has_empty_name(payload)
            }
            2 => depends_on(0, payload) == Some(stream),
            // Refused at once, and not when it is complete.
            5 => true,
            // It takes an update of the table's size at the beginning of each.
            CONTINUATION if payload.first().is_some_and(|first| first & 0xe0 == 0x20) => true,
            CONTINUATION => flags & END_HEADERS == 0 && has_empty_name(payload),
            _ => false,
        })
}

/// Whether there may be a literal with one. Before CONTINUATION, h2 waits for the rest of it, and decodes
/// again what comes before it.
fn has_empty_name(block: &[u8]) -> bool {
    let is_empty = |pair: &[u8]| matches!(pair, [0 | 0x10 | 0x40, 0 | 0x80]);
    block.windows(2).any(is_empty)
}

/// Whether the last frame is all there.
fn is_whole(bytes: &[u8]) -> bool {
    let frames = frames(bytes.get(PREFACE.len()..).unwrap_or_default());
    let len: usize = frames.map(|(.., payload)| 9 + payload.len()).sum();
    PREFACE.len() + len == bytes.len()
}

fn depends_on(flags: u8, payload: &[u8]) -> Option<u32> {
    let at = usize::from(flags & PADDED != 0);
    let stream = payload.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*stream) & !(1 << 31))
}

fn frames(bytes: &[u8]) -> impl Iterator<Item = (u8, u8, u32, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (head, after) = rest.split_first_chunk::<9>()?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (payload, after) = after.split_at_checked(len)?;
        rest = after;
        let stream = u32::from_be_bytes(*head.last_chunk().unwrap()) & !(1 << 31);
        Some((head[3], head[4], stream, payload))
    })
}

/// What h2 alone serves arrives, or is refused, as for trailers with pseudo-header fields.
fn check_requests(alone: &Outcome, filtered: &Outcome) {
    for request in &filtered.requests {
        assert!(alone.requests.contains(request), "{request:?} is made up");
    }
    for request in &alone.requests {
        let is_reset = filtered
            .resets
            .iter()
            .any(|(stream, _)| *stream == request.stream);
        let arrives = filtered.requests.contains(request);
        assert!(arrives || is_reset, "{request:?} is lost");
    }
}

/// Frames that are mostly well formed, and bytes that are not.
fn bytes(source: &mut Source) -> Vec<u8> {
    let mut out = PREFACE.to_vec();
    if source.u8() & 7 != 7 {
        out.extend(frame(SETTINGS, 0, 0, &[]));
    }
    let mut encoder = Encoder::default();
    while !source.is_empty() && out.len() < MAX_LEN {
        let piece = source.u8();
        let stream = u32::from(source.u8() & 0x1f);
        let flags = piece & END_STREAM;
        match piece >> 4 {
            0 => {
                let len = usize::from(source.u8() & 0x7f);
                out.extend(source.bytes(len));
            }
            1 | 2 => {
                let len = usize::from(source.u8());
                out.extend(frame(DATA, flags, stream, source.bytes(len)));
            }
            3 => {
                let len = usize::from(source.u8() & 0x1f);
                out.extend(frame(source.u8(), flags, stream, source.bytes(len)));
            }
            4 => out.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])),
            5 => {
                let len = usize::from(source.u8() & 0x3f);
                let block = source.bytes(len);
                out.extend(block_frames(piece, stream, block, flags));
            }
            _ => {
                let fields = fields(source);
                let how = [source.u8(), source.u8()];
                let block = encoder.encode(&fields, &how);
                out.extend(block_frames(piece, stream, &block, flags));
            }
        }
    }
    out
}

fn block_frames(piece: u8, stream: u32, block: &[u8], flags: u8) -> Vec<u8> {
    let parts = usize::from(piece >> 1 & 3) + 1;
    let depends_on = (piece & 8 != 0).then_some(u32::from(piece >> 4));
    headers(stream, block, flags, parts, depends_on)
}

/// A request's head, and more: in each text, bytes past ASCII are words.
fn fields(source: &mut Source) -> Fields {
    let count = source.u8();
    let mut fields = match count & 0x80 {
        0 => request("/", &[]),
        _ => vec![],
    };
    for _ in 0..count & 7 {
        let name = text(source);
        fields.push((name, text(source)));
    }
    fields
}

fn text(source: &mut Source) -> Vec<u8> {
    let first = source.u8();
    if first & 0x80 != 0 {
        return WORDS[usize::from(first % 16)].into();
    }
    let mut text = source.bytes(usize::from(first & 7)).to_vec();
    if first & 0x40 != 0 {
        // Long enough to empty a table.
        text = text.repeat(usize::from(source.u8()));
    }
    text
}
