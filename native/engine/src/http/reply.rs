//! How a response gets to its client: by hyper's service with HTTP/1, on a stream of its own with HTTP/2.

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use tokio::sync::oneshot;

use super::h1::heads::interim_head;
use super::h1::io::upgraded;
use super::h1::wire::Wire;
use super::h2 as http2;
use super::response::closing;
use super::response_body::{Origin, ResponseBody, Tracked};
use super::status::Line;
use crate::error::SendError;
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
    pub(crate) fn send(
        self,
        response: Response<ResponseBody>,
        origin: impl FnOnce() -> Arc<dyn Origin>,
    ) -> Result<(), SendError> {
        match self {
            Self::Http1 { service, .. } => service.send(response).map_err(|_| SendError::Closed),
            Self::Http2 { stream, receiving } => {
                let origin = origin();
                if let Some(receiving) = receiving {
                    http2::drain(origin.reactor(), receiving);
                }
                http2::send(stream, response.map(|body| Tracked { body, origin }))
            }
        }
    }

    /// Answers for a handler that does not. With HTTP/1 the service does so by itself.
    pub(crate) fn abandon(self, origin: impl FnOnce() -> Arc<dyn Origin>) {
        if let Self::Http2 { .. } = self {
            let _ = self.send(closing(StatusCode::INTERNAL_SERVER_ERROR), origin);
        }
    }

    /// Sends an informational response. With HTTP/1, the caller wakes the connection's task.
    pub(crate) fn inform(
        &mut self,
        wire: Option<&Wire>,
        line: &Line,
        headers: &HeaderMap,
    ) -> Result<(), SendError> {
        match self {
            Self::Http2 { stream, .. } => http2::inform(stream, line.status, headers.clone()),
            Self::Http1 { service, .. } => {
                let wire = wire.filter(|_| !service.is_closed());
                wire.ok_or(SendError::Closed)?
                    .push_interim(&interim_head(line, headers));
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
                Ok(Transport::Connection(Box::pin(upgraded(on_upgrade))))
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
