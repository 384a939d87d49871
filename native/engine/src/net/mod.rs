//! Sockets and what speaks on them below HTTP.
//!
//! - [`address`], `stream`, `traffic`: the ends of a connection, its bytes, and how many there were
//! - `bind`: the socket that listens
//! - `proxy`: who a connection is from, when a proxy tells
//! - [`tls`]: certificates, and the TLS of one connection
//! - `io`, `writer`: the bytes of a connection, over TCP or TLS
//! - `descriptors`: how many connections are open
//! - `linger`: the end of a connection
//! - `sendfile`: files that the kernel sends by itself

pub mod address;
pub(crate) mod bind;
pub(crate) mod descriptors;
pub(crate) mod io;
pub(crate) mod linger;
pub(crate) mod proxy;
pub(crate) mod sendfile;
pub(crate) mod stream;
pub mod tls;
pub(crate) mod traffic;
pub(crate) mod writer;

pub use address::Address;
