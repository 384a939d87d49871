//! How a response gets to its client: by hyper's service with HTTP/1, on a stream of its own with HTTP/2.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING};
use http::{HeaderMap, Response, StatusCode, Version};
use hyper::body::{Body, Frame, SizeHint};
use hyper::upgrade::OnUpgrade;
use tokio::sync::oneshot;

use crate::error::SendError;
use crate::http::exchange::Exchange;
use crate::http::h2 as http2;
use crate::http::response::closing;
use crate::http::response_body::{Data, ResponseBody};
use crate::http::status::Line;
use crate::owner::Owner;
use crate::ws::transport::Transport;

pub(crate) enum Reply {
    Http1 {
        service: oneshot::Sender<Response<ResponseBody>>,
        on_upgrade: Option<OnUpgrade>,
    },
    Http2 {
        stream: SendResponse<Bytes>,
        /// What the client sends on a stream that it wants to be a WebSocket.
        receiving: Option<RecvStream>,
    },
}

impl Reply {
    pub(crate) fn send<O: Owner>(
        self,
        response: Response<ResponseBody>,
        exchange: &Arc<Exchange<O>>,
    ) -> Result<(), SendError> {
        match self {
            Self::Http1 { service, .. } => service.send(response).map_err(|_| SendError::Closed),
            Self::Http2 { stream, receiving } => {
                if let Some(receiving) = receiving {
                    http2::leave(exchange.reactor(), receiving);
                }
                let exchange = exchange.clone();
                http2::send(stream, response.map(|body| Tracked { body, exchange }))
            }
        }
    }

    /// Answers for a handler that does not. With HTTP/1 the service does so by itself.
    pub(crate) fn abandon<O: Owner>(self, exchange: &Arc<Exchange<O>>) {
        if let Self::Http2 { .. } = self {
            let _ = self.send(closing(StatusCode::INTERNAL_SERVER_ERROR), exchange);
        }
    }

    pub(crate) fn inform<O: Owner>(
        &mut self,
        exchange: &Exchange<O>,
        line: &Line,
        headers: &HeaderMap,
    ) -> Result<(), SendError> {
        match self {
            Self::Http2 { stream, .. } => http2::inform(stream, line.status, headers.clone()),
            Self::Http1 { .. } if exchange.version < Version::HTTP_11 => {
                Err(SendError::NotSupported)
            }
            Self::Http1 { service, .. } => {
                let io = exchange.connection.io().filter(|_| !service.is_closed());
                io.ok_or(SendError::Closed)?
                    .push_interim(&interim_head(line, headers));
                exchange.connection.wake.notify_one();
                Ok(())
            }
        }
    }

    pub(crate) fn can_upgrade(&self) -> bool {
        match self {
            Self::Http1 { on_upgrade, .. } => on_upgrade.is_some(),
            Self::Http2 { receiving, .. } => receiving.is_some(),
        }
    }

    /// Sends the response that agrees to an upgrade, and returns what carries the WebSocket from then on.
    pub(crate) fn upgrade(self, response: Response<ResponseBody>) -> Result<Transport, SendError> {
        match self {
            Self::Http1 {
                service,
                on_upgrade: Some(on_upgrade),
            } => {
                service.send(response).map_err(|_| SendError::Closed)?;
                Ok(Transport::Connection(on_upgrade))
            }
            Self::Http2 {
                stream,
                receiving: Some(receiving),
            } => {
                let sending = http2::open(stream, response)?;
                Ok(Transport::Stream { receiving, sending })
            }
            _ => Err(SendError::NotSupported),
        }
    }
}

fn interim_head(line: &Line, headers: &HeaderMap) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} ", line.status.as_str()).into_bytes();
    head.extend_from_slice(line.phrase());
    head.extend_from_slice(b"\r\n");
    // It has no body (RFC9110§8.6).
    let is_framing = |name: &HeaderName| [CONTENT_LENGTH, TRANSFER_ENCODING].contains(name);
    for (name, value) in headers.iter().filter(|(name, _)| !is_framing(name)) {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// A response body that tells its exchange when it has been sent, or will not be.
pub(crate) struct Tracked<O: Owner> {
    pub(crate) body: ResponseBody,
    pub(crate) exchange: Arc<Exchange<O>>,
}

impl<O: Owner> Body for Tracked<O> {
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

impl<O: Owner> Drop for Tracked<O> {
    fn drop(&mut self) {
        self.exchange.ended();
    }
}
