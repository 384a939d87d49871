//! Messages from the engine's tasks to processes.

use std::cell::RefCell;

use rustler::{Env, LocalPid, OwnedEnv, Term};

use crate::raw;

/// `false`: the process is gone.
pub fn send(to: &LocalPid, message: impl for<'a> FnOnce(Env<'a>) -> Term<'a>) -> bool {
    with_env(|own| raw::send(own, to, message))
}

/// One environment per thread: making one costs more than filling it.
pub fn with_env<R>(f: impl FnOnce(&mut OwnedEnv) -> R) -> R {
    thread_local! {
        static ENV: RefCell<OwnedEnv> = RefCell::new(OwnedEnv::new());
    }
    ENV.with_borrow_mut(f)
}
