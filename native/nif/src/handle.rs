//! The engine's objects as terms. A handle that is garbage collected ends what it stands for; so
//! does the death of the process that owns it.

use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use ferrosock_engine::connection::{Connection, Taken};
use ferrosock_engine::http::exchange::Exchange;
use ferrosock_engine::listener::Listener;
use ferrosock_engine::net::tls::config::TlsConfig;
use ferrosock_engine::rt::{self, Reactor, Turned};
use ferrosock_engine::ws::socket::Socket;
use rustler::{Env, LocalPid, Monitor, Resource, ResourceArc};

use crate::owner::{BeamOwner, Hall};
use crate::raw;
use crate::term::atoms;

/// A reactor that the VM turns.
pub struct ReactorHandle {
    reactor: &'static Reactor,
    /// Never closed, so that the VM need not be told to stop watching it.
    fd: RawFd,
}

impl ReactorHandle {
    pub fn turn(&self) -> Turned {
        self.reactor.turn()
    }
}

/// One for each reactor that has been asked for. They are of the library's present loading: the VM
/// takes no resource of an earlier one.
static REACTORS: Mutex<Vec<ResourceArc<ReactorHandle>>> = Mutex::new(Vec::new());

pub fn forget_reactors() {
    reactor_handles().clear();
}

/// The same handle each time: the VM lets a descriptor be watched for the sake of one resource only.
/// `None`: there is no such reactor, or the engine turns it by itself.
pub fn reactor(index: usize) -> Option<ResourceArc<ReactorHandle>> {
    let reactor = rt::reactors().get(index)?;
    let mut handles = reactor_handles();
    let known = handles.iter().find(|known| ptr::eq(known.reactor, reactor));
    if let Some(known) = known {
        return Some(known.clone());
    }
    let fd = raw::duplicate(reactor.fd()?).ok()?;
    let handle = ResourceArc::new(ReactorHandle { reactor, fd });
    handles.push(handle.clone());
    Some(handle)
}

fn reactor_handles() -> MutexGuard<'static, Vec<ResourceArc<ReactorHandle>>> {
    REACTORS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the caller sent a message when there is something to do.
pub fn select(env: Env, reactor: &ResourceArc<ReactorHandle>) -> bool {
    raw::select_read(env, reactor.fd, reactor, atoms::undefined())
}

#[rustler::resource_impl]
impl Resource for ReactorHandle {}

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

/// Tags a listener's messages.
pub struct ListenerTag;

#[rustler::resource_impl]
impl Resource for ListenerTag {}

pub struct ListenerHandle {
    pub listener: Listener,
    hall: Arc<Hall>,
}

impl ListenerHandle {
    /// The caller owns it.
    pub fn open(env: Env, listener: Listener, hall: Arc<Hall>) -> ResourceArc<Self> {
        let handle = ResourceArc::new(Self { listener, hall });
        env.monitor(&handle, &env.pid());
        handle
    }
}

/// The caller gets connections until it dies.
pub fn add_acceptor(env: Env, handle: &ResourceArc<ListenerHandle>) {
    if handle.hall.add(env.pid()) {
        env.monitor(handle, &env.pid());
    }
}

#[rustler::resource_impl]
impl Resource for ListenerHandle {
    const IMPLEMENTS_DOWN: bool = true;

    fn down<'a>(&'a self, _env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        if self.hall.is_owner(&pid) {
            self.listener.close();
        }
        self.hall.remove(&pid);
    }
}

pub struct TlsHandle(pub TlsConfig);

#[rustler::resource_impl]
impl Resource for TlsHandle {}

pub struct ExchangeHandle(pub Arc<Exchange<BeamOwner>>);

#[rustler::resource_impl]
impl Resource for ExchangeHandle {}

impl Drop for ExchangeHandle {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

pub struct SocketHandle(pub Arc<Socket<BeamOwner>>);

#[rustler::resource_impl]
impl Resource for SocketHandle {}

impl Drop for SocketHandle {
    fn drop(&mut self) {
        self.0.owner_down();
    }
}
