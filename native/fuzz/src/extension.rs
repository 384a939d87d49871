//! Offers of extensions, as a request's headers have them.

use ferrosock_engine::ws::extension::{DeflateConfig, negotiate};

use crate::source::Source;

/// What a fuzzer would find only slowly. The rest of an offer is made of single characters.
const WORDS: [&str; 16] = [
    "permessage-deflate",
    "server_no_context_takeover",
    "client_no_context_takeover",
    "server_max_window_bits",
    "client_max_window_bits",
    "=8",
    "=9",
    "=10",
    "=15",
    "=16",
    "=\"12\"",
    "=\"1\\2\"",
    "; ",
    ", ",
    "permessage-deflate; ",
    "x-unknown",
];

pub fn check(data: &[u8]) {
    let mut source = Source::new(data);
    let config = config(&mut source);
    let headers = headers(&mut source);
    let agree = |headers: &[String]| negotiate(headers.iter().map(String::as_str), &config);

    let agreed = agree(&headers);
    if !headers.concat().contains('"') {
        // RFC9110§5.3: lines of a header may be joined. A quote that is left open would join more.
        assert_eq!(agree(&[headers.join(",")]), agreed, "{headers:?} joined");
    }
    let Some(agreed) = agreed else {
        return;
    };

    assert!((9..=config.window_bits).contains(&agreed.server_window_bits));
    assert!((8..=15).contains(&agreed.client_window_bits));
    assert!(config.server_context_takeover || !agreed.server_context_takeover);
    assert!(config.client_context_takeover || !agreed.client_context_takeover);

    let answer = agreed.header_value();
    let mut parts = answer.split("; ");
    assert_eq!(parts.next(), Some("permessage-deflate"));
    for part in parts {
        let name = part.split('=').next().unwrap_or(part);
        let is_offered = headers.iter().any(|header| header.contains(name));
        assert!(is_offered, "{answer} to {headers:?}");
    }
    // As an offer, the answer asks for just what was agreed on.
    let again = agree(std::slice::from_ref(&answer));
    assert_eq!(again.map(|again| again.header_value()), Some(answer));
}

fn config(source: &mut Source) -> DeflateConfig {
    let (bits, flags) = (source.u8(), source.u8());
    DeflateConfig {
        window_bits: 9 + bits % 7,
        client_window_bits: 9 + (bits >> 4) % 7,
        server_context_takeover: flags & 1 != 0,
        client_context_takeover: flags & 2 != 0,
        ..DeflateConfig::default()
    }
}

/// Words are bytes past ASCII, and a line feed, which no header has, ends a header.
fn headers(source: &mut Source) -> Vec<String> {
    let mut headers = vec![String::new()];
    while !source.is_empty() {
        let byte = source.u8();
        let header = headers.len() - 1;
        match byte {
            b'\n' => headers.push(String::new()),
            0x80.. => headers[header].push_str(WORDS[usize::from(byte % 16)]),
            _ => headers[header].push(char::from(byte)),
        }
    }
    headers
}
