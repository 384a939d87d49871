//! What of the options the engine has. Written by `bin/config` from their table,
//! lib/ferrosock/options/table.ex: what is to change is changed there.

use super::{Config, Env, Error, NifResult, Term, Value, none_but, option};
use rustler::Encoder;

config!(ListenerConfig {
    reuse_port,
    nodelay,
    max_connections,
    overload,
    max_queued_bytes,
    proxy_protocol,
    handshake_timeout,
    backlog,
    header_timeout,
    idle_timeout,
    max_request_line_length,
    max_header_length,
    max_header_count,
    max_requests,
    half_close,
    max_unread_length,
    high_water_mark,
    send_timeout,
    address,
    user_timeout,
    http2,
});

config!(Http2Config {
    max_concurrent_streams,
    max_header_length,
    max_header_count,
    max_requests,
    initial_window_size,
    idle_timeout,
    high_water_mark,
    send_timeout,
});

config!(SocketConfig {
    hibernate_after,
    timeout,
    max_frame_size,
    max_fragments,
    validate_utf8,
    ping_interval,
    ping_timeout,
    max_lifetime,
    close_timeout,
    send_timeout,
    high_water_mark,
    control_events,
    deflate,
});

config!(DeflateConfig {
    level,
    mem_level,
    window_bits,
    client_window_bits,
    server_context_takeover,
    client_context_takeover,
    threshold,
    cache,
});

choice!(Overload {
    wait => Wait,
    refuse => Refuse,
});
