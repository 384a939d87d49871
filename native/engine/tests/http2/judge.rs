//! What becomes of a client's bytes: what the filter makes of them, and h2 of that.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use ferrosock_engine::http::h2::filter::Filter;
use h2::server::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::client::{GOAWAY, RST_STREAM};

pub const MAX_HEADER_LENGTH: u32 = 10_000;

/// What has passed, and the code of a fault.
pub type Filtered = (Vec<u8>, Option<u32>);

/// What the filter makes of bytes that come in pieces of `sizes`, in turn, and are taken out in such.
pub fn filter(bytes: &[u8], sizes: &[usize], spaces: &[usize]) -> Filtered {
    let mut filter = Filter::new(MAX_HEADER_LENGTH);
    let mut sizes = sizes.iter().cycle();
    let mut spaces = spaces.iter().cycle();
    let (mut rest, mut passed) = (bytes, vec![]);
    while let (false, Some(size)) = (rest.is_empty(), sizes.next()) {
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        rest = after;
        let n = filter.take(piece);
        passed.extend(&piece[..n]);
        let mut space = vec![0; *spaces.next().unwrap()];
        loop {
            let n = filter.give(&mut space);
            passed.extend(&space[..n]);
            if n == 0 {
                break;
            }
        }
        if let Some(reason) = filter.fault() {
            return (passed, Some(reason.into()));
        }
    }
    (passed, None)
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Those that reach a handler.
    pub requests: Vec<Request>,
    /// Streams and codes.
    pub resets: Vec<(u32, u32)>,
    pub goaway: Option<u32>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub stream: u32,
    /// Method and target.
    pub line: String,
    pub fields: Vec<(String, Vec<u8>)>,
}

/// What h2 makes of bytes, as the engine runs it. Responses there are none.
pub fn h2(bytes: &[u8]) -> Outcome {
    let mut wire = Wire {
        input: bytes.to_vec(),
        at: 0,
        output: vec![],
    };
    let mut outcome = Outcome::default();
    let mut cx = Context::from_waker(Waker::noop());
    {
        let mut builder = Builder::new();
        builder
            .max_header_list_size(MAX_HEADER_LENGTH)
            .enable_connect_protocol();
        let mut handshake = builder.handshake::<_, bytes::Bytes>(&mut wire);
        if let Poll::Ready(Ok(mut server)) = Pin::new(&mut handshake).poll(&mut cx) {
            serve(&mut server, &mut cx, &mut outcome);
        }
    }
    for (kind, stream, payload) in frames(&wire.output) {
        let code = |payload: &[u8]| u32::from_be_bytes(*payload.first_chunk().unwrap());
        match kind {
            RST_STREAM => outcome.resets.push((stream, code(payload))),
            GOAWAY => outcome.goaway = Some(code(&payload[4..])),
            _ => {}
        }
    }
    outcome
}

fn serve(
    server: &mut Connection<&mut Wire, bytes::Bytes>,
    cx: &mut Context<'_>,
    outcome: &mut Outcome,
) {
    // Kept, as dropped streams would be reset.
    let mut kept = vec![];
    while let Poll::Ready(Some(Ok((request, reply)))) = server.poll_accept(cx) {
        let (head, body) = request.into_parts();
        let fields = head.headers.iter();
        outcome.requests.push(Request {
            stream: reply.stream_id().as_u32(),
            line: format!("{} {}", head.method, head.uri),
            fields: fields
                .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                .collect(),
        });
        kept.push((body, reply));
    }
    let _ = server.poll_closed(cx);
}

fn frames(bytes: &[u8]) -> Vec<(u8, u32, &[u8])> {
    let (mut rest, mut frames) = (bytes, vec![]);
    while let Some((head, after)) = rest.split_first_chunk::<9>() {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, after)) = after.split_at_checked(len) else {
            break;
        };
        let stream = u32::from_be_bytes(*head.last_chunk().unwrap());
        frames.push((head[3], stream, payload));
        rest = after;
    }
    frames
}

/// Has all that will ever come, and takes whatever it is given.
struct Wire {
    input: Vec<u8>,
    at: usize,
    output: Vec<u8>,
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = &this.input[this.at..];
        if rest.is_empty() {
            return Poll::Pending;
        }
        let n = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..n]);
        this.at += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().output.extend(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
