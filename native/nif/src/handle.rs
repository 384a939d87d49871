//! The engine's objects as terms. A handle that is garbage collected ends what it stands for; so
//! does the death of the process that owns it.

use std::sync::{Arc, OnceLock, Weak};

use ferrosock_engine::connection::Connection;
use ferrosock_engine::exchange::Exchange;
use ferrosock_engine::listener::Listener;
use ferrosock_engine::ws::socket::Socket;
use rustler::{Env, LocalPid, Monitor, Resource, ResourceArc};

use crate::owner::{BeamOwner, Hall};

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

    fn has_ended(&self) -> bool {
        self.connection
            .upgrade()
            .is_none_or(|connection| connection.has_ended())
    }
}

/// Makes the caller the owner. `false`: the connection has ended, or has an owner.
pub fn attach(env: Env, tag: &ResourceArc<Tag>) -> bool {
    let caller = env.pid();
    tag.owner.set(caller).is_ok()
        && env.monitor(tag, &caller).is_some()
        // Last: an end before this point found no owner to tell.
        && !tag.has_ended()
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
