//! A client's bytes: frames, and header blocks with a table of their own. For the tests and the fuzz target.

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const PRIORITY: u8 = 32;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

pub fn request(path: &str, more: &[(&[u8], &[u8])]) -> Fields {
    let head: [(&[u8], &[u8]); 4] = [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", path.as_bytes()),
        (b":authority", b"localhost"),
    ];
    let fields = head.iter().chain(more);
    fields
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect()
}

/// Writes header blocks. How it does is told by bytes, one for a field.
#[derive(Default)]
pub struct Encoder {
    /// The newest first.
    table: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Encoder {
    pub fn encode(&mut self, fields: &Fields, how: &[u8]) -> Vec<u8> {
        let mut how = how.iter().cycle();
        let mut block = vec![];
        for field in fields {
            let how = how.next().copied().unwrap_or(0);
            let known = self.table.iter().position(|other| other == field);
            if let Some(at) = known.filter(|_| how & 8 == 0) {
                integer(&mut block, 0x80, 7, 62 + at);
                continue;
            }
            let (first, bits) = [(0x40, 6), (0, 4), (0x10, 4), (0x40, 6)][usize::from(how & 3)];
            let named = self.table.iter().position(|(name, _)| *name == field.0);
            match named.filter(|_| how & 4 == 0) {
                Some(at) => integer(&mut block, first, bits, 62 + at),
                None => {
                    block.push(first);
                    string(&mut block, &field.0);
                }
            }
            string(&mut block, &field.1);
            if first == 0x40 {
                self.insert(field);
            }
        }
        block
    }

    fn insert(&mut self, field: &(Vec<u8>, Vec<u8>)) {
        self.table.insert(0, field.clone());
        let size = |(name, value): &(Vec<u8>, Vec<u8>)| name.len() + value.len() + 32;
        while self.table.iter().map(size).sum::<usize>() > 4096 {
            self.table.pop();
        }
    }
}

fn integer(block: &mut Vec<u8>, first: u8, bits: u32, value: usize) {
    let most = (1 << bits) - 1;
    if value < most {
        return block.push(first | value as u8);
    }
    block.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        block.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    block.push(rest as u8);
}

fn string(block: &mut Vec<u8>, text: &[u8]) {
    integer(block, 0, 7, text.len());
    block.extend(text);
}

/// The frames of a header block, in so many parts, with padding and a priority where that is not `None`.
pub fn headers(
    stream: u32,
    block: &[u8],
    flags: u8,
    parts: usize,
    depends_on: Option<u32>,
) -> Vec<u8> {
    let size = block.len().div_ceil(parts).max(1);
    let parts: Vec<&[u8]> = block.chunks(size).collect();
    let parts = if parts.is_empty() {
        vec![&[][..]]
    } else {
        parts
    };
    let mut frames = vec![];
    for (n, part) in parts.iter().enumerate() {
        let end = if n == parts.len() - 1 { END_HEADERS } else { 0 };
        match (n, depends_on) {
            (0, Some(other)) => {
                let payload = [&[2], &other.to_be_bytes()[..], &[16], part, &[0, 0]].concat();
                let flags = flags | end | PADDED | PRIORITY;
                frames.extend(frame(HEADERS, flags, stream, &payload));
            }
            (0, None) => frames.extend(frame(HEADERS, flags | end, stream, part)),
            _ => frames.extend(frame(CONTINUATION, end, stream, part)),
        }
    }
    frames
}
