//! The bytes of a connection as h2 gets them, and as it gives them: its [`Filter`] is in between.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::filter::{Filter, HEAD_LEN, Head, RST_STREAM};
use crate::runtime;

const RESET_LEN: usize = HEAD_LEN + 4;

/// Tells whoever runs h2 that it has to end the connection, and why.
#[derive(Clone, Default)]
pub(super) struct Fault(Arc<AtomicU32>);

impl Fault {
    pub(super) fn get(&self) -> Option<Reason> {
        // None of the reasons of a fault is 0, NO_ERROR.
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            reason => Some(reason.into()),
        }
    }

    fn set(&self, reason: Reason) {
        self.0.store(reason.into(), Ordering::Relaxed);
    }
}

pub(super) struct Filtered<T> {
    io: T,
    filter: Filter,
    fault: Fault,
    written: Written,
}

impl<T> Filtered<T> {
    pub(super) fn new(io: T, max_header_length: u32) -> Self {
        Self {
            io,
            filter: Filter::new(max_header_length),
            fault: Fault::default(),
            written: Written::default(),
        }
    }

    pub(super) fn fault(&self) -> Fault {
        self.fault.clone()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Filtered<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.filter.is_holding() {
                // Of a few bytes of the client's there may become many.
                if runtime::is_late(Instant::now()) {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let given = this.filter.give(buf.initialize_unfilled());
                buf.advance(given);
                if given > 0 {
                    return Poll::Ready(Ok(()));
                }
            }
            // Not before h2 has had what was right: whoever is told ends the connection, and wakes itself.
            if let Some(reason) = this.filter.fault() {
                this.fault.set(reason);
                return Poll::Pending;
            }
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
            let read = &buf.filled()[before..];
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let passed = this.filter.take(read);
            buf.set_filled(before + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Filtered<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let first = bufs.iter().find(|buf| !buf.is_empty());
        let written = match first {
            Some(first) if this.written.changed.is_some() || this.filter.has_reasons() => {
                let part = this.written.next(first, &this.filter);
                ready!(Pin::new(&mut this.io).poll_write(cx, part))?
            }
            _ => ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs))?,
        };
        let mut left = written;
        for buf in bufs {
            let part = &buf[..left.min(buf.len())];
            this.written.advance(part, &mut this.filter);
            left -= part.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// Where in its frames the bytes are that h2 writes.
#[derive(Default)]
struct Written {
    /// The beginning of a head.
    head: Vec<u8>,
    /// What is left of a payload.
    left: usize,
    /// What is left of a RST_STREAM that is written in the place of h2's.
    changed: Option<Reset>,
}

#[derive(Clone, Copy)]
struct Reset {
    bytes: [u8; RESET_LEN],
    at: usize,
}

impl Written {
    /// What of h2's bytes, or in their place, is to be written by itself.
    fn next<'a>(&'a mut self, bytes: &'a [u8], filter: &Filter) -> &'a [u8] {
        if self.changed.is_none() {
            let len = self.unchanged(bytes, filter);
            if len > 0 {
                return &bytes[..len];
            }
            self.changed = changed(bytes, filter);
        }
        match &self.changed {
            Some(reset) => &reset.bytes[reset.at..],
            None => bytes,
        }
    }

    /// How many of the bytes come before a reset whose reason is another one.
    fn unchanged(&self, bytes: &[u8], filter: &Filter) -> usize {
        if !self.head.is_empty() {
            return bytes.len().min(HEAD_LEN - self.head.len());
        }
        let mut at = self.left;
        while let Some(rest) = bytes.get(at..) {
            let Some(head) = Head::parse(rest) else {
                break;
            };
            if changed(rest, filter).is_some() {
                return at;
            }
            at += HEAD_LEN + head.len;
        }
        bytes.len()
    }

    /// So much was written, or what stands for it.
    fn advance(&mut self, mut bytes: &[u8], filter: &mut Filter) {
        if let Some(reset) = &mut self.changed {
            reset.at += bytes.len();
            if reset.at >= RESET_LEN {
                self.changed = None;
            }
        }
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let missing = HEAD_LEN - self.head.len();
            let (part, rest) = bytes.split_at(missing.min(bytes.len()));
            self.head.extend_from_slice(part);
            bytes = rest;
            let Some(head) = Head::parse(&self.head) else {
                continue;
            };
            self.head.clear();
            self.left = head.len;
            if head.kind == RST_STREAM {
                filter.resets(head.stream);
            }
        }
    }
}

/// The reset at the front, if its reason is another one.
fn changed(bytes: &[u8], filter: &Filter) -> Option<Reset> {
    let head = Head::parse(bytes).filter(|head| head.kind == RST_STREAM)?;
    let reason = filter.reason(head.stream)?;
    let mut bytes: [u8; RESET_LEN] = *bytes.first_chunk()?;
    bytes[HEAD_LEN..].copy_from_slice(&u32::from(reason).to_be_bytes());
    Some(Reset { bytes, at: 0 })
}
