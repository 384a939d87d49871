//! Errors of the calls that handlers make, and of peers that do not speak HTTP.

use thiserror::Error;

/// Why nothing could be sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SendError {
    #[error("the connection is closed")]
    Closed,
    #[error("a response was already sent")]
    AlreadySent,
    #[error("header {0:?} has a name or a value that HTTP forbids (RFC9110§5)")]
    InvalidHeader(String),
    #[error("the status is not one that can be sent here (RFC9110§15)")]
    InvalidStatus,
    #[error("the protocol of this request does not allow it")]
    NotSupported,
}

#[derive(Debug, Error)]
pub enum FileError {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReadError {
    #[error("the peer sent nothing in time")]
    Timeout,
    #[error("the peer closed the connection")]
    Closed,
    #[error("the body is not framed as HTTP has it (RFC9112§7.1)")]
    Malformed,
    #[error("another process reads this body")]
    AlreadyReading,
}

/// A request that was answered by the engine itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HttpError {
    #[error("malformed request (RFC9112§2.2)")]
    Malformed,
    #[error("no host, or more than one, or not a valid one (RFC9112§3.2)")]
    InvalidHost,
    #[error("the method is not implemented here")]
    UnsupportedMethod,
    #[error("a transfer coding other than chunked, or more than one (RFC9112§6.1)")]
    UnsupportedCoding,
    #[error("request target too long")]
    TargetTooLong,
    #[error("request head too large")]
    HeadTooLarge,
    #[error("request head not complete in time")]
    HeaderTimeout,
    #[error("the client took nothing of what waits for it in time")]
    SlowClient,
    #[error("more connections than may be open at once")]
    Overload,
    #[error("no header of the PROXY protocol, or a wrong one")]
    ProxyHeader,
    #[error("no TLS that we speak, or a certificate that we do not trust (RFC8446§6.2)")]
    TlsHandshake,
    #[error("PROXY header, TLS handshake or preface of HTTP/2 not complete in time")]
    HandshakeTimeout,
    #[error("frames or streams that HTTP/2 does not allow (RFC9113§5.4.1)")]
    Http2,
}

impl HttpError {
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_request",
            Self::InvalidHost => "invalid_host",
            Self::UnsupportedMethod => "unsupported_method",
            Self::UnsupportedCoding => "unsupported_transfer_coding",
            Self::TargetTooLong => "request_line_too_long",
            Self::HeadTooLarge => "header_too_large",
            Self::HeaderTimeout => "header_timeout",
            Self::TlsHandshake => "tls_handshake_failed",
            Self::SlowClient => "slow_client",
            Self::Overload => "too_many_connections",
            Self::ProxyHeader => "proxy_header_invalid",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Http2 => "http2_protocol_error",
        }
    }
}
