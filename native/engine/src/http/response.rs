//! What the head of a response has to be like, whatever the handler says in it: whether there is a body, what
//! is said of its length, and what a HEAD, a 204 or a 304 leaves of both.

use std::io;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use hyper::body::Body;

use crate::error::{FileError, SendError};
use crate::http::response_body::ResponseBody;
use crate::http::status::Line;

/// One whose body the handler has whole.
pub(crate) fn whole(
    line: Line,
    mut headers: HeaderMap,
    body: Bytes,
    is_head: bool,
) -> Result<Response<ResponseBody>, SendError> {
    let body = no_body(line.status).unwrap_or(ResponseBody::Whole(body));
    // Only of a HEAD that was answered without the body the handler may know better.
    let is_known = matches!(&body, ResponseBody::Whole(body) if !body.is_empty());
    if is_known || !is_head && !forbids_body(line.status) {
        headers.remove(CONTENT_LENGTH);
    }
    response(line, headers, body)
}

/// What stands for the body of one whose body the handler would send piece by piece, where there is none.
pub(crate) fn no_streamed_body(status: StatusCode, is_head: bool) -> Option<ResponseBody> {
    no_body(status).or(is_head.then_some(ResponseBody::None))
}

/// What the handler says of the length of a body that it sends piece by piece.
pub(crate) fn streamed_length(
    headers: &mut HeaderMap,
    version: Version,
) -> Result<Option<u64>, SendError> {
    let length = content_length(headers)?;
    // Only the end of the connection can be the end of such a body (RFC9112§6.3).
    if version < Version::HTTP_11 && length.is_none() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(length)
}

/// One whose body is a range of a file, which tells its length by itself.
pub(crate) fn of_file(
    line: Line,
    mut headers: HeaderMap,
    body: impl FnOnce() -> io::Result<ResponseBody>,
) -> Result<Response<ResponseBody>, FileError> {
    let body = match no_body(line.status) {
        Some(body) => body,
        None => {
            headers.remove(CONTENT_LENGTH);
            body()?
        }
    };
    Ok(response(line, headers, body)?)
}

/// One that agrees to an upgrade. What follows has no length (RFC9110§8.6, §9.3.6).
pub(crate) fn of_upgrade(
    status: StatusCode,
    headers: HeaderMap,
) -> Result<Response<ResponseBody>, SendError> {
    let line = Line {
        status,
        phrase: None,
    };
    let body = ResponseBody::Whole(Bytes::new());
    let mut response = response(line, headers, body)?;
    response.headers_mut().remove(CONTENT_LENGTH);
    Ok(response)
}

/// The length that is added to the head where the handler told none. An empty body says nothing of what a
/// GET would have got (RFC9110§8.6).
pub(crate) fn added_length(body: &ResponseBody, is_head: bool) -> Option<u64> {
    let length = body.size_hint().exact();
    length.filter(|length| *length > 0 || !is_head)
}

pub(crate) fn response(
    line: Line,
    mut headers: HeaderMap,
    body: ResponseBody,
) -> Result<Response<ResponseBody>, SendError> {
    content_length(&headers)?;
    // The coding is what the body needs, whatever the handler says of it.
    headers.remove(TRANSFER_ENCODING);
    if [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT].contains(&line.status) {
        headers.remove(CONTENT_LENGTH);
    }
    let mut response = Response::new(body);
    *response.status_mut() = line.status;
    if let Some(phrase) = line.phrase {
        response.extensions_mut().insert(phrase);
    }
    *response.headers_mut() = headers;
    Ok(response)
}

/// One of the engine's own, after which a connection of HTTP/1 ends.
pub(crate) fn closing(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Whole(Bytes::new()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// What stands for the body where the status allows none (RFC9110§6.4.1), or none but an empty one
/// (RFC9110§15.3.6).
fn no_body(status: StatusCode) -> Option<ResponseBody> {
    match status {
        StatusCode::RESET_CONTENT => Some(ResponseBody::Whole(Bytes::new())),
        status if forbids_body(status) => Some(ResponseBody::None),
        _ => None,
    }
}

/// RFC9110§6.4.1
fn forbids_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// What the headers say that the body's length is. hyper would find an error only as it writes the
/// head, and end the connection without a response.
pub(crate) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, SendError> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let (length, None) = (lengths.next(), lengths.next()) else {
        return Err(SendError::InvalidHeader(CONTENT_LENGTH.to_string()));
    };
    length.map(parse_length).transpose()
}

fn parse_length(value: &HeaderValue) -> Result<u64, SendError> {
    // `parse` takes a sign, too.
    let digits = value.to_str().ok().filter(|text| !text.starts_with('+'));
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| SendError::InvalidHeader(CONTENT_LENGTH.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::status::Status;

    fn lengths(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_LENGTH, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_content_length_is_one_number_of_digits_alone() {
        assert_eq!(content_length(&lengths(&[])), Ok(None));
        assert_eq!(content_length(&lengths(&["0"])), Ok(Some(0)));
        let largest = content_length(&lengths(&["18446744073709551615"]));
        assert_eq!(largest, Ok(Some(u64::MAX)));
        let wrong: [&[_]; 7] = [
            &[""],
            &["+1"],
            &["-1"],
            &["1 "],
            &["0x1"],
            &["18446744073709551616"],
            &["1", "1"],
        ];
        for values in wrong {
            let error = Err(SendError::InvalidHeader("content-length".into()));
            assert_eq!(content_length(&lengths(values)), error, "{values:?}");
        }
    }

    #[test]
    fn the_framing_of_a_response_is_not_the_handlers() {
        let headers = || {
            let mut headers = lengths(&["5"]);
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("gzip"));
            headers
        };
        let sent = |status: u16| {
            let line = Status::from(status).of_final().unwrap();
            response(line, headers(), ResponseBody::None).unwrap()
        };
        assert_eq!(sent(304).headers(), &lengths(&["5"]));
        assert!(sent(204).headers().is_empty());
    }
}
