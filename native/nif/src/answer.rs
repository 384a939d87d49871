//! The one message `{ref, answer}` that answers a call. It is sent by the engine's tasks; by whatever
//! way one ends, a panic too, its caller has an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use ferrosock_engine::flow::Waiter;
use ferrosock_engine::rt;
use rustler::env::SavedTerm;
use rustler::{Atom, Encoder, Env, LocalPid, NifResult, OwnedEnv, Term};

use crate::raw;
use crate::term::atoms;

/// The answer of whoever never gave one.
type Last = for<'a> fn(Env<'a>) -> Term<'a>;

pub fn closed(env: Env<'_>) -> Term<'_> {
    atoms::closed().encode(env)
}

pub fn error_closed(env: Env<'_>) -> Term<'_> {
    env.error_tuple(atoms::closed())
}

pub struct Answer {
    call: Option<Call>,
    last: Last,
}

struct Call {
    to: LocalPid,
    env: OwnedEnv,
    reference: SavedTerm,
}

impl Call {
    fn answer(mut self, answer: impl for<'a> FnOnce(Env<'a>) -> Term<'a>) {
        let reference = self.reference;
        // A caller that is gone needs no answer.
        raw::send(&mut self.env, &self.to, |env| {
            (reference.load(env), answer(env)).encode(env)
        });
    }
}

impl Answer {
    /// To the caller, under a reference that it made. Where none is given, it is `last`.
    pub fn to(env: Env, reference: Term, last: Last) -> NifResult<Self> {
        if !reference.is_ref() {
            return Err(rustler::Error::BadArg);
        }
        let own = OwnedEnv::new();
        let reference = own.save(reference);
        Ok(Self {
            call: Some(Call {
                to: env.pid(),
                env: own,
                reference,
            }),
            last,
        })
    }

    pub fn send(mut self, answer: impl for<'a> FnOnce(Env<'a>) -> Term<'a>) {
        if let Some(call) = self.call.take() {
            call.answer(answer);
        }
    }

    /// The call that waits: `wait` is given the waiter, and says whether it has kept it. Then the answer
    /// follows, and else there is none.
    pub fn waiting(
        env: Env,
        reference: Term,
        wait: impl FnOnce(Waiter) -> bool,
    ) -> NifResult<Atom> {
        let stage = Arc::new(AtomicU8::new(CALLED));
        let kept = Kept {
            answer: Self::to(env, reference, closed)?,
            stage: stage.clone(),
        };
        let is_kept = wait(Box::new(move |drained| kept.send(drained)))
            // Lost in the meantime, without an answer: whoever sends now hears what has happened.
            && stage.compare_exchange(CALLED, KEPT, Ordering::AcqRel, Ordering::Acquire)
                != Err(LOST);
        Ok(if is_kept { atoms::wait() } else { atoms::ok() })
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let Some(call) = self.call.take() else {
            return;
        };
        let last = self.last;
        if raw::may_send() {
            call.answer(last);
        } else {
            // Handles are collected where nothing can be sent.
            rt::spawn_blocking(move || call.answer(last));
        }
    }
}

const CALLED: u8 = 0;
const KEPT: u8 = 1;
const LOST: u8 = 2;
const ANSWERED: u8 = 3;

/// A waiter that knows whether its caller waits.
struct Kept {
    answer: Answer,
    stage: Arc<AtomicU8>,
}

impl Kept {
    fn send(mut self, drained: bool) {
        self.stage.store(ANSWERED, Ordering::Release);
        if let Some(call) = self.answer.call.take() {
            let answer = if drained {
                atoms::drained()
            } else {
                atoms::closed()
            };
            call.answer(|env| answer.encode(env));
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // The caller has not heard yet that it should wait, and will not.
        if self
            .stage
            .compare_exchange(CALLED, LOST, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
        {
            self.answer.call = None;
        }
    }
}
