//! One accepted connection from its first byte to its last: the header of a proxy, TLS, then HTTP/1 or HTTP/2,
//! and the end. What is spoken meanwhile is the concern of `http1` and `http2`.

mod http1;
mod http2;

use std::io::{self, ErrorKind};
use std::sync::Arc;

use http::StatusCode;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::error::HttpError;
use crate::http::h1::heads::closing_head;
use crate::http::h1::wire::Wire;
use crate::http::handler::Handler;
use crate::net::io::Io;
use crate::net::linger::{LINGER_SENDING, linger, linger_for};
use crate::rt::timer::timeout;
use http1::Outcome;

/// Tells the owner, by whatever way the task ends.
struct End<O: Handler>(Arc<Connection<O>>);

impl<O: Handler> Drop for End<O> {
    fn drop(&mut self) {
        if self.0.end_http() {
            self.0.owner.closed();
        }
    }
}

/// `accepted`: when.
pub(crate) async fn serve<O: Handler>(
    connection: Arc<Connection<O>>,
    mut io: Io,
    accepted: Instant,
) {
    let mut begun = accepted;
    if connection.server.config.proxy_protocol || io.writer.is_tls() {
        // Boxed, as it would make the task of every connection larger.
        if !Box::pin(shake_hands(&connection, &mut io)).await {
            connection.end();
            return;
        }
        // That had a time limit of its own: the client is not to have less for its request because it, or we,
        // took long.
        begun = Instant::now();
    }
    let writer = io.writer.clone();
    let _end = End(connection.clone());
    let is_http2 = writer.tls().is_some_and(|tls| tls.is_http2());
    let error = if is_http2 {
        serve_http2(&connection, io, Vec::new()).await
    } else {
        let wire = Arc::new(Wire::new(&writer, begun));
        let outcome = http1::serve(&connection, io, &wire).await;
        if connection.is_socket() {
            return;
        }
        match outcome {
            Outcome::Http2(io, early) => serve_http2(&connection, io, early).await,
            outcome => outcome.finish(&wire, &writer),
        }
    };
    if let Some(error) = error {
        connection.owner.http_error(connection.peer(), error);
    }
    connection.half_closed();
    if error == Some(HttpError::SlowClient) {
        // What waits for it would stay with the kernel.
        writer.stream().reset();
        return;
    }
    linger_for(&writer, LINGER_SENDING).await;
}

/// What the client did wrong, if it did.
async fn serve_http2<O: Handler>(
    connection: &Arc<Connection<O>>,
    io: Io,
    early: Vec<u8>,
) -> Option<HttpError> {
    let config = connection.server.config.http2.as_ref()?;
    // Boxed as above.
    Box::pin(http2::serve(connection, config, io, early))
        .await
        .err()
}

/// What comes before HTTP. `false`: it came to nothing.
async fn shake_hands<O: Handler>(connection: &Connection<O>, io: &mut Io) -> bool {
    let limit = connection.server.config.handshake_timeout;
    let error = match timeout(limit, introduce(connection, io)).await {
        Ok(Ok(())) => return true,
        // The peer went away.
        Ok(Err(None)) => return false,
        Ok(Err(Some(error))) => error,
        Err(_elapsed) => HttpError::HandshakeTimeout,
    };
    connection.owner.http_error(connection.peer(), error);
    connection.half_closed();
    linger(&io.writer).await;
    false
}

async fn introduce<O: Handler>(
    connection: &Connection<O>,
    io: &mut Io,
) -> Result<(), Option<HttpError>> {
    let wrong = |error| move |e: io::Error| (e.kind() == ErrorKind::InvalidData).then_some(error);
    if connection.server.config.proxy_protocol {
        let client = io.read_proxy_header().await;
        if let Some(client) = client.map_err(wrong(HttpError::ProxyHeader))? {
            let _ = connection.proxied.set(Box::new(client));
        }
    }
    io.handshake().await.map_err(wrong(HttpError::TlsHandshake))
}

/// Ends a connection that is one too many.
pub(crate) async fn refuse<O: Handler>(connection: Arc<Connection<O>>, io: Io) {
    connection
        .owner
        .http_error(connection.peer(), HttpError::Overload);
    if !io.writer.is_tls() {
        let _ = io
            .writer
            .try_write(&closing_head(StatusCode::SERVICE_UNAVAILABLE));
        connection.half_closed();
        linger(&io.writer).await;
    }
    connection.end();
}
