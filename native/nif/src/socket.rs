//! A WebSocket, for its owner and whoever sends on it.

use std::sync::Arc;

use ferrosock_engine::ws::ending::Last;
use ferrosock_engine::ws::socket::Socket;
use ferrosock_engine::ws::{self, Sent};
use rustler::{Atom, Binary, Encoder, Env, NifResult, Resource, ResourceArc, Term};

use crate::answer::Answer;
use crate::event::Batch;
use crate::owner::BeamOwner;
use crate::raw;
use crate::term::{Fits, Messages, atoms};
use crate::timeslice::{pay_for_messages, run_with};

pub struct SocketHandle(pub Arc<Socket<BeamOwner>>);

#[rustler::resource_impl]
impl Resource for SocketHandle {}

impl Drop for SocketHandle {
    fn drop(&mut self) {
        self.0.owner_down();
    }
}

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
