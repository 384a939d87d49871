//! How the engine's events become messages. All of this is called by the engine's tasks.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use crossbeam::sync::ShardedLock;
use ferrosock_engine::connection::Connection;
use ferrosock_engine::error::HttpError;
use ferrosock_engine::http::handler::{Handler, Waiting};
use ferrosock_engine::listener::Host;
use ferrosock_engine::net::Address;
use ferrosock_engine::owner::{Events, Owner};
use ferrosock_engine::owner::{Payload, Sink};
use ferrosock_engine::ws::ending::Ending;
use rustler::env::SavedTerm;
use rustler::{Encoder, Env, LocalPid, OwnedEnv, ResourceArc, Term};

use crate::handle::{Claim, ListenerTag, Tag};
use crate::raw;
use crate::term::{self, BinaryBuffer, atom, atoms, binary, posix};

/// Messages about peers that do not speak HTTP, per second and listener.
const HTTP_ERRORS_PER_SECOND: u64 = 10;

/// Where connections wait to be taken: a listener's owner and its acceptors.
pub struct Hall {
    pub tag: ResourceArc<ListenerTag>,
    owner: LocalPid,
    acceptors: ShardedLock<Vec<LocalPid>>,
    next: AtomicUsize,
    http_errors: RateLimit,
}

impl Hall {
    pub fn new(owner: LocalPid) -> Arc<Self> {
        Arc::new(Self {
            tag: ResourceArc::new(ListenerTag),
            owner,
            acceptors: ShardedLock::default(),
            next: AtomicUsize::new(0),
            http_errors: RateLimit::new(HTTP_ERRORS_PER_SECOND),
        })
    }

    pub fn is_owner(&self, pid: &LocalPid) -> bool {
        self.owner == *pid
    }

    /// `false`: it is one already.
    pub fn add(&self, acceptor: LocalPid) -> bool {
        let mut acceptors = self.acceptors.write().unwrap_or_else(|e| e.into_inner());
        let is_new = !acceptors.contains(&acceptor);
        if is_new {
            acceptors.push(acceptor);
        }
        is_new
    }

    pub fn remove(&self, acceptor: &LocalPid) {
        let mut acceptors = self.acceptors.write().unwrap_or_else(|e| e.into_inner());
        acceptors.retain(|pid| pid != acceptor);
    }

    /// Sends to one acceptor after the other, until one is alive.
    ///
    /// Their mailboxes need no bound of their own. A connection sends one message in its life, and has a
    /// descriptor; one of HTTP/2 sends one for each stream, of which no more than twice
    /// `max_concurrent_streams` may wait for a handler.
    fn send_to_next(&self, message: impl for<'a> Fn(Env<'a>) -> Term<'a>) -> bool {
        let acceptors = self.acceptors.read().unwrap_or_else(|e| e.into_inner());
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..acceptors.len())
            .map(|i| &acceptors[(first.wrapping_add(i)) % acceptors.len()])
            .any(|pid| send(pid, &message))
    }
}

/// Makes the owners of a listener's connections.
pub struct BeamHost(pub Arc<Hall>);

impl Host for BeamHost {
    type Owner = BeamOwner;

    fn owner(&self, connection: Weak<Connection<BeamOwner>>) -> BeamOwner {
        BeamOwner {
            tag: Tag::new(connection),
            hall: self.0.clone(),
        }
    }

    fn accept_error(&self, error: &io::Error) {
        send(&self.0.owner, |env| {
            (&self.0.tag, (atoms::accept_error(), posix(env, error))).encode(env)
        });
    }
}

pub struct BeamOwner {
    tag: ResourceArc<Tag>,
    hall: Arc<Hall>,
}

impl Handler for BeamOwner {
    fn of_stream(&self, stream: Weak<Connection<Self>>) -> Self {
        BeamHost(self.hall.clone()).owner(stream)
    }
}

impl Owner for BeamOwner {
    type Request = Waiting<Self>;
    type Buffer = BinaryBuffer;
    type Batch<'a> = Batch<'a>;

    fn request(&self) -> bool {
        if let Some(owner) = self.tag.owner() {
            return send(owner, |env| (&self.tag, atoms::request()).encode(env));
        }
        let claim = Claim::new(&self.tag);
        let is_sent = self
            .hall
            .send_to_next(|env| (&self.hall.tag, (atoms::connection(), &claim)).encode(env));
        if !is_sent {
            claim.void();
        }
        is_sent
    }

    fn closed(&self) {
        if let Some(owner) = self.tag.owner() {
            send(owner, |env| (&self.tag, atoms::closed()).encode(env));
        }
    }

    fn deliver<R>(&self, fill: impl for<'a> FnOnce(&mut Batch<'a>) -> R) -> R {
        with_env(|own| {
            let (result, message) = own.run(|env| {
                let mut batch = Batch {
                    env,
                    events: Vec::new(),
                };
                let result = fill(&mut batch);
                let message: Option<SavedTerm> =
                    (!batch.events.is_empty()).then(|| own.save((&self.tag, batch.events)));
                (result, message)
            });
            if let (Some(message), Some(owner)) = (message, self.tag.owner()) {
                raw::send(own, owner, |env| message.load(env));
            }
            result
        })
    }

    fn idle(&self) {
        if let Some(owner) = self.tag.owner() {
            send(owner, |env| (&self.tag, atoms::idle()).encode(env));
        }
    }

    fn paused(&self, batches: u32) {
        if let Some(owner) = self.tag.owner() {
            send(owner, |env| {
                (&self.tag, (atoms::paused(), batches)).encode(env)
            });
        }
    }

    fn http_error(&self, peer: &Address, error: HttpError) {
        if self.hall.http_errors.allows() {
            send(&self.hall.owner, |env| {
                let reason = atom(env, error.name());
                (
                    &self.hall.tag,
                    (atoms::http_error(), term::Address(peer), reason),
                )
                    .encode(env)
            });
        }
    }
}

/// The events of one message.
pub struct Batch<'a> {
    env: Env<'a>,
    events: Vec<Term<'a>>,
}

impl Batch<'_> {
    /// A last event, for an owner that asks for it.
    pub fn last<'a>(env: Env<'a>, ending: &Ending) -> Term<'a> {
        let mut batch = Batch {
            env,
            events: Vec::with_capacity(1),
        };
        match ending {
            Ending::Close(code, reason) => batch.close(*code, reason),
            Ending::Error(code, reason) => batch.error(*code, reason),
            Ending::Timeout => batch.timeout(),
            Ending::Lifetime => batch.lifetime(),
            Ending::Closed(error) => batch.closed(error),
        }
        batch.events[0]
    }

    fn push(&mut self, event: impl Encoder) {
        self.events.push(event.encode(self.env));
    }
}

impl Sink<BinaryBuffer> for Batch<'_> {
    fn text(&mut self, payload: Payload<'_, BinaryBuffer>) {
        let payload = into_term(self.env, payload);
        self.push((atoms::text(), payload));
    }

    fn binary(&mut self, payload: Payload<'_, BinaryBuffer>) {
        let payload = into_term(self.env, payload);
        self.push((atoms::binary(), payload));
    }

    fn ping(&mut self, payload: &[u8]) {
        self.push((atoms::ping(), binary(self.env, payload)));
    }

    fn pong(&mut self, payload: &[u8]) {
        self.push((atoms::pong(), binary(self.env, payload)));
    }

    fn close(&mut self, code: Option<u16>, reason: &[u8]) {
        self.push((atoms::close(), code, binary(self.env, reason)));
    }
}

impl Events<BinaryBuffer> for Batch<'_> {
    fn error(&mut self, code: u16, reason: &'static str) {
        self.push((atoms::error(), code, atom(self.env, reason)));
    }

    fn timeout(&mut self) {
        self.push(atoms::timeout());
    }

    fn lifetime(&mut self) {
        self.push(atoms::max_lifetime());
    }

    fn closed(&mut self, reason: &io::Error) {
        self.push((atoms::closed(), posix(self.env, reason)));
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

fn into_term<'a>(env: Env<'a>, payload: Payload<'_, BinaryBuffer>) -> Term<'a> {
    match payload {
        Payload::Slice(bytes) => binary(env, bytes),
        Payload::Buffer(buffer) => buffer.into_binary(env).encode(env),
    }
}

/// `false`: the process is gone.
fn send(to: &LocalPid, message: impl for<'a> FnOnce(Env<'a>) -> Term<'a>) -> bool {
    with_env(|own| raw::send(own, to, message))
}

/// One environment per thread: making one costs more than filling it.
fn with_env<R>(f: impl FnOnce(&mut OwnedEnv) -> R) -> R {
    thread_local! {
        static ENV: RefCell<OwnedEnv> = RefCell::new(OwnedEnv::new());
    }
    ENV.with_borrow_mut(f)
}

struct RateLimit {
    start: Instant,
    per_second: u64,
    /// The second, counted from the start, and how many were allowed in it.
    window: AtomicU64,
}

impl RateLimit {
    fn new(per_second: u64) -> Self {
        Self {
            start: Instant::now(),
            per_second,
            window: AtomicU64::new(0),
        }
    }

    fn allows(&self) -> bool {
        let second = self.start.elapsed().as_secs() << 8;
        let next = |window: u64| match window & !0xff == second {
            true => (window - second < self.per_second).then_some(window + 1),
            false => Some(second | 1),
        };
        self.window
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }
}
