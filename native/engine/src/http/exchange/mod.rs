//! One request and its response, as the handler drives it: from any thread, and from any process.

mod disconnect;
mod request;
mod response;

use std::io;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method, Version};

pub use disconnect::Notice;
use disconnect::{Client, Notices};

use super::h1::wire::Wire;
use super::head::expects_continue;
use super::reply::Reply;
use super::request_body::{RequestBody, Rest};
use super::response::of_upgrade;
use super::response_body::{BodySender, Origin};
use crate::config::SocketConfig;
use crate::connection::{Connection, Ward};
use crate::error::{ReadError, SendError};
use crate::flow::Budget;
use crate::net::Address;
use crate::net::tls::TlsInfo;
use crate::owner::Owner;
use crate::rt::stats::{self, Counted};
use crate::rt::{Reactor, lock};
use crate::ws::handshake::Handshake;
use crate::ws::socket::Socket;
use crate::ws::task;

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
    body: Option<RequestBody>,
    /// What was left of the body when reading it began.
    being_read: Rest,
    /// The client waits to be asked for the body (RFC9110§10.1.1). With HTTP/1, hyper asks.
    expects_continue: bool,
    /// The response has promised that the connection goes on, after what is left of the body.
    drains: bool,
    /// Why the last read of the body came to nothing.
    body_error: Option<ReadError>,
    /// The response is out, or will never be.
    ended: bool,
    client: Client,
    /// From the first time that somebody asks, until they are told or there is nothing to tell.
    notices: Option<Box<Notices>>,
    /// Until there is a response.
    serving: Option<Counted>,
}

enum Sending {
    No,
    /// The second is what the head has promised of the body and was not given yet, if it has promised any.
    Streaming(BodySender, Option<u64>),
    /// Started, for a response that has no body.
    Discarding,
}

impl<O: Owner> Exchange<O> {
    pub(crate) fn new(
        connection: Arc<Connection<O>>,
        head: &Parts,
        reply: Reply,
        body: RequestBody,
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
                body: Some(body),
                being_read: Rest::Nothing,
                expects_continue: head.version > Version::HTTP_10
                    && expects_continue(&head.headers),
                drains: false,
                body_error: None,
                ended: false,
                client: Client::Waits,
                notices: None,
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

    /// Ends the exchange and its connection, or its stream. A half-sent body gets no proper end; a
    /// request that was not answered is answered with 500.
    pub fn abort(self: &Arc<Self>) {
        self.abandon();
        self.connection.retire();
    }

    /// The handler has let go of the exchange: what it left undone is ended for it.
    pub fn abandon(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        if let Sending::Streaming(sender, _) = &state.sending {
            sender.abort();
        }
        state.serving = None;
        let reply = state.reply.take();
        drop(state);
        if let Some(reply) = reply {
            reply.abandon(|| self.clone());
        }
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
    ) -> Result<Arc<Socket<O>>, SendError> {
        let handshake = self.handshake.as_ref().ok_or(SendError::NotSupported)?;
        let (status, agreed) = handshake.agree(&mut headers, config.deflate.as_ref());
        let response = of_upgrade(status, headers)?;
        let mut state = lock(&self.state);
        let reply = state.reply.as_ref().ok_or(SendError::AlreadySent)?;
        if !reply.can_upgrade() {
            return Err(SendError::NotSupported);
        }
        let reply = state.reply.take().ok_or(SendError::AlreadySent)?;
        state.serving = None;
        state.is_served();
        drop(state);
        let config = self.connection.server.share(config);
        let socket = Socket::new(self.connection.clone(), config, agreed);
        // Before the reply: the end of the HTTP connection must not be told as its end.
        let ward: Weak<dyn Ward> = Arc::<Socket<O>>::downgrade(&socket);
        if !self.connection.becomes(ward) {
            return Err(SendError::Closed);
        }
        let Ok(transport) = reply.upgrade(response) else {
            let connection = self.connection.clone();
            // A task tells the owner, because only the engine's own tasks may send messages.
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
        &self.connection.server.budget
    }

    fn send_timeout(&self) -> Duration {
        self.send_limits().1
    }

    fn data_sent(&self) -> u64 {
        self.connection.io().map_or(0, |io| io.data_sent())
    }

    fn ended(&self) {
        self.response_ended();
    }
}
