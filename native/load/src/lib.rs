//! Load for web and WebSocket servers, and the servers that mark what a machine can do.
//!
//! The `load` program:
//! - [`args`]: what the command line says;
//! - [`mode`]: one file for each kind of load;
//! - [`drive`]: many connections on one thread, each asking and awaiting its answer;
//! - [`exchange`]: many connections that ask once, before the load;
//! - [`answer`]: whether what came back is right, and whether it is all there;
//! - [`message`]: what is sent, and as what it comes back;
//! - [`phoenix`]: the same in a channel of Phoenix;
//! - [`handshake`], [`frame`], [`deflate`]: the client's side of WebSocket;
//! - [`stream`], [`tls`]: a connection, with TLS or without;
//! - [`meter`], [`process`]: what is measured, and the processes it is measured on;
//! - [`report`]: how it is told.
//!
//! The `ceiling` program is [`ceiling`]: echo servers that have no BEAM in them.
//!
//! The figure to trust is the server's CPU time per message: the load runs on the same machine as
//! the server, so messages per second are also about who gets the cores.

pub mod answer;
pub mod args;
pub mod ceiling;
pub mod deflate;
pub mod drive;
pub mod exchange;
pub mod frame;
pub mod handshake;
pub mod message;
pub mod meter;
pub mod mode;
pub mod phoenix;
pub mod process;
pub mod report;
pub mod stream;
pub mod tls;
