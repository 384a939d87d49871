//! What the reader of a connection has of its TLS.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::session::Tls;
use crate::net::stream::{ReadHalf, WriteHalf};
use crate::rt::lock;

/// Read at once. A record has to fit in (RFC8446§5.2, RFC5246§6.2.3).
const READ_SIZE: usize = 64 * 1024;

thread_local! {
    static CIPHERTEXT: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
}

/// What was read of a TLS connection and is not yet plaintext in the reader's hands.
#[derive(Default)]
pub(crate) struct Incoming {
    /// The beginning of a record.
    pub(super) partial: Vec<u8>,
    /// What the reader has not taken yet, from `given` on.
    pub(super) plaintext: Vec<u8>,
    given: usize,
    pub(super) at_end: bool,
}

impl Incoming {
    pub(crate) fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// Whether the reader has taken all that there is.
    pub(crate) fn is_empty(&self) -> bool {
        self.plaintext.is_empty()
    }

    /// Ready with how much was read behind what there was.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        half: &mut ReadHalf,
    ) -> Poll<io::Result<usize>> {
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
