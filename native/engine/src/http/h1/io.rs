//! What hyper reads and writes: the bytes of a connection with what HTTP/1 needs around them. The preface of
//! HTTP/2 is found in them, heads are looked at, informational responses and files come in between.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::deadlines::Expected;
use super::head_scanner::{RequestHead, Verdict, head_end};
use super::wire::Wire;
use crate::http::head::Refusal;
use crate::http::preface::{Guess, Preface, guess};
use crate::net;
use crate::net::io::poll_late;
use crate::net::sendfile::{Front, front};
use crate::rt;

pub(crate) struct Io {
    io: net::io::Io,
    wire: Arc<Wire>,
    /// As long as it is not known what the peer speaks.
    preface: Option<Box<Preface>>,
    head: Box<Head>,
    /// Sends a file. It has the socket, too, which nobody can close or reuse while it does.
    sending: Option<JoinHandle<io::Result<usize>>>,
    /// The end of the turn in which something was read last.
    read_in: Option<Instant>,
}

impl Io {
    /// `max_line`: of a request line. Where the peer `may_be_http2`, nothing can be read any more once its
    /// preface was found ([`Wire::poll_preface`]).
    pub(crate) fn new(
        io: net::io::Io,
        wire: Arc<Wire>,
        max_line: usize,
        may_be_http2: bool,
    ) -> Self {
        Self {
            io,
            wire,
            preface: may_be_http2.then(Box::default),
            head: Box::new(Head::new(max_line)),
            sending: None,
            read_in: None,
        }
    }

    /// Ready when this turn may read. hyper reads all that is there before it lets go: a chunk size may have as
    /// many zeros as the peer can send, also where nobody wants the body any more. The first read of a turn costs
    /// no look at the clock, unless it is of a body.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let turn = rt::turn_end();
        if self.wire.in_body() || (turn.is_some() && turn == self.read_in) {
            ready!(poll_late(cx));
        }
        self.read_in = turn;
        Poll::Ready(())
    }

    /// What follows is not HTTP/1. Also returns what would have been read next.
    pub(crate) fn into_parts(self) -> (net::io::Io, Vec<u8>) {
        let mut early = self.head.into_held();
        if let Some(preface) = self.preface {
            early.extend_from_slice(&preface.held);
        }
        (self.io, early)
    }

    /// Ready with what was read, unless it is the beginning of a preface.
    fn poll_unless_preface(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let start = buf.filled().len();
        while let Some(mut preface) = self.preface.take() {
            if preface.is_known {
                self.preface = preface.give_back(buf);
                return Poll::Ready(Ok(()));
            }
            let result = self.io.poll_bytes(cx, buf);
            let read = &buf.filled()[start..];
            if result.is_ready() && preface.held.is_empty() && guess(read) == Guess::Http1 {
                return result;
            }
            let at_end = read.is_empty();
            preface.held.extend_from_slice(read);
            buf.set_filled(start);
            let guess = guess(&preface.held);
            preface.is_known = result.is_ready() && (guess == Guess::Http1 || at_end);
            self.preface = Some(preface);
            ready!(result)?;
            self.wire.read_some();
            if guess == Guess::Http2 {
                self.wire.set_found_preface();
                return Poll::Pending;
            }
        }
        self.io.poll_bytes(cx, buf)
    }

    /// In the place of a placeholder.
    fn poll_send_file(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        ready!(self.wire.poll_start(cx, &self.io.writer))?;
        loop {
            if let Some(sending) = &mut self.sending {
                let result = ready!(Pin::new(sending).poll(cx));
                self.sending = None;
                match result.unwrap_or_else(|e| Err(io::Error::other(e))) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    result => return Poll::Ready(result),
                }
            }
            ready!(self.io.writer.poll_try(cx, || Ok(0)))?;
            let (wire, writer) = (self.wire.clone(), self.io.writer.clone());
            let send = move || wire.send_file(writer.stream(), length);
            self.sending = Some(rt::spawn_blocking(send));
        }
    }
}

/// The connection after its last request, and what the peer has sent together with that. `None`: it has ended.
pub(crate) async fn upgraded(on_upgrade: OnUpgrade) -> Option<(net::io::Io, Vec<u8>)> {
    let upgraded = on_upgrade.await.ok()?;
    let parts = upgraded
        .downcast::<TokioIo<Io>>()
        .expect("connections are served on this type");
    // Copied, because it lies in a buffer that would live as long as it does.
    let mut read = parts.read_buf.to_vec();
    let (io, mut early) = parts.io.into_inner().into_parts();
    read.append(&mut early);
    Some((io, read))
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
    fn look(&mut self, wire: &Wire, buf: &mut ReadBuf<'_>, before: usize) -> Result<(), Refusal> {
        let bytes = &mut buf.filled_mut()[before..];
        let expected = wire.expected();
        let begins = expected == Expected::Head;
        let (length, is_end) = match expected {
            Expected::Body => wire.of_body(bytes.len()),
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
        ready!(this.poll_turn(cx));
        if this.wire.in_body() && this.head.seen.has_lone_lf() && this.wire.is_framing_lf() {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        if this.head.give_made(buf) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if !this.head.take_held(buf) {
            ready!(this.poll_unless_preface(cx, buf))?;
        }
        if buf.filled().len() > before
            && let Err(refusal) = this.head.look(&this.wire, buf, before)
        {
            this.wire.refuse(refusal);
            return Poll::Pending;
        }
        // Line ends too many after a body are no part of the next head (RFC9112§2.2).
        let is_line_end = |byte: &u8| b"\r\n".contains(byte);
        if !buf.filled()[before..].iter().all(is_line_end) {
            this.wire.read_some();
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
        ready!(self.io.poll_turn(cx));
        match front(bufs) {
            Front::Bytes(bytes) => {
                let writer = &self.io.writer;
                ready!(self.wire.poll_start(cx, writer))?;
                writer.poll_try(cx, || writer.try_write_some(bytes))
            }
            Front::File(length) => self.poll_send_file(cx, length),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.wire.poll_end(cx, &self.io.writer))?;
        ready!(self.io.writer.poll_flush(cx))?;
        // hyper reads nothing while a request is served, but it flushes whenever it is woken. A connection
        // that fails has no more to say either.
        if self.wire.is_watched() && self.io.poll_close_notify(cx).is_ready() {
            self.wire.peer_has_closed();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
