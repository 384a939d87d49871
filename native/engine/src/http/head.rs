//! What the head of a request has to be like, whatever the handler makes of it.

use std::net::Ipv6Addr;
use std::str::FromStr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use crate::config::Http2Config;
use crate::error::HttpError;

/// How a request is answered that no handler gets.
pub(crate) type Refusal = (StatusCode, HttpError);

const INVALID_HOST: Refusal = (StatusCode::BAD_REQUEST, HttpError::InvalidHost);

/// What hyper leaves to us of RFC 9112. Returns who the request is for; `None` where it names nobody.
pub(crate) fn check_http1(head: &Parts, max_line: usize) -> Result<Option<Authority>, Refusal> {
    if head.method == Method::CONNECT || head.method.as_str().len() > max_line {
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

/// Whether a client goes on after the response (RFC9112§9.3).
pub(crate) fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    if version < Version::HTTP_11 {
        return has_option(headers, "keep-alive") && !has_close(headers);
    }
    !has_close(headers)
}

/// RFC9112§9.6
pub(crate) fn has_close(headers: &HeaderMap) -> bool {
    has_option(headers, "close")
}

fn has_option(headers: &HeaderMap, option: &str) -> bool {
    list(headers, CONNECTION).any(|element| element.eq_ignore_ascii_case(option.as_bytes()))
}

/// The elements of a list. Empty ones are none (RFC9110§5.6.1.2).
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
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

/// `host:port` is for CONNECT alone, and `*` for OPTIONS (RFC9112§3.2). A URI is ASCII (RFC3986§2), and one
/// of a scheme that is not the web's names nothing that is here. Which of these it has is of no concern: that
/// of a request is its connection's, whatever the client says.
fn is_target(head: &Parts) -> bool {
    let uri = &head.uri;
    let is_only_authority = uri.authority().is_some() && uri.scheme().is_none();
    let is_here = uri.scheme_str().is_none_or(|scheme| {
        ["http", "https", "ws", "wss"]
            .iter()
            .any(|known| scheme.eq_ignore_ascii_case(known))
    });
    let is_ascii = uri
        .path_and_query()
        .is_none_or(|text| text.as_str().is_ascii());
    !is_only_authority
        && is_here
        && is_ascii
        && (uri.path() != "*" || head.method == Method::OPTIONS)
}

/// hyper looks for `chunked` in the last place only. What comes before it would reach the handler still
/// coded, and servers differ in how they read a `chunked` that is repeated.
fn is_coding(headers: &HeaderMap) -> bool {
    let mut codings = list(headers, TRANSFER_ENCODING);
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.eq_ignore_ascii_case(b"chunked"),
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
    let (host, port) = split_host(text)?;
    let port = parse_port(port)?;
    Some(Authority {
        text: text.into(),
        host_length: host.len(),
        port,
    })
}

/// Who a request is for: a host and perhaps a port (RFC9110§7.2), without a user. http's own type does not
/// know all names that RFC3986§3.2.2 has.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    text: String,
    host_length: usize,
    port: Option<u16>,
}

impl Authority {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn host(&self) -> &str {
        &self.text[..self.host_length]
    }

    pub(crate) fn port(&self) -> Option<u16> {
        self.port
    }
}

/// In whatever case.
impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        self.text.eq_ignore_ascii_case(&other.text)
    }
}

/// The host, and the rest with its colon.
fn split_host(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        let end = rest.find(']')?;
        // Brackets are around an IP address or nowhere.
        Ipv6Addr::from_str(&rest[..end]).ok()?;
        return Some(text.split_at(end + 2));
    }
    let end = text.find(':').unwrap_or(text.len());
    let (host, rest) = text.split_at(end);
    is_name(host.as_bytes()).then_some((host, rest))
}

/// A `reg-name` (RFC3986§3.2.2), as which an address of IPv4 passes, too. Not with a comma, as two `host`
/// lines that were joined on their way have one between them.
fn is_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => after,
            b'-' | b'.' | b'_' | b'~' => after,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => after,
            b'%' => match after {
                [a, b, after @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => after,
                _ => return false,
            },
            _ => return false,
        };
    }
    !name.is_empty()
}

/// `text` has its colon, or is empty. `None`: it is none.
fn parse_port(text: &str) -> Option<Option<u16>> {
    if text.is_empty() {
        return Some(None);
    }
    match text.strip_prefix(':')? {
        "" => Some(None),
        // `parse` takes a sign, too.
        port if port.starts_with('+') => None,
        port => port.parse().ok().map(Some),
    }
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
            .map(|authority| authority.map(|authority| authority.as_str().into()))
            .map_err(|(status, _error)| status.as_u16())
    }

    fn named(authority: &str) -> Result<Option<String>, u16> {
        Ok(Some(authority.into()))
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for host in [
            "a",
            "a.b:80",
            "a:",
            "127.0.0.1:65535",
            "[::1]",
            "[::1]:80",
            "[::ffff:1.2.3.4]:",
            "a_b~c",
            "a!$&'()*+;=b",
        ] {
            assert_eq!(http1("/", &[("host", host)]), named(host));
            assert_eq!(http2("/", &[("host", host)]), named(host));
        }
        for host in [
            "a,b", "u@a", "a:65536", "a:+1", "a:b", "a[::1]", ":80", "a b", "a/", "a:1:2",
            "[::1]x", "[::1", "[]", "[a]", "a%", "a%4", "a%4g", "a\\b", "a\"", "a<b",
        ] {
            assert_eq!(http1("/", &[("host", host)]), Err(400), "{host}");
            assert_eq!(http2("/", &[("host", host)]), Err(400), "{host}");
        }
    }

    #[test]
    fn a_host_may_be_coded_in_percent() {
        // As clients of Unix sockets have it.
        let host = "%2Ftmp%2Fapp.sock";
        assert_eq!(http1("/", &[("host", host)]), named(host));
        assert_eq!(http2("/", &[("host", host)]), named(host));
    }

    #[test]
    fn a_target_is_one_of_here_in_ascii() {
        let host = ("host", "a");
        assert_eq!(http1("https://a/", &[host]), named("a"));
        assert_eq!(http1("HTTP://a/", &[host]), named("a"));
        assert_eq!(http1("ftp://a/", &[host]), Err(400));
        for target in ["/\u{e9}", "/?\u{e9}"] {
            assert_eq!(http1(target, &[host]), Err(400), "{target}");
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
        assert_eq!(refused("LONGMETHOD", "/", &[host]), Some(414));
        assert_eq!(refused("LONGERMETHOD", "/", &[host]), Some(501));
        assert_eq!(refused("GET", "a:80", &[host]), Some(400));
        assert_eq!(refused("OPTIONS", "*", &[host]), None);
        assert_eq!(refused("GET", "*", &[host]), Some(400));
        for (coding, status) in [
            ("Chunked", None),
            ("gzip", Some(501)),
            ("gzip, chunked", Some(501)),
            (", chunked", None),
            (",,chunked , ,", None),
            ("chunked,chunked", Some(501)),
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
