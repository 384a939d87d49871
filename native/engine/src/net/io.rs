//! The bytes of a connection. Its two halves serve different masters: hyper and h2 read and write through
//! [`Io`]; a WebSocket's sends go to the write half from any thread.
//!

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::http::h2::{Guess, Opening, guess};
use crate::http::head::Refusal;
use crate::listener::Held;
use crate::net::sendfile::{Front, front};
use crate::net::tls::{Handshake, Incoming, Tls};
use crate::rt::offload::offload;

use super::address::Address;
use super::proxy;
use super::shared::Shared;
use super::stream::{ReadHalf, Stream};
use super::traffic::Traffic;
use crate::http::h1::deadlines::Expected;
use crate::http::h1::head_scanner::{RequestHead, Verdict, head_end};
use crate::rt;

/// What is written at once: the kernel copies it, and on the way to a peer on the same machine does the
/// peer's part, too, in one or two tenths of a millisecond.
pub(crate) const WRITE_AT_ONCE: usize = 256 * 1024;

/// As many of the slices as are to be written at once, the first in any case.
pub(crate) fn within_one_write<'a, 'b>(slices: &'a [io::IoSlice<'b>]) -> &'a [io::IoSlice<'b>] {
    let mut length = 0;
    let fits = |slice: &&io::IoSlice<'_>| {
        length += slice.len();
        length <= WRITE_AT_ONCE
    };
    let count = slices.iter().take_while(fits).count();
    &slices[..count.max(1).min(slices.len())]
}

/// What hyper and h2 read and write, and a WebSocket's task reads.
pub(crate) struct Io {
    half: ReadHalf,
    /// With TLS, until its handshake is done.
    handshake: Option<Box<Handshake>>,
    /// With TLS.
    incoming: Option<Box<Incoming>>,
    /// As long as it is not known what the peer speaks.
    opening: Option<Box<Opening>>,
    /// Where HTTP/1 may be spoken.
    head: Option<Box<Head>>,
    /// Sends a file. It has the socket, too, which nobody can close or reuse while it does.
    sending: Option<JoinHandle<io::Result<usize>>>,
    /// The end of the turn in which something was written last.
    wrote_in: Option<Instant>,
    pub(crate) shared: Arc<Shared>,
}

impl Io {
    pub(crate) fn new(
        stream: Stream,
        tls: Option<Tls>,
        traffic: Arc<Traffic>,
        held: Option<Held>,
    ) -> Self {
        let (half, write) = stream.into_split(traffic);
        Self {
            half,
            incoming: None,
            opening: None,
            head: None,
            sending: None,
            wrote_in: None,
            shared: Arc::new(Shared::new(write, tls.is_some(), held)),
            handshake: tls.map(|tls| Box::new(Handshake::new(tls))),
        }
    }

    /// Has the preface of HTTP/2 looked for. Nothing can be read when it was found
    /// ([`Shared::found_preface`]), until [`Self::becomes_http2`].
    pub(crate) fn expect_preface(&mut self) {
        self.opening = Some(Box::default());
    }

    /// Has the heads of requests looked at, the lines of which have a limit.
    pub(crate) fn expect_http1(&mut self, max_line: usize) {
        self.head = Some(Box::new(Head::new(max_line)));
    }

    /// What follows is no HTTP. Returns what hyper would have read next.
    pub(crate) fn leave_http1(&mut self) -> Vec<u8> {
        self.head
            .take()
            .map_or_else(Vec::new, |head| head.into_held())
    }

    /// HTTP/2 keeps its deadlines by itself.
    pub(crate) fn becomes_http2(&mut self) {
        self.shared.request_started(Some(0));
        self.leave_http1();
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
        let Some(mut handshake) = self.handshake.take() else {
            return Ok(());
        };
        loop {
            handshake.flush(&self.shared).await?;
            if !handshake.is_going_on() {
                break;
            }
            handshake.read_record(&mut self.half).await?;
            // A signature with a key of RSA takes milliseconds.
            let stepped = offload(move || {
                let result = handshake.step();
                (handshake, result)
            });
            let result;
            (handshake, result) = stepped.await.ok_or(io::ErrorKind::Other)?;
            if result.is_err() {
                // With an alert.
                let _ = handshake.flush(&self.shared).await;
                return result;
            }
        }
        let (tls, incoming) = handshake.into_parts();
        self.shared.set_tls(tls);
        self.incoming = Some(Box::new(incoming));
        Ok(())
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
                self.shared.set_found_preface();
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
            ready!(self.shared.poll_try(cx, || Ok(0)))?;
            let shared = self.shared.clone();
            self.sending = Some(rt::spawn_blocking(move || shared.send_file(length)));
        }
    }
}

/// Looks at heads for an [`Io`].
struct Head {
    seen: RequestHead,
    /// What was made of a head and not taken yet.
    made: Vec<u8>,
    /// Read, from `taken` on, and not looked at yet: hyper gets one head at a time, so that each is at the
    /// beginning of what it reads.
    held: Vec<u8>,
    taken: usize,
}

impl Head {
    fn new(max_line: usize) -> Self {
        Self {
            seen: RequestHead::new(max_line),
            made: Vec::new(),
            held: Vec::new(),
            taken: 0,
        }
    }

    /// `false`: there is nothing.
    fn give_made(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.made.is_empty() {
            return false;
        }
        let length = self.made.len().min(buf.remaining());
        buf.put_slice(&self.made[..length]);
        self.made.drain(..length);
        true
    }

    /// `false`: there is nothing.
    fn take_held(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let rest = &self.held[self.taken..];
        let length = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..length]);
        self.taken += length;
        length > 0
    }

    /// Looks at what was read, or taken, after the first `before` bytes.
    fn look(
        &mut self,
        shared: &Shared,
        buf: &mut ReadBuf<'_>,
        before: usize,
    ) -> Result<(), Refusal> {
        let bytes = &mut buf.filled_mut()[before..];
        let expected = shared.expected();
        let begins = expected == Expected::Head;
        let (length, is_end) = match expected {
            Expected::Body => shared.of_body(bytes.len()),
            _ => (head_end(begins, bytes).unwrap_or(bytes.len()), false),
        };
        self.hold(&bytes[length..]);
        let bytes = &mut bytes[..length];
        let verdict = match expected {
            Expected::Body => {
                self.seen.skip(bytes, is_end);
                Verdict::Pass
            }
            _ => self.seen.read(begins, bytes),
        };
        match verdict {
            Verdict::Pass => buf.set_filled(before + length),
            Verdict::Instead(made) => {
                buf.set_filled(before);
                self.made = made;
                self.give_made(buf);
            }
            Verdict::Refused(refusal) => {
                buf.set_filled(before);
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// What comes before all that is held.
    fn hold(&mut self, bytes: &[u8]) {
        if self.taken >= bytes.len() {
            // It was taken from there, if it is anything.
            self.taken -= bytes.len();
        } else {
            self.held = bytes.to_vec();
            self.taken = 0;
        }
        if self.taken == self.held.len() {
            self.held = Vec::new();
            self.taken = 0;
        }
    }

    fn into_held(mut self) -> Vec<u8> {
        self.made.extend_from_slice(&self.held[self.taken..]);
        self.made
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
        if this.shared.in_body() && rt::is_late(Instant::now()) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(head) = &this.head
            && head.seen.has_lone_lf()
            && this.shared.in_body()
            && this.shared.is_framing_lf()
        {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        if let Some(head) = &mut this.head
            && head.give_made(buf)
        {
            return Poll::Ready(Ok(()));
        }
        let is_there = this.head.as_mut().is_some_and(|head| head.take_held(buf));
        if !is_there {
            ready!(this.poll_opening(cx, buf))?;
        }
        if let Some(head) = &mut this.head
            && buf.filled().len() > before
            && let Err(refusal) = head.look(&this.shared, buf, before)
        {
            this.shared.refuse(refusal);
            return Poll::Pending;
        }
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
        // A peer that takes whatever it is sent would keep the thread until the response is out. The first
        // write of a turn is made all the same: hyper drops what it could not write when a body then fails.
        let turn = rt::turn_end();
        if self.wrote_in == turn && rt::is_late(Instant::now()) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.wrote_in = turn;
        match front(bufs) {
            Front::Bytes([first, ..]) if first.len() > WRITE_AT_ONCE => self
                .shared
                .poll_response(cx, || self.shared.try_write(&first[..WRITE_AT_ONCE])),
            Front::Bytes(bytes) => self.shared.poll_response(cx, || {
                self.shared.try_write_vectored(within_one_write(bytes))
            }),
            Front::File(length) => self.poll_send_file(cx, length),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.shared.poll_end(cx))?;
        self.shared.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shared.shut_down())
    }
}
