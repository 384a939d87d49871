//! The bytes of a connection as h2 gets them, and as it gives them: its [`Filter`] is in between.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};

use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::filter::Filter;
use super::frame::{DATA, HEAD_LEN, Head, RST_STREAM};
use crate::net::writer::Writer;
use crate::rt;

const RESET_LEN: usize = HEAD_LEN + 4;

/// Tells whoever runs h2 that it has to end the connection, and why.
#[derive(Clone, Default)]
pub(crate) struct Fault(Arc<AtomicU32>);

impl Fault {
    pub(crate) fn get(&self) -> Option<Reason> {
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

pub(crate) struct Filtered<T> {
    io: T,
    /// What was read of it before it was known that HTTP/2 is spoken.
    early: Vec<u8>,
    filter: Filter,
    fault: Fault,
    written: Written,
    /// Who is told how much DATA was written.
    writer: Option<Arc<Writer>>,
}

impl<T> Filtered<T> {
    pub(crate) fn telling(self, writer: Arc<Writer>) -> Self {
        let writer = Some(writer);
        Self { writer, ..self }
    }

    /// Has these bytes come before those of the connection.
    pub(crate) fn after(self, early: Vec<u8>) -> Self {
        Self { early, ..self }
    }

    pub(crate) fn new(io: T, max_header_length: u32) -> Self {
        Self {
            io,
            filter: Filter::new(max_header_length),
            fault: Fault::default(),
            written: Written::default(),
            early: Vec::new(),
            writer: None,
        }
    }

    pub(crate) fn fault(&self) -> Fault {
        self.fault.clone()
    }
}

impl<T: AsyncRead + Unpin> Filtered<T> {
    /// Reads what came early, then the connection.
    fn poll_unfiltered(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let length = self.early.len().min(buf.remaining());
        buf.put_slice(&self.early[..length]);
        self.early.drain(..length);
        if self.early.is_empty() {
            self.early = Vec::new();
        }
        Poll::Ready(Ok(()))
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
                if rt::is_late(Instant::now()) {
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
            ready!(this.poll_unfiltered(cx, buf))?;
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
        let mut data = 0;
        for buf in bufs {
            let part = &buf[..left.min(buf.len())];
            data += this.written.advance(part, &mut this.filter);
            left -= part.len();
        }
        if let Some(writer) = this.writer.as_ref().filter(|_| data > 0) {
            writer.count_data_sent(data);
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

    /// So much was written, or what stands for it. Returns the bytes of the DATA that began in it.
    fn advance(&mut self, mut bytes: &[u8], filter: &mut Filter) -> usize {
        let mut data = 0;
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
            match head.kind {
                RST_STREAM => filter.resets(head.stream),
                DATA => data += head.len,
                _ => {}
            }
        }
        data
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::task::Waker;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    /// On stream 1, which it ends.
    const HEADERS: &[u8] = b"\0\0\x03\x01\x05\0\0\0\x01\x82\x84\x86";

    fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let head = [0, 0, payload.len() as u8, kind, 0, 0, 0, 0, stream];
        [&head, payload].concat()
    }

    fn reset(stream: u8, code: u8) -> Vec<u8> {
        frame(RST_STREAM, stream, &[0, 0, 0, code])
    }

    /// Takes as much at once as it is told to.
    #[derive(Default)]
    struct Wire {
        input: VecDeque<Vec<u8>>,
        output: Vec<u8>,
        most: usize,
    }

    impl AsyncRead for Wire {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let Some(bytes) = self.input.pop_front() else {
                return Poll::Pending;
            };
            buf.put_slice(&bytes);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Wire {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = buf.len().min(self.most);
            self.output.extend_from_slice(&buf[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Reads until there is no more.
    fn read(io: &mut Filtered<Wire>) -> Vec<u8> {
        let mut read = vec![];
        let mut cx = Context::from_waker(Waker::noop());
        let mut space = [0; 1000];
        loop {
            let mut buf = ReadBuf::new(&mut space);
            let result = Pin::new(&mut *io).poll_read(&mut cx, &mut buf);
            if result.is_pending() || buf.filled().is_empty() {
                return read;
            }
            read.extend_from_slice(buf.filled());
        }
    }

    fn filtered(input: &[&[u8]], most: usize) -> Filtered<Wire> {
        let input = input.iter().map(|bytes| bytes.to_vec()).collect();
        let wire = Wire {
            input,
            most,
            ..Wire::default()
        };
        Filtered::new(wire, 10_000)
    }

    /// Writes all of it, in slices of one size, as h2 would.
    fn write(io: &mut Filtered<Wire>, mut bytes: &[u8], slice: usize) {
        let mut cx = Context::from_waker(Waker::noop());
        while !bytes.is_empty() {
            let slices: Vec<_> = bytes.chunks(slice).map(IoSlice::new).collect();
            let slices = &slices[..slices.len().min(3)];
            let result = Pin::new(&mut *io).poll_write_vectored(&mut cx, slices);
            let Poll::Ready(Ok(taken)) = result else {
                panic!("{result:?}");
            };
            bytes = &bytes[taken..];
        }
    }

    #[test]
    fn a_fault_is_told_when_what_was_right_has_been_read() {
        let ping = frame(6, 0, &[0; 9]);
        let mut io = filtered(&[PREFACE, &[SETTINGS, HEADERS, &ping].concat()], 1);
        let fault = io.fault();
        let mut cx = Context::from_waker(Waker::noop());
        for expected in [PREFACE.to_vec(), [SETTINGS, HEADERS].concat()] {
            let mut space = [0; 100];
            let mut buf = ReadBuf::new(&mut space);
            let result = Pin::new(&mut io).poll_read(&mut cx, &mut buf);
            assert!(result.is_ready());
            assert_eq!(buf.filled(), expected);
            assert_eq!(fault.get(), None);
        }
        assert_eq!(read(&mut io), b"");
        assert_eq!(fault.get(), Some(Reason::FRAME_SIZE_ERROR));
    }

    #[test]
    fn a_reset_has_the_reason_of_whoever_has_asked_for_it() {
        let late = frame(0, 1, b"late");
        for most in [1, 5, 13, 1000] {
            let mut io = filtered(&[PREFACE, SETTINGS, HEADERS, &late], most);
            let passed = read(&mut io);
            assert!(passed.ends_with(&late), "it counts for the window");
            // Others of the same code, before and after it, and what looks like one within DATA.
            let looks = frame(0, 3, &reset(1, 1));
            let before = [SETTINGS, &looks, &reset(5, 1)].concat();
            let written = [&before[..], &reset(1, 1), &frame(0, 3, b"x"), &reset(1, 1)].concat();
            let expected = [&before[..], &reset(1, 5), &frame(0, 3, b"x"), &reset(1, 1)].concat();
            write(&mut io, &written, 1000);
            assert_eq!(io.io.output, expected, "{most} at once");
        }
    }

    #[test]
    fn what_comes_for_a_stream_that_was_reset_does_not_arrive_as_a_request() {
        let open = b"\0\0\x03\x01\x04\0\0\0\x01\x82\x84\x86";
        let mut io = filtered(&[PREFACE, SETTINGS, open], 7);
        read(&mut io);
        write(&mut io, &[SETTINGS, &reset(1, 8)].concat(), 1000);
        io.io.input.push_back(HEADERS.to_vec());
        let next = b"\0\0\x03\x01\x05\0\0\0\x03\x82\x84\x86";
        io.io.input.push_back(next.to_vec());
        assert_eq!(read(&mut io), next);
    }
}
