//! The one message `{ref, answer}` that answers a call. It is sent by the engine's tasks.

use ferrosock_engine::backpressure::Waiter;
use rustler::env::SavedTerm;
use rustler::{Encoder, Env, LocalPid, NifResult, OwnedEnv, Term};

use crate::raw;
use crate::term::atoms;

pub struct Answer {
    to: LocalPid,
    env: OwnedEnv,
    reference: SavedTerm,
}

impl Answer {
    /// To the caller, under a reference that it made.
    pub fn to(env: Env, reference: Term) -> NifResult<Self> {
        if !reference.is_ref() {
            return Err(rustler::Error::BadArg);
        }
        let own = OwnedEnv::new();
        let reference = own.save(reference);
        Ok(Self {
            to: env.pid(),
            env: own,
            reference,
        })
    }

    pub fn send(mut self, answer: impl for<'a> FnOnce(Env<'a>) -> Term<'a>) {
        let reference = self.reference;
        // A caller that is gone needs no answer.
        raw::send(&mut self.env, &self.to, |env| {
            (reference.load(env), answer(env)).encode(env)
        });
    }

    pub fn into_waiter(self) -> Waiter {
        Box::new(|drained| {
            let answer = if drained {
                atoms::drained()
            } else {
                atoms::closed()
            };
            self.send(|env| answer.encode(env));
        })
    }
}
