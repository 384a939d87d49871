//! The NIF library: terms in, one engine call, terms out. `Ferrosock.Native` says what each function
//! and each message means.
//!
//! - [`handle`]: the engine's objects as terms, and what happens when their owner dies
//! - [`owner`]: how the engine's events become messages
//! - [`answer`]: the one message that answers a call
//! - `term`: conversions
//! - [`raw`]: what rustler has no safe function for

mod answer;
mod handle;
mod owner;
mod raw;
mod term;

use std::cell::Cell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrosock_engine::config::{Http2Config, ListenerConfig, Overload, Ping, SocketConfig};
use ferrosock_engine::connection::Taken;
use ferrosock_engine::http::exchange::FileError;
use ferrosock_engine::http::handler;
use ferrosock_engine::listener::Listener;
use ferrosock_engine::net;
use ferrosock_engine::net::tls::config::{
    ClientAuth, Identity, Key, TlsConfig, TlsError, TlsOptions, Version,
};
use ferrosock_engine::rt::stats;
use ferrosock_engine::rt::{self, Driver, Reactor, Turned};
use ferrosock_engine::ws::ending::Last;
use ferrosock_engine::ws::extension::DeflateConfig;
use ferrosock_engine::ws::{self, Sent};
use rustix::time::{ClockId, clock_gettime};
use rustler::{
    Atom, Binary, Encoder, Env, NifMap, NifResult, NifUnitEnum, ResourceArc, Term, schedule,
};

use crate::answer::{Answer, closed, error_closed};
use crate::handle::{
    Claim, ExchangeHandle, ListenerHandle, ReactorHandle, SocketHandle, Tag, TlsHandle,
};
use crate::owner::{Batch, BeamHost, Hall};
use crate::term::{Fits, HeaderList, Limit, Messages, StatusTerm, atoms, posix};

rustler::init!("Elixir.Ferrosock.Native", load = load);

fn load(_env: Env, _info: Term) -> bool {
    handle::forget_reactors();
    true
}

/// Of what the VM lets a process have of a scheduler at a time, which is a millisecond
/// (enif_consume_timeslice).
const PERCENT: Duration = Duration::from_micros(10);

// Reactors

#[rustler::nif]
fn reactors_start(count: usize) -> NifResult<usize> {
    // For tests: the way of the machines on which the epoll of a reactor cannot be found.
    let driver = match std::env::var_os("FERROSOCK_REACTOR_THREADS") {
        Some(_) => Driver::Threads,
        None => Driver::Host,
    };
    rt::start(count, driver).map_err(|e| rustler::Error::RaiseTerm(Box::new(e.to_string())))
}

#[rustler::nif]
fn reactor_get(index: usize) -> Option<ResourceArc<ReactorHandle>> {
    handle::reactor(index)
}

#[rustler::nif]
fn reactor_turn(env: Env, reactor: ResourceArc<ReactorHandle>) -> Atom {
    turn(env, &reactor)
}

/// With the CPU time of the turn in ns, by the clock of this thread: what the machine gave to others in
/// the middle of it is not the turn's.
#[rustler::nif]
fn reactor_turn_timed(env: Env, reactor: ResourceArc<ReactorHandle>) -> (Atom, i64) {
    let start = thread_time();
    let turned = turn(env, &reactor);
    (turned, thread_time() - start)
}

fn thread_time() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn turn(env: Env, reactor: &ResourceArc<ReactorHandle>) -> Atom {
    let turned = pay_for(env, || raw::on_behalf_of(env, || reactor.turn()));
    match turned {
        Turned::Soon => atoms::soon(),
        Turned::Idle if handle::select(env, reactor) => atoms::idle(),
        _ => atoms::more(),
    }
}

thread_local! {
    /// What calls on this thread have taken and nobody has paid for yet.
    static OWED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Has the calling process pay for the time that its call takes, by what it may still run before others are
/// to run. Most calls take less than can be paid, so that the next one on the thread pays for several.
fn pay_for<R>(env: Env, work: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = work();
    pay(env, start.elapsed());
    result
}

fn pay(env: Env, time: Duration) {
    let owed = OWED.get() + time;
    let percent = owed.as_nanos() / PERCENT.as_nanos();
    if percent == 0 {
        OWED.set(owed);
    } else {
        OWED.set(Duration::ZERO);
        schedule::consume_timeslice(env, percent.min(100) as i32);
    }
}

/// A few messages on a socket: one write, of which it is known what it takes. To look at the clock would cost
/// more than a hundredth of it.
const SMALL_SEND: Duration = Duration::from_micros(4);
/// Bytes of such messages.
const SMALL: usize = 2048;

fn pay_for_messages(env: Env, payloads: &[Binary<'_>], send: impl FnOnce() -> Sent) -> Sent {
    let size: usize = payloads.iter().map(|payload| payload.len()).sum();
    if size > SMALL || payloads.len() > 16 {
        return pay_for(env, send);
    }
    let sent = send();
    if !payloads.is_empty() {
        pay(env, SMALL_SEND);
    }
    sent
}

/// A call that wakes a connection's task, which then runs here if it can.
fn run_with<R>(env: Env, reactor: &Reactor, call: impl FnOnce() -> R) -> R {
    pay_for(env, || raw::on_behalf_of(env, || reactor.run_with(call)))
}

#[derive(NifMap)]
struct Stats {
    listeners: usize,
    connections: usize,
    exchanges: usize,
    sockets: usize,
    tasks: usize,
}

#[rustler::nif(name = "stats")]
fn engine_stats() -> Stats {
    Stats {
        listeners: stats::LISTENERS.get(),
        connections: stats::CONNECTIONS.get(),
        exchanges: stats::EXCHANGES.get(),
        sockets: stats::SOCKETS.get(),
        tasks: stats::TASKS.get(),
    }
}

// Listeners

#[derive(NifMap)]
struct TlsTerms<'a> {
    identities: Vec<IdentityTerm<'a>>,
    client_auth: Option<ClientAuthTerm<'a>>,
    versions: Vec<VersionTerm>,
    http2: bool,
}

#[derive(NifMap)]
struct IdentityTerm<'a> {
    chain: Vec<Binary<'a>>,
    key: (KeyType, Binary<'a>),
    hosts: Vec<String>,
}

/// As `:public_key` names them.
#[derive(NifUnitEnum)]
enum KeyType {
    Rsa,
    Ec,
    Pkcs8,
}

#[derive(NifUnitEnum)]
enum OverloadTerm {
    Wait,
    Refuse,
}

#[derive(NifUnitEnum)]
enum VersionTerm {
    Tls12,
    Tls13,
}

#[derive(NifMap)]
struct ClientAuthTerm<'a> {
    authorities: Vec<Binary<'a>>,
    required: bool,
}

impl From<TlsTerms<'_>> for TlsOptions {
    fn from(terms: TlsTerms<'_>) -> Self {
        let owned = |ders: Vec<Binary<'_>>| ders.iter().map(|der| der.to_vec()).collect();
        let identity = |term: IdentityTerm<'_>| Identity {
            chain: owned(term.chain),
            key: match term.key {
                (KeyType::Rsa, der) => Key::Pkcs1(der.to_vec()),
                (KeyType::Ec, der) => Key::Sec1(der.to_vec()),
                (KeyType::Pkcs8, der) => Key::Pkcs8(der.to_vec()),
            },
            hosts: term.hosts,
        };
        let version = |term| match term {
            VersionTerm::Tls12 => Version::Tls12,
            VersionTerm::Tls13 => Version::Tls13,
        };
        Self {
            identities: terms.identities.into_iter().map(identity).collect(),
            client_auth: terms.client_auth.map(|term| ClientAuth {
                authorities: owned(term.authorities),
                is_required: term.required,
            }),
            versions: terms.versions.into_iter().map(version).collect(),
            http2: terms.http2,
        }
    }
}

// Keys are parsed and checked, which takes too long for a scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn tls_config<'a>(env: Env<'a>, terms: TlsTerms<'a>) -> Term<'a> {
    let error = match TlsConfig::new(terms.into()) {
        Ok(config) => return (atoms::ok(), ResourceArc::new(TlsHandle(config))).encode(env),
        Err(TlsError::Identity(index, text)) => (atoms::identity(), index, text).encode(env),
        Err(TlsError::Authority(index, text)) => (atoms::authority(), index, text).encode(env),
        Err(TlsError::Other(text)) => (atoms::other(), 0, text).encode(env),
    };
    env.error_tuple(error)
}

#[derive(NifMap)]
struct ListenerOptions {
    address: term::Address<net::Address>,
    tls: Option<ResourceArc<TlsHandle>>,
    reuse_port: bool,
    user_timeout: u64,
    nodelay: bool,
    max_connections: Limit,
    overload: OverloadTerm,
    max_queued_bytes: Limit,
    proxy_protocol: bool,
    handshake_timeout: u64,
    backlog: i32,
    header_timeout: u64,
    idle_timeout: u64,
    send_timeout: u64,
    max_request_line_length: usize,
    max_header_length: usize,
    max_header_count: usize,
    max_requests: u64,
    half_close: bool,
    max_unread_length: u64,
    high_water_mark: usize,
    http2: Option<Http2Options>,
}

#[derive(NifMap)]
struct Http2Options {
    max_concurrent_streams: u32,
    max_header_length: u32,
    max_header_count: usize,
    max_requests: u64,
    initial_window_size: u32,
    idle_timeout: u64,
    send_timeout: u64,
    high_water_mark: usize,
}

impl From<Http2Options> for Http2Config {
    fn from(options: Http2Options) -> Self {
        Self {
            max_concurrent_streams: options.max_concurrent_streams,
            max_header_length: options.max_header_length,
            max_header_count: options.max_header_count,
            max_requests: options.max_requests,
            initial_window_size: options.initial_window_size,
            idle_timeout: Duration::from_millis(options.idle_timeout),
            send_timeout: Duration::from_millis(options.send_timeout),
            high_water_mark: options.high_water_mark,
        }
    }
}

impl From<ListenerOptions> for ListenerConfig {
    fn from(options: ListenerOptions) -> Self {
        Self {
            addr: options.address.0,
            backlog: options.backlog,
            reuse_port: options.reuse_port,
            user_timeout: Duration::from_millis(options.user_timeout),
            nodelay: options.nodelay,
            max_connections: options.max_connections.size(),
            max_queued_bytes: options.max_queued_bytes.size(),
            overload: match options.overload {
                OverloadTerm::Wait => Overload::Wait,
                OverloadTerm::Refuse => Overload::Refuse,
            },
            proxy_protocol: options.proxy_protocol,
            handshake_timeout: Duration::from_millis(options.handshake_timeout),
            header_timeout: Duration::from_millis(options.header_timeout),
            idle_timeout: Duration::from_millis(options.idle_timeout),
            send_timeout: Duration::from_millis(options.send_timeout),
            max_request_line_length: options.max_request_line_length,
            max_header_length: options.max_header_length,
            max_header_count: options.max_header_count,
            max_requests: options.max_requests,
            half_close: options.half_close,
            max_unread_length: options.max_unread_length,
            high_water_mark: options.high_water_mark,
            http2: options.http2.map(Http2Config::from),
        }
    }
}

#[rustler::nif]
fn listener_open(env: Env, options: ListenerOptions) -> Term {
    let hall = Hall::new(env.pid());
    let tls = options.tls.as_ref().map(|tls| tls.0.clone());
    match Listener::open(options.into(), tls, BeamHost(hall.clone())) {
        Ok(listener) => {
            let tag = hall.tag.clone();
            let handle = ListenerHandle::open(env, listener, hall);
            (atoms::ok(), handle, tag).encode(env)
        }
        Err(e) => env.error_tuple(posix(env, &e)),
    }
}

#[derive(NifMap)]
struct ListenerInfo {
    address: term::Address<net::Address>,
    connections: usize,
    lingering: usize,
    queued_bytes: usize,
    accepted: u64,
    requests: u64,
    bytes_received: u64,
    bytes_sent: u64,
}

#[rustler::nif]
fn listener_info(handle: ResourceArc<ListenerHandle>) -> ListenerInfo {
    let info = handle.listener.info();
    ListenerInfo {
        address: term::Address(info.addr),
        connections: info.connections,
        lingering: info.lingering,
        queued_bytes: info.queued_bytes,
        accepted: info.accepted,
        requests: info.requests,
        bytes_received: info.bytes_received,
        bytes_sent: info.bytes_sent,
    }
}

#[rustler::nif]
fn listener_set_tls(handle: ResourceArc<ListenerHandle>, tls: ResourceArc<TlsHandle>) -> Atom {
    handle.listener.set_tls(tls.0.clone());
    atoms::ok()
}

#[rustler::nif]
fn listener_accept(env: Env, handle: ResourceArc<ListenerHandle>) -> Term {
    if handle.listener.is_closed() {
        return env.error_tuple(atoms::closed());
    }
    handle::add_acceptor(env, &handle);
    atoms::ok().encode(env)
}

#[rustler::nif]
fn listener_drain(
    env: Env,
    handle: ResourceArc<ListenerHandle>,
    reference: Term,
) -> NifResult<Atom> {
    let answer = Answer::to(env, reference, closed)?;
    handle.listener.drain(move || answer.send(closed));
    Ok(atoms::ok())
}

#[rustler::nif]
fn listener_close(handle: ResourceArc<ListenerHandle>) -> Atom {
    handle.listener.close();
    atoms::ok()
}

// Exchanges

#[rustler::nif]
fn attach(env: Env, claim: ResourceArc<Claim>) -> Term {
    match handle::attach(env, &claim) {
        Some(tag) => (atoms::ok(), tag).encode(env),
        None => atoms::gone().encode(env),
    }
}

#[rustler::nif]
fn refuse(env: Env, claim: ResourceArc<Claim>) -> Atom {
    if let Some(connection) = claim.connection() {
        run_with(env, connection.reactor(), || handler::refuse(&connection));
    }
    atoms::ok()
}

#[rustler::nif]
fn take(env: Env, tag: ResourceArc<Tag>) -> Term {
    match tag.take() {
        Taken::Request(waiting) => {
            let exchange = ResourceArc::new(ExchangeHandle(waiting.exchange.clone()));
            let request = term::request(env, &waiting.request());
            (atoms::request(), exchange, request).encode(env)
        }
        Taken::Nothing => atoms::none().encode(env),
        Taken::Ended => atoms::closed().encode(env),
    }
}

#[rustler::nif]
fn exchange_respond<'a>(
    env: Env<'a>,
    exchange: ResourceArc<ExchangeHandle>,
    status: StatusTerm,
    headers: HeaderList,
    body: Term<'a>,
) -> NifResult<Term<'a>> {
    let body = pay_for(env, || {
        term::iodata(body).map(|body| Bytes::copy_from_slice(&body))
    })?;
    let sent = headers.0.and_then(|headers| {
        run_with(env, exchange.0.reactor(), || {
            exchange.0.respond(status.0, headers, body)
        })
    });
    Ok(term::sent(env, sent))
}

#[rustler::nif]
fn exchange_start<'a>(
    env: Env<'a>,
    exchange: ResourceArc<ExchangeHandle>,
    status: StatusTerm,
    headers: HeaderList,
) -> Term<'a> {
    term::sent(
        env,
        headers
            .0
            .and_then(|headers| exchange.0.start(status.0, headers)),
    )
}

#[rustler::nif]
fn exchange_chunk<'a>(
    env: Env<'a>,
    exchange: ResourceArc<ExchangeHandle>,
    data: Term<'a>,
) -> NifResult<Term<'a>> {
    let data = pay_for(env, || {
        term::iodata(data).map(|data| Bytes::copy_from_slice(&data))
    })?;
    let chunk = || exchange.0.chunk(data);
    Ok(match run_with(env, exchange.0.reactor(), chunk) {
        Ok(false) => atoms::ok().encode(env),
        Ok(true) => atoms::full().encode(env),
        Err(e) => term::sent(env, Err(e)),
    })
}

#[rustler::nif]
fn exchange_await(
    env: Env,
    exchange: ResourceArc<ExchangeHandle>,
    reference: Term,
) -> NifResult<Atom> {
    Answer::waiting(env, reference, |waiter| exchange.0.wait(waiter))
}

#[rustler::nif]
fn exchange_finish(env: Env, exchange: ResourceArc<ExchangeHandle>) -> Atom {
    run_with(env, exchange.0.reactor(), || exchange.0.finish());
    atoms::ok()
}

#[rustler::nif]
fn exchange_abort(exchange: ResourceArc<ExchangeHandle>) -> Atom {
    exchange.0.abort();
    atoms::ok()
}

#[rustler::nif]
fn exchange_read(
    env: Env,
    exchange: ResourceArc<ExchangeHandle>,
    length: usize,
    timeout: Limit,
    reference: Term,
) -> NifResult<Atom> {
    let answer = Answer::to(env, reference, error_closed)?;
    exchange.0.read(length, timeout.duration(), move |result| {
        answer.send(|env| match result {
            Ok(piece) => {
                let tag = if piece.more {
                    atoms::more()
                } else {
                    atoms::ok()
                };
                (tag, piece.data.into_binary(env)).encode(env)
            }
            Err(e) => env.error_tuple(term::read_error(e)),
        })
    });
    Ok(atoms::ok())
}

#[rustler::nif]
fn exchange_body_error(exchange: ResourceArc<ExchangeHandle>) -> Option<Atom> {
    exchange.0.body_error().map(term::read_error)
}

#[rustler::nif]
#[allow(clippy::too_many_arguments)]
fn exchange_send_file<'a>(
    env: Env<'a>,
    exchange: ResourceArc<ExchangeHandle>,
    status: StatusTerm,
    headers: HeaderList,
    path: Binary,
    offset: u64,
    length: u64,
    reference: Term,
) -> NifResult<Term<'a>> {
    let path = PathBuf::from(OsStr::from_bytes(path.as_slice()));
    let headers = match headers.0 {
        Ok(headers) => headers,
        Err(e) => return Ok(term::sent(env, Err(e))),
    };
    let answer = Answer::to(env, reference, error_closed)?;
    exchange
        .0
        .send_file(status.0, headers, path, (offset, length), move |result| {
            answer.send(|env| match result {
                Ok(()) => atoms::ok().encode(env),
                Err(FileError::Send(e)) => term::sent(env, Err(e)),
                Err(FileError::Io(e)) => env.error_tuple(posix(env, &e)),
            })
        });
    Ok(atoms::ok().encode(env))
}

#[rustler::nif]
fn exchange_inform<'a>(
    env: Env<'a>,
    exchange: ResourceArc<ExchangeHandle>,
    status: StatusTerm,
    headers: HeaderList,
) -> Term<'a> {
    term::sent(
        env,
        headers
            .0
            .and_then(|headers| exchange.0.inform(status.0, &headers)),
    )
}

#[rustler::nif]
fn exchange_tls(env: Env, exchange: ResourceArc<ExchangeHandle>) -> Term {
    let Some(info) = exchange.0.tls() else {
        return atoms::nil().encode(env);
    };
    let version = if info.is_tls13 {
        atoms::tls13()
    } else {
        atoms::tls12()
    };
    let certificate = info.peer_certificate.map(|der| term::binary(env, &der));
    (version, info.cipher_suite, certificate).encode(env)
}

#[rustler::nif]
fn exchange_sock(exchange: ResourceArc<ExchangeHandle>) -> NifResult<term::Address<net::Address>> {
    exchange
        .0
        .local_addr()
        .map(term::Address)
        .map_err(|_| rustler::Error::BadArg)
}

#[derive(NifMap)]
struct SocketOptions {
    timeout: Limit,
    ping_interval: Limit,
    ping_timeout: u64,
    max_lifetime: Limit,
    idle_notice: Limit,
    close_timeout: u64,
    max_frame_size: Limit,
    max_fragments: u32,
    validate_utf8: bool,
    control_events: bool,
    high_water_mark: usize,
    send_timeout: u64,
    deflate: Option<DeflateOptions>,
}

#[derive(NifMap)]
struct DeflateOptions {
    level: Fits<u8>,
    mem_level: Fits<u8>,
    window_bits: Fits<u8>,
    client_window_bits: Fits<u8>,
    server_context_takeover: bool,
    client_context_takeover: bool,
    threshold: usize,
}

impl From<&DeflateOptions> for DeflateConfig {
    fn from(options: &DeflateOptions) -> Self {
        Self {
            level: options.level.0,
            mem_level: options.mem_level.0,
            window_bits: options.window_bits.0,
            client_window_bits: options.client_window_bits.0,
            server_context_takeover: options.server_context_takeover,
            client_context_takeover: options.client_context_takeover,
            threshold: options.threshold,
        }
    }
}

impl From<SocketOptions> for SocketConfig {
    fn from(options: SocketOptions) -> Self {
        Self {
            timeout: options.timeout.duration(),
            ping: options.ping_interval.duration().map(|interval| Ping {
                interval,
                timeout: Duration::from_millis(options.ping_timeout),
            }),
            max_lifetime: options.max_lifetime.duration(),
            idle_notice: options.idle_notice.duration(),
            close_timeout: Duration::from_millis(options.close_timeout),
            max_frame_size: options.max_frame_size.0.unwrap_or(u64::MAX),
            max_fragments: options.max_fragments,
            validate_utf8: options.validate_utf8,
            control_events: options.control_events,
            high_water_mark: options.high_water_mark,
            send_timeout: Duration::from_millis(options.send_timeout),
        }
    }
}

#[rustler::nif]
fn exchange_upgrade<'a>(
    env: Env<'a>,
    exchange: ResourceArc<ExchangeHandle>,
    headers: HeaderList,
    options: SocketOptions,
) -> NifResult<Term<'a>> {
    let deflate = options.deflate.as_ref().map(DeflateConfig::from);
    if deflate.is_some_and(|config| !config.is_valid()) {
        return Err(rustler::Error::BadArg);
    }
    let upgrade = |headers| {
        run_with(env, exchange.0.reactor(), || {
            exchange
                .0
                .upgrade(headers, options.into(), deflate.as_ref())
        })
    };
    Ok(match headers.0.and_then(upgrade) {
        Ok(socket) => (atoms::ok(), ResourceArc::new(SocketHandle(socket))).encode(env),
        Err(e) => term::sent(env, Err(e)),
    })
}

// Sockets

#[rustler::nif]
fn socket_send<'a>(
    env: Env<'a>,
    socket: ResourceArc<SocketHandle>,
    messages: Messages<'a>,
) -> Atom {
    let (messages, payloads) = messages.split();
    let hold = |index: usize| raw::hold(payloads[index]);
    let result = pay_for_messages(env, &payloads, || socket.0.send(&messages, hold));
    sent(&socket, result)
}

#[rustler::nif]
fn socket_ack<'a>(env: Env<'a>, socket: ResourceArc<SocketHandle>, messages: Messages<'a>) -> Atom {
    let (messages, payloads) = messages.split();
    let hold = |index: usize| raw::hold(payloads[index]);
    let result = pay_for_messages(env, &payloads, || socket.0.ack(&messages, hold));
    sent(&socket, result)
}

fn sent(socket: &SocketHandle, sent: Sent) -> Atom {
    match sent {
        Sent::Closed => atoms::closed(),
        _ if socket.0.has_last_event() => atoms::ended(),
        Sent::Full => atoms::full(),
        Sent::Ok => atoms::ok(),
    }
}

#[rustler::nif]
fn socket_ending(env: Env, socket: ResourceArc<SocketHandle>) -> Term {
    match socket.0.last_event() {
        Last::None => atoms::none().encode(env),
        Last::Soon => atoms::soon().encode(env),
        Last::Told(ending) => Batch::last(env, ending),
    }
}

#[rustler::nif]
fn socket_resume(socket: ResourceArc<SocketHandle>, batches: u32) -> Atom {
    socket.0.resume(batches);
    atoms::ok()
}

#[rustler::nif]
fn socket_await(env: Env, socket: ResourceArc<SocketHandle>, reference: Term) -> NifResult<Atom> {
    Answer::waiting(env, reference, |waiter| socket.0.wait(waiter))
}

#[rustler::nif]
fn socket_close(
    env: Env,
    socket: ResourceArc<SocketHandle>,
    code: Option<Fits<u16>>,
    reason: Binary,
) -> NifResult<Atom> {
    if reason.len() > ws::MAX_CLOSE_REASON {
        return Err(rustler::Error::BadArg);
    }
    let code = code.map(|code| code.0);
    run_with(env, socket.0.reactor(), || {
        socket.0.close(code, reason.as_slice());
    });
    Ok(atoms::ok())
}

#[rustler::nif]
fn socket_abort(socket: ResourceArc<SocketHandle>) -> Atom {
    socket.0.abort();
    atoms::ok()
}
