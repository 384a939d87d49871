//! What the head of a request has to be like, whatever the handler makes of it.

use std::str::FromStr;

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use crate::config::Http2Config;
use crate::error::HttpError;

/// How a request is answered that no handler gets.
pub(crate) type Refusal = (StatusCode, HttpError);

const INVALID_HOST: Refusal = (StatusCode::BAD_REQUEST, HttpError::InvalidHost);

/// What hyper leaves to us of RFC 9112. Returns who the request is for; `None` where it names nobody.
pub(crate) fn check_http1(head: &Parts, max_line: usize) -> Result<Option<Authority>, Refusal> {
    if head.method == Method::CONNECT {
        return Err((StatusCode::NOT_IMPLEMENTED, HttpError::UnsupportedMethod));
    }
    if !is_coding(&head.headers) {
        return Err((StatusCode::NOT_IMPLEMENTED, HttpError::UnsupportedCoding));
    }
    if request_line_length(head) > max_line {
        return Err((StatusCode::URI_TOO_LONG, HttpError::TargetTooLong));
    }
    if !is_target(head) {
        return Err((StatusCode::BAD_REQUEST, HttpError::Malformed));
    }
    authority(head).ok_or(INVALID_HOST)
}

/// What h2 leaves to us of RFC 9113. Handlers get a head as that of HTTP/1 would be: with a `host`, one
/// `cookie`, and a WebSocket's handshake (RFC 8441) as a GET with `upgrade`.
pub(crate) fn check_http2(
    head: &mut Parts,
    config: &Http2Config,
) -> Result<Option<Authority>, Refusal> {
    if head.headers.len() > config.max_header_count {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err((status, HttpError::HeadTooLarge));
    }
    if head.method == Method::CONNECT {
        let protocol = head.extensions.remove::<h2::ext::Protocol>();
        if protocol.is_none_or(|protocol| protocol.as_str() != "websocket") {
            return Err((StatusCode::NOT_IMPLEMENTED, HttpError::UnsupportedMethod));
        }
        head.method = Method::GET;
        let headers = &mut head.headers;
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    if !is_target(head) || !head.headers.values().all(is_value) || !is_length(&head.headers) {
        return Err((StatusCode::BAD_REQUEST, HttpError::Malformed));
    }
    let authority = named_authority(head).ok_or(INVALID_HOST)?;
    let host = HeaderValue::try_from(authority.as_str()).map_err(|_| INVALID_HOST)?;
    head.headers.insert(HOST, host);
    join_cookies(&mut head.headers);
    Ok(Some(authority))
}

/// HTTP/1 cannot have white space at its ends (RFC9113§8.2.1).
fn is_value(value: &HeaderValue) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = value.as_bytes();
    !is_space(bytes.first()) && !is_space(bytes.last())
}

/// h2 takes an empty one for none (RFC9110§8.6).
fn is_length(headers: &HeaderMap) -> bool {
    !headers
        .get_all(CONTENT_LENGTH)
        .iter()
        .any(HeaderValue::is_empty)
}

/// `:authority`, or `host`; both where they are the same (RFC9113§8.3.1).
fn named_authority(head: &Parts) -> Option<Authority> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(plain_authority(host.to_str().ok()?)?),
        (None, None) => None,
        _ => return None,
    };
    let Some(authority) = head.uri.authority() else {
        return host;
    };
    let authority = plain_authority(authority.as_str())?;
    // Authorities are equal in whatever case.
    host.is_none_or(|host| host == authority)
        .then_some(authority)
}

/// They may come in pieces, which a handler that knows HTTP/1 does not expect (RFC9113§8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    let (Some(first), Some(_)) = (cookies.next(), cookies.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for cookie in headers.get_all(COOKIE).iter().skip(1) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    let joined = HeaderValue::from_bytes(&joined).expect("made of header values");
    headers.insert(COOKIE, joined);
}

/// What of it can be long.
fn request_line_length(head: &Parts) -> usize {
    let authority = head.uri.authority().map_or(0, |text| text.as_str().len());
    let path = head
        .uri
        .path_and_query()
        .map_or(0, |text| text.as_str().len());
    head.method.as_str().len() + authority + path
}

/// `host:port` is for CONNECT alone, and `*` for OPTIONS (RFC9112§3.2).
fn is_target(head: &Parts) -> bool {
    let is_only_authority = head.uri.authority().is_some() && head.uri.scheme().is_none();
    !is_only_authority && (head.uri.path() != "*" || head.method == Method::OPTIONS)
}

/// hyper looks for `chunked` in the last place only. What comes before it would reach the handler still
/// coded, and servers differ in how they read a `chunked` that is repeated.
fn is_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// `None`: the request must be refused. `Some(None)`: it names no host, and need not.
///
/// The target's authority wins over the header (RFC9112§3.2.2), which must be there once all the
/// same. An empty header value is legal, for targets without an authority.
fn authority(head: &Parts) -> Option<Option<Authority>> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host.to_str().ok()?),
        (None, None) if head.version < Version::HTTP_11 => None,
        _ => return None,
    };
    if let Some(authority) = head.uri.authority() {
        return plain_authority(authority.as_str()).map(Some);
    }
    match host {
        None | Some("") => Some(None),
        Some(host) => plain_authority(host).map(Some),
    }
}

fn plain_authority(text: &str) -> Option<Authority> {
    // Two `host` lines that were joined on their way have a comma between them.
    if text.contains(['@', ',']) {
        return None;
    }
    let authority = Authority::from_str(text).ok()?;
    let (host, port) = text.split_at(authority.host().len());
    // Brackets are around an IP address or nowhere.
    let host_is_good = !host.is_empty() && host.rfind('[').is_none_or(|at| at == 0);
    (host_is_good && is_port(port)).then_some(authority)
}

/// With its colon, or nothing.
fn is_port(text: &str) -> bool {
    // `parse` takes a sign, too.
    let is_number = |port: &str| port.parse::<u16>().is_ok() && !port.starts_with('+');
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| port.is_empty() || is_number(port))
}
