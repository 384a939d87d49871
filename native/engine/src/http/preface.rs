//! Whether a client that may speak HTTP/1 or HTTP/2 has begun with the preface of the latter.

use tokio::io::ReadBuf;

/// What a client that knows that we speak HTTP/2 begins with (RFC9113§3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guess {
    Http1,
    Http2,
    /// So far it is the beginning of a preface.
    Open,
}

pub(crate) fn guess(read: &[u8]) -> Guess {
    if read.starts_with(PREFACE) {
        Guess::Http2
    } else if !read.is_empty() && PREFACE.starts_with(read) {
        Guess::Open
    } else {
        Guess::Http1
    }
}

/// What was read while it was open.
#[derive(Default)]
pub(crate) struct Preface {
    pub(crate) held: Vec<u8>,
    /// It is known by now, and what is held is to be read.
    pub(crate) is_known: bool,
}

impl Preface {
    /// Returns itself if there is more.
    pub(crate) fn give_back(mut self: Box<Self>, buf: &mut ReadBuf<'_>) -> Option<Box<Self>> {
        let length = self.held.len().min(buf.remaining());
        buf.put_slice(&self.held[..length]);
        self.held.drain(..length);
        (!self.held.is_empty()).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preface_is_open_until_its_last_byte() {
        for n in 1..PREFACE.len() {
            assert_eq!(guess(&PREFACE[..n]), Guess::Open, "{n} bytes");
        }
        assert_eq!(guess(PREFACE), Guess::Http2);
        assert_eq!(guess(&[PREFACE, b"\0\0\0"].concat()), Guess::Http2);
    }

    #[test]
    fn methods_of_http_1_are_told_by_their_first_bytes() {
        for head in ["G", "PU", "PRO", "PRI * HTTP/1", "PRI * HTTP/2.0\r\nHost"] {
            assert_eq!(guess(head.as_bytes()), Guess::Http1, "{head}");
        }
        assert_eq!(guess(b""), Guess::Http1);
    }

    #[test]
    fn what_was_held_is_given_back_in_order_and_in_parts() {
        let held = PREFACE.to_vec();
        let mut preface = Some(Box::new(Preface {
            held,
            is_known: true,
        }));
        let mut read = Vec::new();
        while let Some(left) = preface {
            let mut space = [0; 10];
            let mut buf = ReadBuf::new(&mut space);
            preface = left.give_back(&mut buf);
            read.extend_from_slice(buf.filled());
        }
        assert_eq!(read, PREFACE);
    }
}
