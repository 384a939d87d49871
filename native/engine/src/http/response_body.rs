//! Response bodies.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::error::SendError;
use crate::flow::{Budget, Waiter, Watermark, call};
use crate::http::h1::wire::Wire;
use crate::net::sendfile::{FileRange, Placeholder};
use crate::rt::{self, Reactor, lock};

/// Bytes of a file that are in memory at a time, per response.
const FILE_PIECE: u64 = 128 * 1024;

/// A file, or a range of one, that is read whole. Head and body are one write then, where sendfile(2)
/// would cost more than the copies that it saves.
const SMALL_FILE: u64 = 64 * 1024;

/// What a piece that waits costs besides its bytes: one of a byte must not count for a byte.
const PIECE_COST: usize = 64;

pub(crate) enum ResponseBody {
    /// For responses that cannot have one. Not an empty body: then hyper would drop the
    /// `content-length` that may describe the body of another response (RFC9110§8.6).
    None,
    Whole(Bytes),
    Streamed(StreamedBody),
    File(FileBody),
    SentFile(SentFileBody),
}

/// A piece of a body.
pub(crate) enum Data {
    Bytes(Bytes),
    File(Placeholder),
}

impl Buf for Data {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.remaining(),
            Self::File(placeholder) => placeholder.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.chunk(),
            Self::File(placeholder) => placeholder.chunk(),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::File(placeholder) => placeholder.advance(count),
        }
    }
}

impl ResponseBody {
    /// A range of a file; reads it where it is small. `http1`: where the response is written, if that is
    /// one response after the other.
    pub(crate) fn file(
        file: File,
        (offset, length): (u64, u64),
        http1: Option<Arc<Wire>>,
    ) -> io::Result<Self> {
        if length <= SMALL_FILE {
            let mut bytes = vec![0; length as usize];
            return match file.read_exact_at(&mut bytes, offset) {
                Ok(()) => Ok(Self::Whole(bytes.into())),
                // It has shrunk since it was asked for its length.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    Err(io::ErrorKind::InvalidInput.into())
                }
                Err(e) => Err(e),
            };
        }
        Ok(match http1.filter(|wire| wire.sends_files()) {
            Some(wire) => Self::SentFile(SentFileBody {
                wire,
                range: Some(FileRange::new(file, offset, length)),
                remaining: length,
            }),
            None => Self::File(FileBody::new(file, offset, length)),
        })
    }

    /// Whether nothing will come of it.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None) || self.is_end_stream()
    }

    /// Whether the handler has given it up; wakes the task when it does.
    pub(crate) fn is_aborted(&self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Streamed(body) => body.is_aborted(cx),
            Self::None | Self::Whole(_) | Self::File(_) | Self::SentFile(_) => false,
        }
    }
}

impl Body for ResponseBody {
    type Data = Data;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Data>>>> {
        let bytes = match self.get_mut() {
            Self::None => return Poll::Ready(None),
            Self::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Whole(bytes) => Some(Ok(std::mem::take(bytes))),
            Self::Streamed(body) => ready!(body.poll_data(cx)),
            Self::File(body) => ready!(body.poll_data(cx)),
            Self::SentFile(body) => {
                let data = body.next_piece().map(Data::File);
                return Poll::Ready(data.map(|data| Ok(Frame::data(data))));
            }
        };
        Poll::Ready(bytes.map(|piece| piece.map(|bytes| Frame::data(Data::Bytes(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            // A body that does not tell, hyper keeps until its last piece is written, unless that would
            // fit into its buffer. Until then, a client that reads slowly is no idle one.
            Self::None | Self::Streamed(_) | Self::SentFile(_) => false,
            Self::File(body) => body.remaining == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::None | Self::Streamed(_) => SizeHint::default(),
            Self::File(body) => SizeHint::with_exact(body.remaining),
            Self::SentFile(body) => SizeHint::with_exact(body.remaining),
        }
    }
}

/// The handler's end of a streamed body.
pub(crate) struct BodySender(Arc<Mutex<Queue>>);

/// hyper's end, or that of a stream.
pub(crate) struct StreamedBody {
    queue: Arc<Mutex<Queue>>,
    /// Something was handed over and may not have been written yet.
    unflushed: bool,
    /// Bytes that the head has promised and that did not come yet.
    missing: u64,
}

/// What the handler has sent and the connection has not taken.
struct Queue {
    pieces: VecDeque<Bytes>,
    mark: Watermark,
    end: Option<End>,
    reader: Option<Waker>,
    /// The other end was dropped: the peer is gone, or wants no body.
    unread: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Finished,
    Aborted,
}

/// `length` is what the head says of it; 0 when it says nothing.
pub(crate) fn streamed(
    high_water_mark: usize,
    length: u64,
    budget: Arc<Budget>,
) -> (BodySender, StreamedBody) {
    let queue = Arc::new(Mutex::new(Queue {
        pieces: VecDeque::new(),
        mark: Watermark::new(high_water_mark, budget),
        end: None,
        reader: None,
        unread: false,
    }));
    (
        BodySender(queue.clone()),
        StreamedBody {
            queue,
            unflushed: false,
            missing: length,
        },
    )
}

impl BodySender {
    /// `true`: taken, and the caller should wait before it sends more.
    pub(crate) fn send(&self, data: Bytes) -> Result<bool, SendError> {
        let mut queue = lock(&self.0);
        if queue.unread || queue.end.is_some() {
            return Err(SendError::Closed);
        }
        if !data.is_empty() {
            queue.mark.add(data.len() + PIECE_COST);
            queue.pieces.push_back(data);
        }
        let full = queue.mark.is_full();
        wake(queue.reader.take());
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
        let mut queue = lock(&self.0);
        queue.end.get_or_insert(end);
        wake(queue.reader.take());
    }
}

impl Drop for BodySender {
    fn drop(&mut self) {
        self.abort();
    }
}

impl StreamedBody {
    fn is_aborted(&self, cx: &mut Context<'_>) -> bool {
        let mut queue = lock(&self.queue);
        queue.reader = Some(cx.waker().clone());
        queue.end == Some(End::Aborted)
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let mut queue = lock(&self.queue);
        if let Some(piece) = queue.pieces.pop_front() {
            self.unflushed = true;
            self.missing = self.missing.saturating_sub(piece.len() as u64);
            let waiters = queue.mark.remove(piece.len() + PIECE_COST);
            drop(queue);
            call(waiters, true);
            return Poll::Ready(Some(Ok(piece)));
        }
        match queue.end {
            Some(End::Finished) if self.missing == 0 => Poll::Ready(None),
            // hyper drops what it has buffered when a body fails: one turn of its loop lets it
            // write that first.
            Some(_) if std::mem::take(&mut self.unflushed) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(_) => Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
            None => {
                queue.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for StreamedBody {
    fn drop(&mut self) {
        let mut queue = lock(&self.queue);
        queue.unread = true;
        queue.pieces.clear();
        let waiters = queue.mark.close();
        drop(queue);
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
            rt::spawn_blocking(move || {
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

/// A range of a file that the kernel sends, for which hyper gets placeholders.
pub(crate) struct SentFileBody {
    wire: Arc<Wire>,
    /// Until the first placeholder.
    range: Option<FileRange>,
    remaining: u64,
}

impl SentFileBody {
    fn next_piece(&mut self) -> Option<Placeholder> {
        if self.remaining == 0 {
            return None;
        }
        if let Some(range) = self.range.take() {
            self.wire.set_file(range);
        }
        let placeholder = Placeholder::of(self.remaining);
        self.remaining -= placeholder.remaining() as u64;
        Some(placeholder)
    }
}

/// The exchange, as its response sees it on its way to the client.
pub(crate) trait Origin: Send + Sync {
    /// To a HEAD: it has no body, whatever the handler sends (RFC9110§9.3.2).
    fn is_head(&self) -> bool;

    fn reactor(&self) -> &'static Reactor;

    fn budget(&self) -> &Arc<Budget>;

    /// How long the response may wait for a client that takes nothing of it.
    fn send_timeout(&self) -> Duration;

    /// Bytes of DATA that were sent on the streams of the connection.
    fn data_sent(&self) -> u64;

    /// The response is out, or will never be.
    fn ended(&self);
}

/// A response body that tells its exchange when it has been sent, or will not be.
pub(crate) struct Tracked {
    pub(crate) body: ResponseBody,
    pub(crate) origin: Arc<dyn Origin>,
}

impl Body for Tracked {
    type Data = Data;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Data>>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.origin.ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_count_for_what_they_weigh() {
        let budget = Budget::new(usize::MAX);
        let (sender, body) = streamed(6500, 0, budget.clone());
        let piece = || Bytes::from_static(b"x");
        let taken = (1..).find(|_| sender.send(piece()).unwrap()).unwrap();
        assert_eq!(taken, 101);
        drop(body);
        assert_eq!(budget.queued(), 0);
    }

    #[test]
    fn a_small_file_that_has_shrunk_is_an_error_before_there_is_a_response() {
        let null = || File::open("/dev/null").unwrap();
        assert!(ResponseBody::file(null(), (5, 0), None).is_ok());
        let error = ResponseBody::file(null(), (0, 1), None).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
