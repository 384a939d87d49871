//! The head of a request as it comes in, before hyper has it: what of it hyper would hide from us, or refuse
//! although it should be served, or answer by another status. Where a request ends is hyper's to say; what
//! is changed here has the same line ends and the same names as before. Without I/O.
//!
//! Only a head at whose beginning hyper's read begins is looked at. [`super::io::Io`] sees to that where it knows the
//! end of the request before it: not where that had chunks. Then it is as hyper has it, which is stricter in all
//! but the fragment.

use http::StatusCode;

use crate::error::HttpError;
use crate::http::head::Refusal;
use crate::token::{is_tchar, is_token};

/// What a scheme and its separator have at most, which are no part of what the limit counts.
const SCHEME: usize = "https://".len();

const CODING: &[u8] = b"transfer-encoding:";

/// What becomes of the bytes that were read.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// hyper gets them.
    Pass,
    /// hyper gets these in their place.
    Instead(Vec<u8>),
    Refused(Refusal),
}

const EMPTY_LINE: u32 = u32::from_be_bytes(*b"\r\n\r\n");

/// Follows the bytes of a connection.
pub(crate) struct RequestHead {
    /// Of the request line: method and target.
    max_line: usize,
    part: Part,
    length: usize,
    /// The last bytes that were read, the last one in the lowest place.
    last: u32,
    has_lone_lf: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// Empty lines may come before a request (RFC9112§2.2).
    Before,
    Method,
    Path,
    Query,
    /// What follows the target is not looked at.
    Rest,
}

impl RequestHead {
    pub(crate) fn new(max_line: usize) -> Self {
        Self {
            max_line,
            part: Part::Rest,
            length: 0,
            last: EMPTY_LINE,
            has_lone_lf: false,
        }
    }

    /// What was read of a body; `is_end`: to its last byte.
    pub(crate) fn skip(&mut self, bytes: &[u8], is_end: bool) {
        self.part = Part::Rest;
        self.note_last(bytes);
        self.has_lone_lf = self.ends_in_lone_lf();
        if is_end {
            // A head may begin here as it may after another.
            self.last = EMPTY_LINE;
        }
    }

    /// Whether what was read last, and is of a body, ends in a line that LF alone has ended. As framing of chunks
    /// that is malformed (RFC9112§7.1), but hyper takes it for the beginning of a trailer, and waits for the rest.
    pub(crate) fn has_lone_lf(&self) -> bool {
        self.has_lone_lf
    }

    /// What was read of a head; `begins`: after a request, or the first.
    pub(crate) fn read(&mut self, begins: bool, bytes: &mut [u8]) -> Verdict {
        if begins {
            // What hyper has not parsed yet may be the beginning of this head. It is not where the last read
            // ended in an empty line, as then it would be a whole one.
            let is_beginning = self.has_ended() || is_request_line(bytes);
            self.part = if is_beginning {
                Part::Before
            } else {
                Part::Rest
            };
            self.length = 0;
            if is_beginning {
                mend_codings(bytes);
            }
        }
        self.note_last(bytes);
        // Not where it is the head that ends so.
        self.has_lone_lf = self.ends_in_lone_lf() && has_empty_line(&bytes[..bytes.len() - 1]);
        self.scan(bytes)
    }

    fn ends_in_lone_lf(&self) -> bool {
        self.last.to_be_bytes()[1..] == *b"\r\n\n"
    }

    fn note_last(&mut self, bytes: &[u8]) {
        for byte in &bytes[bytes.len().saturating_sub(4)..] {
            self.last = self.last << 8 | u32::from(*byte);
        }
    }

    fn has_ended(&self) -> bool {
        let [_, a, b, c] = self.last.to_be_bytes();
        [b, c] == *b"\n\n" || [a, b, c] == *b"\n\r\n"
    }

    fn scan(&mut self, bytes: &[u8]) -> Verdict {
        let begun = self.part;
        let mut is_coded = true;
        for &byte in bytes {
            match step(self.part, byte) {
                Ok(Part::Before) => {}
                Ok(Part::Rest) => {
                    self.part = Part::Rest;
                    break;
                }
                Ok(part) => {
                    is_coded &= code(part, byte).is_none();
                    self.part = part;
                    self.length += usize::from(byte != b' ');
                }
                Err(refusal) => return Verdict::Refused(refusal),
            }
            if self.length > self.max_line + SCHEME {
                return Verdict::Refused(match self.part {
                    Part::Method => (StatusCode::NOT_IMPLEMENTED, HttpError::UnsupportedMethod),
                    _ => (StatusCode::URI_TOO_LONG, HttpError::TargetTooLong),
                });
            }
        }
        if is_coded {
            return Verdict::Pass;
        }
        Verdict::Instead(coded(begun, bytes))
    }
}

/// The part that the byte is of, after one of this part.
fn step(part: Part, byte: u8) -> Result<Part, Refusal> {
    Ok(match (part, byte) {
        (Part::Before, b'\r' | b'\n') => Part::Before,
        (Part::Before | Part::Method, _) if is_tchar(byte) => Part::Method,
        (Part::Method, b' ') => Part::Path,
        // No method has it, as hyper will say.
        (Part::Before | Part::Method, _) => Part::Rest,
        (Part::Rest, _) | (_, b' ' | b'\r' | b'\n') => Part::Rest,
        // The fragment is not sent (RFC9112§3.2), and hyper would cut it off.
        (_, b'#') => return Err((StatusCode::BAD_REQUEST, HttpError::Malformed)),
        (Part::Path, b'?') => Part::Query,
        (part, _) => part,
    })
}

/// How a character is coded that no URI has (RFC3986§2), which curl and others send as their users wrote it
/// all the same, and which hyper refuses in this part.
fn code(part: Part, byte: u8) -> Option<&'static [u8]> {
    match (part, byte) {
        (Part::Path | Part::Query, b'<') => Some(b"%3C"),
        (Part::Path | Part::Query, b'>') => Some(b"%3E"),
        (Part::Path, b'`') => Some(b"%60"),
        (Part::Query, b'"') => Some(b"%22"),
        _ => None,
    }
}

fn coded(mut part: Part, bytes: &[u8]) -> Vec<u8> {
    let mut coded = Vec::with_capacity(bytes.len() + 64);
    for &byte in bytes {
        // Whatever would be refused was refused before.
        part = step(part, byte).unwrap_or(Part::Rest);
        match code(part, byte) {
            Some(code) => coded.extend_from_slice(code),
            None => coded.push(byte),
        }
    }
    coded
}

/// Where the head ends that is in these bytes, if it does. One whose last line end came in two reads is not
/// found, and what follows it is not looked at.
pub(crate) fn head_end(begins: bool, bytes: &[u8]) -> Option<usize> {
    let is_line_end = |byte: &u8| b"\r\n".contains(byte);
    let start = match begins {
        true => bytes.iter().position(|byte| !is_line_end(byte))?,
        false => 0,
    };
    let mut last = None;
    for (at, _) in bytes
        .iter()
        .enumerate()
        .skip(start)
        .filter(|(_, byte)| **byte == b'\n')
    {
        if last.is_some_and(|last| at == last + 1 || at == last + 2 && bytes[at - 1] == b'\r') {
            return Some(at + 1);
        }
        last = Some(at);
    }
    None
}

fn has_empty_line(bytes: &[u8]) -> bool {
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    // Those before a request are no end of it.
    lines.any(|line| !line.trim_ascii().is_empty())
        && lines.any(|line| line.ends_with(b"\n") && line.trim_ascii().is_empty())
}

/// Whether what was read begins with a whole line that is nothing else.
fn is_request_line(bytes: &[u8]) -> bool {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let line = &bytes[..end.unwrap_or(0)];
    let mut words = line.trim_ascii_end().split(|byte| *byte == b' ');
    let is_word = |word: Option<&[u8]>, is_one: fn(&[u8]) -> bool| word.is_some_and(is_one);
    is_word(words.next(), is_token)
        && is_word(words.next(), |target| !target.is_empty())
        && is_word(words.next(), |version| version.starts_with(b"HTTP/1."))
        && words.next().is_none()
}

/// Empty elements at the end of the list of codings are none (RFC9110§5.6.1.2), but hyper takes the last one
/// for the coding. Only in a field that was read whole; and not where there is hardly ever a body.
fn mend_codings(bytes: &mut [u8]) {
    if bytes.starts_with(b"GET ") || bytes.starts_with(b"HEAD ") {
        return;
    }
    for line in bytes.split_inclusive_mut(|byte| *byte == b'\n').skip(1) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let has_end = line.ends_with(b"\n");
        let name = line.get(..CODING.len());
        if has_end && name.is_some_and(|name| name.eq_ignore_ascii_case(CODING)) {
            let is_none = |byte: &&mut u8| byte.is_ascii_whitespace() || **byte == b',';
            for byte in line[CODING.len()..].iter_mut().rev().take_while(is_none) {
                if *byte == b',' {
                    *byte = b' ';
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MALFORMED: Verdict = Verdict::Refused((StatusCode::BAD_REQUEST, HttpError::Malformed));

    fn refused(verdict: &Verdict) -> Option<u16> {
        match verdict {
            Verdict::Refused((status, _error)) => Some(status.as_u16()),
            _ => None,
        }
    }

    /// What hyper gets of a head that comes in two reads, split at each of its bytes and not at all; or the
    /// status that it is refused with.
    fn split_anywhere(text: &str) -> Result<String, u16> {
        let bytes = text.as_bytes();
        let mut results = (0..bytes.len()).map(|at| {
            let mut head = RequestHead::new(20);
            let mut given = Vec::new();
            for (n, part) in [&bytes[..at], &bytes[at..]].iter().enumerate() {
                if part.is_empty() {
                    continue;
                }
                let mut part = part.to_vec();
                match head.read(at == 0 || n == 0, &mut part) {
                    Verdict::Pass => given.extend(part),
                    Verdict::Instead(instead) => given.extend(instead),
                    Verdict::Refused((status, _error)) => return Err(status.as_u16()),
                }
            }
            Ok(String::from_utf8(given).unwrap())
        });
        let first = results.next().unwrap();
        for result in results {
            assert_eq!(result, first);
        }
        first
    }

    #[test]
    fn what_is_good_passes_as_it_is() {
        for head in [
            "GET / HTTP/1.1\r\nhost: a#b<c>\r\n\r\n",
            "\r\n\nGET /\"\\{}|^?a=`\\{}|^' HTTP/1.1\nx: #\n\n",
            "OPTIONS * HTTP/1.1\r\n\r\n",
            "POST http://a/b HTTP/1.1\r\n\r\n",
            // hyper's to refuse.
            "G@T /#< HTTP/1.1\r\n\r\n",
            "GET\r\n/#< HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(split_anywhere(head), Ok(head.into()));
        }
    }

    #[test]
    fn a_fragment_is_refused() {
        for target in ["/#", "/a#b", "/?a#b", "#a", "http://a#b", "http://a/b?c#d"] {
            let head = format!("GET {target} HTTP/1.1\r\n\r\n");
            assert_eq!(split_anywhere(&head), Err(400), "{target}");
        }
        // It is one of the characters of a method.
        let head = "G#T / HTTP/1.1\r\n\r\n";
        assert_eq!(split_anywhere(head), Ok(head.into()));
    }

    #[test]
    fn characters_that_hyper_refuses_are_coded() {
        let head = "GET /<`>?\"<`>\" HTTP/1.1\r\nx: <\"`\r\n\r\n";
        let coded = "GET /%3C%60%3E?%22%3C`%3E%22 HTTP/1.1\r\nx: <\"`\r\n\r\n";
        assert_eq!(split_anywhere(head), Ok(coded.into()));
    }

    #[test]
    fn a_line_that_is_too_long_has_the_status_of_what_is_too_long() {
        let line = |method: usize, target: usize| {
            let mut line = ["M".repeat(method), "/".repeat(target)]
                .join(" ")
                .into_bytes();
            refused(&RequestHead::new(20).read(true, &mut line))
        };
        assert_eq!(line(4, 24), None);
        assert_eq!(line(4, 25), Some(414));
        assert_eq!(line(28, 0), None);
        assert_eq!(line(29, 0), Some(501));
        // Of a header there is another limit.
        let mut head = b"GET / HTTP/1.1\r\nx: ".to_vec();
        head.resize(1_000, b'a');
        assert_eq!(RequestHead::new(20).read(true, &mut head), Verdict::Pass);
    }

    #[test]
    fn a_length_counts_over_reads() {
        let mut head = RequestHead::new(20);
        assert_eq!(head.read(true, &mut b"\r\nGET /".to_owned()), Verdict::Pass);
        for _ in 0..24 {
            assert_eq!(head.read(false, &mut b"a".to_owned()), Verdict::Pass);
        }
        let verdict = head.read(false, &mut b"a".to_owned());
        assert_eq!(refused(&verdict), Some(414));
    }

    #[test]
    fn the_rest_of_a_head_that_came_with_the_one_before_is_no_request_line() {
        let first = b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\ncook".to_owned();
        for rest in [
            "ie /#<",
            "ie: /# <\r\n\r\n",
            "ie: a b#\r\nc: d\r\n\r\n",
            "ie a#b c\r\n\r\n",
        ] {
            let mut head = RequestHead::new(20);
            assert_eq!(head.read(true, &mut first.clone()), Verdict::Pass);
            // The first request has been served.
            let mut rest = rest.as_bytes().to_vec();
            assert_eq!(head.read(true, &mut rest), Verdict::Pass);
        }
    }

    #[test]
    fn a_head_after_a_body_is_looked_at() {
        let mut head = RequestHead::new(20);
        head.read(true, &mut b"POST / HTTP/1.1\r\n\r\n".to_owned());
        head.skip(b"body", false);
        let verdict = head.read(true, &mut b"GET /#a HTTP/1.1\r\n".to_owned());
        assert_eq!(verdict, MALFORMED);
        head.skip(b"body", true);
        assert_eq!(head.read(true, &mut b"GET /#a".to_owned()), MALFORMED);
    }

    #[test]
    fn a_head_ends_at_its_empty_line() {
        let end = |text: &str| head_end(true, text.as_bytes()).map(|end| text[end..].to_owned());
        assert_eq!(end("GET / HTTP/1.1\r\n\r\n"), Some("".into()));
        assert_eq!(
            end("GET / HTTP/1.1\r\na: b\r\n\r\n\r\nrest"),
            Some("\r\nrest".into())
        );
        assert_eq!(end("GET / HTTP/1.1\n\nrest\n\n"), Some("rest\n\n".into()));
        assert_eq!(end("GET / HTTP/1.1\n\r\nrest"), Some("rest".into()));
        assert_eq!(
            end("\r\n\r\n\nGET / HTTP/1.1\r\n\r\nrest"),
            Some("rest".into())
        );
        assert_eq!(end("GET / HTTP/1.1\r\na:\r\n"), None);
        assert_eq!(end("GET / HTTP/1.1\r\n\rx\n"), None);
        assert_eq!(end("\r\n\r\n"), None);
        assert_eq!(head_end(false, b"a: b\r\n\r\nrest"), Some(8));
    }

    #[test]
    fn a_lone_lf_is_of_a_body_and_after_a_line() {
        let head_only = |text: &str| {
            let mut head = RequestHead::new(20);
            head.read(true, &mut text.as_bytes().to_vec());
            head.has_lone_lf()
        };
        assert!(head_only("POST / HTTP/1.1\r\n\r\n0\r\n\n"));
        assert!(head_only(
            "\r\nPOST / HTTP/1.1\na: b\n\n5\r\nhello\r\n0\r\n\n"
        ));
        assert!(!head_only("POST / HTTP/1.1\r\n\r\n0\r\n\r\n"));
        // It ends the head.
        assert!(!head_only("POST / HTTP/1.1\r\na: b\r\n\n"));
        assert!(!head_only("\r\nPOST / HTTP/1.1\r\n\n"));

        let mut head = RequestHead::new(20);
        head.read(true, &mut b"POST / HTTP/1.1\r\n\r\n".to_owned());
        for (part, is_lone) in [
            ("0\r\n", false),
            ("\n", true),
            ("a", false),
            ("\r\n\n", true),
        ] {
            head.skip(part.as_bytes(), false);
            assert_eq!(head.has_lone_lf(), is_lone, "{part:?}");
        }
    }

    #[test]
    fn empty_codings_at_the_end_are_no_codings() {
        let mended = |coding: &str| {
            let head = format!("POST / HTTP/1.1\r\nTransfer-Encoding:{coding}\r\n\r\na,\r\n");
            let mut head = head.into_bytes();
            RequestHead::new(20).read(true, &mut head);
            String::from_utf8(head).unwrap()
        };
        let expected =
            |coding: &str| format!("POST / HTTP/1.1\r\nTransfer-Encoding:{coding}\r\n\r\na,\r\n");
        assert_eq!(mended("chunked"), expected("chunked"));
        assert_eq!(mended(" chunked,"), expected(" chunked "));
        assert_eq!(mended("chunked , ,"), expected("chunked    "));
        assert_eq!(mended(",chunked"), expected(",chunked"));
        let mut other = b"POST / HTTP/1.1\r\nx-transfer-encoding: a,\r\n\r\n".to_owned();
        let before = other;
        RequestHead::new(20).read(true, &mut other);
        assert_eq!(other, before);
    }
}
