//! A call pays for the time that it takes, so that the VM's schedulers remain fair to other processes.

use std::cell::Cell;
use std::time::{Duration, Instant};

use ferrosock_engine::rt::Reactor;
use ferrosock_engine::ws::Sent;
use rustler::{Binary, Env, schedule};

use crate::raw;

/// Of what the VM lets a process have of a scheduler at a time, which is a millisecond
/// (enif_consume_timeslice).
const PERCENT: Duration = Duration::from_micros(10);

thread_local! {
    /// What calls on this thread have taken and nobody has paid for yet.
    static OWED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Has the calling process pay for the time that its call takes, by what it may still run before others are
/// to run. Most calls take less than can be paid, so that the next one on the thread pays for several.
pub fn pay_for<R>(env: Env, work: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = work();
    pay(env, start.elapsed());
    result
}

fn pay(env: Env, time: Duration) {
    let owed = OWED.get() + time;
    let percent = owed.as_nanos() / PERCENT.as_nanos();
    if percent == 0 {
        OWED.set(owed);
    } else {
        OWED.set(Duration::ZERO);
        schedule::consume_timeslice(env, percent.min(100) as i32);
    }
}

/// A few messages on a socket: one write, of which it is known what it takes. To look at the clock would cost
/// more than a hundredth of it.
const SMALL_SEND: Duration = Duration::from_micros(4);
/// Bytes of such messages.
const SMALL: usize = 2048;

pub fn pay_for_messages(env: Env, payloads: &[Binary<'_>], send: impl FnOnce() -> Sent) -> Sent {
    let size: usize = payloads.iter().map(|payload| payload.len()).sum();
    if size > SMALL || payloads.len() > 16 {
        return pay_for(env, send);
    }
    let sent = send();
    if !payloads.is_empty() {
        pay(env, SMALL_SEND);
    }
    sent
}

/// A call that wakes a connection's task, which then runs here if it can.
pub fn run_with<R>(env: Env, reactor: &Reactor, call: impl FnOnce() -> R) -> R {
    pay_for(env, || raw::on_behalf_of(env, || reactor.run_with(call)))
}
