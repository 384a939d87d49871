//! A request's body, read piece by piece as the handler asks for it.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
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

pub(crate) struct Upload {
    /// `None` once it has been read to its end.
    body: Option<Incoming>,
    /// Read, but past the length that was asked for.
    leftover: Bytes,
    /// Given up before it was read to its end.
    cut: bool,
}

impl Upload {
    pub(crate) fn new(body: Incoming) -> Self {
        let body = (!body.is_end_stream()).then_some(body);
        Self {
            body,
            leftover: Bytes::new(),
            cut: false,
        }
    }

    /// hyper may go on to the next request.
    pub(crate) fn end(&mut self) {
        self.cut |= self.body.take().is_some();
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
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
        let at_end = frame.is_none() || body.is_end_stream();
        if let Some(frame) = frame {
            // A frame that is not data holds trailers, which Plug has no place for.
            self.leftover = frame
                .map_err(|_| ReadError::Closed)?
                .into_data()
                .unwrap_or_default();
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
        let known = self.body.as_ref().and_then(|body| body.size_hint().exact());
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
