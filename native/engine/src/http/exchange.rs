//! One request and its response, as the handler drives it: from any thread, and from any process.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::h1::wire::Wire;
use super::h2 as http2;
use super::head::expects_continue;
use super::reply::Reply;
use super::request_body::{Piece, RequestBody, Rest, Source};
use super::response::{content_length, forbids_body, no_body, response};
use super::response_body::{BodySender, Origin, ResponseBody, streamed};
use super::status::{Line, Status};
use crate::config::SocketConfig;
use crate::connection::{Connection, Ward};
use crate::error::{ReadError, SendError};
use crate::flow::{Budget, Waiter};
use crate::net::Address;
use crate::net::tls::TlsInfo;
use crate::owner::Owner;
use crate::rt::stats::{self, Counted};
use crate::rt::{self, Reactor, lock};
use crate::ws::extension::DeflateConfig;
use crate::ws::handshake::Handshake;
use crate::ws::socket::Socket;
use crate::ws::task;

/// How often hyper may read more of a body before what it has counts as all that has arrived.
const LOOKS: usize = 2;

pub struct Exchange<O: Owner> {
    pub(crate) connection: Arc<Connection<O>>,
    /// The response has no body, whatever the handler sends (RFC9110§9.3.2).
    pub(crate) is_head: bool,
    pub(crate) version: Version,
    /// Of a connection of HTTP/1.
    wire: Option<Weak<Wire>>,
    handshake: Option<Handshake>,
    state: Mutex<State>,
    _count: Counted,
}

struct State {
    reply: Option<Reply>,
    sending: Sending,
    /// `None` while it is being read.
    upload: Option<RequestBody>,
    /// What there was of it as that began.
    being_read: Rest,
    /// The client waits to be asked for the body (RFC9110§10.1.1). With HTTP/1, hyper asks.
    expects_continue: bool,
    /// The response has promised that the connection goes on, after what is left of the body.
    drains: bool,
    /// Why the last read of the body came to nothing.
    body_error: Option<ReadError>,
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

enum Sending {
    No,
    Streaming(BodySender),
    /// Started, for a response that has no body.
    Discarding,
}

impl<O: Owner> Exchange<O> {
    pub(crate) fn new(
        connection: Arc<Connection<O>>,
        head: &Parts,
        reply: Reply,
        upload: RequestBody,
        wire: Option<Weak<Wire>>,
    ) -> Arc<Self> {
        let serving = connection.reactor.serving.count();
        let exchange = Arc::new(Self {
            connection,
            is_head: head.method == Method::HEAD,
            version: head.version,
            wire,
            handshake: Handshake::new(head),
            state: Mutex::new(State {
                reply: Some(reply),
                sending: Sending::No,
                upload: Some(upload),
                being_read: Rest::Nothing,
                expects_continue: head.version > Version::HTTP_10
                    && expects_continue(&head.headers),
                drains: false,
                body_error: None,
                ended: false,
                serving: Some(serving),
            }),
            _count: stats::EXCHANGES.count(),
        });
        let ward: Weak<dyn Ward> = Arc::<Self>::downgrade(&exchange);
        exchange.connection.serves(ward);
        exchange
    }

    /// `None`: it is one of HTTP/2, or has ended.
    fn wire(&self) -> Option<Arc<Wire>> {
        self.wire.as_ref()?.upgrade()
    }

    /// Sends a whole response.
    pub fn respond(
        self: &Arc<Self>,
        status: impl Into<Status>,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<(), SendError> {
        let line = status.into().of_final()?;
        let body = no_body(line.status).unwrap_or(ResponseBody::Whole(body));
        // Only of a HEAD that was answered without the body the handler may know better.
        let is_known = matches!(&body, ResponseBody::Whole(body) if !body.is_empty());
        if is_known || !self.is_head && !forbids_body(line.status) {
            headers.remove(CONTENT_LENGTH);
        }
        self.reply(line, headers, body, Sending::No)
    }

    /// Sends the head; the body follows by [`Self::chunk`].
    pub fn start(
        self: &Arc<Self>,
        status: impl Into<Status>,
        mut headers: HeaderMap,
    ) -> Result<(), SendError> {
        let line = status.into().of_final()?;
        let no_body = no_body(line.status).or(self.is_head.then_some(ResponseBody::None));
        if let Some(body) = no_body {
            return self.reply(line, headers, body, Sending::Discarding);
        }
        let length = content_length(&headers)?;
        // Only the end of the connection can be the end of such a body (RFC9112§6.3).
        if self.version < Version::HTTP_11 && length.is_none() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let (high_water_mark, _) = self.send_limits();
        let budget = self.connection.listener.budget.clone();
        let (sender, body) = streamed(high_water_mark, length.unwrap_or(0), budget);
        let body = ResponseBody::Streamed(body);
        self.reply(line, headers, body, Sending::Streaming(sender))
    }

    /// The high-water mark and the `send_timeout` of what the request came by.
    pub(crate) fn send_limits(&self) -> (usize, Duration) {
        let config = &self.connection.listener.config;
        match &config.http2 {
            Some(http2) if self.version == Version::HTTP_2 => {
                (http2.high_water_mark, http2.send_timeout)
            }
            _ => (config.high_water_mark, config.send_timeout),
        }
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

    /// Ends the exchange and its connection, or its stream. A half-sent body gets no proper end; a
    /// request that was not answered is answered with 500.
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
            reply.abandon(|| self.clone());
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
            if let Some(upload) = &state.upload {
                state.being_read = upload.rest();
            }
            state.upload.take()
        };
        self.connection.reactor.spawn(async move {
            let Some(mut upload) = upload else {
                return answer(Err(ReadError::AlreadyReading));
            };
            let result = upload.read(length, timeout).await;
            let mut state = lock(&exchange.state);
            state.body_error = result.as_ref().err().copied();
            let has_ended = state.ended;
            let rest = has_ended.then(|| upload.end()).flatten();
            let drains = state.drains;
            state.upload = Some(upload);
            drop(state);
            if has_ended {
                exchange.let_go(rest, drains);
            }
            answer(result);
        });
    }

    /// Why the last read of the body came to nothing, if it did: what the client has done wrong.
    pub fn body_error(&self) -> Option<ReadError> {
        lock(&self.state).body_error
    }

    /// Whether another request can follow, although nobody may have read all of this one's body: it is at
    /// its end, or so near to it that the rest can be read. Asked as the head of the response goes out,
    /// which tells the client; so this looks at what has arrived, but waits for nothing.
    pub(crate) async fn can_go_on(&self, max_unread: u64) -> bool {
        let mut seen = 0;
        let mut looks = 0;
        poll_fn(|cx| {
            let mut state = lock(&self.state);
            let expects_continue = state.expects_continue;
            let being_read = state.being_read;
            let upload = state.upload.as_mut();
            let can_go_on = match upload.as_ref().map_or(being_read, |upload| upload.rest()) {
                Rest::Nothing => true,
                // A client that was not asked may send the body or the next request.
                _ if expects_continue => false,
                Rest::Bytes(length) => length <= max_unread,
                Rest::Unknown => {
                    match upload.map(|upload| (upload.poll_ahead(cx, max_unread), upload)) {
                        // Whoever reads it may want all of it, or not.
                        None => false,
                        Some((Poll::Ready(rest), _)) => rest == Rest::Nothing,
                        Some((Poll::Pending, upload)) => {
                            if upload.pieces_ahead() > seen {
                                seen = upload.pieces_ahead();
                                looks = 0;
                            }
                            looks += 1;
                            if looks <= LOOKS {
                                // hyper reads when this has returned, and comes back.
                                cx.waker().wake_by_ref();
                                return Poll::Pending;
                            }
                            false
                        }
                    }
                }
            };
            state.drains = can_go_on;
            Poll::Ready(can_go_on)
        })
        .await
    }

    /// Sends a range of a file. Answers when the head is on its way.
    pub fn send_file(
        self: &Arc<Self>,
        status: impl Into<Status>,
        headers: HeaderMap,
        path: std::path::PathBuf,
        range: (u64, u64),
        answer: impl FnOnce(Result<(), FileError>) + Send + 'static,
    ) {
        let exchange = self.clone();
        let status = status.into();
        rt::spawn_blocking(move || {
            answer(exchange.open_and_send(status, headers, &path, range));
        });
    }

    fn open_and_send(
        self: &Arc<Self>,
        status: Status,
        mut headers: HeaderMap,
        path: &std::path::Path,
        range: (u64, u64),
    ) -> Result<(), FileError> {
        let line = status.of_final()?;
        let (offset, length) = range;
        let file = File::open(path)?;
        if file.metadata()?.len() < offset.saturating_add(length) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        }
        let body = match no_body(line.status) {
            Some(body) => body,
            None => {
                headers.remove(CONTENT_LENGTH);
                ResponseBody::file(file, range, self.wire())?
            }
        };
        Ok(self.reply(line, headers, body, Sending::No)?)
    }

    /// Sends an informational response before the final one.
    pub fn inform(&self, status: impl Into<Status>, headers: &HeaderMap) -> Result<(), SendError> {
        let line = status.into().of_interim()?;
        let mut state = lock(&self.state);
        let reply = state.reply.as_mut().ok_or(SendError::AlreadySent)?;
        if self.version < Version::HTTP_11 {
            return Err(SendError::NotSupported);
        }
        reply.inform(self.wire().as_deref(), &line, headers)?;
        self.connection.wake.notify_one();
        Ok(())
    }

    /// What runs the tasks that sending wakes.
    pub fn reactor(&self) -> &'static Reactor {
        self.connection.reactor
    }

    /// What was agreed on; `None` without TLS.
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
        let (status, agreed) = handshake.agree(&mut headers, deflate);
        let body = ResponseBody::Whole(Bytes::new());
        let line = Line {
            status,
            phrase: None,
        };
        let mut response = response(line, headers, body)?;
        // What follows has no length (RFC9110§8.6, §9.3.6).
        response.headers_mut().remove(CONTENT_LENGTH);

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
        let ward: Weak<dyn Ward> = Arc::<Socket<O>>::downgrade(&socket);
        if !self.connection.becomes(ward) {
            return Err(SendError::Closed);
        }
        let Ok(transport) = reply.upgrade(response) else {
            let connection = self.connection.clone();
            // Not from here: owners are told by the engine's own tasks.
            self.connection.reactor.spawn(async move {
                connection.end();
                connection.owner.closed();
            });
            return Err(SendError::Closed);
        };
        self.connection
            .reactor
            .spawn(task::run(socket.clone(), transport));
        Ok(socket)
    }

    fn reply(
        self: &Arc<Self>,
        line: Line,
        headers: HeaderMap,
        body: ResponseBody,
        sending: Sending,
    ) -> Result<(), SendError> {
        let response = response(line, headers, body)?;
        let mut state = lock(&self.state);
        let reply = state.reply.take().ok_or(SendError::AlreadySent)?;
        state.serving = None;
        state.sending = sending;
        drop(state);
        reply.send(response, || self.clone())
    }

    /// `drains`: what is left of the body comes before the next request.
    fn request_ended(&self, drains: bool) {
        if let Some(wire) = self.wire() {
            match drains {
                true => wire.drain_started(),
                false => wire.request_ended(),
            }
        }
    }

    fn let_go(&self, rest: Option<Source>, drains: bool) {
        match rest {
            Some(rest) if drains => self.drain(rest),
            rest => {
                self.discard(rest);
                if drains && let Some(wire) = self.wire() {
                    wire.drain_ended();
                }
            }
        }
    }

    /// Reads the rest of a body, which hyper then takes for read. The client has sent it before it knew of
    /// the response, so its next request comes after it. The deadline is the connection's.
    fn drain(&self, mut rest: Source) {
        let wire = self.wire();
        self.reactor().spawn(async move {
            while let Some(Ok(_)) = poll_fn(|cx| rest.poll_data(cx)).await {}
            drop(rest);
            if let Some(wire) = wire {
                wire.drain_ended();
            }
        });
    }

    /// Lets go of what nobody has read of a body. With HTTP/1 that ends the connection: hyper cannot find
    /// the next request.
    fn discard(&self, rest: Option<Source>) {
        if let Some(Source::Http2 { body, .. }) = rest {
            http2::leave(self.reactor(), body);
        }
    }
}

impl<O: Owner> Ward for Exchange<O> {
    fn owner_down(self: Arc<Self>) {
        self.abandon();
    }
}

impl<O: Owner> Origin for Exchange<O> {
    fn is_head(&self) -> bool {
        self.is_head
    }

    fn reactor(&self) -> &'static Reactor {
        self.connection.reactor
    }

    fn budget(&self) -> &Arc<Budget> {
        &self.connection.listener.budget
    }

    fn send_timeout(&self) -> Duration {
        self.send_limits().1
    }

    fn data_sent(&self) -> u64 {
        self.connection.io().map_or(0, |io| io.data_sent())
    }

    fn ended(&self) {
        let mut state = lock(&self.state);
        state.ended = true;
        let drains = state.drains;
        let Some(upload) = state.upload.as_mut() else {
            drop(state);
            // By whoever reads it, later.
            return self.request_ended(drains);
        };
        let rest = upload.end();
        drop(state);
        self.request_ended(drains && rest.is_some());
        if rest.is_some() {
            self.let_go(rest, drains);
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
