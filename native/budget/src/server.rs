//! A server whose owners are no processes: they note what they are told, and [`Server::settle`] answers it
//! after the turn, as the processes of the BEAM do. All that the rest of this program needs of the engine.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;
use std::{io, mem};

use bytes::Bytes;
use ferrosock_engine::buffer::{Buffer, VecBuffer};
use ferrosock_engine::config::{ListenerConfig, Overload, SocketConfig};
use ferrosock_engine::connection::{Connection, Taken};
use ferrosock_engine::error::HttpError;
use ferrosock_engine::http::handler::{Handler, Waiting};
use ferrosock_engine::listener::{Host, Listener};
use ferrosock_engine::net::Address;
use ferrosock_engine::owner::{Events, Owner, Payload, Sink};
use ferrosock_engine::rt::{self, Driver, Reactor, Turned};
use ferrosock_engine::ws::Message;
use ferrosock_engine::ws::frame::Opcode;
use ferrosock_engine::ws::socket::Socket;
use http::{HeaderMap, HeaderValue};

pub struct Server {
    pub addr: SocketAddr,
    _listener: Listener,
    reactor: &'static Reactor,
    news: Arc<Mutex<Vec<News>>>,
}

/// What an owner has been told, for the one that answers.
enum News {
    Request(Arc<Owned>),
    Messages(Arc<Owned>, Vec<Vec<u8>>),
}

/// What a process would have: its connection, and the WebSocket that this has become.
struct Owned {
    connection: Weak<Connection<Noting>>,
    socket: OnceLock<Weak<Socket<Noting>>>,
}

impl Server {
    pub fn start() -> Self {
        rt::start(1, Driver::Host).expect("a reactor");
        let news = Arc::default();
        let host = NotingHost(Arc::clone(&news));
        let listener = Listener::open(listener_config(), None, host).expect("a free port");
        let Address::Inet(addr) = listener.info().addr else {
            unreachable!("it was told an address of the Internet's");
        };
        Self {
            addr,
            _listener: listener,
            reactor: &rt::reactors()[0],
            news,
        }
    }

    /// Until neither the engine nor an owner has anything to do.
    pub fn settle(&self) {
        loop {
            while self.reactor.turn() != Turned::Idle {}
            let news = mem::take(&mut *self.news.lock().expect("no panic"));
            if news.is_empty() {
                return;
            }
            news.into_iter().for_each(News::answer);
        }
    }
}

impl News {
    fn answer(self) {
        match self {
            Self::Request(owned) => {
                let connection = owned.connection.upgrade().expect("it has a request");
                while let Taken::Request(waiting) = connection.take() {
                    waiting
                        .exchange
                        .reactor()
                        .run_with(|| owned.serve(&waiting));
                }
            }
            Self::Messages(owned, payloads) => echo(&owned.socket(), &payloads),
        }
    }
}

impl Owned {
    fn serve(&self, waiting: &Waiting<Noting>) {
        let exchange = &waiting.exchange;
        if waiting.request().path == "/echo" {
            let socket = exchange.upgrade(HeaderMap::new(), socket_config());
            let socket = socket.expect("a handshake");
            self.socket
                .set(Arc::downgrade(&socket))
                .expect("one upgrade");
            socket.ack(&[], |_| unreachable!("nothing is sent"));
            return;
        }
        // As a Plug answers.
        let mut headers = HeaderMap::new();
        let value = HeaderValue::from_static("max-age=0, private, must-revalidate");
        headers.insert("cache-control", value);
        let value = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert("content-type", value);
        let body = Bytes::copy_from_slice(b"ok");
        exchange.respond(200, headers, body).expect("a client");
    }

    fn socket(&self) -> Arc<Socket<Noting>> {
        let socket = self.socket.get().and_then(Weak::upgrade);
        socket.expect("an open WebSocket")
    }
}

fn echo(socket: &Socket<Noting>, payloads: &[Vec<u8>]) {
    let message = |payload| Message {
        opcode: Opcode::Binary,
        payload,
    };
    let messages: Vec<_> = payloads.iter().map(|payload| message(payload)).collect();
    socket.ack(&messages, |index| Bytes::copy_from_slice(&payloads[index]));
}

struct NotingHost(Arc<Mutex<Vec<News>>>);

impl Host for NotingHost {
    type Owner = Noting;

    fn owner(&self, connection: Weak<Connection<Noting>>) -> Noting {
        Noting {
            owned: Arc::new(Owned {
                connection,
                socket: OnceLock::new(),
            }),
            news: self.0.clone(),
        }
    }

    fn accept_error(&self, error: &io::Error) {
        panic!("accepting failed: {error}");
    }
}

/// An owner that notes what it is told.
struct Noting {
    owned: Arc<Owned>,
    news: Arc<Mutex<Vec<News>>>,
}

impl Noting {
    fn note(&self, news: News) {
        self.news.lock().expect("no panic").push(news);
    }
}

impl Handler for Noting {
    fn of_stream(&self, _stream: Weak<Connection<Self>>) -> Self {
        unreachable!("HTTP/2 is not spoken");
    }
}

impl Owner for Noting {
    type Request = Waiting<Self>;
    type Buffer = VecBuffer;
    type Batch<'a> = Batch;

    fn request(&self) -> bool {
        self.note(News::Request(self.owned.clone()));
        true
    }

    fn closed(&self) {}

    fn deliver<R>(&self, fill: impl for<'a> FnOnce(&mut Batch) -> R) -> R {
        let mut batch = Batch::default();
        let result = fill(&mut batch);
        if !batch.0.is_empty() {
            self.note(News::Messages(self.owned.clone(), batch.0));
        }
        result
    }

    fn idle(&self) {}

    fn paused(&self, _batches: u32) {}

    fn http_error(&self, _peer: &Address, error: HttpError) {
        panic!("these clients speak HTTP: {}", error.name());
    }
}

/// The messages of a batch. Clients of this program send nothing else, and its end is no event.
#[derive(Default)]
struct Batch(Vec<Vec<u8>>);

impl Sink<VecBuffer> for Batch {
    fn text(&mut self, payload: Payload<'_, VecBuffer>) {
        self.binary(payload);
    }

    fn binary(&mut self, payload: Payload<'_, VecBuffer>) {
        self.0.push(match payload {
            Payload::Slice(bytes) => bytes.to_vec(),
            Payload::Buffer(mut buffer) => buffer.filled().to_vec(),
        });
    }

    fn ping(&mut self, _payload: &[u8]) {}

    fn pong(&mut self, _payload: &[u8]) {}

    fn close(&mut self, _code: Option<u16>, _reason: &[u8]) {}
}

impl Events<VecBuffer> for Batch {
    fn error(&mut self, _code: u16, reason: &'static str) {
        panic!("these clients keep to the protocol: {reason}");
    }

    fn timeout(&mut self) {}

    fn lifetime(&mut self) {}

    fn closed(&mut self, _reason: &io::Error) {}

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

// As the defaults of `Ferrosock` are, but for what a program that runs fifty times as slowly would exceed.

const LONG: Duration = Duration::from_secs(600);

fn listener_config() -> ListenerConfig {
    ListenerConfig {
        address: Address::Inet(([127, 0, 0, 1], 0).into()),
        backlog: 1024,
        reuse_port: false,
        user_timeout: LONG,
        nodelay: true,
        max_connections: usize::MAX,
        overload: Overload::Wait,
        max_queued_bytes: usize::MAX,
        proxy_protocol: false,
        handshake_timeout: LONG,
        header_timeout: LONG,
        half_close: true,
        max_unread_length: 8_000_000,
        idle_timeout: LONG,
        send_timeout: LONG,
        max_request_line_length: 10_000,
        max_header_length: 50_000,
        max_header_count: 100,
        max_requests: 0,
        high_water_mark: 1 << 20,
        http2: None,
    }
}

fn socket_config() -> SocketConfig {
    SocketConfig {
        timeout: None,
        ping_interval: None,
        ping_timeout: LONG,
        max_lifetime: None,
        hibernate_after: Some(LONG),
        deflate: None,
        close_timeout: LONG,
        max_frame_size: 8_000_000,
        max_fragments: 10_000,
        validate_utf8: true,
        control_events: true,
        high_water_mark: 1 << 20,
        send_timeout: LONG,
    }
}
