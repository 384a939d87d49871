//! A connection to the server, with TLS or without, blocking or not.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use anyhow::Result;

use crate::tls::Tls;

pub enum Stream {
    Tcp(TcpStream),
    Tls(Box<Tls>),
}

impl Stream {
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Tcp(socket) => socket,
            Self::Tls(tls) => tls.socket(),
        }
    }

    /// Reads once from the socket, and tells how many bytes the buffer has then: what came before of
    /// a TLS record and was not all of it, too. 0 is the end.
    ///
    /// The buffer is the reader's, so that all connections can have the same one.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            Self::Tls(tls) => tls.receive(buffer),
        }
    }

    /// Passes on the plaintext of what was received.
    pub fn decrypt(
        &mut self,
        received: &mut [u8],
        mut pass: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Tcp(_) => pass(received),
            Self::Tls(tls) => tls.decrypt(received, pass),
        }
    }
}

/// What a socket that does not block has not taken is sent by a later flush or write.
impl Write for Stream {
    fn write(&mut self, plaintext: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(plaintext),
            Self::Tls(tls) => tls.write(plaintext),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }
}
