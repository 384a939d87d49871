//! A request's body, read piece by piece as the handler asks for it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use hyper::body::{Body, Frame, Incoming};

use crate::buffer::Buffer;
use crate::error::ReadError;
use crate::http::h1::wire::Wire;
use crate::rt::timer::timeout;

/// First size of a piece's buffer when the body's length is not known.
const FIRST_CAPACITY: usize = 16 * 1024;
/// And when it is: a length that is only announced is not worth more memory than this.
const MAX_FIRST_CAPACITY: usize = 1 << 20;

/// Pieces of a body that are taken before anybody asks for them: a client may send it in chunks of a byte.
const AHEAD_PIECES: usize = 64;

pub struct Piece<B> {
    pub data: B,
    /// Whether the body goes on.
    pub more: bool,
}

/// Where a body comes from.
pub(crate) enum Source {
    Http1 {
        body: Incoming,
        wire: Arc<Wire>,
    },
    /// h2 holds the stream to the length that its head says.
    Http2 {
        body: RecvStream,
        length: Option<u64>,
    },
}

/// `None` where nobody but the body itself tells where it ends.
pub(crate) fn known_length(body: &Incoming) -> Option<u64> {
    if body.is_end_stream() {
        return Some(0);
    }
    body.size_hint().exact()
}

impl Source {
    fn is_at_end(&self) -> bool {
        match self {
            Self::Http1 { body, .. } => body.is_end_stream(),
            Self::Http2 { body, .. } => body.is_end_stream(),
        }
    }

    /// `None` when nobody said.
    fn length(&self) -> Option<u64> {
        match self {
            Self::Http1 { body, .. } => body.size_hint().exact(),
            Self::Http2 { length, .. } => *length,
        }
    }

    pub(crate) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ReadError>>> {
        match self {
            Self::Http1 { body, wire } => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                let data = frame.map(|frame| data(frame.map_err(|e| broken(&e))?));
                if let Some(Ok(data)) = &data {
                    wire.took_data(data);
                }
                Poll::Ready(data)
            }
            Self::Http2 { body, .. } => {
                let data = ready!(body.poll_data(cx));
                if let Some(Ok(data)) = &data {
                    // It fails where the stream is gone, which the next read will tell.
                    let _ = body.flow_control().release_capacity(data.len());
                }
                Poll::Ready(data.map(|data| data.map_err(|_| ReadError::Closed)))
            }
        }
    }
}

/// A frame that is not data holds trailers, which Plug has no place for. Where there are none, there is no such
/// frame: one with none has an empty line that was not the end, and what follows was taken for trailers.
fn data(frame: Frame<Bytes>) -> Result<Bytes, ReadError> {
    match frame.into_data() {
        Ok(data) => Ok(data),
        Err(frame) if frame.trailers_ref().is_some_and(HeaderMap::is_empty) => {
            Err(ReadError::Malformed)
        }
        Err(_) => Ok(Bytes::new()),
    }
}

/// Why hyper gives a body up: its decoder says so by an I/O error of its own.
fn broken(error: &hyper::Error) -> ReadError {
    let cause = std::error::Error::source(error).and_then(|e| e.downcast_ref::<io::Error>());
    match cause.map(io::Error::kind) {
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => ReadError::Malformed,
        _ => ReadError::Closed,
    }
}

pub(crate) struct RequestBody {
    /// `None` once it has been read to its end.
    body: Option<Source>,
    /// Read, but past the length that was asked for.
    leftover: Bytes,
    /// Taken from the connection before anybody asked for it; it follows the `leftover`.
    ahead: VecDeque<Bytes>,
    /// Given up before it was read to its end.
    cut: bool,
    /// Why it will never be whole.
    failure: Option<ReadError>,
}

/// What is left of a body as the head of the response goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Nothing,
    /// The client will send so many bytes.
    Bytes(u64),
    /// The client has not told, or it does not end.
    Unknown,
}

impl RequestBody {
    pub(crate) fn new(body: Source) -> Self {
        Self {
            body: (!body.is_at_end()).then_some(body),
            ..Self::none()
        }
    }

    /// Of a request that has no body.
    pub(crate) fn none() -> Self {
        Self {
            body: None,
            leftover: Bytes::new(),
            ahead: VecDeque::new(),
            cut: false,
            failure: None,
        }
    }

    /// As far as it is known without a look at what has arrived.
    pub(crate) fn rest(&self) -> Rest {
        match &self.body {
            None if self.failure.is_some() => Rest::Unknown,
            None => Rest::Nothing,
            Some(body) => body.length().map_or(Rest::Unknown, Rest::Bytes),
        }
    }

    /// Takes what has arrived of a body of which nobody knows the length, until its end is found, or more
    /// than `at_most` bytes. It can still be read. Pending where there is no more for now.
    pub(crate) fn poll_ahead(&mut self, cx: &mut Context<'_>, at_most: u64) -> Poll<Rest> {
        loop {
            let Some(body) = self.body.as_mut() else {
                return Poll::Ready(self.rest());
            };
            let taken: usize = self.ahead.iter().map(Bytes::len).sum();
            if self.ahead.len() == AHEAD_PIECES || taken as u64 > at_most {
                return Poll::Ready(Rest::Unknown);
            }
            let data = ready!(body.poll_data(cx));
            let at_end = data.is_none() || body.is_at_end();
            match data {
                Some(Ok(piece)) if !piece.is_empty() => self.ahead.push_back(piece),
                Some(Err(error)) => self.failure = Some(error),
                Some(Ok(_)) | None => {}
            }
            if at_end || self.failure.is_some() {
                self.body = None;
            }
        }
    }

    /// How many pieces were taken before anybody asked for them.
    pub(crate) fn pieces_ahead(&self) -> usize {
        self.ahead.len()
    }

    /// Nothing more will be read of it. Returns the rest.
    pub(crate) fn end(&mut self) -> Option<Source> {
        let rest = self.body.take();
        self.cut |= rest.is_some();
        rest
    }

    pub(crate) async fn read<B: Buffer>(
        &mut self,
        length: usize,
        wait: Option<Duration>,
    ) -> Result<Piece<B>, ReadError> {
        let mut data = B::with_capacity(self.first_capacity(length));
        loop {
            let room = length - data.len();
            let taken = self.leftover.split_to(room.min(self.leftover.len()));
            append(&mut data, &taken);
            if data.len() < length {
                if let Some(piece) = self.ahead.pop_front() {
                    self.leftover = piece;
                    continue;
                }
                self.check()?;
            }
            if data.len() == length || self.body.is_none() {
                let more = self.has_more();
                return Ok(Piece { data, more });
            }
            match wait {
                None => self.next().await?,
                Some(wait) => match timeout(wait, self.next()).await {
                    Ok(result) => result?,
                    Err(_) => {
                        self.keep(&mut data);
                        return Err(ReadError::Timeout);
                    }
                },
            }
        }
    }

    /// Whether what was not read yet can be.
    fn check(&self) -> Result<(), ReadError> {
        match self.failure {
            Some(error) => Err(error),
            None if self.cut => Err(ReadError::Closed),
            None => Ok(()),
        }
    }

    fn has_more(&self) -> bool {
        let is_held = !self.leftover.is_empty() || !self.ahead.is_empty();
        is_held || self.body.is_some() || self.check().is_err()
    }

    /// Fills `leftover`, which is empty, or finds the body's end.
    async fn next(&mut self) -> Result<(), ReadError> {
        let Some(body) = self.body.as_mut() else {
            return Ok(());
        };
        let data = poll_fn(|cx| body.poll_data(cx)).await;
        let at_end = data.is_none() || body.is_at_end();
        if let Some(Err(error)) = data {
            // Told again to whoever reads on: without its end the body must not look whole.
            self.failure = Some(error);
        }
        if at_end || self.failure.is_some() {
            self.body = None;
        }
        self.leftover = data.transpose()?.unwrap_or_default();
        Ok(())
    }

    /// What was read before a timeout is there for the next read.
    fn keep<B: Buffer>(&mut self, data: &mut B) {
        self.leftover = Bytes::copy_from_slice(data.filled());
    }

    fn first_capacity(&self, length: usize) -> usize {
        let known = self.body.as_ref().and_then(Source::length);
        let announced = known.map_or(FIRST_CAPACITY, |n| {
            n.min(MAX_FIRST_CAPACITY as u64) as usize
        });
        length.min(announced + self.leftover.len())
    }
}

fn append<B: Buffer>(data: &mut B, bytes: &[u8]) {
    let needed = data.len() + bytes.len();
    if needed > data.capacity() {
        data.reserve(needed.max(data.capacity() * 2));
    }
    data.extend(bytes);
}
