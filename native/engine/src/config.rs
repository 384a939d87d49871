//! The limits and times that the engine enforces. Written by `bin/config` from the table of the options,
//! lib/ferrosock/options/table.ex: what is to change is changed there.

use std::time::Duration;

use crate::net::Address;

/// A listener, and the connections of HTTP/1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Whether several servers, of this node or of others, may listen on the same port: the kernel
    /// spreads the connections (SO_REUSEPORT).
    pub reuse_port: bool,
    /// Whether small packets are sent at once (TCP_NODELAY).
    pub nodelay: bool,
    /// Connections at once, WebSockets and those that linger among them; one of HTTP/2 counts once,
    /// whatever its streams; the largest number is no limit.
    pub max_connections: usize,
    /// Whether a connection too many waits in the kernel's `:backlog`, or is answered with 503
    /// (with TLS: closed).
    pub overload: Overload,
    /// Bytes that may wait for all clients together; as long as there are more, whoever sends to a
    /// client for which something waits is told to wait, whatever its `high_water_mark`; the
    /// largest number is no limit.
    pub max_queued_bytes: usize,
    /// Whether connections begin with a header of the PROXY protocol, version 1 or 2, that tells
    /// the client's address; only for a server that nobody but the proxy can reach.
    pub proxy_protocol: bool,
    /// Time from accepting to the end of that header and of the TLS handshake; the preface of
    /// HTTP/2 has as long again.
    pub handshake_timeout: Duration,
    /// Connections that the kernel keeps until they are accepted.
    pub backlog: i32,
    /// Time from a request's first byte, or from accepting or the end of the TLS handshake, to the
    /// end of its head.
    pub header_timeout: Duration,
    /// Time that a kept-alive connection may wait for its next request.
    pub idle_timeout: Duration,
    /// Bytes of the request line: method and target.
    pub max_request_line_length: usize,
    /// Bytes of the whole head of a request.
    pub max_header_length: usize,
    /// Headers of a request.
    pub max_header_count: usize,
    /// Requests on one connection; 0 is no limit.
    pub max_requests: u64,
    /// Whether a client that has sent a whole request and then closed its side of the connection
    /// (FIN, or TLS's close_notify) gets its response (RFC 9112 §9.6). With `false` it counts as
    /// gone, and what is sent to it fails at once.
    pub half_close: bool,
    /// Bytes of a request's body that its Plug has left unread which are read after the response,
    /// for at most 3 seconds, so that the connection can go on (RFC 9112 §9.3); past it the
    /// response says `connection: close`.
    pub max_unread_length: u64,
    /// Bytes of a response queued before its process waits.
    pub high_water_mark: usize,
    /// Time that what waits for a client may not move, or that `chunk/2` may wait for room, before
    /// the connection is reset.
    pub send_timeout: Duration,
    /// What `:ip`, `:inet6` and `:port` come to.
    pub address: Address,
    /// Time that the kernel may have bytes which a client does not take before it ends the
    /// connection (TCP_USER_TIMEOUT). The engine sees no stall where the kernel has taken all that
    /// there was.
    pub user_timeout: Duration,
    /// `None` where it is not spoken.
    pub http2: Option<Http2Config>,
}

/// The connections of HTTP/2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http2Config {
    /// Streams of a connection at once, WebSockets among them; one too many is refused with
    /// REFUSED_STREAM (RFC 9113 §5.1.2). No more than twice as many have a process, those among
    /// them whose client has reset them.
    pub max_concurrent_streams: u32,
    /// Bytes of the header fields of a request, decoded and with 32 more for each (RFC 9113
    /// §6.5.2); one with more is answered with 431.
    pub max_header_length: u32,
    /// Header fields of a request, pieces of a `cookie` each; one with more is answered with 431.
    pub max_header_count: usize,
    /// Requests on one connection; 0 is no limit.
    pub max_requests: u64,
    /// Bytes that a client may send on a stream before its process reads them; on all streams of a
    /// connection 8 MiB, or this if it is more.
    pub initial_window_size: u32,
    /// Time that a connection may be open without a stream before it gets a GOAWAY.
    pub idle_timeout: Duration,
    /// Bytes of a response queued before its process waits.
    pub high_water_mark: usize,
    /// Time that what waits for a client may not move before the connection is reset; for a
    /// stream's window, or that `chunk/2` may wait for room, before the stream is.
    pub send_timeout: Duration,
}

/// A WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketConfig {
    /// Time after which the process of an idle connection hibernates.
    pub hibernate_after: Option<Duration>,
    /// Time without a byte from the client.
    pub timeout: Option<Duration>,
    /// Bytes of one frame and of a joined message; the largest number is no limit.
    pub max_frame_size: u64,
    /// Fragments of one message.
    pub max_fragments: u32,
    /// Whether text and close reasons must be UTF-8.
    pub validate_utf8: bool,
    /// Time without a byte from the client before the server sends a ping.
    pub ping_interval: Option<Duration>,
    /// Time without a byte from the client after such a ping before it ends as a `:timeout`.
    pub ping_timeout: Duration,
    /// Time that a WebSocket may be open before it is closed with 1012.
    pub max_lifetime: Option<Duration>,
    /// Time to wait for the client's part of the closing handshake.
    pub close_timeout: Duration,
    /// Time that what waits for a client may not move, whoever it is from, and that a slow client
    /// may keep the queue over `high_water_mark`, before it is closed with 1013.
    pub send_timeout: Duration,
    /// Bytes queued to a client before its process waits.
    pub high_water_mark: usize,
    /// Whether its owner hears of pings and pongs; pings are answered either way.
    pub control_events: bool,
    /// `None` where it is not to be negotiated.
    pub deflate: Option<DeflateConfig>,
}

/// How a WebSocket may be compressed by permessage-deflate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeflateConfig {
    /// 1 is fast, 9 is small.
    pub level: u8,
    /// The memory of a compressor besides its window.
    pub mem_level: u8,
    /// The window of a compressor is 2 to this power bytes.
    pub window_bits: u8,
    /// The same for the clients that let the server choose; a socket keeps so much of what its
    /// client sent.
    pub client_window_bits: u8,
    /// Whether each socket keeps a compressor from message to message: a better ratio for some 300
    /// kB.
    pub server_context_takeover: bool,
    /// Whether clients may refer to their earlier messages; if not, only offers that renounce it
    /// are accepted.
    pub client_context_takeover: bool,
    /// Messages of fewer bytes are sent as they are.
    pub threshold: usize,
    /// Whether a message that goes to many WebSockets is compressed once: each scheduler keeps what
    /// it has compressed of late, up to 64 KiB. Not for sockets that keep a compressor.
    pub cache: bool,
}

impl Default for DeflateConfig {
    fn default() -> Self {
        Self {
            level: 1,
            mem_level: 8,
            window_bits: 15,
            client_window_bits: 12,
            server_context_takeover: false,
            client_context_takeover: true,
            threshold: 128,
            cache: true,
        }
    }
}

/// Of `overload`: whether a connection too many waits in the kernel's `:backlog`, or is answered
/// with 503 (with TLS: closed).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overload {
    Wait,
    Refuse,
}
