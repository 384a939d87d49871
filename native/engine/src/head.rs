//! What the head of a request has to be like, whatever the handler makes of it.

use std::str::FromStr;

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE};
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

/// Whether the client waits to be asked for the body (RFC9110§10.1.1).
pub(crate) fn expects_continue(headers: &HeaderMap) -> bool {
    let mut expectations = headers.get_all(EXPECT).iter();
    expectations.any(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use std::time::Duration;

    const HTTP2: Http2Config = Http2Config {
        max_concurrent_streams: 1,
        max_header_length: 65_536,
        max_header_count: 4,
        max_requests: 0,
        initial_window_size: 65_535,
        idle_timeout: Duration::ZERO,
        send_timeout: Duration::ZERO,
        high_water_mark: 0,
    };

    fn head(version: Version, method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder()
            .version(version)
            .method(method)
            .uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    /// Whom the request is for, or with which status it is refused.
    fn http1(target: &str, headers: &[(&str, &str)]) -> Result<Option<String>, u16> {
        let head = head(Version::HTTP_11, "GET", target, headers);
        told(check_http1(&head, 100))
    }

    fn http2(target: &str, headers: &[(&str, &str)]) -> Result<Option<String>, u16> {
        let mut head = head(Version::HTTP_2, "GET", target, headers);
        told(check_http2(&mut head, &HTTP2))
    }

    fn told(checked: Result<Option<Authority>, Refusal>) -> Result<Option<String>, u16> {
        checked
            .map(|authority| authority.map(|authority| authority.to_string()))
            .map_err(|(status, _error)| status.as_u16())
    }

    fn named(authority: &str) -> Result<Option<String>, u16> {
        Ok(Some(authority.into()))
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for host in ["a", "a.b:80", "a:", "127.0.0.1:65535", "[::1]", "[::1]:80"] {
            assert_eq!(http1("/", &[("host", host)]), named(host));
            assert_eq!(http2("/", &[("host", host)]), named(host));
        }
        for host in [
            "a,b", "u@a", "a:65536", "a:+1", "a:b", "a[::1]", ":80", "a b", "a/",
        ] {
            assert_eq!(http1("/", &[("host", host)]), Err(400), "{host}");
            assert_eq!(http2("/", &[("host", host)]), Err(400), "{host}");
        }
    }

    #[test]
    fn http_1_needs_one_host_which_an_absolute_target_overrules() {
        assert_eq!(http1("/", &[]), Err(400));
        assert_eq!(http1("/", &[("host", "a"), ("host", "a")]), Err(400));
        assert_eq!(http1("/", &[("host", "")]), Ok(None));
        assert_eq!(http1("http://a/", &[("host", "b")]), named("a"));
        assert_eq!(http1("http://a/", &[]), Err(400));
        let old = head(Version::HTTP_10, "GET", "/", &[]);
        assert_eq!(told(check_http1(&old, 100)), Ok(None));
    }

    #[test]
    fn http_2_needs_an_authority_or_a_host_and_no_two_that_differ() {
        assert_eq!(http2("/", &[]), Err(400));
        assert_eq!(http2("/", &[("host", "")]), Err(400));
        assert_eq!(http2("http://a/", &[]), named("a"));
        assert_eq!(http2("http://a/", &[("host", "A")]), named("a"));
        assert_eq!(http2("http://a/", &[("host", "b")]), Err(400));
        assert_eq!(http2("http://a/", &[("host", "a:80")]), Err(400));
        assert_eq!(
            http2("http://a/", &[("host", "a"), ("host", "a")]),
            Err(400)
        );
        assert_eq!(http2("http://u@a/", &[]), Err(400));
    }

    #[test]
    fn what_is_for_no_handler_has_its_status() {
        let host = ("host", "a");
        let refused = |method, target, headers: &[_]| {
            let head = head(Version::HTTP_11, method, target, headers);
            check_http1(&head, 10)
                .err()
                .map(|(status, _)| status.as_u16())
        };
        assert_eq!(refused("GET", "/234567", &[host]), None);
        assert_eq!(refused("GET", "/2345678", &[host]), Some(414));
        assert_eq!(refused("CONNECT", "a:80", &[host]), Some(501));
        assert_eq!(refused("GET", "a:80", &[host]), Some(400));
        assert_eq!(refused("OPTIONS", "*", &[host]), None);
        assert_eq!(refused("GET", "*", &[host]), Some(400));
        for (coding, status) in [
            ("Chunked", None),
            ("gzip", Some(501)),
            ("gzip, chunked", Some(501)),
        ] {
            let headers = [host, ("transfer-encoding", coding)];
            assert_eq!(refused("POST", "/", &headers), status, "{coding}");
        }
        let twice = [("transfer-encoding", "chunked"); 2];
        assert_eq!(refused("POST", "/", &[host, twice[0], twice[1]]), Some(501));
    }

    #[test]
    fn http_2_takes_no_value_that_http_1_could_not_have() {
        let x = |value| http2("http://a/", &[("x", value)]);
        for value in ["", "a", "a \t b"] {
            assert_eq!(x(value), named("a"), "{value:?}");
        }
        for value in [" ", "\t", " a", "a ", "\ta", "a\t"] {
            assert_eq!(x(value), Err(400), "{value:?}");
        }
        let length = |value| http2("http://a/", &[("content-length", value)]);
        assert_eq!(length("0"), named("a"));
        assert_eq!(length(""), Err(400));
    }

    #[test]
    fn http_2_counts_the_fields() {
        let fields = [("x", "1"), ("x", "2"), ("x", "3"), ("x", "4"), ("x", "5")];
        assert_eq!(http2("http://a/", &fields[1..]), named("a"));
        assert_eq!(http2("http://a/", &fields), Err(431));
    }

    #[test]
    fn a_handler_sees_one_host_and_one_cookie() {
        let cookies = [("cookie", "a=1"), ("x", "1"), ("cookie", "b=2; c=3")];
        let mut head = head(Version::HTTP_2, "GET", "http://A:80/", &cookies);
        check_http2(&mut head, &HTTP2).unwrap();
        let values = |name| head.headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(values(HOST), ["A:80"]);
        assert_eq!(values(COOKIE), ["a=1; b=2; c=3"]);
        assert_eq!(head.headers["x"], "1");
    }

    #[test]
    fn an_extended_connect_for_a_websocket_is_told_as_a_get() {
        let connect = |protocol: Option<&'static str>| {
            let mut head = head(Version::HTTP_2, "CONNECT", "http://a/", &[]);
            if let Some(protocol) = protocol {
                let protocol = h2::ext::Protocol::from_static(protocol);
                head.extensions.insert(protocol);
            }
            let checked = told(check_http2(&mut head, &HTTP2));
            (checked, head)
        };
        let (checked, head) = connect(Some("websocket"));
        assert_eq!(checked, named("a"));
        assert_eq!(head.method, Method::GET);
        assert_eq!(head.headers[UPGRADE], "websocket");
        assert_eq!(head.headers[CONNECTION], "upgrade");
        assert_eq!(connect(Some("connect-udp")).0, Err(501));
        assert_eq!(connect(None).0, Err(501));
    }

    #[test]
    fn an_expectation_is_known_in_any_case() {
        let expects =
            |headers: &[_]| expects_continue(&head(Version::HTTP_2, "PUT", "/", headers).headers);
        assert!(expects(&[("expect", "100-Continue")]));
        assert!(expects(&[("expect", "x"), ("expect", "100-continue")]));
        assert!(!expects(&[("expect", "100")]));
        assert!(!expects(&[]));
    }
}
