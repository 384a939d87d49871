//! The limits and times that the engine enforces. Their defaults live where people configure them.

use std::time::Duration;

use crate::net::Address;

#[derive(Debug, Clone)]
pub struct ListenerConfig {
    pub addr: Address,
    /// Connections that the kernel holds for us before it refuses more.
    pub backlog: i32,
    /// Whether other listeners may have the same address, and the kernel chooses among them.
    pub reuse_port: bool,
    /// How long the kernel may have bytes that a peer does not take before it ends the connection
    /// (TCP_USER_TIMEOUT). The engine sees no stall where the kernel has taken all that there was.
    pub user_timeout: Duration,
    /// Whether small packets are sent at once (TCP_NODELAY).
    pub nodelay: bool,
    /// Connections at once.
    pub max_connections: usize,
    pub overload: Overload,
    /// Bytes that may wait for all peers together; past it, whoever has something waiting is full.
    pub max_queued_bytes: usize,
    /// Whether connections begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// From the accept to the end of that header, and of a TLS handshake after it.
    pub handshake_timeout: Duration,
    /// From the accept, or from the first byte of a later request, to the end of the request's head.
    pub header_timeout: Duration,
    /// Between two requests of a connection.
    pub idle_timeout: Duration,
    /// How long a response may wait for a client that takes nothing of it.
    pub send_timeout: Duration,
    /// Bytes of method, authority and target; past it 414.
    pub max_request_line_length: usize,
    /// Bytes of the whole head; past it 431.
    pub max_header_length: usize,
    /// Header lines; past it 431.
    pub max_header_count: usize,
    /// Requests per connection; 0 is no limit.
    pub max_requests: u64,
    /// Whether a client that has sent its request and closed its half is answered.
    pub half_close: bool,
    /// Bytes of a body that nobody has read which are read so that the connection can go on.
    pub max_unread_length: u64,
    /// Bytes of a streamed response that wait for the peer before its sender is told to wait too.
    pub high_water_mark: usize,
    /// `None`: it is not spoken.
    pub http2: Option<Http2Config>,
}

#[derive(Debug, Clone)]
pub struct Http2Config {
    /// Streams at once; past it REFUSED_STREAM.
    pub max_concurrent_streams: u32,
    /// Bytes of a request's fields as RFC9113§6.5.2 counts them; past it 431.
    pub max_header_length: u32,
    /// Field lines; past it 431.
    pub max_header_count: usize,
    /// Requests per connection; 0 is no limit.
    pub max_requests: u64,
    /// Bytes that a client may send on a stream before they are read.
    pub initial_window_size: u32,
    /// Without a stream.
    pub idle_timeout: Duration,
    /// How long a response may wait for a client that takes nothing of it.
    pub send_timeout: Duration,
    /// As that of [`ListenerConfig`].
    pub high_water_mark: usize,
}

/// What becomes of a connection too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overload {
    /// It waits in the kernel's backlog.
    Wait,
    /// It is answered with 503, or closed where TLS is spoken.
    Refuse,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketConfig {
    /// Without a byte from the peer; `None` is for ever.
    pub timeout: Option<Duration>,
    /// Pings of ours for a peer that sends nothing.
    pub ping: Option<Ping>,
    /// From the upgrade on; `None` is for ever.
    pub max_lifetime: Option<Duration>,
    /// After how long without messages either way the owner is told that it may rest.
    pub idle_notice: Option<Duration>,
    /// How long a closing handshake may take.
    pub close_timeout: Duration,
    /// Caps one frame and the joined message, in bytes.
    pub max_frame_size: u64,
    /// Caps the frames of one message.
    pub max_fragments: u32,
    pub validate_utf8: bool,
    /// Whether the owner wants to hear of pings and pongs. Pings are answered either way.
    pub control_events: bool,
    /// Bytes that wait for the peer before the sender is told to wait too.
    pub high_water_mark: usize,
    /// How long something may wait for a peer that takes nothing.
    pub send_timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// Without a byte from the peer before a ping is sent.
    pub interval: Duration,
    /// Without a byte from the peer after it before the peer counts as gone.
    pub timeout: Duration,
}
