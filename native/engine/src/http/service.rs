//! How a request becomes an exchange: one that hyper has read, or that of a stream.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use crate::config::Http2Config;
use crate::connection::Connection;
use crate::http::exchange::Exchange;
use crate::http::head::{check_http1, check_http2, has_close, keeps_alive};
use crate::http::reply::{Reply, Tracked};
use crate::http::request_body::{RequestBody, Source};
use crate::http::response::{closing, content_length};
use crate::http::response_body::ResponseBody;
use crate::net::shared::Shared;
use crate::owner::Owner;

/// hyper's service: hands the request to the owner and waits for its response.
pub(crate) async fn serve_http1<O: Owner>(
    connection: Arc<Connection<O>>,
    io: Arc<Shared>,
    mut request: Request<Incoming>,
) -> Result<Response<Tracked<O>>, Infallible> {
    let config = &connection.listener.config;
    let is_last = connection.count_request() == config.max_requests;
    let max_line = config.max_request_line_length;
    let max_unread = config.max_unread_length;

    let keeps_alive = keeps_alive(request.version(), request.headers());
    let on_upgrade = request
        .headers()
        .contains_key(UPGRADE)
        .then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let (service, response) = oneshot::channel();
    let reply = Reply::Http1 {
        service,
        on_upgrade,
    };
    let upload = RequestBody::new(Source::Http1 { body, io });
    let exchange = Exchange::new(connection, &head, reply, upload);
    // Made before the wait: also when hyper drops this future, the exchange is ended.
    let mut tracked = Tracked {
        body: ResponseBody::Whole(Bytes::new()),
        exchange,
    };

    let checked = check_http1(&head, max_line);
    let response = match tracked.exchange.dispatch(head, checked) {
        Ok(()) => response
            .await
            .unwrap_or_else(|_| closing(StatusCode::INTERNAL_SERVER_ERROR)),
        Err(status) => closing(status),
    };
    let (mut head, body) = response.into_parts();
    // Not left to hyper: it may write this response before it hears that the listener closes.
    let exchange = &tracked.exchange;
    let is_last = is_last || !exchange.connection.listener.is_accepting();
    if head.status != StatusCode::SWITCHING_PROTOCOLS
        && !has_close(&head.headers)
        && (is_last || keeps_alive && !exchange.can_go_on(max_unread).await)
    {
        head.headers
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    // To a client of HTTP/1.0 that asked for keep-alive, hyper would promise it next to our `close`.
    if tracked.exchange.version < Version::HTTP_11 && head.headers.contains_key(CONNECTION) {
        head.version = Version::HTTP_10;
    }
    tracked.body = body;
    Ok(Response::from_parts(head, tracked))
}

/// Hands the request of a stream to its owner.
pub(crate) fn serve_http2<O: Owner>(
    connection: Arc<Connection<O>>,
    config: &Http2Config,
    request: Request<RecvStream>,
    stream: SendResponse<Bytes>,
) {
    let (mut head, body) = request.into_parts();
    let checked = check_http2(&mut head, config);
    let (upload, receiving) = if head.headers.contains_key(UPGRADE) {
        (RequestBody::none(), Some(body))
    } else {
        let length = content_length(&head.headers).ok().flatten();
        (RequestBody::new(Source::Http2 { body, length }), None)
    };
    let reply = Reply::Http2 { stream, receiving };
    let exchange = Exchange::new(connection, &head, reply, upload);
    if let Err(status) = exchange.dispatch(head, checked) {
        // It fails where the client is gone.
        let _ = exchange.respond(status.as_u16(), HeaderMap::new(), Bytes::new());
    }
}
