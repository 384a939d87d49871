//! A byte stream to a peer, over TCP or over a Unix socket.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, tcp, unix};

use super::address::Address;
use super::traffic::Traffic;
use crate::rt::Reactor;

pub(crate) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    /// The socket is one that listens and does not block.
    pub(crate) fn new(socket: socket2::Socket, addr: &Address) -> io::Result<Self> {
        Ok(match addr {
            Address::Inet(_) => Self::Tcp(TcpListener::from_std(socket.into())?),
            Address::Local(_) => Self::Unix(UnixListener::from_std(socket.into())?),
        })
    }

    pub(crate) async fn accept(&self) -> io::Result<(Stream, Address)> {
        Ok(match self {
            Self::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                (Stream::Tcp(stream), peer.into())
            }
            Self::Unix(socket) => {
                let (stream, peer) = socket.accept().await?;
                (Stream::Unix(stream), peer.into())
            }
        })
    }

    /// What the kernel has, without a wait. tokio may not have heard of all that there is.
    pub(crate) fn accept_now(&self) -> io::Result<(Unwatched, Address)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, peer) = SockRef::from(socket).accept()?;
                let peer = peer.as_socket().ok_or(io::ErrorKind::InvalidData)?;
                Ok((Unwatched::Tcp(stream.into()), peer.into()))
            }
            Self::Unix(socket) => {
                let (stream, peer) = SockRef::from(socket).accept()?;
                let peer = peer.as_unix().ok_or(io::ErrorKind::InvalidData)?;
                Ok((
                    Unwatched::Unix(stream.into()),
                    unix::SocketAddr::from(peer).into(),
                ))
            }
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        Ok(match self {
            Self::Tcp(socket) => socket.local_addr()?.into(),
            Self::Unix(socket) => socket.local_addr()?.into(),
        })
    }

    /// No connection is accepted any more, although the socket is still open.
    pub(crate) fn shut_down(&self) {
        let socket = match self {
            Self::Tcp(socket) => SockRef::from(socket),
            Self::Unix(socket) => SockRef::from(socket),
        };
        let _ = socket.shutdown(Shutdown::Both);
    }
}

/// A stream that no runtime watches yet.
pub(crate) enum Unwatched {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Unwatched {
    /// Has it watched by the reactor.
    pub(crate) fn watch_by(self, reactor: &Reactor) -> io::Result<Stream> {
        let _guard = reactor.enter();
        self.watch()
    }

    /// Has it watched by the runtime that the caller has entered.
    pub(super) fn watch(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(stream) => {
                stream.set_nonblocking(true)?;
                Stream::Tcp(TcpStream::from_std(stream)?)
            }
            Self::Unix(stream) => {
                stream.set_nonblocking(true)?;
                Stream::Unix(UnixStream::from_std(stream)?)
            }
        })
    }
}

pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// The same stream, watched by another reactor than the one that accepted it.
    pub(crate) fn move_to(self, reactor: &Reactor, from: &Reactor) -> io::Result<Self> {
        if ptr::eq(reactor, from) {
            return Ok(self);
        }
        let unwatched = match self {
            Self::Tcp(stream) => Unwatched::Tcp(stream.into_std()?),
            Self::Unix(stream) => Unwatched::Unix(stream.into_std()?),
        };
        unwatched.watch_by(reactor)
    }

    /// Sends small packets at once, where there is a choice.
    pub(crate) fn set_nodelay(&self, nodelay: bool) {
        if let Self::Tcp(stream) = self {
            // It fails where the peer has left already, which reading will tell.
            let _ = stream.set_nodelay(nodelay);
        }
    }

    /// Makes the close of the stream a reset.
    pub(crate) fn reset(&self) {
        reset_on_close(match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
        });
    }

    /// What the halves carry counts as the listener's traffic.
    pub(crate) fn into_split(self, traffic: Arc<Traffic>) -> (ReadHalf, WriteHalf) {
        let (read, write) = match self {
            Self::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (Read::Tcp(read), Write::Tcp(write))
            }
            Self::Unix(stream) => {
                let (read, write) = stream.into_split();
                (Read::Unix(read), Write::Unix(write))
            }
        };
        let read = ReadHalf {
            half: read,
            traffic: traffic.clone(),
        };
        let write = WriteHalf {
            half: write,
            traffic,
            sent: AtomicU64::new(0),
        };
        (read, write)
    }
}

fn reset_on_close(socket: SockRef<'_>) {
    // It fails where the peer has done so already.
    let _ = socket.set_linger(Some(Duration::ZERO));
}

/// Where a task reads. A half and not the stream itself, because only this way tokio knows that a read
/// which did not fill its buffer was the last one for now.
pub(crate) struct ReadHalf {
    half: Read,
    traffic: Arc<Traffic>,
}

enum Read {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(match &mut this.half {
            Read::Tcp(half) => Pin::new(half).poll_read(cx, buf),
            Read::Unix(half) => Pin::new(half).poll_read(cx, buf),
        })?;
        this.traffic.count_received(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

/// What tells that the peer has closed its side. tokio knows no interest in that alone, but to it the end is
/// what urgent data is, which no stream here is watched for.
#[cfg(any(target_os = "linux", target_os = "android"))]
const END: Interest = Interest::PRIORITY;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const END: Interest = Interest::READABLE;

/// Everything but the reading: for any thread.
pub(crate) struct WriteHalf {
    half: Write,
    traffic: Arc<Traffic>,
    /// What this connection has sent.
    sent: AtomicU64,
}

enum Write {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
}

impl WriteHalf {
    /// Bytes that the kernel has taken.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.traffic.count_sent(bytes);
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let sent = match &self.half {
            Write::Tcp(half) => half.try_write(bytes),
            Write::Unix(half) => half.try_write(bytes),
        }?;
        self.count_sent(sent);
        Ok(sent)
    }

    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let sent = match &self.half {
            Write::Tcp(half) => half.try_write_vectored(slices),
            Write::Unix(half) => half.try_write_vectored(slices),
        }?;
        self.count_sent(sent);
        Ok(sent)
    }

    /// Writes by a call of the kernel's that is not here; it must not wait for the peer.
    pub(crate) fn try_io(
        &self,
        write: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let sent = match &self.half {
            Write::Tcp(half) => {
                let stream: &TcpStream = half.as_ref();
                stream.try_io(Interest::WRITABLE, || write(stream.as_fd()))
            }
            Write::Unix(half) => {
                let stream: &UnixStream = half.as_ref();
                stream.try_io(Interest::WRITABLE, || write(stream.as_fd()))
            }
        }?;
        self.count_sent(sent);
        Ok(sent)
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.half {
            Write::Tcp(half) => half.as_ref().poll_write_ready(cx),
            Write::Unix(half) => half.as_ref().poll_write_ready(cx),
        }
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        match &self.half {
            Write::Tcp(half) => half.as_ref().readable().await,
            Write::Unix(half) => half.as_ref().readable().await,
        }
    }

    /// Ready when the peer has reset the connection, whatever it has sent before.
    pub(crate) async fn failed(&self) {
        // Nothing else can be waited for without a descriptor that has failed as well.
        let _ = match &self.half {
            Write::Tcp(half) => half.as_ref().ready(Interest::ERROR).await,
            Write::Unix(half) => half.as_ref().ready(Interest::ERROR).await,
        };
    }

    /// Ready when the peer has closed its side or reset the connection. What it has sent before that may be
    /// unread, where the kernel tells the one without the other (EPOLLRDHUP); elsewhere only a reset is told then.
    pub(crate) async fn ended(&self) {
        let ready = match &self.half {
            Write::Tcp(half) => half.as_ref().ready(END).await,
            Write::Unix(half) => half.as_ref().ready(END).await,
        };
        if ready.is_ok_and(|ready| !ready.is_read_closed()) {
            self.failed().await;
        }
    }

    /// Reads after the task that had the other half has gone.
    pub(crate) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let received = match &self.half {
            Write::Tcp(half) => half.as_ref().try_read(buf),
            Write::Unix(half) => half.as_ref().try_read(buf),
        }?;
        self.traffic.count_received(received);
        Ok(received)
    }

    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        Ok(match &self.half {
            Write::Tcp(half) => half.local_addr()?.into(),
            Write::Unix(half) => half.local_addr()?.into(),
        })
    }

    /// Tells the peer that nothing more will come.
    pub(crate) fn shut_down(&self) -> io::Result<()> {
        self.socket().shutdown(Shutdown::Write)
    }

    /// Makes the close of the stream a reset.
    pub(crate) fn reset(&self) {
        reset_on_close(self.socket());
    }

    /// Drops it without the FIN that is sent otherwise.
    pub(crate) fn forget(self) {
        match self.half {
            Write::Tcp(half) => half.forget(),
            Write::Unix(half) => half.forget(),
        }
    }

    /// Whether the kernel has what was not read, of which tokio may not have heard yet.
    pub(crate) fn has_arrivals(&self) -> bool {
        self.socket().peek(&mut [MaybeUninit::uninit()]).is_ok()
    }

    fn socket(&self) -> SockRef<'_> {
        match &self.half {
            Write::Tcp(half) => SockRef::from(half.as_ref()),
            Write::Unix(half) => SockRef::from(half.as_ref()),
        }
    }
}
