//! An owner that is not a process: it writes down what it is told, and answers by a closure.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use ferrosock_engine::buffer::{Buffer, VecBuffer};
use ferrosock_engine::config::{DeflateConfig, ListenerConfig, Overload, SocketConfig};
use ferrosock_engine::connection::{Connection, Taken};
use ferrosock_engine::error::HttpError;
use ferrosock_engine::http::exchange::Exchange;
use ferrosock_engine::http::handler::{Handler, Request, Waiting};
use ferrosock_engine::listener::{Host, Listener};
use ferrosock_engine::net::Address;
use ferrosock_engine::owner::{Events, Owner};
use ferrosock_engine::owner::{Payload, Sink};
use ferrosock_engine::rt::{self, Driver};
use ferrosock_engine::ws::Message;
use ferrosock_engine::ws::frame::Opcode;
use ferrosock_engine::ws::socket::Socket;

pub const WAIT: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    Error(u16, &'static str),
    Timeout,
    Lifetime,
    Idle,
    Closed,
    HttpClosed,
    HttpError(HttpError),
}

/// What all owners of a listener have been told.
#[derive(Default)]
pub struct Log {
    events: Mutex<Vec<Event>>,
    changed: Condvar,
}

impl Log {
    fn push(&self, event: Event) {
        self.events.lock().unwrap().push(event);
        self.changed.notify_all();
    }

    /// Waits for that many events.
    pub fn wait(&self, count: usize) -> Vec<Event> {
        let events = self.events.lock().unwrap();
        let (events, result) = self
            .changed
            .wait_timeout_while(events, WAIT, |events| events.len() < count)
            .unwrap();
        assert!(!result.timed_out(), "only {events:?} within {WAIT:?}");
        events.clone()
    }
}

pub type Serve = dyn Fn(&Arc<Exchange<TestOwner>>, &Request<'_>) -> bool + Send + Sync;

pub struct TestHost {
    log: Arc<Log>,
    serve: Arc<Serve>,
    socket: SocketConfig,
}

impl Host for TestHost {
    type Owner = TestOwner;

    fn owner(&self, connection: Weak<Connection<TestOwner>>) -> TestOwner {
        let (log, serve) = (self.log.clone(), self.serve.clone());
        let config = self.socket.clone();
        TestOwner {
            connection,
            log,
            serve,
            config,
            socket: OnceLock::new(),
        }
    }

    fn accept_error(&self, _error: &std::io::Error) {}
}

pub struct TestOwner {
    connection: Weak<Connection<TestOwner>>,
    log: Arc<Log>,
    serve: Arc<Serve>,
    config: SocketConfig,
    socket: OnceLock<Weak<Socket<TestOwner>>>,
}

impl Handler for TestOwner {
    fn of_stream(&self, _stream: Weak<Connection<Self>>) -> Self {
        unreachable!("these listeners do not speak HTTP/2")
    }
}

impl Owner for TestOwner {
    type Request = Waiting<Self>;
    type Buffer = VecBuffer;
    type Batch<'a> = Batch;

    /// Takes it at once.
    fn request(&self) -> bool {
        let connection = self.connection.upgrade().expect("it has a request");
        let Taken::Request(waiting) = connection.take() else {
            panic!("told of a request that is not there");
        };
        // Waits for the next one.
        assert!(matches!(connection.take(), Taken::Nothing));
        let (exchange, request) = (&waiting.exchange, &waiting.request());
        if request.path == "/ws" {
            let socket = exchange
                .upgrade(Default::default(), self.config.clone())
                .expect("a handshake");
            let _ = self.socket.set(Arc::downgrade(&socket));
            socket.ack(&[], |_| unreachable!("nothing is sent"));
            return true;
        }
        (self.serve)(exchange, request)
    }

    fn closed(&self) {
        self.log.push(Event::HttpClosed);
    }

    /// Echoes messages, and answers a last event as a handler would.
    fn deliver<R>(&self, fill: impl for<'a> FnOnce(&mut Batch) -> R) -> R {
        let mut batch = Batch::default();
        let result = fill(&mut batch);
        if !batch.0.is_empty() {
            let socket = self.socket.get().and_then(Weak::upgrade);
            if let Some(socket) = socket {
                answer(&socket, &batch.0);
            }
            batch.0.into_iter().for_each(|event| self.log.push(event));
        }
        result
    }

    fn idle(&self) {
        self.log.push(Event::Idle);
    }

    fn paused(&self, _batches: u32) {}

    fn http_error(&self, _peer: &Address, error: HttpError) {
        self.log.push(Event::HttpError(error));
    }
}

fn answer(socket: &Socket<TestOwner>, events: &[Event]) {
    let messages: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Text(payload) => Some(Message {
                opcode: Opcode::Text,
                payload,
            }),
            Event::Binary(payload) => Some(Message {
                opcode: Opcode::Binary,
                payload,
            }),
            _ => None,
        })
        .collect();
    socket.ack(&messages, |index| messages[index].payload.to_vec().into());
    match events.last() {
        Some(Event::Close(code)) => socket.close(Some(code.unwrap_or(1000)), b""),
        Some(Event::Error(code, _)) => socket.close(Some(*code), b""),
        Some(Event::Timeout) => socket.close(Some(1001), b""),
        Some(Event::Lifetime) => socket.close(Some(1012), b""),
        _ => {}
    }
}

#[derive(Default)]
pub struct Batch(Vec<Event>);

impl Sink<VecBuffer> for Batch {
    fn text(&mut self, payload: Payload<'_, VecBuffer>) {
        let payload = into_vec(payload);
        assert_ne!(payload, b"panic", "this handler fails on demand");
        self.0.push(Event::Text(payload));
    }

    fn binary(&mut self, payload: Payload<'_, VecBuffer>) {
        self.0.push(Event::Binary(into_vec(payload)));
    }

    fn ping(&mut self, payload: &[u8]) {
        self.0.push(Event::Ping(payload.to_vec()));
    }

    fn pong(&mut self, payload: &[u8]) {
        self.0.push(Event::Pong(payload.to_vec()));
    }

    fn close(&mut self, code: Option<u16>, _reason: &[u8]) {
        self.0.push(Event::Close(code));
    }
}

impl Events<VecBuffer> for Batch {
    fn error(&mut self, code: u16, reason: &'static str) {
        self.0.push(Event::Error(code, reason));
    }

    fn timeout(&mut self) {
        self.0.push(Event::Timeout);
    }

    fn lifetime(&mut self) {
        self.0.push(Event::Lifetime);
    }

    fn closed(&mut self, _reason: &std::io::Error) {
        self.0.push(Event::Closed);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn into_vec(payload: Payload<'_, VecBuffer>) -> Vec<u8> {
    match payload {
        Payload::Slice(bytes) => bytes.to_vec(),
        Payload::Buffer(mut buffer) => buffer.filled().to_vec(),
    }
}

pub fn socket_config() -> SocketConfig {
    SocketConfig {
        timeout: Some(Duration::from_millis(300)),
        ping_interval: None,
        ping_timeout: Duration::from_millis(1000),
        max_lifetime: None,
        hibernate_after: None,
        close_timeout: Duration::from_millis(300),
        max_frame_size: 1 << 24,
        max_fragments: 1000,
        validate_utf8: true,
        control_events: true,
        high_water_mark: 1 << 20,
        send_timeout: Duration::from_millis(600),
        deflate: Some(DeflateConfig::default()),
    }
}

pub struct Server {
    pub listener: Listener,
    pub log: Arc<Log>,
}

impl Server {
    /// Serves requests by the closure, and WebSockets by an echo.
    pub fn start(
        serve: impl Fn(&Arc<Exchange<TestOwner>>, &Request<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(socket_config(), serve)
    }

    pub fn start_with(
        socket: SocketConfig,
        serve: impl Fn(&Arc<Exchange<TestOwner>>, &Request<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        rt::start(0, Driver::Threads).expect("threads");
        let config = ListenerConfig {
            address: Address::Inet(([127, 0, 0, 1], 0).into()),
            backlog: 16,
            reuse_port: false,
            user_timeout: Duration::from_secs(60),
            nodelay: true,
            max_connections: usize::MAX,
            overload: Overload::Wait,
            max_queued_bytes: usize::MAX,
            proxy_protocol: false,
            handshake_timeout: Duration::from_millis(500),
            header_timeout: Duration::from_millis(200),
            half_close: true,
            max_unread_length: 1 << 20,
            idle_timeout: Duration::from_millis(400),
            send_timeout: Duration::from_millis(600),
            max_request_line_length: 1000,
            max_header_length: 10_000,
            max_header_count: 20,
            max_requests: 0,
            high_water_mark: 1 << 16,
            http2: None,
        };
        let log = Arc::new(Log::default());
        let host = TestHost {
            log: log.clone(),
            serve: Arc::new(serve),
            socket,
        };
        Self {
            listener: Listener::open(config, None, host).expect("a free port"),
            log,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        match self.listener.info().addr {
            Address::Inet(addr) => addr,
            Address::Local(path) => panic!("it listens on TCP, not on {path:?}"),
        }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        stream
    }

    pub fn websocket(&self) -> TcpStream {
        let mut stream = self.connect();
        stream
            .write_all(
                b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            .unwrap();
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(
            head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
            "{head}"
        );
        stream
    }
}

pub fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(read_exact(stream, 1)[0]);
    }
    String::from_utf8(head).unwrap()
}

pub fn read_exact(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).expect("more bytes");
    bytes
}

pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an end");
    bytes
}

/// A client's frame, masked.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = vec![
        first,
        0x80 | u8::try_from(payload.len()).expect("a short one"),
    ];
    frame.extend_from_slice(&mask);
    frame.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    frame
}

pub fn eventually(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < WAIT, "not within {WAIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
