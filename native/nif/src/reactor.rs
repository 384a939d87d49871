//! The reactors, turned by processes, and the counts of what is alive on all of them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ferrosock_engine::rt::{self, Driver, Reactor, Turned, stats};
use rustix::time::{ClockId, clock_gettime};
use rustler::{Atom, Env, NifMap, NifResult, Resource, ResourceArc};

use crate::raw;
use crate::term::atoms;
use crate::timeslice::pay_for;

/// A reactor that the VM turns.
pub struct ReactorHandle {
    reactor: &'static Reactor,
    /// Never closed, so that the VM need not be told to stop watching it.
    fd: BorrowedFd<'static>,
}

/// One for each reactor that has been asked for. They are of the library's present loading: the VM
/// takes no resource of an earlier one.
static REACTORS: Mutex<Vec<ResourceArc<ReactorHandle>>> = Mutex::new(Vec::new());

pub fn forget() {
    reactor_handles().clear();
}

/// The same handle each time: the VM lets a descriptor be watched for the sake of one resource only.
/// `None`: there is no such reactor, or the engine turns it by itself.
fn reactor(index: usize) -> Option<ResourceArc<ReactorHandle>> {
    let reactor = rt::reactors().get(index)?;
    let mut handles = reactor_handles();
    let known = handles.iter().find(|known| ptr::eq(known.reactor, reactor));
    if let Some(known) = known {
        return Some(known.clone());
    }
    let fd: &'static OwnedFd = Box::leak(Box::new(raw::duplicate(reactor)?.ok()?));
    let fd = fd.as_fd();
    let handle = ResourceArc::new(ReactorHandle { reactor, fd });
    handles.push(handle.clone());
    Some(handle)
}

fn reactor_handles() -> MutexGuard<'static, Vec<ResourceArc<ReactorHandle>>> {
    REACTORS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the caller sent a message when there is something to do.
fn select(env: Env, reactor: &ResourceArc<ReactorHandle>) -> bool {
    raw::select_read(env, reactor.fd, reactor, atoms::undefined())
}

#[rustler::resource_impl]
impl Resource for ReactorHandle {}

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
    reactor(index)
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
    let turned = pay_for(env, || raw::on_behalf_of(env, || reactor.reactor.turn()));
    match turned {
        Turned::Soon => atoms::soon(),
        Turned::Idle if select(env, reactor) => atoms::idle(),
        _ => atoms::more(),
    }
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
