//! What tells a process that a client has left: `{:ferrosock, :disconnected, ref}`.

use ferrosock_engine::http::exchange::Notice;
use ferrosock_engine::rt;
use rustler::{Encoder, Env, LocalPid, Resource, ResourceArc};

use crate::message::send;
use crate::raw;
use crate::term::atoms;

/// The reference that a process was given. Nobody can forge it, and it weighs less than one of the VM's, which
/// would have to be kept in an environment of its own.
pub struct DisconnectRef;

#[rustler::resource_impl]
impl Resource for DisconnectRef {}

/// A reference for the caller, and what tells it under that.
pub fn notice(env: Env) -> (ResourceArc<DisconnectRef>, Notice) {
    let (reference, caller) = (ResourceArc::new(DisconnectRef), env.pid());
    let told = reference.clone();
    let notice = move || {
        if raw::may_send() {
            tell(&caller, &told);
        } else {
            // A process has died, or its call has found out that the client is gone.
            rt::spawn_blocking(move || tell(&caller, &told));
        }
    };
    (reference, Box::new(notice))
}

fn tell(to: &LocalPid, reference: &ResourceArc<DisconnectRef>) {
    send(to, |env| {
        (atoms::ferrosock(), atoms::disconnected(), reference).encode(env)
    });
}
