//! TLS 1.2 and 1.3 (RFC 5246, RFC 8446) by rustls.
//!
//! - [`config`]: certificates, and what is asked of clients
//! - `session`: one connection, without I/O of its own

pub mod config;
mod session;

pub use session::TlsInfo;
pub(crate) use session::{Handshake, Incoming, Tls};
