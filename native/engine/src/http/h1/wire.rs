//! What is known of a connection of HTTP/1 by all who have to do with its bytes: hyper's I/O and the
//! connection's task, the exchange, and the bodies of both directions.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use once_cell::sync::OnceCell;
use tokio::sync::SetOnce;
use tokio::time::Instant;

use super::deadlines::{Awaited, Deadlines, Expected, Late, Limits};
use crate::http::head::Refusal;
use crate::net::sendfile::FileRange;
use crate::net::stream::WriteHalf;
use crate::net::writer::Writer;
use crate::rt::lock;

const NOT_CHUNKED: u16 = 256;
const NO_DATA: u16 = 257;

/// Informational responses are hints: one that would have more than this wait is dropped.
const MAX_INTERIM: usize = 64 * 1024;

pub(crate) struct Wire {
    deadlines: Mutex<Deadlines>,
    found_preface: AtomicBool,
    refused: OnceCell<Refusal>,
    /// The last byte of a chunked body that its reader has; else one of the two above.
    last_data: AtomicU16,
    /// Bytes of a body of known length that were not read yet.
    body_left: AtomicU64,
    /// Set when the client has said by TLS that nothing more comes; there once somebody wants to know.
    close_notify: OnceCell<Box<SetOnce<()>>>,
    writing: Mutex<Writing>,
    sends_files: bool,
    /// What placeholders stand for. hyper has those of one file at a time: it writes one response to its
    /// end before it begins another.
    file: Mutex<Option<FileRange>>,
}

#[derive(Default)]
struct Writing {
    /// Informational responses that wait for their turn.
    interim: Vec<u8>,
    /// hyper has handed over a part of a response and not yet flushed it.
    in_response: bool,
}

impl Wire {
    pub(crate) fn new(writer: &Writer, begun: Instant) -> Self {
        Self {
            deadlines: Mutex::new(Deadlines::new(begun)),
            found_preface: AtomicBool::new(false),
            refused: OnceCell::new(),
            last_data: AtomicU16::new(NOT_CHUNKED),
            body_left: AtomicU64::new(0),
            close_notify: OnceCell::new(),
            writing: Mutex::default(),
            sends_files: cfg!(target_os = "linux") && !writer.is_tls(),
            file: Mutex::new(None),
        }
    }

    /// Whether placeholders may be written.
    pub(crate) fn sends_files(&self) -> bool {
        self.sends_files
    }

    /// What the placeholders that are written next stand for.
    pub(crate) fn set_file(&self, range: FileRange) {
        *lock(&self.file) = Some(range);
    }

    /// Sends a piece of the file. It may wait for the disk, so it runs on a thread that may.
    pub(super) fn send_file(&self, stream: &WriteHalf, length: usize) -> io::Result<usize> {
        // The lock is not held meanwhile: whoever else takes it must not wait for the disk.
        let file = lock(&self.file).take();
        let mut file = file.expect("set before its placeholders");
        let result = file.send(stream, length);
        if file.remaining() > 0 {
            self.set_file(file);
        }
        result
    }

    /// Ready where the peer has turned out to speak HTTP/2. Wakes nobody: it is hyper that reads it.
    pub(crate) fn poll_preface(&self) -> Poll<()> {
        match self.found_preface.load(Ordering::Relaxed) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    pub(super) fn set_found_preface(&self) {
        self.found_preface.store(true, Ordering::Relaxed);
    }

    /// `length`: of its body; `None` where only the body itself tells.
    pub(crate) fn request_started(&self, length: Option<u64>) {
        lock(&self.deadlines).request_started();
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
            lock(&self.deadlines).drain_ended(Instant::now);
        }
        (length, is_end)
    }

    pub(crate) fn read_some(&self) {
        lock(&self.deadlines).read_some(Instant::now);
    }

    pub(crate) fn request_ended(&self) {
        lock(&self.deadlines).request_ended(Instant::now());
    }

    /// When the client is late, unless something happens before.
    pub(crate) fn next_timeout(&self, limits: &Limits, writer: &Writer) -> Option<Instant> {
        let stalled = writer.stalled_since();
        lock(&self.deadlines).next_timeout(limits, stalled)
    }

    /// What has not come in time.
    pub(crate) fn handle_timeout(&self, limits: &Limits, writer: &Writer) -> Option<Late> {
        let stalled = writer.stalled_since();
        lock(&self.deadlines).handle_timeout(limits, stalled, Instant::now())
    }

    pub(crate) fn awaited(&self, writer: &Writer) -> Awaited {
        lock(&self.deadlines).awaited(|| writer.stream().has_arrivals())
    }

    /// What is left of the body is being read; [`Self::drain_ended`] follows.
    pub(crate) fn drain_started(&self) {
        let now = Instant::now();
        let mut deadlines = lock(&self.deadlines);
        // Only what hyper has not read yet is waited for.
        match self.body_left.load(Ordering::Relaxed) {
            0 => deadlines.request_ended(now),
            _ => deadlines.drain_started(now),
        }
    }

    pub(crate) fn drain_ended(&self) {
        lock(&self.deadlines).drain_ended(Instant::now);
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

    /// Has the client read while it is served, for [`Self::close_notify`]. `false`: it is already.
    pub(crate) fn watch(&self) -> bool {
        self.close_notify.set(Box::default()).is_ok()
    }

    pub(super) fn is_watched(&self) -> bool {
        self.close_notify.get().is_some()
    }

    pub(super) fn peer_has_closed(&self) {
        if let Some(told) = self.close_notify.get() {
            // It may have been said before.
            let _ = told.set(());
        }
    }

    /// Ready when a client that is watched has said by TLS that nothing more comes.
    pub(crate) async fn close_notify(&self) {
        if let Some(told) = self.close_notify.get() {
            told.wait().await;
        }
    }

    pub(crate) fn expected(&self) -> Expected {
        lock(&self.deadlines).expected()
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
        lock(&self.deadlines).in_body()
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

    fn poll_interim(&self, cx: &mut Context<'_>, writer: &Writer) -> Poll<io::Result<()>> {
        let mut writing = lock(&self.writing);
        while !writing.interim.is_empty() && !writing.in_response {
            let n = ready!(writer.poll_try(cx, || writer.try_write(&writing.interim)))?;
            writing.interim.drain(..n);
        }
        Poll::Ready(Ok(()))
    }

    /// hyper hands over a part of a response.
    pub(super) fn poll_start(&self, cx: &mut Context<'_>, writer: &Writer) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(cx, writer))?;
        lock(&self.writing).in_response = true;
        Poll::Ready(Ok(()))
    }

    /// hyper has handed over all that it has of a response for now.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>, writer: &Writer) -> Poll<io::Result<()>> {
        lock(&self.writing).in_response = false;
        self.poll_interim(cx, writer)
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
        let writer = Io::new(Stream::Tcp(stream), None, Arc::default(), None).writer;
        let wire = Wire::new(&writer, Instant::now());
        let awaited = || wire.awaited(&writer);
        assert!(matches!(awaited(), Awaited::FirstRequest { .. }));
        wire.request_started(Some(0));
        assert_eq!(awaited(), Awaited::Response);
        wire.request_ended();
        assert_eq!(awaited(), Awaited::NextRequest);
        peer.write_all(b"G").unwrap();
        assert_eq!(awaited(), Awaited::Rest);
    }
}
