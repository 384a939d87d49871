//! One request and its response, as the handler drives it: from any thread, and from any process.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;

use crate::backpressure::Waiter;
use crate::body::{BodySender, Data, ResponseBody, streamed};
use crate::config::{Http2Config, SocketConfig};
use crate::connection::Connection;
use crate::error::{ReadError, SendError};
use crate::head::{Refusal, check_http1, check_http2};
use crate::http2;
use crate::io::Shared;
use crate::lock;
use crate::owner::{Owner, Request};
use crate::reply::Reply;
use crate::runtime::{self, Reactor};
use crate::stats::{self, Counted};
use crate::stream::Address;
use crate::tls::TlsInfo;
use crate::upload::{Piece, Source, Upload};
use crate::ws::extension::{DeflateConfig, negotiate};
use crate::ws::socket::Socket;

pub struct Exchange<O: Owner> {
    pub(crate) connection: Arc<Connection<O>>,
    /// The response has no body, whatever the handler sends (RFC9110§9.3.2).
    pub(crate) is_head: bool,
    pub(crate) version: Version,
    handshake: Option<Handshake>,
    state: Mutex<State>,
    _count: Counted,
}

struct State {
    reply: Option<Reply>,
    sending: Sending,
    /// `None` while it is being read.
    upload: Option<Upload>,
    /// The client waits to be asked for the body (RFC9110§10.1.1). With HTTP/1, hyper asks.
    expects_continue: bool,
    /// The response is out, or will never be.
    ended: bool,
    /// Until there is a response.
    serving: Option<Counted>,
}

impl State {
    fn ask_for_body(&mut self) {
        if std::mem::take(&mut self.expects_continue)
            && let Some(Reply::Http2 { stream, .. }) = &mut self.reply
        {
            // It fails where the client is gone, which reading will tell.
            let _ = http2::inform(stream, StatusCode::CONTINUE, HeaderMap::new());
        }
    }
}

fn expects_continue(headers: &HeaderMap) -> bool {
    let mut expectations = headers.get_all(EXPECT).iter();
    expectations.any(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// What the opening handshake of a WebSocket needs of the request.
struct Handshake {
    /// Not with HTTP/2 (RFC8441§5).
    key: Option<HeaderValue>,
    extensions: Vec<HeaderValue>,
}

impl Handshake {
    fn new(head: &Parts) -> Option<Self> {
        let headers = &head.headers;
        let key = headers.get(SEC_WEBSOCKET_KEY).cloned();
        let is_complete = key.is_some() || head.version == Version::HTTP_2;
        let extensions = headers.get_all(SEC_WEBSOCKET_EXTENSIONS);
        (is_complete && headers.contains_key(UPGRADE)).then(|| Self {
            key: key.filter(|_| head.version < Version::HTTP_2),
            extensions: extensions.iter().cloned().collect(),
        })
    }

    /// Adds what the client is to see of the upgrade, and returns the status.
    fn answer(&self, headers: &mut HeaderMap) -> StatusCode {
        let Some(key) = &self.key else {
            return StatusCode::OK;
        };
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let accept = HeaderValue::try_from(accept).expect("base64 is a header value");
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        StatusCode::SWITCHING_PROTOCOLS
    }

    /// A header that is not text offers nothing.
    fn offers(&self) -> impl Iterator<Item = &str> {
        self.extensions
            .iter()
            .filter_map(|value| value.to_str().ok())
    }
}

enum Sending {
    No,
    Streaming(BodySender),
    /// Started, for a response that has no body.
    Discarding,
}

/// hyper's service: hands the request to the owner and waits for its response.
pub(crate) async fn serve<O: Owner>(
    connection: Arc<Connection<O>>,
    io: Arc<Shared>,
    mut request: hyper::Request<Incoming>,
) -> Result<Response<Tracked<O>>, Infallible> {
    io.request_started();
    let max_requests = connection.listener.config.max_requests;
    let is_last = connection.count_request() == max_requests;

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
    let upload = Upload::new(Source::Http1(body));
    let exchange = Exchange::new(connection, &head, reply, upload);
    // Made before the wait: also when hyper drops this future, the exchange is ended.
    let mut tracked = Tracked {
        body: ResponseBody::Whole(Bytes::new()),
        exchange,
    };

    let max_line = tracked
        .exchange
        .connection
        .listener
        .config
        .max_request_line_length;
    let checked = check_http1(&head, max_line);
    let response = match tracked.exchange.dispatch(&head, checked) {
        Ok(()) => response
            .await
            .unwrap_or_else(|_| closing(StatusCode::INTERNAL_SERVER_ERROR)),
        Err(status) => closing(status),
    };
    let (mut head, body) = response.into_parts();
    // Not left to hyper: it may write this response before it hears that the listener closes.
    let is_last = is_last || !tracked.exchange.connection.listener.is_accepting();
    if is_last && head.status != StatusCode::SWITCHING_PROTOCOLS {
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

pub(crate) fn closing(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Whole(Bytes::new()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Hands the request of a stream to its owner.
pub(crate) fn serve_stream<O: Owner>(
    connection: Arc<Connection<O>>,
    config: &Http2Config,
    request: http::Request<RecvStream>,
    stream: SendResponse<Bytes>,
) {
    let (mut head, body) = request.into_parts();
    let checked = check_http2(&mut head, config);
    let (upload, receiving) = if head.headers.contains_key(UPGRADE) {
        (Upload::none(), Some(body))
    } else {
        let length = length(&head.headers).ok().flatten();
        (Upload::new(Source::Http2 { body, length }), None)
    };
    let reply = Reply::Http2 { stream, receiving };
    let exchange = Exchange::new(connection, &head, reply, upload);
    if let Err(status) = exchange.dispatch(&head, checked) {
        let body = ResponseBody::Whole(Bytes::new());
        // It fails where the client is gone.
        let _ = exchange.reply(status, HeaderMap::new(), body, Sending::No);
    }
}

impl<O: Owner> Exchange<O> {
    fn new(
        connection: Arc<Connection<O>>,
        head: &Parts,
        reply: Reply,
        upload: Upload,
    ) -> Arc<Self> {
        let serving = connection.reactor.serving.count();
        let exchange = Arc::new(Self {
            connection,
            is_head: head.method == Method::HEAD,
            version: head.version,
            handshake: Handshake::new(head),
            state: Mutex::new(State {
                reply: Some(reply),
                sending: Sending::No,
                upload: Some(upload),
                expects_continue: head.version == Version::HTTP_2
                    && expects_continue(&head.headers),
                ended: false,
                serving: Some(serving),
            }),
            _count: stats::EXCHANGES.count(),
        });
        exchange.connection.serves(&exchange);
        exchange
    }

    /// Hands the request to the owner, unless it is to be answered with an error's status.
    fn dispatch(
        self: &Arc<Self>,
        head: &Parts,
        checked: Result<Option<Authority>, Refusal>,
    ) -> Result<(), StatusCode> {
        let connection = &self.connection;
        let authority = checked.map_err(|(status, error)| {
            connection.owner.http_error(connection.peer(), error);
            status
        })?;
        let authority = authority.as_ref();
        let request = Request {
            method: &head.method,
            host: authority.map_or("", |authority| authority.host()),
            port: authority.and_then(|authority| authority.port_u16()),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or(""),
            version: head.version,
            headers: &head.headers,
            peer: connection.peer(),
        };
        let is_served = connection.owner.request(self, &request);
        is_served
            .then_some(())
            .ok_or(StatusCode::SERVICE_UNAVAILABLE)
    }

    /// Sends a whole response.
    pub fn respond(
        self: &Arc<Self>,
        status: u16,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(), SendError> {
        let status = final_status(status)?;
        let body = if forbids_body(status) {
            ResponseBody::None
        } else {
            ResponseBody::Whole(body)
        };
        self.reply(status, headers, body, Sending::No)
    }

    /// Sends the head; the body follows by [`Self::chunk`].
    pub fn start(self: &Arc<Self>, status: u16, mut headers: HeaderMap) -> Result<(), SendError> {
        let status = final_status(status)?;
        if self.is_head || forbids_body(status) {
            return self.reply(status, headers, ResponseBody::None, Sending::Discarding);
        }
        let length = length(&headers)?;
        // Only the end of the connection can be the end of such a body (RFC9112§6.3).
        if self.version < Version::HTTP_11 && length.is_none() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let config = &self.connection.listener.config;
        let high_water_mark = match &config.http2 {
            Some(http2) if self.version == Version::HTTP_2 => http2.high_water_mark,
            _ => config.high_water_mark,
        };
        let (sender, body) = streamed(high_water_mark, length.unwrap_or(0));
        let body = ResponseBody::Streamed(body);
        self.reply(status, headers, body, Sending::Streaming(sender))
    }

    /// `true`: taken, and the caller should wait ([`Self::wait`]) before it sends more.
    pub fn chunk(&self, data: Bytes) -> Result<bool, SendError> {
        match &lock(&self.state).sending {
            Sending::Streaming(sender) => sender.send(data),
            Sending::Discarding => Ok(false),
            Sending::No => Err(SendError::Closed),
        }
    }

    /// Keeps the waiter when there is no room now, and says so.
    pub fn wait(&self, waiter: Waiter) -> bool {
        match &lock(&self.state).sending {
            Sending::Streaming(sender) => sender.wait(waiter),
            Sending::Discarding | Sending::No => false,
        }
    }

    /// Ends a streamed body.
    pub fn finish(&self) {
        let mut state = lock(&self.state);
        if let Sending::Streaming(sender) = &state.sending {
            sender.finish();
            state.sending = Sending::Discarding;
        }
    }

    /// Ends the exchange and its connection. A half-sent body gets no proper end; a request that
    /// was not answered is answered with 500.
    pub fn abort(self: &Arc<Self>) {
        self.abandon();
        self.connection.retire();
    }

    /// The handler has let go of the exchange: what it left undone is ended for it.
    pub fn abandon(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        if let Sending::Streaming(sender) = &state.sending {
            sender.abort();
        }
        state.serving = None;
        let reply = state.reply.take();
        drop(state);
        if let Some(reply) = reply {
            reply.abandon(self);
        }
    }

    /// Reads up to `length` bytes of the body; `timeout` is for each piece of it.
    pub fn read(
        self: &Arc<Self>,
        length: usize,
        timeout: Option<Duration>,
        answer: impl FnOnce(Result<Piece<O::Buffer>, ReadError>) + Send + 'static,
    ) {
        let exchange = self.clone();
        let upload = {
            let mut state = lock(&self.state);
            state.ask_for_body();
            state.upload.take()
        };
        self.connection.reactor.spawn(async move {
            let Some(mut upload) = upload else {
                return answer(Err(ReadError::AlreadyReading));
            };
            let result = upload.read(length, timeout).await;
            let mut state = lock(&exchange.state);
            let rest = state.ended.then(|| upload.end()).flatten();
            state.upload = Some(upload);
            drop(state);
            exchange.leave(rest);
            answer(result);
        });
    }

    /// Sends a range of a file. Answers when the head is on its way.
    pub fn send_file(
        self: &Arc<Self>,
        status: u16,
        headers: HeaderMap,
        path: std::path::PathBuf,
        range: (u64, u64),
        answer: impl FnOnce(Result<(), FileError>) + Send + 'static,
    ) {
        let exchange = self.clone();
        runtime::spawn_blocking(move || {
            answer(exchange.open_and_send(status, headers, &path, range));
        });
    }

    fn open_and_send(
        self: &Arc<Self>,
        status: u16,
        headers: HeaderMap,
        path: &std::path::Path,
        range: (u64, u64),
    ) -> Result<(), FileError> {
        let status = final_status(status)?;
        let (offset, length) = range;
        let file = File::open(path)?;
        if file.metadata()?.len() < offset.saturating_add(length) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        }
        let body = if forbids_body(status) {
            ResponseBody::None
        } else {
            let io = self.connection.io();
            ResponseBody::file(file, range, io.filter(|_| self.version < Version::HTTP_2))?
        };
        Ok(self.reply(status, headers, body, Sending::No)?)
    }

    /// Sends an informational response before the final one.
    pub fn inform(&self, status: u16, headers: &HeaderMap) -> Result<(), SendError> {
        let status = StatusCode::from_u16(status).map_err(|_| SendError::InvalidStatus)?;
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(SendError::InvalidStatus);
        }
        let mut state = lock(&self.state);
        let reply = state.reply.as_mut().ok_or(SendError::AlreadySent)?;
        reply.inform(self, status, headers)
    }

    /// What runs the tasks that sending wakes.
    pub fn reactor(&self) -> &'static Reactor {
        self.connection.reactor
    }

    /// What was agreed on; `None` without TLS, and after the connection's end.
    pub fn tls(&self) -> Option<TlsInfo> {
        self.connection.tls()
    }

    pub fn local_addr(&self) -> io::Result<Address> {
        self.connection.local_addr()
    }

    /// Agrees to the upgrade, and makes the connection or the stream a WebSocket. What is sent on it
    /// follows the response.
    pub fn upgrade(
        self: &Arc<Self>,
        mut headers: HeaderMap,
        config: SocketConfig,
        deflate: Option<&DeflateConfig>,
    ) -> Result<Arc<Socket<O>>, SendError> {
        let handshake = self.handshake.as_ref().ok_or(SendError::NotSupported)?;
        let status = handshake.answer(&mut headers);
        let agreed = deflate.and_then(|config| negotiate(handshake.offers(), config));
        headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        if let Some(agreed) = &agreed {
            let value = HeaderValue::try_from(agreed.header_value()).expect("tokens and digits");
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, value);
        }
        let body = ResponseBody::Whole(Bytes::new());
        let response = response(status, headers, body)?;

        let mut state = lock(&self.state);
        let reply = state.reply.as_ref().ok_or(SendError::AlreadySent)?;
        if !reply.can_upgrade() {
            return Err(SendError::NotSupported);
        }
        let reply = state.reply.take().ok_or(SendError::AlreadySent)?;
        state.serving = None;
        drop(state);
        let config = self.connection.listener.share(config);
        let socket = Socket::new(self.connection.clone(), config, agreed);
        // Before the reply: the end of the HTTP connection must not be told as its end.
        if !self.connection.becomes(&socket) {
            return Err(SendError::Closed);
        }
        let Ok(carrier) = reply.upgrade(response) else {
            let connection = self.connection.clone();
            // Not from here: owners are told by the engine's own tasks.
            self.connection.reactor.spawn(async move {
                connection.end();
                connection.owner.closed();
            });
            return Err(SendError::Closed);
        };
        self.connection.reactor.spawn(socket.clone().run(carrier));
        Ok(socket)
    }

    fn reply(
        self: &Arc<Self>,
        status: StatusCode,
        headers: HeaderMap,
        body: ResponseBody,
        sending: Sending,
    ) -> Result<(), SendError> {
        let response = response(status, headers, body)?;
        let mut state = lock(&self.state);
        let reply = state.reply.take().ok_or(SendError::AlreadySent)?;
        state.serving = None;
        state.sending = sending;
        drop(state);
        reply.send(response, self)
    }

    /// The response is out, or will never be.
    fn ended(&self) {
        let mut state = lock(&self.state);
        state.ended = true;
        // A body that nobody reads keeps hyper from the next request.
        let rest = state.upload.as_mut().and_then(Upload::end);
        drop(state);
        self.leave(rest);
        if self.version < Version::HTTP_2
            && let Some(io) = self.connection.io()
        {
            io.request_ended();
        }
    }

    /// Lets go of what nobody has read of a body.
    fn leave(&self, rest: Option<Source>) {
        if let Some(Source::Http2 { body, .. }) = rest {
            http2::leave(self.reactor(), body);
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn response(
    status: StatusCode,
    mut headers: HeaderMap,
    body: ResponseBody,
) -> Result<Response<ResponseBody>, SendError> {
    length(&headers)?;
    // The coding is what the body needs, whatever the handler says of it.
    headers.remove(TRANSFER_ENCODING);
    if status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn final_status(status: u16) -> Result<StatusCode, SendError> {
    StatusCode::from_u16(status)
        .ok()
        .filter(|status| !status.is_informational())
        .ok_or(SendError::InvalidStatus)
}

/// RFC9110§6.4.1
fn forbids_body(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// What the handler says that the body's length is. hyper would find an error only as it writes the
/// head, and end the connection without a response.
fn length(headers: &HeaderMap) -> Result<Option<u64>, SendError> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let (length, None) = (lengths.next(), lengths.next()) else {
        return Err(SendError::InvalidHeader(CONTENT_LENGTH.to_string()));
    };
    length.map(parse_length).transpose()
}

fn parse_length(value: &HeaderValue) -> Result<u64, SendError> {
    let digits = value.to_str().ok().filter(|text| !text.starts_with('+'));
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| SendError::InvalidHeader(CONTENT_LENGTH.to_string()))
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
