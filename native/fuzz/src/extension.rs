//! Offers of extensions, as a request's headers have them.

use std::collections::BTreeSet;

use ferrosock_engine::config::DeflateConfig;
use ferrosock_engine::ws::extension::negotiate;

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
    if is_plain(&headers) {
        let mut offers = headers.iter().flat_map(|header| header.split(','));
        let expected = offers.any(|offer| is_acceptable(offer, &config));
        assert_eq!(agreed.is_some(), expected, "{headers:?}");
        // RFC9110§5.3: the lines of a header may be joined.
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

/// Whether the offers mean what they look like: no quotes, nor blanks around values.
fn is_plain(headers: &[String]) -> bool {
    let is_odd = |header: &String| {
        ["\"", " =", "= ", "\t=", "=\t"]
            .iter()
            .any(|odd| header.contains(odd))
    };
    !headers.iter().any(is_odd)
}

/// RFC7692§7.1, as short as it can be said.
fn is_acceptable(offer: &str, config: &DeflateConfig) -> bool {
    let mut parts = offer.split(';').map(|part| part.trim_matches([' ', '\t']));
    let is_deflate = parts.next() == Some("permessage-deflate");
    let parameters: Vec<&str> = parts.collect();
    let names: BTreeSet<_> = parameters
        .iter()
        .map(|part| part.split('=').next())
        .collect();
    is_deflate
        && names.len() == parameters.len()
        && parameters.iter().all(|parameter| is_valid(parameter))
        // zlib has no such window.
        && !parameters.contains(&"server_max_window_bits=8")
        && (config.client_context_takeover || parameters.contains(&"client_no_context_takeover"))
}

fn is_valid(parameter: &str) -> bool {
    match parameter.split_once("_max_window_bits=") {
        Some(("server" | "client", bits)) => (8..=15).any(|valid| valid.to_string() == bits),
        _ => [
            "server_no_context_takeover",
            "client_no_context_takeover",
            "client_max_window_bits",
        ]
        .contains(&parameter),
    }
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
