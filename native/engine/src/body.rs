//! Response bodies.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::backpressure::{Waiter, Watermark, call};
use crate::error::SendError;
use crate::{lock, runtime};

/// Bytes of a file that are in memory at a time, per response.
const FILE_PIECE: u64 = 128 * 1024;

pub(crate) enum ResponseBody {
    /// For responses that cannot have one. Not an empty body: then hyper would drop the
    /// `content-length` that may describe the body of another response (RFC9110§8.6).
    None,
    Whole(Bytes),
    Streamed(StreamedBody),
    File(FileBody),
}

impl ResponseBody {
    /// Whether nothing will come of it.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None) || self.is_end_stream()
    }

    /// Whether the handler has given it up; wakes the task when it does.
    pub(crate) fn is_aborted(&self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Streamed(body) => body.is_aborted(cx),
            Self::None | Self::Whole(_) | Self::File(_) => false,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let data = match self.get_mut() {
            Self::None => return Poll::Ready(None),
            Self::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Whole(bytes) => Some(Ok(std::mem::take(bytes))),
            Self::Streamed(body) => ready!(body.poll_data(cx)),
            Self::File(body) => ready!(body.poll_data(cx)),
        };
        Poll::Ready(data.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::None | Self::Streamed(_) => false,
            Self::File(body) => body.remaining == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::None | Self::Streamed(_) => SizeHint::default(),
            Self::File(body) => SizeHint::with_exact(body.remaining),
        }
    }
}

/// The handler's end of a streamed body.
pub(crate) struct BodySender(Arc<Mutex<Stream>>);

/// hyper's end.
pub(crate) struct StreamedBody {
    stream: Arc<Mutex<Stream>>,
    /// Something was handed to hyper and may not have been written yet.
    unflushed: bool,
    /// Bytes that the head has promised and that did not come yet.
    missing: u64,
}

struct Stream {
    pieces: VecDeque<Bytes>,
    mark: Watermark,
    end: Option<End>,
    reader: Option<Waker>,
    /// hyper has dropped its end: the peer is gone, or wants no body.
    unread: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Finished,
    Aborted,
}

/// `length` is what the head says of it; 0 when it says nothing.
pub(crate) fn streamed(high_water_mark: usize, length: u64) -> (BodySender, StreamedBody) {
    let stream = Arc::new(Mutex::new(Stream {
        pieces: VecDeque::new(),
        mark: Watermark::new(high_water_mark),
        end: None,
        reader: None,
        unread: false,
    }));
    (
        BodySender(stream.clone()),
        StreamedBody {
            stream,
            unflushed: false,
            missing: length,
        },
    )
}

impl BodySender {
    /// `true`: taken, and the caller should wait before it sends more.
    pub(crate) fn send(&self, data: Bytes) -> Result<bool, SendError> {
        let mut stream = lock(&self.0);
        if stream.unread || stream.end.is_some() {
            return Err(SendError::Closed);
        }
        if !data.is_empty() {
            stream.mark.add(data.len());
            stream.pieces.push_back(data);
        }
        let full = stream.mark.is_full();
        wake(stream.reader.take());
        Ok(full)
    }

    pub(crate) fn wait(&self, waiter: Waiter) -> bool {
        lock(&self.0).mark.wait(waiter)
    }

    pub(crate) fn finish(&self) {
        self.end(End::Finished);
    }

    /// The peer will see that the body is not whole.
    pub(crate) fn abort(&self) {
        self.end(End::Aborted);
    }

    fn end(&self, end: End) {
        let mut stream = lock(&self.0);
        stream.end.get_or_insert(end);
        wake(stream.reader.take());
    }
}

impl Drop for BodySender {
    fn drop(&mut self) {
        self.abort();
    }
}

impl StreamedBody {
    fn is_aborted(&self, cx: &mut Context<'_>) -> bool {
        let mut stream = lock(&self.stream);
        stream.reader = Some(cx.waker().clone());
        stream.end == Some(End::Aborted)
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut stream = lock(&self.stream);
        if let Some(piece) = stream.pieces.pop_front() {
            self.unflushed = true;
            self.missing = self.missing.saturating_sub(piece.len() as u64);
            let waiters = stream.mark.remove(piece.len());
            drop(stream);
            call(waiters, true);
            return Poll::Ready(Some(Ok(piece)));
        }
        match stream.end {
            Some(End::Finished) if self.missing == 0 => Poll::Ready(None),
            // hyper drops what it has buffered when a body fails: one turn of its loop lets it
            // write that first.
            Some(_) if std::mem::take(&mut self.unflushed) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(_) => Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
            None => {
                stream.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for StreamedBody {
    fn drop(&mut self) {
        let mut stream = lock(&self.stream);
        stream.unread = true;
        stream.pieces.clear();
        let waiters = stream.mark.close();
        drop(stream);
        call(waiters, false);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A range of a file, read ahead of the peer by one piece.
pub(crate) struct FileBody {
    file: Arc<File>,
    offset: u64,
    remaining: u64,
    read: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    pub(crate) fn new(file: File, offset: u64, length: u64) -> Self {
        Self {
            file: Arc::new(file),
            offset,
            remaining: length,
            read: None,
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        let (file, offset) = (&self.file, self.offset);
        let length = self.remaining.min(FILE_PIECE) as usize;
        let read = self.read.get_or_insert_with(|| {
            let file = file.clone();
            runtime::spawn_blocking(move || {
                let mut piece = vec![0; length];
                file.read_exact_at(&mut piece, offset)?;
                Ok(piece.into())
            })
        });
        let result = ready!(Pin::new(read).poll(cx));
        self.read = None;
        self.offset += length as u64;
        self.remaining -= length as u64;
        Poll::Ready(Some(result.unwrap_or_else(|e| Err(io::Error::other(e)))))
    }
}
