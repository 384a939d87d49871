//! The TLS of one connection once keys are agreed on: ciphertext in, plaintext out, and the other way round.
//! Reading and writing are done by different threads, so [`Tls`] is locked for each step.

use std::cell::RefCell;
use std::io::{self, IoSlice};

use rustls::ProtocolVersion;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, ReadTraffic, UnbufferedStatus,
    WriteTraffic,
};

use super::config::{HTTP_2, TlsConfig};
use super::record::is_record;
use crate::net::stream::WriteHalf;

/// What one write encrypts: some tens of microseconds of a sender's thread.
const ENCRYPT_AT_ONCE: usize = 64 * 1024;

thread_local! {
    /// Plaintext that comes in pieces, put together so that it makes no more records than it must.
    static JOINED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// What was just encrypted, in front of what earlier writes have left.
    static SEALED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a handshake has agreed on.
#[derive(Clone)]
pub struct TlsInfo {
    /// If not, it is 1.2.
    pub is_tls13: bool,
    /// As IANA names it.
    pub cipher_suite: Option<String>,
    /// In DER.
    pub peer_certificate: Option<Vec<u8>>,
}

pub(crate) struct Tls {
    connection: UnbufferedServerConnection,
    /// Encrypted, and not yet taken by the kernel.
    outgoing: Vec<u8>,
    has_peer_closed: bool,
    /// The peer has broken the protocol. The connection is asked nothing more: it may refer to bytes that are
    /// not here, and panics then.
    is_broken: bool,
}

impl Tls {
    pub(crate) fn new(config: TlsConfig) -> io::Result<Self> {
        let connection = UnbufferedServerConnection::new(config.0).map_err(io::Error::other)?;
        Ok(Self {
            connection,
            outgoing: Vec::new(),
            has_peer_closed: false,
            is_broken: false,
        })
    }

    pub(crate) fn info(&self) -> TlsInfo {
        let suite = self.connection.negotiated_cipher_suite();
        let chain = self.connection.peer_certificates();
        TlsInfo {
            is_tls13: self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            cipher_suite: suite
                .and_then(|suite| suite.suite().as_str())
                .map(|name| name.replacen("TLS13_", "TLS_", 1)),
            peer_certificate: chain
                .and_then(|chain| chain.first())
                .map(|own| own.to_vec()),
        }
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.connection.alpn_protocol() == Some(HTTP_2)
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The peer has said that nothing more comes.
    pub(crate) fn has_peer_closed(&self) -> bool {
        self.has_peer_closed
    }

    /// Whether the kernel has taken everything.
    pub(crate) fn is_flushed(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Takes what was read, and passes on the plaintext in it. Returns how much was used; the rest is
    /// the beginning of a record, in a handshake perhaps behind those that a message has begun with. After an
    /// error, an alert is there to be flushed.
    pub(crate) fn take(
        &mut self,
        ciphertext: &mut [u8],
        pass: impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        let taken = self.try_take(ciphertext, pass);
        self.is_broken |= taken.is_err();
        taken
    }

    fn try_take(
        &mut self,
        ciphertext: &mut [u8],
        mut pass: impl FnMut(&[u8]),
    ) -> io::Result<usize> {
        if self.is_broken {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state, .. } =
                self.connection.process_tls_records(&mut ciphertext[used..]);
            match state {
                Ok(ConnectionState::ReadTraffic(traffic)) => used += read(traffic, &mut pass)?,
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.outgoing),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.has_peer_closed = true;
                    return Ok(used + discard);
                }
                Ok(_) => {
                    used += discard;
                    return self.check_rest(&ciphertext[used..]).map(|()| used);
                }
                Err(e) => {
                    self.take_alert(&mut ciphertext[used + discard..]);
                    return Err(invalid(e));
                }
            }
            used += discard;
        }
    }

    /// A whole record that was not used is the beginning of a message that goes on in another one. Until its
    /// end nothing could be sent, because the connection refers to bytes that are still to come. After a
    /// handshake, every message fits in one record, and a longer one is refused.
    fn check_rest(&self, rest: &[u8]) -> io::Result<()> {
        match !self.is_handshaking() && is_record(rest) {
            true => Err(io::ErrorKind::InvalidData.into()),
            false => Ok(()),
        }
    }

    /// `rest`: what the connection may still refer to.
    fn take_alert(&mut self, rest: &mut [u8]) {
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state, .. } =
                self.connection.process_tls_records(&mut rest[used..]);
            let Ok(ConnectionState::EncodeTlsData(data)) = state else {
                return;
            };
            encode(data, &mut self.outgoing);
            used += discard;
        }
    }

    /// Encrypts some of the plaintext and sends it. Returns how much: that counts as sent, although the
    /// kernel may not have taken all of it ([`Self::is_flushed`]).
    pub(crate) fn write(
        &mut self,
        stream: &WriteHalf,
        plaintext: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.flush(stream)?;
        if let [only] = plaintext {
            return self.seal_and_send(stream, only);
        }
        JOINED.with_borrow_mut(|joined| {
            joined.clear();
            for slice in plaintext {
                let room = ENCRYPT_AT_ONCE - joined.len();
                joined.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            self.seal_and_send(stream, joined)
        })
    }

    fn seal_and_send(&mut self, stream: &WriteHalf, plaintext: &[u8]) -> io::Result<usize> {
        let plaintext = &plaintext[..plaintext.len().min(ENCRYPT_AT_ONCE)];
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // What the handshake had left to say is out: `take` goes on until there is nothing of it.
        let state = self.connection.process_tls_records(&mut []).state;
        let Ok(ConnectionState::WriteTraffic(traffic)) = state else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        SEALED.with_borrow_mut(|sealed| {
            let sealed = seal(traffic, plaintext, sealed)?;
            let taken = match stream.try_write(sealed) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
                result => result?,
            };
            self.outgoing.extend_from_slice(&sealed[taken..]);
            Ok(plaintext.len())
        })
    }

    /// Sends what the kernel has not taken before.
    pub(crate) fn flush(&mut self, stream: &WriteHalf) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            let taken = stream.try_write(&self.outgoing)?;
            self.outgoing.drain(..taken);
        }
        // An idle connection should be small.
        self.outgoing = Vec::new();
        Ok(())
    }

    /// Tells the peer that nothing more comes (RFC8446§6.1).
    pub(crate) fn close(&mut self, stream: &WriteHalf) {
        if !self.is_broken
            && let Ok(ConnectionState::WriteTraffic(mut traffic)) =
                self.connection.process_tls_records(&mut []).state
        {
            let _ = append(&mut self.outgoing, |room| {
                traffic.queue_close_notify(room).map_err(required_room)
            });
        }
        let _ = self.flush(stream);
    }
}

/// Passes on the plaintext of the records, and returns how much ciphertext that was.
fn read(
    mut traffic: ReadTraffic<'_, '_, ServerConnectionData>,
    pass: &mut impl FnMut(&[u8]),
) -> io::Result<usize> {
    let mut used = 0;
    while let Some(record) = traffic.next_record() {
        let record = record.map_err(invalid)?;
        used += record.discard;
        pass(record.payload);
    }
    Ok(used)
}

/// Encrypts into the front of `room`, which stays as large as it ever had to be: to clear it for each write
/// would cost as much as a copy.
fn seal<'a>(
    mut traffic: WriteTraffic<'_, ServerConnectionData>,
    plaintext: &[u8],
    room: &'a mut Vec<u8>,
) -> io::Result<&'a [u8]> {
    loop {
        match traffic.encrypt(plaintext, room).map_err(required_room) {
            Ok(n) => return Ok(&room[..n]),
            Err(Some(size)) => room.resize(size, 0),
            Err(None) => return Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

fn required_room(error: EncryptError) -> Option<usize> {
    match error {
        EncryptError::InsufficientSize(e) => Some(e.required_size),
        EncryptError::EncryptExhausted => None,
    }
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) {
    let _ = append(out, |room| match data.encode(room) {
        Err(EncodeError::InsufficientSize(e)) => Err(Some(e.required_size)),
        result => result.map_err(|_| None),
    });
}

/// Appends what `write` makes, which fails with the room that it needs if it has too little.
fn append(
    out: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> io::Result<()> {
    let start = out.len();
    loop {
        match write(&mut out[start..]) {
            Ok(n) => {
                out.truncate(start + n);
                return Ok(());
            }
            Err(Some(room)) => out.resize(start + room, 0),
            Err(None) => {
                out.truncate(start);
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
