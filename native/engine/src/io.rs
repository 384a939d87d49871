//! A stream whose two halves serve different masters: hyper reads and writes through [`Io`]; a
//! WebSocket's sends go to the write half from any thread.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::http2::{Guess, Opening, guess};
use crate::sendfile::{FileRange, Front, front};
use crate::stream::{Address, ReadHalf, Stream, Traffic, WriteHalf};
use crate::timer::timeout;
use crate::tls::{Incoming, Tls};
use crate::{lock, proxy, runtime};

/// How long we go on reading after the last byte was sent, so that the kernel does not answer what
/// the peer still sends by a reset that overtakes our last words.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
/// The same for a client that is still sending a request: most read a response only after they have
/// sent the whole body that it refuses.
pub(crate) const LINGER_SENDING: Duration = Duration::from_secs(30);

/// The part of a connection that outlives hyper.
pub(crate) struct Shared {
    /// `None` only as it is dropped.
    write: Option<WriteHalf>,
    /// Boxed: it is larger than all the rest.
    tls: Option<Box<Mutex<Tls>>>,
    reading: Mutex<Reading>,
    found_preface: AtomicBool,
    writing: Mutex<Writing>,
    /// What placeholders stand for. hyper has those of one file at a time: it writes one response to its
    /// end before it begins another.
    file: Mutex<Option<FileRange>>,
}

/// When the head that is awaited has to be there.
struct Reading {
    /// While a request is served there is no deadline.
    in_request: bool,
    /// Whether some of the next head has been read.
    partial: bool,
    first: bool,
    since: Instant,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    Response,
    /// The rest of a request's head.
    Rest,
    FirstRequest {
        since: Instant,
    },
    NextRequest,
}

#[derive(Default)]
struct Writing {
    /// Informational responses that wait for their turn.
    interim: Vec<u8>,
    /// hyper has handed over a part of a response and not yet flushed it.
    in_response: bool,
    /// Since when the peer takes nothing.
    stalled: Option<Instant>,
}

impl Shared {
    pub(crate) fn stream(&self) -> &WriteHalf {
        self.write.as_ref().expect("there until it is dropped")
    }

    pub(crate) fn tls(&self) -> Option<MutexGuard<'_, Tls>> {
        self.tls.as_deref().map(lock)
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
        cfg!(target_os = "linux") && self.tls.is_none()
    }

    /// What the placeholders that are written next stand for.
    pub(crate) fn set_file(&self, range: FileRange) {
        *lock(&self.file) = Some(range);
    }

    /// Waits for the disk.
    fn send_file(&self, length: usize) -> io::Result<usize> {
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

    pub(crate) fn request_started(&self) {
        let mut reading = lock(&self.reading);
        reading.in_request = true;
        reading.first = false;
    }

    pub(crate) fn request_ended(&self) {
        let mut reading = lock(&self.reading);
        reading.in_request = false;
        reading.partial = false;
        reading.since = Instant::now();
    }

    /// When the peer has taken nothing of a response for too long.
    pub(crate) fn send_deadline(&self, timeout: Duration) -> Option<Instant> {
        lock(&self.writing).stalled.map(|since| since + timeout)
    }

    /// `None` while a request is served.
    pub(crate) fn deadline(&self, header: Duration, idle: Duration) -> Option<Instant> {
        let reading = lock(&self.reading);
        let wait = if reading.first || reading.partial {
            header
        } else {
            idle
        };
        (!reading.in_request).then(|| reading.since + wait)
    }

    pub(crate) fn awaited(&self) -> Awaited {
        let reading = lock(&self.reading);
        if reading.in_request {
            Awaited::Response
        } else if reading.partial || self.stream().has_arrivals() {
            Awaited::Rest
        } else if reading.first {
            Awaited::FirstRequest {
                since: reading.since,
            }
        } else {
            Awaited::NextRequest
        }
    }

    /// Then no deadline can pass while what has come waits to be read.
    fn in_request(&self) -> bool {
        lock(&self.reading).in_request
    }

    /// Whether a part of a request's head is there.
    pub(crate) fn has_partial_head(&self) -> bool {
        lock(&self.reading).partial
    }

    /// Whether a part of a response is to follow what was written last.
    pub(crate) fn in_response(&self) -> bool {
        lock(&self.writing).in_response
    }

    /// Sends an informational response as soon as hyper is between two writes: hyper cannot send
    /// any but 100 by itself. The caller wakes the connection's task.
    pub(crate) fn push_interim(&self, head: &[u8]) {
        lock(&self.writing).interim.extend_from_slice(head);
    }

    fn read_some(&self) {
        let mut reading = lock(&self.reading);
        if !reading.in_request && !reading.partial {
            reading.partial = true;
            if !reading.first {
                reading.since = Instant::now();
            }
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

    pub(crate) fn poll_try(
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

    fn poll_response(
        &self,
        cx: &mut Context<'_>,
        write: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_start(cx))?;
        let result = self.poll_try(cx, write);
        self.note_progress(result.is_ready());
        result
    }

    fn poll_start(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(cx))?;
        lock(&self.writing).in_response = true;
        Poll::Ready(Ok(()))
    }

    /// Whether the peer has taken something of a response, or would.
    fn note_progress(&self, is_taken: bool) {
        let mut writing = lock(&self.writing);
        writing.stalled = match is_taken {
            true => None,
            false => Some(writing.stalled.unwrap_or_else(Instant::now)),
        };
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

/// What hyper reads and writes, and a WebSocket's task reads.
pub(crate) struct Io {
    half: ReadHalf,
    /// With TLS.
    incoming: Option<Box<Incoming>>,
    /// As long as it is not known what the peer speaks.
    opening: Option<Box<Opening>>,
    /// Sends a file. It has the socket, too, which nobody can close or reuse while it does.
    sending: Option<JoinHandle<io::Result<usize>>>,
    pub(crate) shared: Arc<Shared>,
}

impl Io {
    pub(crate) fn new(stream: Stream, tls: Option<Tls>, traffic: Arc<Traffic>) -> Self {
        let (half, write) = stream.into_split(traffic);
        let incoming = tls.as_ref().map(|_| Box::default());
        let reading = Reading {
            in_request: false,
            partial: false,
            first: true,
            since: Instant::now(),
        };
        let shared = Shared {
            write: Some(write),
            tls: tls.map(|tls| Box::new(Mutex::new(tls))),
            reading: Mutex::new(reading),
            found_preface: AtomicBool::new(false),
            writing: Mutex::default(),
            file: Mutex::new(None),
        };
        Self {
            half,
            incoming,
            opening: None,
            sending: None,
            shared: Arc::new(shared),
        }
    }

    /// Has the preface of HTTP/2 looked for. Nothing can be read when it was found
    /// ([`Shared::found_preface`]), until [`Self::becomes_http2`].
    pub(crate) fn expect_preface(&mut self) {
        self.opening = Some(Box::default());
    }

    /// HTTP/2 keeps its deadlines by itself.
    pub(crate) fn becomes_http2(&mut self) {
        self.shared.request_started();
        if let Some(opening) = &mut self.opening {
            opening.is_known = true;
        }
    }

    /// Before anything else is read.
    pub(crate) async fn read_proxy_header(&mut self) -> io::Result<Option<Address>> {
        proxy::read_header(&mut self.half).await
    }

    /// Ready when TLS may carry bytes of the peer's and ours.
    pub(crate) async fn handshake(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            loop {
                ready!(self.shared.poll_flush(cx))?;
                let (Some(incoming), Some(tls)) = (&mut self.incoming, self.shared.tls()) else {
                    return Poll::Ready(Ok(()));
                };
                if !tls.is_handshaking() {
                    return Poll::Ready(Ok(()));
                }
                drop(tls);
                let filled = ready!(incoming.poll_fill(cx, &mut self.half, &self.shared));
                if let Err(e) = filled {
                    // With an alert.
                    let _ = self.shared.poll_flush(cx);
                    return Poll::Ready(Err(e));
                }
                if incoming.is_at_end() {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
            }
        })
        .await
    }

    pub(crate) fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(incoming) = &mut self.incoming else {
            return Pin::new(&mut self.half).poll_read(cx, buf);
        };
        while !incoming.give(buf) && !incoming.is_at_end() {
            ready!(incoming.poll_fill(cx, &mut self.half, &self.shared))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready with what was read, unless it is the beginning of a preface.
    fn poll_opening(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let start = buf.filled().len();
        while let Some(mut opening) = self.opening.take() {
            if opening.is_known {
                self.opening = opening.give_back(buf);
                return Poll::Ready(Ok(()));
            }
            let result = self.poll_bytes(cx, buf);
            let read = &buf.filled()[start..];
            if result.is_ready() && opening.held.is_empty() && guess(read) == Guess::Http1 {
                return result;
            }
            let at_end = read.is_empty();
            opening.held.extend_from_slice(read);
            buf.set_filled(start);
            let guess = guess(&opening.held);
            opening.is_known = result.is_ready() && (guess == Guess::Http1 || at_end);
            self.opening = Some(opening);
            ready!(result)?;
            self.shared.read_some();
            if guess == Guess::Http2 {
                self.shared.found_preface.store(true, Ordering::Relaxed);
                return Poll::Pending;
            }
        }
        self.poll_bytes(cx, buf)
    }

    /// In the place of a placeholder.
    fn poll_send_file(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        ready!(self.shared.poll_start(cx))?;
        loop {
            if let Some(sending) = &mut self.sending {
                let result = ready!(Pin::new(sending).poll(cx));
                self.sending = None;
                match result.unwrap_or_else(|e| Err(io::Error::other(e))) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    result => return Poll::Ready(result),
                }
            }
            let has_room = self.shared.stream().poll_write_ready(cx);
            self.shared.note_progress(has_room.is_ready());
            ready!(has_room)?;
            let shared = self.shared.clone();
            self.sending = Some(runtime::spawn_blocking(move || shared.send_file(length)));
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Of a body, hyper reads all that is there before it lets go: a chunk size may have as many
        // zeros as the peer can send.
        if this.shared.in_request() && runtime::is_late(Instant::now()) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(this.poll_opening(cx, buf))?;
        // Line ends too many after a body are no part of the next head (RFC9112§2.2).
        if buf.filled()[before..]
            .iter()
            .any(|byte| !b"\r\n".contains(byte))
        {
            this.shared.read_some();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match front(bufs) {
            Front::Bytes(bytes) => self
                .shared
                .poll_response(cx, || self.shared.try_write_vectored(bytes)),
            Front::File(length) => self.poll_send_file(cx, length),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.shared.writing).in_response = false;
        ready!(self.shared.poll_interim(cx))?;
        self.shared.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shared.shut_down())
    }
}

/// Ends the connection in the order that lets the peer read our last bytes: FIN, then read until
/// the peer's own FIN, for a bounded time.
pub(crate) async fn linger(shared: &Shared) {
    linger_for(shared, LINGER).await;
}

/// The same, but as long as the peer is sending it may take up to `at_most`.
pub(crate) async fn linger_for(shared: &Shared, at_most: Duration) {
    let _ = shared.shut_down();
    let stream = shared.stream();
    let drain = async {
        while let Ok(Ok(())) = timeout(LINGER, stream.readable()).await {
            match discard(stream) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
    };
    let _ = timeout(at_most, drain).await;
}

/// Its own function so that the buffer is not a part of every connection's task.
fn discard(stream: &WriteHalf) -> io::Result<usize> {
    stream.try_read(&mut [0; 4096])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn what_has_arrived_is_awaited_although_nobody_has_read_it() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let shared = Io::new(Stream::Tcp(stream), None, Arc::default()).shared;
        assert!(matches!(shared.awaited(), Awaited::FirstRequest { .. }));
        shared.request_started();
        assert_eq!(shared.awaited(), Awaited::Response);
        shared.request_ended();
        assert_eq!(shared.awaited(), Awaited::NextRequest);
        peer.write_all(b"G").unwrap();
        assert_eq!(shared.awaited(), Awaited::Rest);
    }
}
