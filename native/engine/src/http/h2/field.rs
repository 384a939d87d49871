//! Header fields that a request may not have, whatever they say (RFC9113§8.2, §8.3). What they mean
//! together is the concern of h2 and of [`crate::head`].

use simdutf8::basic::from_utf8;

use crate::token::{is_tchar, is_token};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Method,
    Scheme,
    Path,
    Authority,
    Protocol,
    /// Makes a request malformed.
    Bad,
}

/// The longest name that crate http has.
const MAX_NAME: usize = u16::MAX as usize;

pub(super) fn classify(name: &[u8], value: &[u8]) -> Kind {
    let is_fine = match name {
        // They are text to h2, and values besides: it takes them from HTTP/1 as well.
        b":scheme" | b":path" | b":authority" | b":protocol" => {
            is_value(value) && from_utf8(value).is_ok()
        }
        b":method" => is_token(value),
        // Those of HTTP/1 for its connection (RFC9113§8.2.2).
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            false
        }
        b"te" => value == b"trailers",
        _ => is_name(name) && is_value(value),
    };
    match name {
        _ if !is_fine => Kind::Bad,
        b":method" => Kind::Method,
        b":scheme" => Kind::Scheme,
        b":path" => Kind::Path,
        b":authority" => Kind::Authority,
        b":protocol" => Kind::Protocol,
        _ => Kind::Plain,
    }
}

/// Without a colon in front: other pseudo-header fields there are not.
fn is_name(name: &[u8]) -> bool {
    let is_byte = |byte: &u8| is_tchar(*byte) && !byte.is_ascii_uppercase();
    !name.is_empty() && name.len() <= MAX_NAME && name.iter().all(is_byte)
}

fn is_value(value: &[u8]) -> bool {
    value
        .iter()
        .all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

/// Whether fields make a request, or trailers, that h2 can take (RFC9113§8.1, §8.3). What is missing it
/// tells by itself.
pub(super) struct Judge {
    pub(super) is_malformed: bool,
    /// There was one that is no pseudo-header field.
    is_past: bool,
    seen: u8,
}

impl Judge {
    pub(super) fn new(is_trailers: bool) -> Self {
        Self {
            is_malformed: false,
            // Trailers have none at all.
            is_past: is_trailers,
            seen: 0,
        }
    }

    /// Whether no pseudo-header field may follow.
    pub(super) fn is_past(&self) -> bool {
        self.is_past
    }

    pub(super) fn field(&mut self, kind: Kind) {
        match kind {
            Kind::Plain => self.is_past = true,
            Kind::Bad => self.is_malformed = true,
            _ => {
                let bit = 1 << kind as u8;
                self.is_malformed |= self.is_past || self.seen & bit != 0;
                self.seen |= bit;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_token_in_lower_case() {
        for name in ["a", "x-y", "0", "!#$%&'*+-.^_`|~"] {
            assert_eq!(classify(name.as_bytes(), b""), Kind::Plain, "{name}");
        }
        for name in [
            "", "A", "x-Y", "a b", "a:", ":", ":a", "a\n", "a\0", "\u{e9}", "(", "a,b", "\x7f",
        ] {
            assert_eq!(classify(name.as_bytes(), b""), Kind::Bad, "{name:?}");
        }
        assert_eq!(classify(&[b'a'; MAX_NAME], b""), Kind::Plain);
        assert_eq!(classify(&[b'a'; MAX_NAME + 1], b""), Kind::Bad);
    }

    #[test]
    fn a_value_has_no_controls_but_tabs() {
        for value in [&b""[..], b"a b\tc", b"\x80\xff"] {
            assert_eq!(classify(b"a", value), Kind::Plain, "{value:?}");
        }
        for byte in (0..32).chain([127]).filter(|byte| *byte != b'\t') {
            assert_eq!(classify(b"a", &[b'b', byte]), Kind::Bad, "{byte}");
            assert_eq!(classify(b":path", &[b'/', byte]), Kind::Bad, "{byte}");
        }
    }

    #[test]
    fn pseudo_header_fields_are_known_ones() {
        assert_eq!(classify(b":method", b"GET"), Kind::Method);
        assert_eq!(classify(b":method", b"get!"), Kind::Method);
        assert_eq!(classify(b":method", b""), Kind::Bad);
        assert_eq!(classify(b":method", b"GET /"), Kind::Bad);
        assert_eq!(classify(b":path", "/\u{e9}".as_bytes()), Kind::Path);
        assert_eq!(classify(b":path", b"/\xe9"), Kind::Bad);
        assert_eq!(classify(b":protocol", b"websocket"), Kind::Protocol);
        assert_eq!(classify(b":status", b"200"), Kind::Bad);
        assert_eq!(classify(b":Path", b"/"), Kind::Bad);
    }

    #[test]
    fn what_is_for_a_connection_of_http_1_is_bad() {
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
            "upgrade",
        ] {
            assert_eq!(classify(name.as_bytes(), b"x"), Kind::Bad, "{name}");
        }
        assert_eq!(classify(b"te", b"trailers"), Kind::Plain);
        assert_eq!(classify(b"te", b"trailers, deflate"), Kind::Bad);
    }
}
