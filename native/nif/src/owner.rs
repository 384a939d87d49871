//! The process that has a connection: how it comes by it, and what the engine tells it. Only the
//! engine's tasks tell it anything.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use ferrosock_engine::connection::{Connection, Taken};
use ferrosock_engine::error::HttpError;
use ferrosock_engine::http::handler::{Handler, Waiting};
use ferrosock_engine::listener::Host;
use ferrosock_engine::net::Address;
use ferrosock_engine::owner::{Events, Owner};
use rustler::env::SavedTerm;
use rustler::{Encoder, Env, LocalPid, Monitor, Resource, ResourceArc};

use crate::acceptors::AcceptorPool;
use crate::event::Batch;
use crate::message::{send, with_env};
use crate::raw::{self, BinaryBuffer};
use crate::term::{self, atom, atoms, posix};

/// A connection, as the reference that tags its messages, and as what monitors its owner. The
/// engine holds it as long as the connection lives, so it is never collected before that.
pub struct Tag {
    connection: Weak<Connection<BeamOwner>>,
    owner: OnceLock<LocalPid>,
}

impl Tag {
    pub fn new(connection: Weak<Connection<BeamOwner>>) -> ResourceArc<Self> {
        ResourceArc::new(Self {
            connection,
            owner: OnceLock::new(),
        })
    }

    pub fn owner(&self) -> Option<&LocalPid> {
        self.owner.get()
    }

    /// What its owner has to do; see [`Connection::take`].
    pub fn take(&self) -> Taken<BeamOwner> {
        self.connection
            .upgrade()
            .map_or(Taken::Ended, |connection| connection.take())
    }

    fn has_ended(&self) -> bool {
        self.connection
            .upgrade()
            .is_none_or(|connection| connection.has_ended())
    }
}

/// A connection that waits for the process that is to have it.
pub struct Claim {
    tag: ResourceArc<Tag>,
    is_void: AtomicBool,
}

impl Claim {
    pub fn new(tag: &ResourceArc<Tag>) -> ResourceArc<Self> {
        ResourceArc::new(Self {
            tag: tag.clone(),
            is_void: AtomicBool::new(false),
        })
    }

    /// It has not been given to anyone.
    pub fn void(&self) {
        self.is_void.store(true, Ordering::Relaxed);
    }

    pub fn connection(&self) -> Option<Arc<Connection<BeamOwner>>> {
        self.tag.connection.upgrade()
    }
}

#[rustler::resource_impl]
impl Resource for Claim {}

impl Drop for Claim {
    /// Whoever had it is dead, or has let go of it: nobody will take its request.
    fn drop(&mut self) {
        if self.tag.owner().is_none()
            && !*self.is_void.get_mut()
            && let Some(connection) = self.connection()
        {
            connection.owner_down();
        }
    }
}

/// Makes the caller the owner. `None`: the connection has ended, or has an owner.
pub fn attach(env: Env, claim: &Claim) -> Option<ResourceArc<Tag>> {
    let (tag, caller) = (&claim.tag, env.pid());
    tag.owner.set(caller).ok()?;
    env.monitor(tag, &caller)?;
    // Last: an end before this point found no owner to tell.
    (!tag.has_ended()).then(|| tag.clone())
}

#[rustler::resource_impl]
impl Resource for Tag {
    const IMPLEMENTS_DOWN: bool = true;

    fn down<'a>(&'a self, _env: Env<'a>, _pid: LocalPid, _monitor: Monitor) {
        if let Some(connection) = self.connection.upgrade() {
            connection.owner_down();
        }
    }
}

/// Makes the owners of a listener's connections.
pub struct BeamHost(pub Arc<AcceptorPool>);

impl Host for BeamHost {
    type Owner = BeamOwner;

    fn owner(&self, connection: Weak<Connection<BeamOwner>>) -> BeamOwner {
        BeamOwner {
            tag: Tag::new(connection),
            pool: self.0.clone(),
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
    pool: Arc<AcceptorPool>,
}

impl Handler for BeamOwner {
    fn of_stream(&self, stream: Weak<Connection<Self>>) -> Self {
        BeamHost(self.pool.clone()).owner(stream)
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
            .pool
            .send_to_next(|env| (&self.pool.tag, (atoms::connection(), &claim)).encode(env));
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
                let mut batch = Batch::new(env);
                let result = fill(&mut batch);
                let message: Option<SavedTerm> =
                    (!batch.is_empty()).then(|| own.save((&self.tag, batch.into_events())));
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
        if self.pool.http_errors.allows() {
            send(&self.pool.owner, |env| {
                let reason = atom(env, error.name());
                (
                    &self.pool.tag,
                    (atoms::http_error(), term::Address(peer), reason),
                )
                    .encode(env)
            });
        }
    }
}
