//! Heads that are written without hyper: those of informational responses, of which it can send none but 100,
//! and of errors that it does not see.

use http::header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};

use crate::http::status::Line;

/// The whole of an informational response.
pub(crate) fn interim_head(line: &Line, headers: &HeaderMap) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} ", line.status.as_str()).into_bytes();
    head.extend_from_slice(line.phrase());
    head.extend_from_slice(b"\r\n");
    // It has no body (RFC9110§8.6).
    let is_framing = |name: &HeaderName| [CONTENT_LENGTH, TRANSFER_ENCODING].contains(name);
    for (name, value) in headers.iter().filter(|(name, _)| !is_framing(name)) {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// The whole of a response after which the connection ends.
pub(crate) fn closing_head(status: StatusCode) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").into_bytes()
}
