//! All of a connection but its reading, over TCP or TLS, for any thread. It outlives hyper and h2: a
//! WebSocket's owner writes to it from wherever it stands.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

use once_cell::sync::OnceCell;
use tokio::time::Instant;

use super::descriptors::Permit;
use super::stream::WriteHalf;
use super::tls::Tls;
use crate::flow::Stall;
use crate::rt::lock;

/// What is written at once: the kernel copies it, and on the way to a peer on the same machine does the
/// peer's part, too, in one or two tenths of a millisecond.
pub(crate) const WRITE_AT_ONCE: usize = 256 * 1024;

pub(crate) struct Writer {
    /// `None` only as it is dropped.
    write: Option<WriteHalf>,
    is_tls: bool,
    /// There when the handshake is done. Boxed: it is larger than all the rest.
    tls: OnceCell<Box<Mutex<Tls>>>,
    stall: Mutex<Option<Stall>>,
    /// Bytes of DATA that were written for all streams of HTTP/2.
    data_sent: AtomicU64,
    /// Given back when the descriptor is closed.
    _permit: Option<Permit>,
}

impl Writer {
    pub(crate) fn new(write: WriteHalf, is_tls: bool, permit: Option<Permit>) -> Self {
        Self {
            write: Some(write),
            is_tls,
            tls: OnceCell::new(),
            stall: Mutex::new(None),
            data_sent: AtomicU64::new(0),
            _permit: permit,
        }
    }

    #[inline]
    pub(crate) fn stream(&self) -> &WriteHalf {
        self.write.as_ref().expect("there until it is dropped")
    }

    /// Whether TLS is spoken, or will be when the handshake is done.
    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// For whoever locks it later.
    #[inline]
    pub(super) fn unlocked_tls(&self) -> Option<&Mutex<Tls>> {
        self.tls.get().map(|tls| &**tls)
    }

    #[inline]
    pub(crate) fn tls(&self) -> Option<MutexGuard<'_, Tls>> {
        self.unlocked_tls().map(lock)
    }

    /// The handshake is done.
    pub(crate) fn set_tls(&self, tls: Tls) {
        let _ = self.tls.set(Box::new(Mutex::new(tls)));
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.tls() {
            Some(mut tls) => tls.write(self.stream(), &[io::IoSlice::new(bytes)]),
            None => self.stream().try_write(bytes),
        }
    }

    pub(crate) fn try_write_vectored(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self.tls() {
            Some(mut tls) => tls.write(self.stream(), slices),
            None => self.stream().try_write_vectored(slices),
        }
    }

    /// The same, but no more than [`WRITE_AT_ONCE`].
    pub(crate) fn try_write_some(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [first, ..] if first.len() > WRITE_AT_ONCE => self.try_write(&first[..WRITE_AT_ONCE]),
            _ => self.try_write_vectored(within_one_write(slices)),
        }
    }

    /// Whether the kernel has all that was written.
    #[inline]
    pub(crate) fn is_flushed(&self) -> bool {
        self.tls().is_none_or(|tls| tls.is_flushed())
    }

    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        self.poll_try(cx, || match self.tls() {
            Some(mut tls) => tls.flush(self.stream()).map(|()| 0),
            None => Ok(0),
        })
        .map_ok(|_| ())
    }

    /// What moves for one stream moves in the time of the others: they share a window, and the client's
    /// attention.
    pub(crate) fn data_sent(&self) -> u64 {
        self.data_sent.load(Ordering::Relaxed)
    }

    pub(crate) fn count_data_sent(&self, bytes: usize) {
        self.data_sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Since when bytes wait that the peer does not take, whoever they are from.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        lock(&self.stall).map(|stall| stall.since)
    }

    /// Tells the peer that nothing more will come.
    pub(crate) fn shut_down(&self) -> io::Result<()> {
        if let Some(mut tls) = self.tls() {
            tls.close(self.stream());
        }
        self.stream().shut_down()
    }

    /// Tries until the kernel takes something, and notes since when it does not: every write of a task
    /// goes through here, so that there is one such time, whatever is spoken.
    pub(crate) fn poll_try(
        &self,
        cx: &mut Context<'_>,
        write: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let result = self.poll_try_unnoted(cx, write);
        self.note_progress(result.is_ready());
        result
    }

    fn poll_try_unnoted(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream().poll_write_ready(cx))?;
            match write() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Whether the peer has taken all that was to be written, or would. What it has taken meanwhile
    /// counts, too: a write of TLS is not ready before the kernel has all of an earlier one.
    pub(crate) fn note_progress(&self, is_taken: bool) {
        let mut stall = lock(&self.stall);
        if is_taken {
            *stall = None;
            return;
        }
        Stall::note(&mut stall, self.stream().sent());
    }
}

/// As many of the slices as are to be written at once, the first in any case.
fn within_one_write<'a, 'b>(slices: &'a [io::IoSlice<'b>]) -> &'a [io::IoSlice<'b>] {
    let mut length = 0;
    let fits = |slice: &&io::IoSlice<'_>| {
        length += slice.len();
        length <= WRITE_AT_ONCE
    };
    let count = slices.iter().take_while(fits).count();
    &slices[..count.max(1).min(slices.len())]
}

impl Drop for Writer {
    /// Dropped as it is, the half would send a FIN, also where the close is to be a reset.
    fn drop(&mut self) {
        if let Some(write) = self.write.take() {
            write.forget();
        }
    }
}
