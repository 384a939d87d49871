//! Ferrosock's engine: sockets, HTTP and WebSockets, for handlers that live elsewhere.
//!
//! The rooms:
//!
//! - [`listener`]: binds, accepts, and stops accepting
//! - [`stream`]: TCP and Unix sockets, and their addresses
//! - `proxy`: who a connection is from, when a proxy tells
//! - [`tls`]: certificates, and the TLS of one connection
//! - [`connection`]: one connection, or a stream of one, while it speaks HTTP: how it begins and ends
//! - `http1`, [`http2`]: what runs on it meanwhile: hyper or h2, and the deadlines that these do not keep
//! - `io`: the bytes of a connection, as these and a WebSocket read and write them
//! - [`exchange`]: one request and its response, as the handler drives it
//! - `service`: how a request becomes one; `reply`: how its response gets to the client
//! - `head`, `response`: what the heads of the two have to be like; [`status`]: the first line of the second
//! - [`upload`]: request bodies; [`body`]: response bodies, whole, streamed or from a file
//! - `sendfile`: files that the kernel sends by itself
//! - [`ws`]: frames and messages without I/O, and the socket that feeds them
//! - [`owner`]: how the engine sees the process that owns a connection
//! - [`backpressure`]: how a sender that runs ahead is told to wait
//! - [`config`], [`error`], [`runtime`], [`stats`]; `offload`: what takes a core for long
//!
//! Every function that a handler calls returns at once: it may run on a thread that must not wait.
//! Answers that take time go to a closure that the caller passes.
#![forbid(unsafe_code)]

pub mod backpressure;
mod bind;
pub mod body;
pub mod config;
pub mod connection;
pub mod error;
pub mod exchange;
mod head;
mod http1;
pub mod http2;
mod io;
pub mod listener;
mod offload;
pub mod owner;
mod proxy;
mod reply;
mod response;
pub mod runtime;
mod sendfile;
mod service;
pub mod stats;
pub mod status;
pub mod stream;
mod timer;
pub mod tls;
pub mod upload;
pub mod ws;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic of another holder: every holder leaves the state whole between steps,
/// and a connection that stops answering would be worse than one that goes on.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
