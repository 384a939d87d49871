//! A listener, for its owner and its acceptors.

use std::sync::Arc;

use ferrosock_engine::config::ListenerConfig;
use ferrosock_engine::listener::Listener;
use ferrosock_engine::net;
use rustler::{
    Atom, Encoder, Env, LocalPid, Monitor, NifMap, NifResult, Resource, ResourceArc, Term,
};

use crate::acceptors::AcceptorPool;
use crate::answer::{Answer, closed};
use crate::options::Options;
use crate::owner::BeamHost;
use crate::term::{self, atoms, posix};
use crate::tls::TlsHandle;

struct ListenerHandle {
    listener: Listener,
    pool: Arc<AcceptorPool>,
}

#[rustler::resource_impl]
impl Resource for ListenerHandle {
    const IMPLEMENTS_DOWN: bool = true;

    fn down<'a>(&'a self, _env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        if self.pool.is_owner(&pid) {
            self.listener.close();
        }
        self.pool.remove(&pid);
    }
}

#[rustler::nif]
fn listener_open(
    env: Env,
    options: Options<ListenerConfig>,
    tls: Option<ResourceArc<TlsHandle>>,
) -> Term {
    let pool = AcceptorPool::new(env.pid());
    let tls = tls.map(|tls| tls.0.clone());
    match Listener::open(options.0, tls, BeamHost(pool.clone())) {
        Ok(listener) => {
            let tag = pool.tag.clone();
            let handle = ResourceArc::new(ListenerHandle { listener, pool });
            env.monitor(&handle, &env.pid());
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
    if handle.pool.add(env.pid()) {
        env.monitor(&handle, &env.pid());
    }
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
