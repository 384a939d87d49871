//! TLS 1.2 and 1.3 (RFC 5246, RFC 8446) by rustls.
//!
//! - [`config`]: certificates, and what is asked of clients
//! - `handshake`: a connection until keys are agreed on
//! - `session`: after that, without I/O of its own; `incoming`: what its reader has of it
//! - `record`: where records begin and end

pub mod config;
mod handshake;
mod incoming;
mod record;
mod session;

pub(crate) use handshake::Handshake;
pub(crate) use incoming::Incoming;
pub(crate) use session::Tls;
pub use session::TlsInfo;
