//! The address of one end of a connection.

use std::net::SocketAddr;
use std::path::PathBuf;
#[cfg(target_os = "linux")]
use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use tokio::net::unix;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Inet(SocketAddr),
    /// The path of a Unix socket: empty where it has none, as with most clients, and with a NUL in front
    /// where it is no file (unix(7), abstract).
    Local(PathBuf),
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Self {
        Self::Inet(addr)
    }
}

impl From<unix::SocketAddr> for Address {
    fn from(addr: unix::SocketAddr) -> Self {
        Self::Local(path(&addr).unwrap_or_default())
    }
}

#[cfg(target_os = "linux")]
fn path(addr: &unix::SocketAddr) -> Option<PathBuf> {
    let abstract_path = || {
        let name = [b"\0", addr.as_abstract_name()?].concat();
        Some(OsString::from_vec(name).into())
    };
    addr.as_pathname().map(PathBuf::from).or_else(abstract_path)
}

#[cfg(not(target_os = "linux"))]
fn path(addr: &unix::SocketAddr) -> Option<PathBuf> {
    addr.as_pathname().map(PathBuf::from)
}
