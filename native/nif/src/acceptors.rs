//! Who hears of a listener and of its connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam::sync::ShardedLock;
use rustler::{Env, LocalPid, Resource, ResourceArc, Term};

use crate::message::send;

/// Tags a listener's messages.
pub struct ListenerTag;

#[rustler::resource_impl]
impl Resource for ListenerTag {}

/// Messages about peers that do not speak HTTP, per second and listener.
const HTTP_ERRORS_PER_SECOND: u64 = 10;

/// A listener's owner, and the acceptors that its connections are given to.
pub struct AcceptorPool {
    pub tag: ResourceArc<ListenerTag>,
    pub owner: LocalPid,
    acceptors: ShardedLock<Vec<LocalPid>>,
    next: AtomicUsize,
    pub http_errors: RateLimit,
}

impl AcceptorPool {
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
    pub fn send_to_next(&self, message: impl for<'a> Fn(Env<'a>) -> Term<'a>) -> bool {
        let acceptors = self.acceptors.read().unwrap_or_else(|e| e.into_inner());
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..acceptors.len())
            .map(|i| &acceptors[(first.wrapping_add(i)) % acceptors.len()])
            .any(|pid| send(pid, &message))
    }
}

pub struct RateLimit {
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

    pub fn allows(&self) -> bool {
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
