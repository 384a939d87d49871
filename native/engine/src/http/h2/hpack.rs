//! Header blocks (RFC 7541), as the filter reads them: field by field, whether HTTP allows the field or
//! not. The decoder keeps a dynamic table of its own beside that of crate h2, because h2 cannot go on
//! after a field that HTTP forbids.

use std::collections::VecDeque;

use super::field::{Kind, classify};
use super::huffman;

/// The dynamic table may be as large as this: our SETTINGS do not speak of it, and so the default holds
/// (RFC9113§6.5.2).
const TABLE_SIZE: usize = 4096;

/// A field weighs this much besides its bytes (RFC7541§4.1, RFC9113§6.5.2).
const OVERHEAD: usize = 32;

/// A larger number is an error (RFC7541§5.1 asks for some bound). h2 has the same one, so that both fail
/// on the same blocks.
const MAX_INT: usize = 1 << 28;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// The block breaks RFC 7541: what follows cannot be read.
    Malformed,
    /// The fields come to more bytes than the caller allowed.
    TooLarge,
}

pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) kind: Kind,
    /// The static table has both name and value at this index.
    pub(super) index: Option<u8>,
}

impl Field<'_> {
    pub(super) fn size(&self) -> usize {
        self.name.len() + self.value.len() + OVERHEAD
    }
}

pub(super) struct Decoder {
    /// The newest entry is the first (RFC7541§2.3.3).
    entries: VecDeque<Entry>,
    /// All entries together weigh this much.
    size: usize,
    /// They may weigh this much: `TABLE_SIZE`, or less if the client says so (RFC7541§4.2).
    max_size: usize,
}

struct Entry {
    /// The value follows the name.
    bytes: Box<[u8]>,
    /// The name has this many bytes.
    name: usize,
    kind: Kind,
}

impl Entry {
    fn size(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

/// The strings of a field are decoded into these, which serve for the next one, too.
#[derive(Default)]
struct Space {
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            max_size: TABLE_SIZE,
        }
    }

    /// Tells the fields of a whole block, one by one, and fails once they come to more than `max` bytes: a
    /// small block can stand for a great many (RFC7541§7.3).
    pub(super) fn decode(
        &mut self,
        block: &[u8],
        max: usize,
        mut tell: impl FnMut(&Field<'_>),
    ) -> Result<(), Error> {
        let mut input = Input(block);
        let mut space = Space::default();
        let mut total = 0;
        let mut may_resize = true;
        while let Some(first) = input.peek() {
            if first & 0xe0 == 0x20 {
                // A change of the table's size stands before all fields (RFC7541§4.2).
                let size = input.int(5)?;
                if !may_resize || size > TABLE_SIZE {
                    return Err(Error::Malformed);
                }
                self.resize(size);
                continue;
            }
            may_resize = false;
            total += match first & 0x80 {
                0 => self.literal(first, &mut input, &mut space, &mut tell)?,
                _ => self.indexed(&mut input, &mut tell)?,
            };
            if total > max {
                return Err(Error::TooLarge);
            }
        }
        Ok(())
    }

    /// Tells a field that one of the tables has (RFC7541§6.1), and returns its size.
    fn indexed(
        &self,
        input: &mut Input<'_>,
        tell: &mut impl FnMut(&Field<'_>),
    ) -> Result<usize, Error> {
        let index = input.int(7)?;
        let field = self.get(index)?;
        tell(&field);
        Ok(field.size())
    }

    /// Tells a field whose value at least is spelt out (RFC7541§6.2), and returns its size.
    fn literal(
        &mut self,
        first: u8,
        input: &mut Input<'_>,
        space: &mut Space,
        tell: &mut impl FnMut(&Field<'_>),
    ) -> Result<usize, Error> {
        let is_kept = first & 0x40 != 0;
        let index = input.int(if is_kept { 6 } else { 4 })?;
        let name = match index {
            0 => input.string(&mut space.name)?,
            index => self.get(index)?.name,
        };
        let value = input.string(&mut space.value)?;
        let kind = classify(name, value);
        let field = Field {
            name,
            value,
            kind,
            index: None,
        };
        let size = field.size();
        tell(&field);
        if is_kept {
            let entry = Entry {
                bytes: [name, value].concat().into(),
                name: name.len(),
                kind,
            };
            self.insert(entry);
        }
        Ok(size)
    }

    /// The static table has the first indices, the dynamic one the next (RFC7541§2.3.3).
    fn get(&self, index: usize) -> Result<Field<'_>, Error> {
        let place = index.checked_sub(1).ok_or(Error::Malformed)?;
        if let Some((name, value, kind)) = STATIC.get(place) {
            return Ok(Field {
                name: name.as_bytes(),
                value: value.as_bytes(),
                kind: *kind,
                index: Some(index as u8),
            });
        }
        let entry = self.entries.get(place - STATIC.len());
        let entry = entry.ok_or(Error::Malformed)?;
        let (name, value) = entry.bytes.split_at(entry.name);
        Ok(Field {
            name,
            value,
            kind: entry.kind,
            index: None,
        })
    }

    /// An entry that is larger than the table empties it, which is no error (RFC7541§4.4).
    fn insert(&mut self, entry: Entry) {
        self.evict(self.max_size.saturating_sub(entry.size()));
        if entry.size() <= self.max_size {
            self.size += entry.size();
            self.entries.push_front(entry);
        }
    }

    fn resize(&mut self, size: usize) {
        self.max_size = size;
        self.evict(size);
    }

    fn evict(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.entries.pop_back() else {
                break;
            };
            self.size -= entry.size();
        }
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn byte(&mut self) -> Result<u8, Error> {
        let (byte, rest) = self.0.split_first().ok_or(Error::Malformed)?;
        self.0 = rest;
        Ok(*byte)
    }

    /// Reads a number whose first byte has `prefix` bits of it (RFC7541§5.1).
    fn int(&mut self, prefix: u32) -> Result<usize, Error> {
        let mask = (1 << prefix) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 && value <= MAX_INT {
                return Ok(value);
            }
        }
        Err(Error::Malformed)
    }

    /// Reads a string (RFC7541§5.2), by way of `space` if it is in Huffman code.
    fn string<'b>(&mut self, space: &'b mut Vec<u8>) -> Result<&'b [u8], Error>
    where
        'a: 'b,
    {
        let is_coded = self.peek().is_some_and(|byte| byte & 0x80 != 0);
        let len = self.int(7)?;
        let (string, rest) = self.0.split_at_checked(len).ok_or(Error::Malformed)?;
        self.0 = rest;
        if !is_coded {
            return Ok(string);
        }
        space.clear();
        huffman::decode(string, space).ok_or(Error::Malformed)?;
        Ok(space)
    }
}

/// The static table (RFC 7541, appendix A). Two of its names are wrong in a request: `:status`, which is for
/// responses (RFC9113§8.3), and `transfer-encoding`, which is for HTTP/1 (RFC9113§8.2.2).
#[rustfmt::skip]
const STATIC: [(&str, &str, Kind); 61] = [
    (":authority", "", Kind::Authority),
    (":method", "GET", Kind::Method),
    (":method", "POST", Kind::Method),
    (":path", "/", Kind::Path),
    (":path", "/index.html", Kind::Path),
    (":scheme", "http", Kind::Scheme),
    (":scheme", "https", Kind::Scheme),
    (":status", "200", Kind::Bad),
    (":status", "204", Kind::Bad),
    (":status", "206", Kind::Bad),
    (":status", "304", Kind::Bad),
    (":status", "400", Kind::Bad),
    (":status", "404", Kind::Bad),
    (":status", "500", Kind::Bad),
    ("accept-charset", "", Kind::Plain),
    ("accept-encoding", "gzip, deflate", Kind::Plain),
    ("accept-language", "", Kind::Plain),
    ("accept-ranges", "", Kind::Plain),
    ("accept", "", Kind::Plain),
    ("access-control-allow-origin", "", Kind::Plain),
    ("age", "", Kind::Plain),
    ("allow", "", Kind::Plain),
    ("authorization", "", Kind::Plain),
    ("cache-control", "", Kind::Plain),
    ("content-disposition", "", Kind::Plain),
    ("content-encoding", "", Kind::Plain),
    ("content-language", "", Kind::Plain),
    ("content-length", "", Kind::Plain),
    ("content-location", "", Kind::Plain),
    ("content-range", "", Kind::Plain),
    ("content-type", "", Kind::Plain),
    ("cookie", "", Kind::Plain),
    ("date", "", Kind::Plain),
    ("etag", "", Kind::Plain),
    ("expect", "", Kind::Plain),
    ("expires", "", Kind::Plain),
    ("from", "", Kind::Plain),
    ("host", "", Kind::Plain),
    ("if-match", "", Kind::Plain),
    ("if-modified-since", "", Kind::Plain),
    ("if-none-match", "", Kind::Plain),
    ("if-range", "", Kind::Plain),
    ("if-unmodified-since", "", Kind::Plain),
    ("last-modified", "", Kind::Plain),
    ("link", "", Kind::Plain),
    ("location", "", Kind::Plain),
    ("max-forwards", "", Kind::Plain),
    ("proxy-authenticate", "", Kind::Plain),
    ("proxy-authorization", "", Kind::Plain),
    ("range", "", Kind::Plain),
    ("referer", "", Kind::Plain),
    ("refresh", "", Kind::Plain),
    ("retry-after", "", Kind::Plain),
    ("server", "", Kind::Plain),
    ("set-cookie", "", Kind::Plain),
    ("strict-transport-security", "", Kind::Plain),
    ("transfer-encoding", "", Kind::Bad),
    ("user-agent", "", Kind::Plain),
    ("vary", "", Kind::Plain),
    ("via", "", Kind::Plain),
    ("www-authenticate", "", Kind::Plain),
];

/// Appends a literal that leaves the table alone (RFC7541§6.2.2).
pub(super) fn encode(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(0);
    for string in [name, value] {
        encode_len(string.len(), out);
        out.extend_from_slice(string);
    }
}

/// Appends the length of a string that is not in Huffman code: a number with a prefix of 7 bits
/// (RFC7541§5.1, §5.2).
fn encode_len(len: usize, out: &mut Vec<u8>) {
    if len < 0x7f {
        return out.push(len as u8);
    }
    out.push(0x7f);
    let mut rest = len - 0x7f;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields = Vec<(String, String)>;

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Fields, Error> {
        let mut fields = vec![];
        decoder.decode(block, 1000, |field| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            fields.push((text(field.name), text(field.value)));
        })?;
        Ok(fields)
    }

    fn once(block: &[u8]) -> Result<Fields, Error> {
        decode(&mut Decoder::new(), block)
    }

    fn fields(fields: &[(&str, &str)]) -> Result<Fields, Error> {
        Ok(fields
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect())
    }

    #[test]
    fn the_requests_of_appendix_c_4() {
        let mut decoder = Decoder::new();
        let head = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "www.example.com"),
        ];
        let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(decode(&mut decoder, first), fields(&head));
        let second = b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
        let cached = [&head[..], &[("cache-control", "no-cache")]].concat();
        assert_eq!(decode(&mut decoder, second), fields(&cached));
        assert_eq!(decoder.size, 110);
        // A smaller table keeps the newest entry alone.
        assert_eq!(
            decode(&mut decoder, b"\x3f\x22\xbe"),
            fields(&[("cache-control", "no-cache")])
        );
        assert_eq!(decoder.size, 53);
        assert_eq!(decode(&mut decoder, b"\xbf"), Err(Error::Malformed));
    }

    #[test]
    fn every_kind_of_literal() {
        for first in [b"\x40", b"\x00", b"\x10"] {
            let block = [&first[..], b"\x01a\x01b"].concat();
            assert_eq!(once(&block), fields(&[("a", "b")]));
        }
        for first in [&b"\x44"[..], b"\x04", b"\x14"] {
            let block = [first, b"\x02/a"].concat();
            assert_eq!(once(&block), fields(&[(":path", "/a")]));
        }
        // An empty name is for HTTP to refuse.
        assert_eq!(once(b"\x00\x00\x00"), fields(&[("", "")]));
    }

    #[test]
    fn what_does_not_decode() {
        for block in [
            &b"\x80"[..],
            b"\xbe",
            b"\xff",
            b"\xff\xff\xff\xff\xff\xff",
            b"\xff\x80\x80\x80\x80\x00",
            b"\x00",
            b"\x00\x05abc",
            b"\x00\x01a",
            b"\x7e\x01x",
            b"\x00\x84\xff\xff\xff\xff\x01x",
            b"\x3f\xe2\x1f",
            b"\x82\x20",
        ] {
            assert_eq!(once(block), Err(Error::Malformed), "{block:x?}");
        }
        assert_eq!(once(b"\x3f\xe1\x1f\x20\x82"), fields(&[(":method", "GET")]));
    }

    #[test]
    fn a_field_that_is_larger_than_the_table_empties_it() {
        let mut decoder = Decoder::new();
        decode(&mut decoder, b"\x3f\x09\x40\x01a\x01b").unwrap();
        assert_eq!(decoder.entries.len(), 1);
        decode(&mut decoder, b"\x40\x04aaaa\x05bbbbb").unwrap();
        assert_eq!((decoder.entries.len(), decoder.size), (0, 0));
    }

    #[test]
    fn a_small_block_is_not_told_past_its_bound() {
        let mut told = 0;
        let block = [0x90; 10_000];
        let result = Decoder::new().decode(&block, 1000, |_| told += 1);
        assert_eq!((result, told), (Err(Error::TooLarge), 17));
    }

    #[test]
    fn what_is_encoded_decodes() {
        for len in [0, 1, 126, 127, 128, 254, 255, 700] {
            let (name, value) = ("n".repeat(len + 1), "v".repeat(len));
            let mut block = vec![];
            encode(name.as_bytes(), value.as_bytes(), &mut block);
            let mut told = 0;
            let mut decoder = Decoder::new();
            let result = decoder.decode(&block, 2000, |field| {
                assert_eq!(field.name, name.as_bytes());
                assert_eq!(field.value, value.as_bytes());
                told += 1;
            });
            assert_eq!((result, told), (Ok(()), 1));
        }
    }
}
