//! The opening handshake of a WebSocket (RFC6455§4.2.2, RFC8441§5): what it needs of the request, and
//! what it adds to the response. Whether it is a valid one, the handler has decided.

use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, Version};

use crate::config::DeflateConfig;
use crate::ws::extension::{Agreed, negotiate};

pub(crate) struct Handshake {
    /// Not with HTTP/2.
    key: Option<HeaderValue>,
    extensions: Vec<HeaderValue>,
}

impl Handshake {
    /// `None`: the request is nothing that could be agreed to.
    pub(crate) fn new(head: &Parts) -> Option<Self> {
        let headers = &head.headers;
        let is_http2 = head.version == Version::HTTP_2;
        let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| !is_http2);
        let is_complete = headers.contains_key(UPGRADE) && (is_http2 || key.is_some());
        is_complete.then(|| Self {
            key: key.cloned(),
            extensions: headers
                .get_all(SEC_WEBSOCKET_EXTENSIONS)
                .iter()
                .cloned()
                .collect(),
        })
    }

    /// Adds what the client is to see of the upgrade. Returns the status, and what was agreed on.
    pub(crate) fn agree(
        &self,
        headers: &mut HeaderMap,
        deflate: Option<&DeflateConfig>,
    ) -> (StatusCode, Option<Agreed>) {
        headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        let agreed = deflate.and_then(|config| negotiate(self.offers(), config));
        if let Some(agreed) = &agreed {
            let value = HeaderValue::try_from(agreed.header_value()).expect("tokens and digits");
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, value);
        }
        let Some(key) = &self.key else {
            return (StatusCode::OK, agreed);
        };
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let accept = HeaderValue::try_from(accept).expect("base64 is a header value");
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        (StatusCode::SWITCHING_PROTOCOLS, agreed)
    }

    /// A header that is not text offers nothing.
    fn offers(&self) -> impl Iterator<Item = &str> {
        self.extensions
            .iter()
            .filter_map(|value| value.to_str().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn handshake(version: Version, headers: &[(&str, &str)]) -> Option<Handshake> {
        let mut request = Request::builder().version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Handshake::new(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn the_key_of_http_1_is_answered_by_101() {
        // RFC6455§1.3
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let handshake = handshake(Version::HTTP_11, &[("upgrade", "websocket"), key]).unwrap();
        let mut headers = HeaderMap::new();
        let (status, agreed) = handshake.agree(&mut headers, None);
        assert_eq!(status, StatusCode::SWITCHING_PROTOCOLS);
        assert!(agreed.is_none());
        assert_eq!(
            headers[SEC_WEBSOCKET_ACCEPT],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(headers[UPGRADE], "websocket");
        assert_eq!(headers[CONNECTION], "Upgrade");
    }

    #[test]
    fn http_2_has_no_key_and_is_answered_by_200() {
        let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let handshake = handshake(Version::HTTP_2, &[("upgrade", "websocket"), key]).unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!(handshake.agree(&mut headers, None).0, StatusCode::OK);
        assert!(headers.is_empty());
    }

    #[test]
    fn without_an_upgrade_or_a_key_there_is_nothing_to_agree_to() {
        assert!(handshake(Version::HTTP_11, &[("upgrade", "websocket")]).is_none());
        assert!(handshake(Version::HTTP_11, &[("sec-websocket-key", "")]).is_none());
        assert!(handshake(Version::HTTP_2, &[]).is_none());
    }

    #[test]
    fn extensions_are_not_the_handlers_to_tell() {
        let handshake = handshake(Version::HTTP_2, &[("upgrade", "websocket")]).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static("x"));
        headers.insert("x-one", HeaderValue::from_static("1"));
        handshake.agree(&mut headers, None);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-one"], "1");
    }
}
