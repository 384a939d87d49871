//! Errors of the calls that handlers make, and of peers that do not speak HTTP.

use std::io;

/// Why nothing could be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SendError {
    /// The connection is closed.
    Closed,
    /// A response was already sent.
    AlreadySent,
    /// The header of this name has a name or a value that HTTP forbids (RFC9110§5).
    InvalidHeader(String),
    /// The status is not one that can be sent here (RFC9110§15).
    InvalidStatus,
    /// The protocol of this request does not allow it.
    NotSupported,
}

/// Why no file could be sent.
#[derive(Debug)]
pub enum FileError {
    Send(SendError),
    Io(io::Error),
}

impl From<SendError> for FileError {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadError {
    /// The peer sent nothing in time.
    Timeout,
    /// The peer closed the connection.
    Closed,
    /// The body is not framed as HTTP has it (RFC9112§7.1).
    Malformed,
    /// Another process reads this body.
    AlreadyReading,
}

/// A request that was answered by the engine itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpError {
    /// Malformed request (RFC9112§2.2).
    Malformed,
    /// No host, or more than one, or not a valid one (RFC9112§3.2).
    InvalidHost,
    /// The method is not implemented here.
    UnsupportedMethod,
    /// A transfer coding other than chunked, or more than one (RFC9112§6.1).
    UnsupportedCoding,
    /// Request target too long.
    TargetTooLong,
    /// Request head too large.
    HeadTooLarge,
    /// Request head not complete in time.
    HeaderTimeout,
    /// The client took nothing of what waits for it in time.
    SlowClient,
    /// More connections than may be open at once.
    Overload,
    /// No header of the PROXY protocol, or a wrong one.
    ProxyHeader,
    /// No TLS that we speak, or a certificate that we do not trust (RFC8446§6.2).
    TlsHandshake,
    /// PROXY header, TLS handshake or preface of HTTP/2 not complete in time.
    HandshakeTimeout,
    /// Frames or streams that HTTP/2 does not allow (RFC9113§5.4.1).
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
