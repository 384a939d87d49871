//! A connection, for the process that is to have it or has it.

use ferrosock_engine::connection::Taken;
use ferrosock_engine::http::handler;
use rustler::{Atom, Encoder, Env, ResourceArc, Term};

use crate::exchange::ExchangeHandle;
use crate::owner::{self, Claim, Tag};
use crate::term::{self, atoms};
use crate::timeslice::run_with;

#[rustler::nif]
fn attach(env: Env, claim: ResourceArc<Claim>) -> Term {
    match owner::attach(env, &claim) {
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
