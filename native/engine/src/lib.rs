//! Ferrosock's engine: sockets, HTTP and WebSockets, for handlers that live elsewhere.
//!
//! The rooms:
//!
//! - [`rt`]: where tasks run, what they wait for, and how they are counted
//! - [`flow`]: how a sender that runs ahead is told to wait
//! - [`net`]: sockets, addresses, TLS, and the bytes of a connection
//! - [`config`], [`error`], [`buffer`]
//! - [`owner`]: how the engine sees the process that owns a connection
//! - [`connection`]: one connection, or a stream of one, while it speaks HTTP: how it begins and ends
//! - [`ws`]: frames and messages without I/O, and the socket that feeds them
//! - [`http`]: requests and responses, and the two versions that carry them
//! - [`listener`]: binds, accepts, and stops accepting
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
