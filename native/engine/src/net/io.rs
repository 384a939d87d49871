//! The bytes of a connection, over TCP or TLS. Its two halves serve different masters: whoever speaks the
//! protocol reads and writes through [`Io`]; a WebSocket's owner writes to the [`Writer`] from any thread.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::address::Address;
use super::descriptors::Permit;
use super::proxy;
use super::stream::{ReadHalf, Stream};
use super::tls::{Handshake, Incoming, Tls};
use super::traffic::Traffic;
use super::writer::Writer;
use crate::rt;
use crate::rt::offload::offload;

pub(crate) struct Io {
    half: ReadHalf,
    /// With TLS, until its handshake is done.
    handshake: Option<Box<Handshake>>,
    /// With TLS.
    incoming: Option<Box<Incoming>>,
    /// The end of the turn in which something was written last.
    wrote_in: Option<Instant>,
    pub(crate) writer: Arc<Writer>,
}

impl Io {
    pub(crate) fn new(
        stream: Stream,
        tls: Option<Tls>,
        traffic: Arc<Traffic>,
        permit: Option<Permit>,
    ) -> Self {
        let (half, write) = stream.into_split(traffic);
        Self {
            half,
            incoming: None,
            wrote_in: None,
            writer: Arc::new(Writer::new(write, tls.is_some(), permit)),
            handshake: tls.map(|tls| Box::new(Handshake::new(tls))),
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
            self.flush_handshake(&mut handshake).await?;
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
                let _ = self.flush_handshake(&mut handshake).await;
                return result;
            }
        }
        let (tls, incoming) = handshake.into_parts();
        self.writer.set_tls(tls);
        self.incoming = Some(Box::new(incoming));
        Ok(())
    }

    /// Ready when the kernel has all that the handshake has to send.
    async fn flush_handshake(&self, handshake: &mut Handshake) -> io::Result<()> {
        let writer = &self.writer;
        let flush = |cx: &mut Context<'_>| {
            writer.poll_try(cx, || handshake.flush(writer.stream()).map(|()| 0))
        };
        poll_fn(flush).await.map(|_| ())
    }

    /// Ready with nothing read at the end.
    pub(crate) fn poll_bytes(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(incoming) = &mut self.incoming else {
            return Pin::new(&mut self.half).poll_read(cx, buf);
        };
        let tls = self.writer.unlocked_tls().expect("set with `incoming`");
        while !incoming.give(buf) && !incoming.is_at_end() {
            ready!(incoming.poll_fill(cx, &mut self.half, tls, self.writer.stream()))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the peer has said by TLS that nothing more comes. It is read for that, ahead of the reader, as
    /// long as the reader has taken all that there is.
    pub(crate) fn poll_close_notify(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Pending;
        };
        let tls = self.writer.unlocked_tls().expect("set with `incoming`");
        while incoming.is_empty() {
            if incoming.is_at_end() {
                return Poll::Ready(Ok(()));
            }
            ready!(poll_late(cx));
            ready!(incoming.poll_fill(cx, &mut self.half, tls, self.writer.stream()))?;
            // The reader may have been told just before that there is nothing.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Ready when this turn may write. A peer that takes whatever it is sent would keep the thread until all
    /// is out. The first write of a turn is made all the same: hyper drops what it could not write when a
    /// body then fails.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let turn = rt::turn_end();
        if self.wrote_in == turn {
            ready!(poll_late(cx));
        }
        self.wrote_in = turn;
        Poll::Ready(())
    }
}

/// Ready unless the turn is over; then the task has another one.
pub(crate) fn poll_late(cx: &mut Context<'_>) -> Poll<()> {
    if rt::is_late(Instant::now()) {
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    Poll::Ready(())
}

/// For h2. It reads all that is there before it lets go.
impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(poll_late(cx));
        self.poll_bytes(cx, buf)
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
        ready!(self.poll_turn(cx));
        self.writer
            .poll_try(cx, || self.writer.try_write_some(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.writer.shut_down())
    }
}
