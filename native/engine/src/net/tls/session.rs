//! The TLS of one connection: ciphertext in, plaintext out, and the other way round. Reading and writing
//! are done by different threads, so [`Tls`] is locked for each step; [`Incoming`] is the reader's. Before
//! that, [`Handshake`] has both.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};

use rustls::ProtocolVersion;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use tokio::io::{AsyncRead, ReadBuf};

use super::config::{HTTP_2, TlsConfig};
use crate::net::stream::{ReadHalf, WriteHalf};
use crate::rt::lock;

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
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        used += record.discard;
                        pass(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.outgoing),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.has_peer_closed = true;
                    return Ok(used + discard);
                }
                Ok(_) => {
                    used += discard;
                    // Of a message that goes on in another record. Nothing could be sent before its end, as
                    // that would be without the bytes that the connection refers to; and after a handshake
                    // there are none that would not fit in one.
                    if !self.is_handshaking() && is_record(&ciphertext[used..]) {
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    return Ok(used);
                }
                Err(e) => {
                    self.take_alert(&mut ciphertext[used + discard..]);
                    return Err(invalid(e));
                }
            }
            used += discard;
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

/// What was read of a TLS connection and is not yet plaintext in the reader's hands.
#[derive(Default)]
pub(crate) struct Incoming {
    /// The beginning of a record.
    partial: Vec<u8>,
    /// What the reader has not taken yet, from `given` on.
    plaintext: Vec<u8>,
    given: usize,
    at_end: bool,
}

/// Read at once. A record has to fit in (RFC8446§5.2, RFC5246§6.2.3).
const READ_SIZE: usize = 64 * 1024;

/// Type, version and length of a record (RFC8446§5.1).
const RECORD_HEADER: usize = 5;
/// The most that a record may say of its length.
const MAX_RECORD: usize = 16 * 1024 + 2048;

thread_local! {
    static CIPHERTEXT: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
}

/// A connection that has not yet agreed on keys. It is no part of what others may lock: each of its steps
/// may take milliseconds of a thread that has nothing else to do.
pub(crate) struct Handshake {
    tls: Tls,
    incoming: Incoming,
    /// So much of what was read are records that a message has begun with, which goes on in another.
    begun: usize,
}

impl Handshake {
    pub(crate) fn new(tls: Tls) -> Self {
        Self {
            tls,
            incoming: Incoming::default(),
            begun: 0,
        }
    }

    /// Whether the peer has something to say before it is done.
    pub(crate) fn is_going_on(&self) -> bool {
        self.tls.is_handshaking()
    }

    pub(crate) fn into_parts(self) -> (Tls, Incoming) {
        (self.tls, self.incoming)
    }

    /// Sends what there is to send; done when the kernel has all of it.
    pub(crate) fn flush(&mut self, stream: &WriteHalf) -> io::Result<()> {
        self.tls.flush(stream)
    }

    /// Ready when there is a record for [`Self::step`], or what cannot become one. The first bytes of one are
    /// not worth a thread.
    pub(crate) async fn read_record(&mut self, half: &mut ReadHalf) -> io::Result<()> {
        while !is_record(&self.incoming.partial[self.begun..]) {
            let read = poll_fn(|cx| self.incoming.poll_read(cx, half)).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Takes what was read.
    pub(crate) fn step(&mut self) -> io::Result<()> {
        let Self {
            tls,
            incoming,
            begun,
        } = self;
        let mut ciphertext = std::mem::take(&mut incoming.partial);
        // Before the connection moves anything: what it puts together lies over the headers of records.
        while let Some(length) = record_length(&ciphertext[*begun..]) {
            *begun += length;
        }
        let taken = tls.take(&mut ciphertext, |part| {
            incoming.plaintext.extend_from_slice(part);
        })?;
        ciphertext.drain(..taken);
        *begun = begun.saturating_sub(taken);
        incoming.partial = ciphertext;
        // A whole request may have come with the last of the handshake, and then only the peer's half is closed.
        incoming.at_end = tls.has_peer_closed();
        if incoming.at_end && tls.is_handshaking() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

fn is_record(bytes: &[u8]) -> bool {
    // Of a handshake there are types from 20 to 22, and 23 with TLS 1.3; of all versions the first byte is 3.
    let is_odd = |at: usize, known: std::ops::RangeInclusive<u8>| {
        bytes.get(at).is_some_and(|byte| !known.contains(byte))
    };
    if is_odd(0, 20..=23) || is_odd(1, 3..=3) {
        return true;
    }
    let Some(header) = bytes.first_chunk::<RECORD_HEADER>() else {
        return false;
    };
    payload_length(header) > MAX_RECORD || record_length(bytes).is_some()
}

fn payload_length(header: &[u8; RECORD_HEADER]) -> usize {
    usize::from(u16::from_be_bytes([header[3], header[4]]))
}

/// Of the first record, where it is whole.
fn record_length(bytes: &[u8]) -> Option<usize> {
    let length = RECORD_HEADER + payload_length(bytes.first_chunk()?);
    (bytes.len() >= length).then_some(length)
}

impl Incoming {
    pub(crate) fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// Ready with how much was read behind what there was.
    fn poll_read(&mut self, cx: &mut Context<'_>, half: &mut ReadHalf) -> Poll<io::Result<usize>> {
        CIPHERTEXT.with_borrow_mut(|ciphertext| {
            let mut room = ReadBuf::new(ciphertext);
            ready!(Pin::new(half).poll_read(cx, &mut room))?;
            self.partial.extend_from_slice(room.filled());
            Poll::Ready(Ok(room.filled().len()))
        })
    }

    /// Gives what is there. `false`: there is nothing.
    pub(crate) fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.plaintext[self.given..];
        let part = &rest[..rest.len().min(buf.remaining())];
        buf.put_slice(part);
        self.given += part.len();
        let has_given = !part.is_empty();
        if self.given == self.plaintext.len() {
            self.plaintext = Vec::new();
            self.given = 0;
        }
        has_given
    }

    /// Ready when something was read, or the end.
    pub(crate) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        half: &mut ReadHalf,
        tls: &Mutex<Tls>,
        stream: &WriteHalf,
    ) -> Poll<io::Result<()>> {
        CIPHERTEXT.with_borrow_mut(|ciphertext| {
            let kept = self.partial.len();
            ciphertext[..kept].copy_from_slice(&self.partial);
            let mut room = ReadBuf::new(&mut ciphertext[kept..]);
            ready!(Pin::new(half).poll_read(cx, &mut room))?;
            let read = room.filled().len();
            if read == 0 {
                self.at_end = true;
                return Poll::Ready(Ok(()));
            }
            let mut tls = lock(tls);
            let ciphertext = &mut ciphertext[..kept + read];
            let taken = tls.take(ciphertext, |part| self.plaintext.extend_from_slice(part));
            self.at_end = tls.has_peer_closed();
            match tls.flush(stream) {
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(e)),
                _ => {}
            }
            self.partial = ciphertext[taken?..].to_vec();
            Poll::Ready(Ok(()))
        })
    }
}
