//! UTF-8 checked piece by piece, wherever the pieces were cut.

/// The longest beginning of a code point that is not a whole one.
const MAX_PARTIAL: usize = 3;

#[derive(Debug, PartialEq, Eq)]
pub struct Invalid;

/// The beginning of a code point that the pieces so far ended with.
#[derive(Debug, Default)]
pub struct Utf8 {
    partial: [u8; MAX_PARTIAL],
    len: u8,
}

impl Utf8 {
    /// Checks the next piece. Fails at the first byte that no continuation could make valid, so that
    /// bad text is refused before its message is complete.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Invalid> {
        let piece = self.finish_partial(piece)?;
        // `compat` because it says where valid text ends, which `basic` does not.
        let Err(error) = simdutf8::compat::from_utf8(piece) else {
            return Ok(());
        };
        if error.error_len().is_some() {
            return Err(Invalid);
        }
        self.keep(&piece[error.valid_up_to()..]);
        Ok(())
    }

    /// Whether the text may end here.
    pub fn is_complete(&self) -> bool {
        self.len == 0
    }

    /// Takes the rest of the kept code point off the piece, and returns what remains.
    fn finish_partial<'a>(&mut self, mut piece: &'a [u8]) -> Result<&'a [u8], Invalid> {
        while let (false, Some((&byte, rest))) = (self.is_complete(), piece.split_first()) {
            let len = usize::from(self.len);
            let mut code_point = [0; MAX_PARTIAL + 1];
            code_point[..len].copy_from_slice(&self.partial[..len]);
            code_point[len] = byte;
            let code_point = &code_point[..=len];

            match std::str::from_utf8(code_point) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return Err(Invalid),
                Err(_) => self.keep(code_point),
            }
            piece = rest;
        }
        Ok(piece)
    }

    fn keep(&mut self, partial: &[u8]) {
        self.partial[..partial.len()].copy_from_slice(partial);
        self.len = partial.len() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Where it fails, and whether text that did not fail may end.
    fn by_byte(bytes: &[u8]) -> (Option<usize>, bool) {
        let mut utf8 = Utf8::default();
        let bad = bytes.iter().position(|&byte| utf8.feed(&[byte]).is_err());
        (bad, utf8.is_complete())
    }

    #[test]
    fn a_code_point_may_be_cut_anywhere() {
        let text = "κόσμε-\u{10ffff}-日本-\u{800}\u{7ff}a".as_bytes();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut utf8 = Utf8::default();
                for piece in [&text[..first], &text[first..second], &text[second..]] {
                    assert_eq!(utf8.feed(piece), Ok(()));
                }
                assert!(utf8.is_complete());
            }
        }
    }

    #[test]
    fn fails_at_the_first_bad_byte() {
        let table: &[(&[u8], usize)] = &[
            (b"a\x80", 1),
            (b"\xc0", 0),                     // only overlong forms
            (b"\xc2a", 1),                    // not continued
            (b"\xe0\x9f", 1),                 // overlong
            (b"\xed\xa0", 1),                 // surrogate
            (b"\xf0\x8f", 1),                 // overlong
            (b"\xf0\x9f\x92a", 3),            // not continued
            (b"\xf4\x90", 1),                 // past U+10FFFF
            (b"\xf5", 0),                     // past U+10FFFF
            (b"\xce\xba\xe1\xbd\xb9\xff", 5), // in the middle of text
        ];
        for &(bytes, bad) in table {
            assert_eq!(by_byte(bytes).0, Some(bad), "{bytes:x?}");
            assert_eq!(Utf8::default().feed(bytes), Err(Invalid), "{bytes:x?}");
            assert_eq!(Utf8::default().feed(&bytes[..bad]), Ok(()), "{bytes:x?}");
        }
    }

    #[test]
    fn text_may_not_end_inside_a_code_point() {
        for partial in ["\u{e9}", "\u{20ac}", "\u{1f4a9}"].map(str::as_bytes) {
            for len in 1..partial.len() {
                assert_eq!(by_byte(&partial[..len]), (None, false));
            }
            assert_eq!(by_byte(partial), (None, true));
        }
    }

    #[test]
    fn keeps_no_more_than_four_bytes() {
        assert_eq!(size_of::<Utf8>(), 4);
    }

    /// Bytes of which a good part is nearly UTF-8.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            prop::sample::select(vec![0x80u8, 0xbf, 0xc2, 0xe0, 0xed, 0xf0, 0xf4, 0xff])
                .prop_map(|byte| vec![byte]),
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn agrees_with_std_however_it_is_cut(bytes in bytes(), cut in any::<prop::sample::Index>()) {
            let cut = cut.index(bytes.len() + 1);
            let mut utf8 = Utf8::default();
            let valid = utf8.feed(&bytes[..cut]).is_ok()
                && utf8.feed(&bytes[cut..]).is_ok()
                && utf8.is_complete();
            prop_assert_eq!(valid, std::str::from_utf8(&bytes).is_ok());

            let bad = std::str::from_utf8(&bytes).err().and_then(|error| {
                error.error_len().map(|_| error.valid_up_to())
            });
            match (by_byte(&bytes).0, bad) {
                (Some(at), Some(code_point)) => prop_assert!((code_point..code_point + 4).contains(&at)),
                (at, code_point) => prop_assert_eq!(at, code_point),
            }
        }
    }
}
