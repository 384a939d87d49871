//! Ferrosock's engine: sockets, HTTP and WebSockets, for handlers that live elsewhere.
//!
//! The rooms, from the ground up. Each uses those above it in this list only, and so do the files within a room;
//! `bin/directions` holds both.
//!
//! - [`error`], [`buffer`], `token`: what has no room of its own
//! - [`rt`]: reactors, which run the tasks; timers; what takes a thread; counts of what is alive
//! - [`flow`]: water marks and those who wait at them, what all queues together may hold, stalls
//! - [`net`]: addresses, sockets and [TLS](net::tls); `io` and `writer`: a connection's bytes over TCP or TLS
//! - [`config`]: limits and times; [`owner`]: how the engine sees the process that owns a connection
//! - `server`: what all connections of a listener have in common
//! - [`connection`]: one connection, or a stream of one, as its exchange and its socket need it
//! - [`ws`]: WebSockets: frames, messages and their whole life without I/O; the task, the transport and the
//!   [socket](ws::socket) around these
//! - [`http`]: requests and responses, whatever version carries them ([`exchange`](http::exchange)); `h1` and `h2`:
//!   the bytes of the two versions, around hyper and h2
//! - `serve`: the task of an accepted connection: a proxy's header, TLS, then HTTP/1 or HTTP/2, and the end
//! - [`listener`]: binds, accepts, and stops accepting
//!
//! The way of a request: `listener` accepts a connection and spawns `serve` on a reactor. hyper reads the head
//! through `http::h1::io`, or h2 through `http::h2::filtered`. `serve::http1` or `serve::http2` makes an
//! [`Exchange`](http::exchange::Exchange) of it, which [`http::handler`] offers to the [`Owner`](owner::Owner): it
//! lies in the [`Connection`](connection::Connection) until it is [taken](connection::Connection::take). The handler
//! answers from any thread, `http::response` sees to what the head says, and `http::reply` brings the response to
//! hyper or to its stream.
//!
//! The way of a message: the `ws::task` of a socket reads what has arrived and feeds it to the `ws::protocol`, which
//! puts messages into the [owner's batch](owner::Events): one delivery for each read. The owner's answer,
//! [`Socket::ack`](ws::socket::Socket::ack), is written where the caller stands by `ws::outbound`, through
//! `net::writer`; only what the kernel does not take is queued, for the task to write.
//!
//! Every function that a handler calls returns at once: it may run on a thread that must not wait.
//! Answers that take time go to a closure that the caller passes.
#![forbid(unsafe_code)]

pub mod buffer;
pub mod config;
pub mod connection;
pub mod error;
pub mod flow;
pub mod http;
pub mod listener;
pub mod net;
pub mod owner;
pub mod rt;
mod serve;
mod server;
mod token;
pub mod ws;
