//! The TLS of a connection until keys are agreed on.

use std::future::poll_fn;
use std::io;

use super::incoming::Incoming;
use super::record::{is_record, record_length};
use super::session::Tls;
use crate::net::stream::{ReadHalf, WriteHalf};

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
