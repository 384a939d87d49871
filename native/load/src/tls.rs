//! The client's side of TLS 1.3, with rustls.
//!
//! Ciphertext is decrypted where it was read, in a buffer that all connections share, and a message is
//! encrypted and written at once: the load should cost little beside the server.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rustls::client::{ClientConfig, Resumption, UnbufferedClientConnection};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus,
};
use rustls::{RootCertStore, version};

/// A buffer for those who read little. A TLS record has to fit in (RFC8446§5.2).
pub const SMALL_BUFFER: usize = 1 << 15;

/// The server can decrypt the first ones of many records while the next ones are encrypted.
const ENCRYPT_AT_ONCE: usize = 64 * 1024;

/// What connections have in common that trust the certificate of a PEM file, and no other one. Each
/// makes a whole handshake: no session is resumed.
pub fn trusting(certfile: &str) -> Result<Arc<ClientConfig>> {
    let certificate = CertificateDer::from_pem_file(certfile)?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

pub struct Tls {
    socket: TcpStream,
    connection: UnbufferedClientConnection,
    /// The beginning of a record that has not all arrived.
    partial: Vec<u8>,
    sealed: Sealed,
}

/// Ciphertext, of which the kernel has taken the first bytes.
#[derive(Default)]
struct Sealed {
    bytes: Vec<u8>,
    taken: usize,
}

impl Tls {
    /// Makes the handshake with the server of that address. The socket must block.
    pub fn connect(socket: TcpStream, config: Arc<ClientConfig>, ip: IpAddr) -> Result<Self> {
        let mut tls = Self {
            socket,
            connection: UnbufferedClientConnection::new(config, ip.into())?,
            partial: Vec::new(),
            sealed: Sealed::default(),
        };
        let mut buffer = vec![0; SMALL_BUFFER];
        let mut count = 0;
        loop {
            tls.decrypt(&mut buffer[..count], |_| {
                bail!("the server spoke before it was asked")
            })?;
            tls.flush()?;
            if !tls.connection.is_handshaking() {
                return Ok(tls);
            }
            count = tls.receive(&mut buffer)?;
            ensure!(count > 0, "the server closed");
        }
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// See [`crate::stream::Stream::receive`].
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (kept, room) = buffer.split_at_mut(self.partial.len());
        let count = self.socket.read(room)?;
        if count == 0 {
            return Ok(0);
        }
        kept.copy_from_slice(&self.partial);
        self.partial.clear();
        Ok(kept.len() + count)
    }

    /// See [`crate::stream::Stream::decrypt`].
    pub fn decrypt(
        &mut self,
        received: &mut [u8],
        mut pass: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state, .. } =
                self.connection.process_tls_records(&mut received[used..]);
            match state.context("TLS")? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.context("TLS")?;
                        used += record.discard;
                        pass(record.payload)?;
                    }
                }
                ConnectionState::EncodeTlsData(data) => self.sealed.encode(data)?,
                // The next flush is the one that does it.
                ConnectionState::TransmitTlsData(data) => data.done(),
                _ => {
                    self.partial.extend_from_slice(&received[used + discard..]);
                    return Ok(());
                }
            }
            used += discard;
        }
    }

    /// The ciphertext counts as written, although the kernel may not have taken all of it.
    pub fn write(&mut self, plaintext: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let plaintext = &plaintext[..plaintext.len().min(ENCRYPT_AT_ONCE)];
        let state = self.connection.process_tls_records(&mut []).state;
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else {
            return Err(ErrorKind::BrokenPipe.into());
        };
        self.sealed
            .append(|room| match traffic.encrypt(plaintext, room) {
                Err(EncryptError::InsufficientSize(e)) => Err(Some(e.required_size)),
                result => result.map_err(|_| None),
            })?;
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(plaintext.len()),
        }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        while self.sealed.taken < self.sealed.bytes.len() {
            let rest = &self.sealed.bytes[self.sealed.taken..];
            self.sealed.taken += self.socket.write(rest)?;
        }
        self.sealed.bytes.clear();
        self.sealed.taken = 0;
        Ok(())
    }
}

impl Sealed {
    fn encode<Data>(&mut self, mut data: EncodeTlsData<'_, Data>) -> io::Result<()> {
        self.append(|room| match data.encode(room) {
            Err(EncodeError::InsufficientSize(e)) => Err(Some(e.required_size)),
            result => result.map_err(|_| None),
        })
    }

    /// Appends what `write` makes, which fails with the room that it needs if it has too little.
    fn append(
        &mut self,
        mut write: impl FnMut(&mut [u8]) -> std::result::Result<usize, Option<usize>>,
    ) -> io::Result<()> {
        let start = self.bytes.len();
        loop {
            match write(&mut self.bytes[start..]) {
                Ok(count) => {
                    self.bytes.truncate(start + count);
                    return Ok(());
                }
                Err(Some(room)) => self.bytes.resize(start + room, 0),
                Err(None) => return Err(ErrorKind::BrokenPipe.into()),
            }
        }
    }
}
