//! One request and its response, as the handler drives it: from any thread, and from any process.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::upgrade::OnUpgrade;
use tokio::sync::oneshot;

use crate::backpressure::Waiter;
use crate::body::{BodySender, FileBody, ResponseBody, streamed};
use crate::config::SocketConfig;
use crate::connection::Connection;
use crate::error::{HttpError, ReadError, SendError};
use crate::io::Shared;
use crate::lock;
use crate::owner::{Owner, Request};
use crate::runtime::{self, Reactor};
use crate::stats::{self, Counted};
use crate::stream::Address;
use crate::tls::TlsInfo;
use crate::upload::{Piece, Upload};
use crate::ws::extension::{DeflateConfig, negotiate};
use crate::ws::socket::Socket;

pub struct Exchange<O: Owner> {
    connection: Arc<Connection<O>>,
    /// The response has no body, whatever the handler sends (RFC9110§9.3.2).
    is_head: bool,
    version: Version,
    handshake: Option<Handshake>,
    state: Mutex<State>,
    _count: Counted,
}

struct State {
    reply: Option<oneshot::Sender<Response<ResponseBody>>>,
    sending: Sending,
    /// `None` while it is being read.
    upload: Option<Upload>,
    on_upgrade: Option<OnUpgrade>,
    /// The response is out, or will never be.
    ended: bool,
}

/// What the opening handshake of a WebSocket needs of the request.
struct Handshake {
    key: HeaderValue,
    extensions: Vec<HeaderValue>,
}

impl Handshake {
    fn new(headers: &HeaderMap) -> Option<Self> {
        let key = headers.get(SEC_WEBSOCKET_KEY)?.clone();
        let extensions = headers.get_all(SEC_WEBSOCKET_EXTENSIONS);
        Some(Self {
            key,
            extensions: extensions.iter().cloned().collect(),
        })
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
    connection.listener.requests.fetch_add(1, Ordering::Relaxed);
    let is_last = is_last_request(&connection);

    let on_upgrade = request
        .headers()
        .contains_key(UPGRADE)
        .then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let (reply, response) = oneshot::channel();
    let exchange = Arc::new(Exchange {
        connection,
        is_head: head.method == Method::HEAD,
        version: head.version,
        handshake: Handshake::new(&head.headers),
        state: Mutex::new(State {
            reply: Some(reply),
            sending: Sending::No,
            upload: Some(Upload::new(body)),
            on_upgrade,
            ended: false,
        }),
        _count: stats::EXCHANGES.count(),
    });
    exchange.connection.serves(&exchange);
    // Made before the wait: also when hyper drops this future, the exchange is ended.
    let mut tracked = Tracked {
        body: ResponseBody::Whole(Bytes::new()),
        exchange,
    };

    let serving = tracked.exchange.connection.reactor.serving.count();
    let response = match dispatch(&tracked.exchange, &head) {
        Ok(true) => response
            .await
            .unwrap_or_else(|_| closing(StatusCode::INTERNAL_SERVER_ERROR)),
        Ok(false) => closing(StatusCode::SERVICE_UNAVAILABLE),
        Err((status, error)) => {
            let connection = &tracked.exchange.connection;
            connection.owner.http_error(connection.peer(), error);
            closing(status)
        }
    };
    drop(serving);
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

fn is_last_request<O: Owner>(connection: &Connection<O>) -> bool {
    let max = connection.listener.config.max_requests;
    connection.requests.fetch_add(1, Ordering::Relaxed) + 1 == max
}

fn closing(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Whole(Bytes::new()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

type Refusal = (StatusCode, HttpError);

/// Whether there is an owner to serve it.
fn dispatch<O: Owner>(
    exchange: &Arc<Exchange<O>>,
    head: &http::request::Parts,
) -> Result<bool, Refusal> {
    let connection = &exchange.connection;
    if head.method == Method::CONNECT {
        return Err((StatusCode::NOT_IMPLEMENTED, HttpError::UnsupportedMethod));
    }
    if !is_coding(&head.headers) {
        return Err((StatusCode::NOT_IMPLEMENTED, HttpError::UnsupportedCoding));
    }
    if request_line_length(head) > connection.listener.config.max_request_line_length {
        return Err((StatusCode::URI_TOO_LONG, HttpError::TargetTooLong));
    }
    if !is_target(head) {
        return Err((StatusCode::BAD_REQUEST, HttpError::Malformed));
    }
    let authority = authority(head).ok_or((StatusCode::BAD_REQUEST, HttpError::InvalidHost))?;
    let request = Request {
        method: &head.method,
        host: authority.as_ref().map_or("", |authority| authority.host()),
        port: authority
            .as_ref()
            .and_then(|authority| authority.port_u16()),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or(""),
        version: head.version,
        headers: &head.headers,
        peer: connection.peer(),
    };
    Ok(connection.owner.request(exchange, &request))
}

/// What of it can be long.
fn request_line_length(head: &http::request::Parts) -> usize {
    let authority = head.uri.authority().map_or(0, |text| text.as_str().len());
    let path = head
        .uri
        .path_and_query()
        .map_or(0, |text| text.as_str().len());
    head.method.as_str().len() + authority + path
}

/// `host:port` is for CONNECT alone, and `*` for OPTIONS (RFC9112§3.2).
fn is_target(head: &http::request::Parts) -> bool {
    let is_only_authority = head.uri.authority().is_some() && head.uri.scheme().is_none();
    !is_only_authority && (head.uri.path() != "*" || head.method == Method::OPTIONS)
}

/// hyper looks for `chunked` in the last place only. What comes before it would reach the handler still
/// coded, and servers differ in how they read a `chunked` that is repeated.
fn is_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    }
}

/// `None`: the request must be refused. `Some(None)`: it names no host, and need not.
///
/// The target's authority wins over the header (RFC9112§3.2.2), which must be there once all the
/// same. An empty header value is legal, for targets without an authority.
fn authority(head: &http::request::Parts) -> Option<Option<Authority>> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(host.to_str().ok()?),
        (None, None) if head.version < Version::HTTP_11 => None,
        _ => return None,
    };
    if let Some(authority) = head.uri.authority() {
        return plain_authority(authority.as_str()).map(Some);
    }
    match host {
        None | Some("") => Some(None),
        Some(host) => plain_authority(host).map(Some),
    }
}

fn plain_authority(text: &str) -> Option<Authority> {
    // Two `host` lines that were joined on their way have a comma between them.
    if text.contains(['@', ',']) {
        return None;
    }
    let authority = Authority::from_str(text).ok()?;
    let (host, port) = text.split_at(authority.host().len());
    // Brackets are around an IP address or nowhere.
    let host_is_good = !host.is_empty() && host.rfind('[').is_none_or(|at| at == 0);
    (host_is_good && is_port(port)).then_some(authority)
}

/// With its colon, or nothing.
fn is_port(text: &str) -> bool {
    // `parse` takes a sign, too.
    let is_number = |port: &str| port.parse::<u16>().is_ok() && !port.starts_with('+');
    text.is_empty()
        || text
            .strip_prefix(':')
            .is_some_and(|port| port.is_empty() || is_number(port))
}

impl<O: Owner> Exchange<O> {
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
        let high_water_mark = self.connection.listener.config.high_water_mark;
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
    pub fn abort(&self) {
        self.abandon();
        self.connection.retire();
    }

    /// The handler has let go of the exchange: what it left undone is ended for it.
    pub fn abandon(&self) {
        let mut state = lock(&self.state);
        if let Sending::Streaming(sender) = &state.sending {
            sender.abort();
        }
        state.reply = None;
    }

    /// Reads up to `length` bytes of the body; `timeout` is for each piece of it.
    pub fn read(
        self: &Arc<Self>,
        length: usize,
        timeout: Option<Duration>,
        answer: impl FnOnce(Result<Piece<O::Buffer>, ReadError>) + Send + 'static,
    ) {
        let exchange = self.clone();
        let upload = lock(&self.state).upload.take();
        self.connection.reactor.spawn(async move {
            let Some(mut upload) = upload else {
                return answer(Err(ReadError::AlreadyReading));
            };
            let result = upload.read(length, timeout).await;
            let mut state = lock(&exchange.state);
            if state.ended {
                upload.end();
            }
            state.upload = Some(upload);
            drop(state);
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
        (offset, length): (u64, u64),
    ) -> Result<(), FileError> {
        let status = final_status(status)?;
        let file = File::open(path)?;
        if file.metadata()?.len() < offset.saturating_add(length) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        }
        let body = if forbids_body(status) {
            ResponseBody::None
        } else {
            ResponseBody::File(FileBody::new(file, offset, length))
        };
        Ok(self.reply(status, headers, body, Sending::No)?)
    }

    /// Sends an informational response before the final one.
    pub fn inform(&self, status: u16, headers: &HeaderMap) -> Result<(), SendError> {
        let status = StatusCode::from_u16(status).map_err(|_| SendError::InvalidStatus)?;
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(SendError::InvalidStatus);
        }
        if self.version != Version::HTTP_11 {
            return Err(SendError::NotSupported);
        }
        let state = lock(&self.state);
        let reply = state.reply.as_ref().ok_or(SendError::AlreadySent)?;
        let io = self.connection.io().filter(|_| !reply.is_closed());
        io.ok_or(SendError::Closed)?
            .push_interim(&interim_head(status, headers));
        self.connection.wake.notify_one();
        Ok(())
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

    /// Answers 101 and makes the connection a WebSocket. What is sent on it follows the 101.
    pub fn upgrade(
        self: &Arc<Self>,
        mut headers: HeaderMap,
        config: SocketConfig,
        deflate: Option<&DeflateConfig>,
    ) -> Result<Arc<Socket<O>>, SendError> {
        let handshake = self.handshake.as_ref().ok_or(SendError::NotSupported)?;
        let accept = tungstenite::handshake::derive_accept_key(handshake.key.as_bytes());
        let accept = HeaderValue::try_from(accept).expect("base64 is a header value");
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);

        let agreed = deflate.and_then(|config| negotiate(handshake.offers(), config));
        headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        if let Some(agreed) = &agreed {
            let value = HeaderValue::try_from(agreed.header_value()).expect("tokens and digits");
            headers.insert(SEC_WEBSOCKET_EXTENSIONS, value);
        }

        let body = ResponseBody::Whole(Bytes::new());
        let response = response(StatusCode::SWITCHING_PROTOCOLS, headers, body)?;

        let mut state = lock(&self.state);
        if state.reply.is_none() {
            return Err(SendError::AlreadySent);
        }
        let on_upgrade = state.on_upgrade.take().ok_or(SendError::NotSupported)?;
        let reply = state.reply.take().ok_or(SendError::AlreadySent)?;
        let config = self.connection.listener.share(config);
        let socket = Socket::new(self.connection.clone(), config, agreed);
        // Before the reply: the end of the HTTP connection must not be told as its end.
        if !self.connection.becomes(&socket) {
            return Err(SendError::Closed);
        }
        if reply.send(response).is_err() {
            let connection = self.connection.clone();
            // Not from here: owners are told by the engine's own tasks.
            self.connection.reactor.spawn(async move {
                connection.end();
                connection.owner.closed();
            });
            return Err(SendError::Closed);
        }
        self.connection
            .reactor
            .spawn(socket.clone().run(on_upgrade));
        Ok(socket)
    }

    fn reply(
        &self,
        status: StatusCode,
        headers: HeaderMap,
        body: ResponseBody,
        sending: Sending,
    ) -> Result<(), SendError> {
        let response = response(status, headers, body)?;
        let mut state = lock(&self.state);
        let reply = state.reply.take().ok_or(SendError::AlreadySent)?;
        reply.send(response).map_err(|_| SendError::Closed)?;
        state.sending = sending;
        Ok(())
    }

    /// The response is out, or will never be.
    fn ended(&self) {
        let mut state = lock(&self.state);
        state.ended = true;
        // A body that nobody reads keeps hyper from the next request.
        if let Some(upload) = state.upload.as_mut() {
            upload.end();
        }
        drop(state);
        if let Some(io) = self.connection.io() {
            io.request_ended();
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

fn interim_head(status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\n").into_bytes();
    for (name, value) in headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// A response body that tells its exchange when hyper is done with it.
pub(crate) struct Tracked<O: Owner> {
    body: ResponseBody,
    exchange: Arc<Exchange<O>>,
}

impl<O: Owner> Body for Tracked<O> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
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
