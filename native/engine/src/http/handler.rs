//! Who handles requests, and how a request comes to it.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::exchange::Exchange;
use super::head::{Authority, Refusal};
use crate::connection::{Connection, Taken};
use crate::net::Address;
use crate::owner::Owner;

/// An owner that is offered requests.
pub trait Handler: Owner<Request = Waiting<Self>> {
    /// The owner-to-be of one stream of a connection that this one accepted.
    fn of_stream(&self, stream: Weak<Connection<Self>>) -> Self;
}

/// The head of a request, checked: what the handler gets.
pub struct Request<'a> {
    pub method: &'a Method,
    /// Empty when an HTTP/1.0 request named none.
    pub host: &'a str,
    pub port: Option<u16>,
    pub path: &'a str,
    pub query: &'a str,
    pub version: Version,
    pub headers: &'a HeaderMap,
    pub peer: &'a Address,
}

/// Hands a request to its owner, unless it is to be answered with an error's status.
pub(crate) fn offer<O: Handler>(
    exchange: &Arc<Exchange<O>>,
    head: Parts,
    checked: Result<Option<Authority>, Refusal>,
) -> Result<(), StatusCode> {
    let connection = &exchange.connection;
    let authority = checked.map_err(|(status, error)| {
        connection.owner.http_error(connection.peer(), error);
        status
    })?;
    let is_served = connection.offer(Waiting {
        exchange: exchange.clone(),
        head,
        authority,
    });
    is_served
        .then_some(())
        .ok_or(StatusCode::SERVICE_UNAVAILABLE)
}

/// There is no process that could serve the request that waits: it is answered with 503, and is the last.
pub fn refuse<O: Handler>(connection: &Connection<O>) {
    if let Taken::Request(request) = connection.take() {
        request.refuse();
    }
    connection.retire();
}

/// A request that waits to be taken by its owner, which has been told of it or asks by itself.
pub struct Waiting<O: Handler> {
    pub exchange: Arc<Exchange<O>>,
    head: Parts,
    authority: Option<Authority>,
}

impl<O: Handler> Waiting<O> {
    pub fn request(&self) -> Request<'_> {
        let authority = self.authority.as_ref();
        Request {
            method: &self.head.method,
            host: authority.map_or("", |authority| authority.host()),
            port: authority.and_then(Authority::port),
            path: self.head.uri.path(),
            query: self.head.uri.query().unwrap_or(""),
            version: self.head.version,
            headers: &self.head.headers,
            peer: self.exchange.connection.peer(),
        }
    }

    fn refuse(&self) {
        let status = StatusCode::SERVICE_UNAVAILABLE.as_u16();
        let headers = HeaderMap::from_iter([(CONNECTION, HeaderValue::from_static("close"))]);
        // It fails where the client is gone.
        let _ = self.exchange.respond(status, headers, Bytes::new());
    }
}
