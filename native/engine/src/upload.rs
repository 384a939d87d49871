//! A request's body, read piece by piece as the handler asks for it.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use hyper::body::{Body, Incoming};

use crate::error::ReadError;
use crate::timer::timeout;
use crate::ws::buffer::Buffer;

/// First size of a piece's buffer when the body's length is not known.
const FIRST_CAPACITY: usize = 16 * 1024;
/// And when it is: a length that is only announced is not worth more memory than this.
const MAX_FIRST_CAPACITY: usize = 1 << 20;

pub struct Piece<B> {
    pub data: B,
    /// Whether the body goes on.
    pub more: bool,
}

/// Where a body comes from.
pub(crate) enum Source {
    Http1(Incoming),
    /// h2 holds the stream to the length that its head says.
    Http2 {
        body: RecvStream,
        length: Option<u64>,
    },
}

impl Source {
    fn is_at_end(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2 { body, .. } => body.is_end_stream(),
        }
    }

    /// `None` when nobody said.
    fn length(&self) -> Option<u64> {
        match self {
            Self::Http1(body) => body.size_hint().exact(),
            Self::Http2 { length, .. } => *length,
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ReadError>>> {
        match self {
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_ok(|frame| {
                // A frame that is not data holds trailers, which Plug has no place for.
                frame.into_data().unwrap_or_default()
            }),
            Self::Http2 { body, .. } => {
                let data = ready!(body.poll_data(cx));
                if let Some(Ok(data)) = &data {
                    // It fails where the stream is gone, which the next read will tell.
                    let _ = body.flow_control().release_capacity(data.len());
                }
                return Poll::Ready(data.map(|data| data.map_err(|_| ReadError::Closed)));
            }
        }
        .map_err(|_| ReadError::Closed)
    }
}

pub(crate) struct Upload {
    /// `None` once it has been read to its end.
    body: Option<Source>,
    /// Read, but past the length that was asked for.
    leftover: Bytes,
    /// Given up before it was read to its end.
    cut: bool,
}

impl Upload {
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
            cut: false,
        }
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
            if self.cut && data.len() < length {
                return Err(ReadError::Closed);
            }
            if data.len() == length || self.body.is_none() {
                let more = self.cut || self.body.is_some() || !self.leftover.is_empty();
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

    /// Fills `leftover`, which is empty, or finds the body's end.
    async fn next(&mut self) -> Result<(), ReadError> {
        let Some(body) = self.body.as_mut() else {
            return Ok(());
        };
        let data = poll_fn(|cx| body.poll_data(cx)).await;
        let at_end = data.is_none() || body.is_at_end();
        if let Some(data) = data {
            self.leftover = data?;
        }
        if at_end {
            self.body = None;
        }
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
    data.spare()[..bytes.len()].copy_from_slice(bytes);
    data.advance(bytes.len());
}
