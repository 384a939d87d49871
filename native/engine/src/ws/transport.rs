//! What a WebSocket travels on: a connection of its own, or a stream of HTTP/2 (RFC 8441). Two halves serve
//! different masters: the socket's task reads; its owner sends from any thread.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::ReadBuf;
use tokio::time::Instant;

use crate::flow::Stall;
use crate::net::io::Io;
use crate::net::linger::{linger, linger_on_stream};
use crate::net::writer::Writer;
use crate::rt::lock;

/// The connection, or `None` where it has ended meanwhile, and what the peer has sent so far.
type Upgraded = Pin<Box<dyn Future<Output = Option<(Io, Vec<u8>)>> + Send>>;

/// As the handshake leaves it.
pub(crate) enum Transport {
    /// There when the 101 is out.
    Connection(Upgraded),
    Stream {
        receiving: RecvStream,
        sending: SendStream<Bytes>,
    },
}

impl Transport {
    /// Also returns the frames that are there already. `None`: it is gone. `writer` is that of the
    /// connection.
    pub(super) async fn open(
        self,
        writer: Option<Arc<Writer>>,
    ) -> Option<(Receiver, Sender, Vec<u8>)> {
        match self {
            Self::Connection(upgraded) => {
                let (io, early) = upgraded.await?;
                let sender = Sender::Connection(io.writer.clone());
                Some((Receiver::Connection(io), sender, early))
            }
            Self::Stream { receiving, sending } => {
                let receiver = Receiver::Stream {
                    stream: receiving,
                    data: Bytes::new(),
                };
                let sender = Sender::Stream(Arc::new(Mutex::new(Sending {
                    stream: sending,
                    stalled: None,
                    writer,
                })));
                Some((receiver, sender, Vec::new()))
            }
        }
    }
}

pub(super) enum Receiver {
    Connection(Io),
    Stream {
        stream: RecvStream,
        /// Received, and not yet read.
        data: Bytes,
    },
}

impl Receiver {
    /// Ready with nothing read at the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (stream, data) = match self {
            Self::Connection(io) => return io.poll_bytes(cx, buf),
            Self::Stream { stream, data } => (stream, data),
        };
        while data.is_empty() {
            match ready!(stream.poll_data(cx)) {
                Some(received) => *data = received.map_err(into_io_error)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = data.len().min(buf.remaining());
        buf.put_slice(&data[..length]);
        data.advance(length);
        if data.is_empty() {
            // What it was a part of must not live on.
            *data = Bytes::new();
        }
        // It fails where the stream is gone, which the next read will tell.
        let _ = stream.flow_control().release_capacity(length);
        Poll::Ready(Ok(()))
    }

    /// Ends what everything is sent on, in the order that lets the peer read it.
    pub(super) async fn finish(self, sender: Sender) {
        match (self, sender) {
            (Self::Connection(io), _) => linger(&io.writer).await,
            (Self::Stream { stream, .. }, sender) => {
                sender.end();
                linger_on_stream(stream).await;
            }
        }
    }
}

#[derive(Clone)]
pub(super) enum Sender {
    Connection(Arc<Writer>),
    Stream(Arc<Mutex<Sending>>),
}

pub(super) struct Sending {
    stream: SendStream<Bytes>,
    /// The peer's windows have no room.
    stalled: Option<Stall>,
    /// Of the connection that the stream is on.
    writer: Option<Arc<Writer>>,
}

impl Sender {
    /// Whether the transport has all that was written.
    #[inline]
    pub(super) fn is_flushed(&self) -> bool {
        match self {
            Self::Connection(writer) => writer.is_flushed(),
            Self::Stream(_) => true,
        }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Connection(writer) => writer.try_write(bytes),
            Self::Stream(_) => self.try_write_vectored(&[IoSlice::new(bytes)]),
        }
    }

    pub(super) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Connection(writer) => writer.try_write_vectored(slices),
            Self::Stream(sending) => write_data(&mut lock(sending).stream, slices),
        }
    }

    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Connection(writer) => writer.poll_flush(cx),
            Self::Stream(_) => Poll::Ready(Ok(())),
        }
    }

    /// Tries until the transport takes something.
    pub(super) fn poll_try(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut() -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let sending = match self {
            Self::Connection(writer) => return writer.poll_try(cx, write),
            Self::Stream(sending) => sending,
        };
        loop {
            match write() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    lock(sending).stalled = None;
                    return Poll::Ready(result);
                }
            }
            let mut sending = lock(sending);
            match sending.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(e))) => return Poll::Ready(Err(into_io_error(e))),
                Poll::Ready(None) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Poll::Pending => {
                    let moved = sending
                        .writer
                        .as_ref()
                        .map_or(0, |writer| writer.data_sent());
                    Stall::note(&mut sending.stalled, moved);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Since when the peer takes nothing of what waits.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        match self {
            Self::Connection(writer) => writer.stalled_since(),
            Self::Stream(sending) => lock(sending).stalled.map(|stall| stall.since),
        }
    }

    /// What the peer has ended ends on our side, too.
    pub(super) fn end(&self) {
        if let Self::Stream(sending) = self {
            // It fails where the stream was reset.
            let _ = lock(sending).stream.send_data(Bytes::new(), true);
        }
    }

    /// Makes its end one that the peer cannot take for an orderly one.
    pub(super) fn reset(&self) {
        match self {
            Self::Connection(writer) => writer.stream().reset(),
            // RFC8441§5
            Self::Stream(sending) => lock(sending).stream.send_reset(Reason::CANCEL),
        }
    }
}

/// Gives the stream what there is room for, as one piece.
fn write_data(stream: &mut SendStream<Bytes>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let length = slices.iter().map(|slice| slice.len()).sum();
    stream.reserve_capacity(length);
    let mut room = stream.capacity().min(length);
    if room == 0 && length > 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let mut data = BytesMut::with_capacity(room);
    for slice in slices {
        let part = &slice[..slice.len().min(room)];
        data.extend_from_slice(part);
        room -= part.len();
    }
    let written = data.len();
    stream
        .send_data(data.freeze(), false)
        .map_err(into_io_error)?;
    Ok(written)
}

fn into_io_error(error: h2::Error) -> io::Error {
    let kind = match error.is_reset() {
        true => io::ErrorKind::ConnectionReset,
        false => io::ErrorKind::BrokenPipe,
    };
    error.into_io().unwrap_or_else(|| kind.into())
}
