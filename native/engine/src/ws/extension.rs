//! What client and server agree on about compression in the handshake (RFC7692§7.1). To compress and
//! inflate is the concern of [`deflate`](super::deflate).

use std::fmt::Write;
use std::ops::RangeInclusive;

use crate::config::DeflateConfig;
use crate::token::is_token;

const NAME: &str = "permessage-deflate";
const SERVER_NO_CONTEXT_TAKEOVER: &str = "server_no_context_takeover";
const CLIENT_NO_CONTEXT_TAKEOVER: &str = "client_no_context_takeover";
const SERVER_MAX_WINDOW_BITS: &str = "server_max_window_bits";
const CLIENT_MAX_WINDOW_BITS: &str = "client_max_window_bits";

/// A peer that was told nothing may use all of DEFLATE's window, of 2 to the power of this many bytes
/// (RFC7692§7.1.2).
const MAX_WINDOW_BITS: u8 = 15;
/// The values of both window parameters (RFC7692§7.1.2) as text, because a leading zero is not allowed.
const WINDOW_BITS: [&str; 8] = ["8", "9", "10", "11", "12", "13", "14", "15"];
/// zlib makes no raw DEFLATE data with a window of 256 bytes, so that 8 is not among these.
const OUR_WINDOW_BITS: RangeInclusive<u8> = 9..=MAX_WINDOW_BITS;

impl DeflateConfig {
    /// Whether every number is in its range: zlib refuses any other.
    pub fn is_valid(&self) -> bool {
        (1..=9).contains(&self.level)
            && (1..=9).contains(&self.mem_level)
            && OUR_WINDOW_BITS.contains(&self.window_bits)
            && OUR_WINDOW_BITS.contains(&self.client_window_bits)
    }
}

/// permessage-deflate as one connection uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Our messages may refer to earlier ones of ours.
    pub server_context_takeover: bool,
    /// Our window has 2 to the power of this many bytes: 9 to 15.
    pub server_window_bits: u8,
    /// The client's messages may refer to earlier ones of its own.
    pub client_context_takeover: bool,
    /// The client's window has 2 to the power of this many bytes: 8 to 15.
    pub client_window_bits: u8,
    /// Our messages with fewer bytes than this go out as they are.
    pub threshold: usize,
    /// zlib's level of compression: 1 to 9.
    pub level: u8,
    /// zlib's measure of the memory for compressing: 1 to 9.
    pub mem_level: u8,
    /// What was compressed last may be kept.
    pub cache: bool,
    answer: Answer,
}

/// The parameters in our response: none that the client has not offered, as it would fail the
/// connection (RFC7692§7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: bool,
    client_max_window_bits: bool,
}

impl Agreed {
    /// The value of the response's `Sec-WebSocket-Extensions`.
    pub fn header_value(&self) -> String {
        let mut value = NAME.to_owned();
        if self.answer.server_no_context_takeover {
            let _ = write!(value, "; {SERVER_NO_CONTEXT_TAKEOVER}");
        }
        if self.answer.client_no_context_takeover {
            let _ = write!(value, "; {CLIENT_NO_CONTEXT_TAKEOVER}");
        }
        if self.answer.server_max_window_bits {
            let bits = self.server_window_bits;
            let _ = write!(value, "; {SERVER_MAX_WINDOW_BITS}={bits}");
        }
        if self.answer.client_max_window_bits {
            let bits = self.client_window_bits;
            let _ = write!(value, "; {CLIENT_MAX_WINDOW_BITS}={bits}");
        }
        value
    }
}

/// Takes the first acceptable offer of permessage-deflate, as the client names the one it likes most
/// first (RFC7692§5). `offers` are the values of the request's `Sec-WebSocket-Extensions` headers in
/// their order, each with any number of offers. What is malformed, unknown or out of range declines
/// one offer and no more.
pub fn negotiate<'a>(
    offers: impl Iterator<Item = &'a str>,
    config: &DeflateConfig,
) -> Option<Agreed> {
    offers
        .flat_map(|header| split_unquoted(header, ','))
        .filter_map(Offer::parse)
        .find_map(|offer| offer.accept(config))
}

/// One offer whose parameters are all known and valid.
#[derive(Debug, Default)]
struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    client_max_window_bits: Option<ClientBits>,
}

/// What the client says of its own window (RFC7692§7.1.2.2).
#[derive(Debug, Clone, Copy)]
enum ClientBits {
    /// It takes any bound from us.
    Any,
    /// It stays below this bound by itself, and takes a smaller one from us.
    AtMost(u8),
}

impl Offer {
    fn parse(text: &str) -> Option<Offer> {
        let mut parts = split_unquoted(text, ';');
        if trim(parts.next()?) != NAME {
            return None;
        }
        let mut offer = Offer::default();
        for part in parts {
            offer.take(parse_parameter(part)?)?;
        }
        Some(offer)
    }

    /// `None` for an unknown, repeated or invalid parameter (RFC7692§7.1).
    fn take(&mut self, (name, value): (&str, Option<String>)) -> Option<()> {
        let value = value.as_deref();
        match name {
            SERVER_NO_CONTEXT_TAKEOVER => set(&mut self.server_no_context_takeover, value),
            CLIENT_NO_CONTEXT_TAKEOVER => set(&mut self.client_no_context_takeover, value),
            SERVER_MAX_WINDOW_BITS => {
                let bits = window_bits(value?)?;
                self.server_max_window_bits.replace(bits).is_none()
            }
            CLIENT_MAX_WINDOW_BITS => {
                let bits = match value {
                    Some(value) => ClientBits::AtMost(window_bits(value)?),
                    None => ClientBits::Any,
                };
                self.client_max_window_bits.replace(bits).is_none()
            }
            _ => false,
        }
        .then_some(())
    }

    fn accept(self, config: &DeflateConfig) -> Option<Agreed> {
        let client_context_takeover = !self.client_no_context_takeover;
        if client_context_takeover && !config.client_context_takeover {
            return None;
        }
        let server_max = self.server_max_window_bits.unwrap_or(MAX_WINDOW_BITS);
        if !OUR_WINDOW_BITS.contains(&server_max) {
            return None;
        }
        let client_window_bits = match self.client_max_window_bits {
            None => MAX_WINDOW_BITS,
            Some(ClientBits::Any) => config.client_window_bits,
            Some(ClientBits::AtMost(bits)) => bits.min(config.client_window_bits),
        };
        Some(Agreed {
            server_context_takeover: config.server_context_takeover
                && !self.server_no_context_takeover,
            server_window_bits: server_max.min(config.window_bits),
            client_context_takeover,
            client_window_bits,
            threshold: config.threshold,
            level: config.level,
            mem_level: config.mem_level,
            cache: config.cache,
            answer: Answer {
                server_no_context_takeover: self.server_no_context_takeover,
                client_no_context_takeover: self.client_no_context_takeover,
                server_max_window_bits: self.server_max_window_bits.is_some(),
                client_max_window_bits: self.client_max_window_bits.is_some(),
            },
        })
    }
}

/// Sets the flag of a parameter without a value, and says whether the client was right to send it: once,
/// and with no value.
fn set(flag: &mut bool, value: Option<&str>) -> bool {
    let is_first = !*flag;
    *flag = true;
    is_first && value.is_none()
}

fn window_bits(value: &str) -> Option<u8> {
    let (_, bits) = WINDOW_BITS
        .iter()
        .zip(8..)
        .find(|(text, _)| **text == value)?;
    Some(bits)
}

/// An `extension-param` (RFC6455§9.1) is a name, and maybe a value that is a token, quoted or not.
fn parse_parameter(text: &str) -> Option<(&str, Option<String>)> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(parse_value(trim(value))?)),
        None => (text, None),
    };
    let name = trim(name);
    is_token(name.as_bytes()).then_some((name, value))
}

fn parse_value(text: &str) -> Option<String> {
    let value = match text.strip_prefix('"') {
        Some(quoted) => unquote(quoted)?,
        None => text.to_owned(),
    };
    is_token(value.as_bytes()).then_some(value)
}

/// Reads a quoted string after its first quote. `text` has to end with the second one.
fn unquote(text: &str) -> Option<String> {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next()? {
            '\\' => value.push(chars.next()?),
            '"' => return chars.next().is_none().then_some(value),
            c => value.push(c),
        }
    }
}

/// Splits where the separator stands outside of quotes: a quoted string may have it in it (RFC9110§5.6.4).
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    text.split(move |c| {
        if is_escaped {
            is_escaped = false;
            return false;
        }
        match c {
            '"' => is_quoted = !is_quoted,
            '\\' => is_escaped = is_quoted,
            _ => return c == separator && !is_quoted,
        }
        false
    })
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = "permessage-deflate";

    fn config() -> DeflateConfig {
        let config = DeflateConfig::default();
        assert!(config.is_valid());
        config
    }

    fn agree(headers: &[&str], config: &DeflateConfig) -> Option<Agreed> {
        negotiate(headers.iter().copied(), config)
    }

    fn answer(headers: &[&str]) -> Option<String> {
        agree(headers, &config()).map(|agreed| agreed.header_value())
    }

    /// Each row has the parameters of an offer and those of its answer.
    #[test]
    fn parameters_are_answered_when_offered() {
        let table = [
            ("server_no_context_takeover", "server_no_context_takeover"),
            ("client_no_context_takeover", "client_no_context_takeover"),
            (
                "client_no_context_takeover; server_no_context_takeover",
                "server_no_context_takeover; client_no_context_takeover",
            ),
            ("server_max_window_bits=9", "server_max_window_bits=9"),
            ("server_max_window_bits=10", "server_max_window_bits=10"),
            ("server_max_window_bits=15", "server_max_window_bits=15"),
            ("client_max_window_bits", "client_max_window_bits=12"),
            ("client_max_window_bits=8", "client_max_window_bits=8"),
            ("client_max_window_bits=9", "client_max_window_bits=9"),
            ("client_max_window_bits=12", "client_max_window_bits=12"),
            ("client_max_window_bits=13", "client_max_window_bits=12"),
            ("client_max_window_bits=15", "client_max_window_bits=12"),
            (
                "client_max_window_bits; server_max_window_bits=11; client_no_context_takeover",
                "client_no_context_takeover; server_max_window_bits=11; client_max_window_bits=12",
            ),
            // Spaces, tabs, quotes and escapes may stand where the grammar has them.
            ("server_max_window_bits=\"10\"", "server_max_window_bits=10"),
            (
                "server_max_window_bits=\"1\\0\"",
                "server_max_window_bits=10",
            ),
            ("server_max_window_bits = 10", "server_max_window_bits=10"),
            (
                "\tserver_max_window_bits\t=\t\"10\"\t",
                "server_max_window_bits=10",
            ),
        ];
        for (offer, expected) in table {
            assert_eq!(
                answer(&[&format!("permessage-deflate; {offer}")]),
                Some(format!("permessage-deflate; {expected}")),
                "{offer}"
            );
        }
    }

    #[test]
    fn an_offer_with_anything_wrong_is_declined() {
        let table = [
            // The value is wrong, missing, or there where none may be.
            "server_max_window_bits",
            "server_max_window_bits=",
            "server_max_window_bits=\"\"",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=0",
            "server_max_window_bits=08",
            "server_max_window_bits=010",
            "server_max_window_bits=15x",
            "server_max_window_bits=+15",
            "server_max_window_bits=-9",
            "server_max_window_bits=1 5",
            "server_max_window_bits=15 x",
            "server_max_window_bits=true",
            "server_max_window_bits=99999999999999999999",
            "server_max_window_bits=\u{661}\u{665}",
            "client_max_window_bits=",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=015",
            "client_max_window_bits=15x",
            "server_no_context_takeover=true",
            "server_no_context_takeover=",
            "server_no_context_takeover=\"\"",
            "client_no_context_takeover=1",
            // Our compressor does not have this window.
            "server_max_window_bits=8",
            // A parameter comes twice.
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits=10; server_max_window_bits=10",
            "client_max_window_bits; client_max_window_bits=10",
            "client_max_window_bits=10; client_max_window_bits",
            // No such parameter is known.
            "max_inflate_ratio=10",
            "x",
            "Server_no_context_takeover",
            "server_no_context_takeover x",
            "server max window bits=10",
            // The grammar has no place for this.
            "",
            " ",
            ";",
            "server_no_context_takeover;",
            "; server_no_context_takeover",
            "=10",
            "=",
            "server_max_window_bits==10",
            "\"server_no_context_takeover\"",
            "server_max_window_bits=\"10",
            "server_max_window_bits=10\"",
            "server_max_window_bits=\"10\"0",
            "server_max_window_bits=\"10\\",
            "server_max_window_bits=\" 10\"",
            "server_max_window_bits='10'",
            "server_max_window_bits=(10)",
            "server_max_window_bits:10",
        ];
        for offer in table {
            let offer = format!("permessage-deflate; {offer}");
            assert_eq!(answer(&[&offer]), None, "{offer}");
        }
    }

    #[test]
    fn the_first_acceptable_offer_wins() {
        let bits = |bits| Some(format!("permessage-deflate; server_max_window_bits={bits}"));
        let table: &[(&[&str], Option<String>)] = &[
            (&[], None),
            (&[""], None),
            (&[" , ,"], None),
            (&["permessage-bzip2"], None),
            (&["Permessage-Deflate"], None),
            (&["permessage-deflate=1"], None),
            (&["permessage-deflate x"], None),
            (&["x-webkit-deflate-frame, permessage-deflate2"], None),
            (&[DEFAULT], Some(DEFAULT.into())),
            (&[" permessage-deflate\t"], Some(DEFAULT.into())),
            (&[", ,permessage-deflate,"], Some(DEFAULT.into())),
            (&["foo; bar=\"a, permessage-deflate\""], None),
            (&["foo; bar=\"\\\", permessage-deflate\""], None),
            (
                &["foo; bar=\"a\", permessage-deflate"],
                Some(DEFAULT.into()),
            ),
            (&["foo; \\\", permessage-deflate"], None),
            (&["foo\\, permessage-deflate"], Some(DEFAULT.into())),
            (
                &["permessage-deflate; server_max_window_bits=10, permessage-deflate"],
                bits(10),
            ),
            (
                &["permessage-deflate, permessage-deflate; server_max_window_bits=10"],
                Some(DEFAULT.into()),
            ),
            (
                &["permessage-deflate; server_max_window_bits=8, \
                   permessage-deflate; server_max_window_bits=9"],
                bits(9),
            ),
            (
                &["permessage-deflate; a=\";\"; b, permessage-deflate; server_max_window_bits=11"],
                bits(11),
            ),
            (
                &[
                    "permessage-deflate; server_max_window_bits=15x",
                    "foo",
                    DEFAULT,
                ],
                Some(DEFAULT.into()),
            ),
            // An open quote takes in no more than the rest of its header.
            (
                &[
                    "foo; bar=\"a, permessage-deflate",
                    "permessage-deflate; server_max_window_bits=9",
                ],
                bits(9),
            ),
        ];
        for (headers, expected) in table {
            assert_eq!(answer(headers), *expected, "{headers:?}");
        }
    }

    #[test]
    fn what_is_not_said_is_as_the_rfc_has_it() {
        let agreed = agree(&[DEFAULT], &config()).unwrap();
        assert!(!agreed.server_context_takeover);
        assert!(agreed.client_context_takeover);
        assert_eq!(agreed.server_window_bits, 15);
        assert_eq!(agreed.client_window_bits, 15);
    }

    #[test]
    fn our_window_is_the_smaller_of_what_we_want_and_they_allow() {
        let config = DeflateConfig {
            window_bits: 11,
            ..config()
        };
        for (offer, bits, answer) in [
            (DEFAULT, 11, DEFAULT),
            (
                "permessage-deflate; server_max_window_bits=15",
                11,
                "permessage-deflate; server_max_window_bits=11",
            ),
            (
                "permessage-deflate; server_max_window_bits=10",
                10,
                "permessage-deflate; server_max_window_bits=10",
            ),
        ] {
            let agreed = agree(&[offer], &config).unwrap();
            assert_eq!(agreed.server_window_bits, bits);
            assert_eq!(agreed.header_value(), answer);
        }
    }

    #[test]
    fn our_context_is_kept_when_we_want_it_and_they_do_not_mind() {
        for (wanted, offer, kept) in [
            (false, DEFAULT, false),
            (true, DEFAULT, true),
            (
                true,
                "permessage-deflate; server_no_context_takeover",
                false,
            ),
        ] {
            let config = DeflateConfig {
                server_context_takeover: wanted,
                ..config()
            };
            let agreed = agree(&[offer], &config).unwrap();
            assert_eq!(agreed.server_context_takeover, kept, "{offer}");
            assert_eq!(agreed.header_value(), offer);
        }
    }

    #[test]
    fn a_client_that_would_keep_its_context_against_our_will_is_declined() {
        let config = DeflateConfig {
            client_context_takeover: false,
            ..config()
        };
        assert_eq!(agree(&[DEFAULT], &config), None);
        let agreed = agree(
            &["permessage-deflate, permessage-deflate; client_no_context_takeover"],
            &config,
        );
        assert!(!agreed.unwrap().client_context_takeover);
    }

    #[test]
    fn a_configuration_out_of_range_is_not_valid() {
        let valid = config();
        for config in [
            DeflateConfig { level: 0, ..valid },
            DeflateConfig { level: 10, ..valid },
            DeflateConfig {
                mem_level: 0,
                ..valid
            },
            DeflateConfig {
                mem_level: 10,
                ..valid
            },
            DeflateConfig {
                window_bits: 8,
                ..valid
            },
            DeflateConfig {
                window_bits: 16,
                ..valid
            },
            DeflateConfig {
                client_window_bits: 8,
                ..valid
            },
            DeflateConfig {
                client_window_bits: 16,
                ..valid
            },
        ] {
            assert!(!config.is_valid(), "{config:?}");
        }
    }
}
