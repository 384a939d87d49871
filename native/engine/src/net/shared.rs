//! The part of a connection that outlives hyper: the half that is written to, from any thread, and what
//! is known of both directions.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use once_cell::sync::OnceCell;
use tokio::time::Instant;

use crate::flow::Stall;
use crate::http::h1::deadlines::{Awaited, Expected, Reading};
use crate::http::head::Refusal;
use crate::listener::Held;
use crate::net::sendfile::FileRange;
use crate::net::stream::WriteHalf;
use crate::net::tls::Tls;
use crate::rt::lock;

const NOT_CHUNKED: u16 = 256;
const NO_DATA: u16 = 257;

pub(crate) struct Shared {
    /// `None` only as it is dropped.
    write: Option<WriteHalf>,
    is_tls: bool,
    /// There when the handshake is done. Boxed: it is larger than all the rest.
    tls: OnceCell<Box<Mutex<Tls>>>,
    reading: Mutex<Reading>,
    found_preface: AtomicBool,
    refused: OnceCell<Refusal>,
    /// The last byte of a chunked body that its reader has; else one of the two below.
    last_data: AtomicU16,
    /// Bytes of a body of known length that were not read yet.
    body_left: AtomicU64,
    writing: Mutex<Writing>,
    stall: Mutex<Option<Stall>>,
    /// Bytes of DATA that were written for all streams of HTTP/2.
    data_sent: AtomicU64,
    /// What placeholders stand for. hyper has those of one file at a time: it writes one response to its
    /// end before it begins another.
    file: Mutex<Option<FileRange>>,
    /// Whoever counts the connection does so until its descriptor is closed.
    _held: Option<Held>,
}

/// Informational responses are hints: one that would have more than this wait is dropped.
const MAX_INTERIM: usize = 64 * 1024;

#[derive(Default)]
struct Writing {
    /// Informational responses that wait for their turn.
    interim: Vec<u8>,
    /// hyper has handed over a part of a response and not yet flushed it.
    in_response: bool,
}

impl Shared {
    pub(crate) fn new(write: WriteHalf, is_tls: bool, held: Option<Held>) -> Self {
        Self {
            write: Some(write),
            is_tls,
            tls: OnceCell::new(),
            reading: Mutex::new(Reading::new()),
            found_preface: AtomicBool::new(false),
            refused: OnceCell::new(),
            last_data: AtomicU16::new(NOT_CHUNKED),
            body_left: AtomicU64::new(0),
            writing: Mutex::default(),
            stall: Mutex::new(None),
            data_sent: AtomicU64::new(0),
            file: Mutex::new(None),
            _held: held,
        }
    }

    pub(crate) fn stream(&self) -> &WriteHalf {
        self.write.as_ref().expect("there until it is dropped")
    }

    /// Whether TLS is spoken, or will be when the handshake is done.
    pub(crate) fn is_tls(&self) -> bool {
        self.is_tls
    }

    pub(crate) fn tls(&self) -> Option<MutexGuard<'_, Tls>> {
        self.tls.get().map(|tls| lock(tls))
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

    /// Whether placeholders may be written.
    pub(crate) fn sends_files(&self) -> bool {
        cfg!(target_os = "linux") && !self.is_tls
    }

    /// What the placeholders that are written next stand for.
    pub(crate) fn set_file(&self, range: FileRange) {
        *lock(&self.file) = Some(range);
    }

    /// Waits for the disk.
    pub(crate) fn send_file(&self, length: usize) -> io::Result<usize> {
        // Taken, as nobody else may wait for the disk.
        let file = lock(&self.file).take();
        let mut file = file.expect("set before its placeholders");
        let result = file.send(self.stream(), length);
        if file.remaining() > 0 {
            self.set_file(file);
        }
        result
    }

    /// Whether the kernel has all that was written.
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

    /// Whether the peer has turned out to speak HTTP/2.
    pub(crate) fn found_preface(&self) -> bool {
        self.found_preface.load(Ordering::Relaxed)
    }

    pub(crate) fn set_found_preface(&self) {
        self.found_preface.store(true, Ordering::Relaxed);
    }

    /// `length`: of its body; `None` where only the body itself tells.
    pub(crate) fn request_started(&self, length: Option<u64>) {
        lock(&self.reading).request_started();
        let last = length.map_or(NO_DATA, |_| NOT_CHUNKED);
        self.last_data.store(last, Ordering::Relaxed);
        self.body_left.store(length.unwrap_or(0), Ordering::Relaxed);
    }

    /// How many of so many bytes that were read are of the body, all where nobody knows; and whether it ends
    /// there.
    pub(crate) fn of_body(&self, bytes: usize) -> (usize, bool) {
        let left = self.body_left.load(Ordering::Relaxed);
        if left == 0 {
            return (bytes, false);
        }
        let length = usize::try_from(left).map_or(bytes, |left| left.min(bytes));
        self.body_left
            .store(left - length as u64, Ordering::Relaxed);
        let is_end = left == length as u64;
        if is_end {
            lock(&self.reading).drain_ended();
        }
        (length, is_end)
    }

    pub(crate) fn read_some(&self) {
        lock(&self.reading).read_some();
    }

    pub(crate) fn request_ended(&self) {
        lock(&self.reading).request_ended();
    }

    /// When the head that is awaited has to be there; `None` while a request is served.
    pub(crate) fn deadline(&self, header: Duration, idle: Duration) -> Option<Instant> {
        lock(&self.reading).deadline(header, idle)
    }

    pub(crate) fn awaited(&self) -> Awaited {
        lock(&self.reading).awaited(|| self.stream().has_arrivals())
    }

    /// What is left of the body is being read; [`Self::drain_ended`] follows.
    pub(crate) fn drain_started(&self) {
        let mut reading = lock(&self.reading);
        // What hyper has of it is no more to wait for.
        match self.body_left.load(Ordering::Relaxed) {
            0 => reading.request_ended(),
            _ => reading.drain_started(),
        }
    }

    pub(crate) fn drain_ended(&self) {
        lock(&self.reading).drain_ended();
    }

    /// The reader of a body has this of it. hyper reads on only after that.
    pub(crate) fn took_data(&self, data: &[u8]) {
        if let Some(last) = data.last()
            && self.last_data.load(Ordering::Relaxed) != NOT_CHUNKED
        {
            self.last_data.store(u16::from(*last), Ordering::Relaxed);
        }
    }

    /// Whether a LF that was the last byte to be read is a part of the framing of a chunked body, and none of
    /// its data.
    pub(crate) fn is_framing_lf(&self) -> bool {
        let last = self.last_data.load(Ordering::Relaxed);
        last != NOT_CHUNKED && last != u16::from(b'\n')
    }

    pub(crate) fn expected(&self) -> Expected {
        lock(&self.reading).expected()
    }

    /// The head that is being read is refused, whatever follows. Nothing can be read any more.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        let _ = self.refused.set(refusal);
    }

    pub(crate) fn refused(&self) -> Option<Refusal> {
        self.refused.get().copied()
    }

    /// Whether what is read may be of a body.
    pub(crate) fn in_body(&self) -> bool {
        lock(&self.reading).in_body()
    }

    /// Whether a part of a request's head is there.
    pub(crate) fn has_partial_head(&self) -> bool {
        lock(&self.reading).has_partial_head()
    }

    /// When the peer has taken nothing of what waits for too long.
    pub(crate) fn send_deadline(&self, timeout: Duration) -> Option<Instant> {
        self.stalled_since().map(|since| since + timeout)
    }

    /// Whether a part of a response is to follow what was written last.
    pub(crate) fn in_response(&self) -> bool {
        lock(&self.writing).in_response
    }

    /// Sends an informational response as soon as hyper is between two writes: hyper cannot send
    /// any but 100 by itself. The caller wakes the connection's task.
    pub(crate) fn push_interim(&self, head: &[u8]) {
        let mut writing = lock(&self.writing);
        if writing.interim.len() + head.len() <= MAX_INTERIM {
            writing.interim.extend_from_slice(head);
        }
    }

    fn poll_interim(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut writing = lock(&self.writing);
        while !writing.interim.is_empty() && !writing.in_response {
            let n = ready!(self.poll_try(cx, || self.try_write(&writing.interim)))?;
            writing.interim.drain(..n);
        }
        Poll::Ready(Ok(()))
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

    pub(crate) fn poll_response(
        &self,
        cx: &mut Context<'_>,
        write: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_start(cx))?;
        self.poll_try(cx, write)
    }

    pub(crate) fn poll_start(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(cx))?;
        lock(&self.writing).in_response = true;
        Poll::Ready(Ok(()))
    }

    /// hyper has handed over all that it has of a response for now.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.writing).in_response = false;
        self.poll_interim(cx)
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

impl Drop for Shared {
    /// Dropped as it is, the half would send a FIN, also where the close is to be a reset.
    fn drop(&mut self) {
        if let Some(write) = self.write.take() {
            write.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::io::Io;
    use crate::net::stream::Stream;
    use std::io::Write;
    use std::sync::Arc;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn what_has_arrived_is_awaited_although_nobody_has_read_it() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Io::new(Stream::Tcp(stream), None, Arc::default(), None).shared;
        assert!(matches!(shared.awaited(), Awaited::FirstRequest { .. }));
        shared.request_started(Some(0));
        assert_eq!(shared.awaited(), Awaited::Response);
        shared.request_ended();
        assert_eq!(shared.awaited(), Awaited::NextRequest);
        peer.write_all(b"G").unwrap();
        assert_eq!(shared.awaited(), Awaited::Rest);
    }
}
