//! The status line of a response (RFC9112§4).

use bytes::Bytes;
use http::StatusCode;
use hyper::ext::ReasonPhrase;

use crate::error::SendError;

/// A status as a handler gives it, and what HTTP/1 says of it in words.
#[derive(Debug, Clone)]
pub struct Status {
    code: u16,
    phrase: Option<Bytes>,
}

impl From<u16> for Status {
    fn from(code: u16) -> Self {
        Self { code, phrase: None }
    }
}

impl Status {
    /// Only looked at where it is not the phrase of RFC9110§15.
    pub fn with_phrase(code: u16, phrase: &[u8]) -> Self {
        let is_known = StatusCode::from_u16(code)
            .ok()
            .and_then(|status| status.canonical_reason())
            .is_some_and(|known| known.as_bytes() == phrase);
        Self {
            code,
            phrase: (!is_known).then(|| Bytes::copy_from_slice(phrase)),
        }
    }

    /// Of the response that ends the exchange.
    pub(crate) fn of_final(self) -> Result<Line, SendError> {
        let line = self.of_any()?;
        let is_final = !line.status.is_informational();
        is_final.then_some(line).ok_or(SendError::InvalidStatus)
    }

    /// Of one before that. A 101 is sent by an upgrade alone.
    pub(crate) fn of_interim(self) -> Result<Line, SendError> {
        let line = self.of_any()?;
        let is_interim =
            line.status.is_informational() && line.status != StatusCode::SWITCHING_PROTOCOLS;
        is_interim.then_some(line).ok_or(SendError::InvalidStatus)
    }

    fn of_any(self) -> Result<Line, SendError> {
        let status = StatusCode::from_u16(self.code).map_err(|_| SendError::InvalidStatus)?;
        let phrase = match self.phrase {
            // What cannot be in a status line is left out of it.
            Some(phrase) => Some(ReasonPhrase::try_from(phrase).unwrap_or(NO_PHRASE)),
            None => status.canonical_reason().is_none().then_some(NO_PHRASE),
        };
        Ok(Line { status, phrase })
    }
}

/// hyper would make up one.
const NO_PHRASE: ReasonPhrase = ReasonPhrase::from_static(b"");

/// A status that may be sent.
pub(crate) struct Line {
    pub(crate) status: StatusCode,
    /// `None`: that of RFC9110§15.
    pub(crate) phrase: Option<ReasonPhrase>,
}

impl Line {
    pub(crate) fn phrase(&self) -> &[u8] {
        match &self.phrase {
            Some(phrase) => phrase.as_bytes(),
            None => self.status.canonical_reason().unwrap_or("").as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrase(status: impl Into<Status>) -> String {
        let line = status.into().of_final().unwrap();
        String::from_utf8_lossy(line.phrase()).into_owned()
    }

    #[test]
    fn a_final_status_is_from_200_to_999() {
        for status in [200, 404, 599, 999] {
            let line = Status::from(status).of_final().unwrap();
            assert_eq!(line.status.as_u16(), status);
        }
        for status in [0, 99, 100, 101, 199, 1000] {
            let result = Status::from(status).of_final();
            assert_eq!(result.err(), Some(SendError::InvalidStatus), "{status}");
        }
    }

    #[test]
    fn an_interim_status_is_from_100_to_199_without_101() {
        for status in [100, 102, 103, 199] {
            assert!(Status::from(status).of_interim().is_ok(), "{status}");
        }
        for status in [0, 99, 101, 200, 999, 1000] {
            let result = Status::from(status).of_interim();
            assert_eq!(result.err(), Some(SendError::InvalidStatus), "{status}");
        }
    }

    #[test]
    fn a_phrase_is_the_given_one_or_that_of_the_rfc_or_empty() {
        assert_eq!(phrase(404), "Not Found");
        assert_eq!(phrase(Status::with_phrase(404, b"Not Found")), "Not Found");
        assert_eq!(phrase(Status::with_phrase(404, b"Nowhere")), "Nowhere");
        assert_eq!(
            phrase(Status::with_phrase(499, b"Client Closed")),
            "Client Closed"
        );
        assert_eq!(phrase(Status::with_phrase(499, b"")), "");
        assert_eq!(phrase(499), "");
    }

    #[test]
    fn a_phrase_that_would_break_the_line_is_left_out() {
        assert_eq!(phrase(Status::with_phrase(200, b"OK\r\nx: y")), "");
    }
}
