//! The NIF library: terms in, one engine call, terms out. `Ferrosock.Native` says what each function
//! and each message means.
//!
//! - [`reactor`], [`tls`], [`listener`], [`connection`], [`exchange`], [`socket`]: the functions, by the
//!   handle that they are about. A handle that is garbage collected ends what it stands for
//! - [`owner`], [`acceptors`], [`event`], [`message`]: how the engine's events become messages, and whose
//!   death ends what
//! - [`answer`]: the one message that answers a call; [`disconnect`]: the one that tells of a client's leaving
//! - [`options`]: the engine's configuration, by the table of options
//! - [`term`]: conversions between terms and what the engine knows
//! - [`timeslice`]: a call pays for the time that it takes
//! - [`raw`]: what rustler has no safe function for

mod acceptors;
mod answer;
mod connection;
mod disconnect;
mod event;
mod exchange;
mod listener;
mod message;
mod options;
mod owner;
mod raw;
mod reactor;
mod socket;
mod term;
mod timeslice;
mod tls;

use rustler::{Env, Term};

rustler::init!("Elixir.Ferrosock.Native", load = load);

fn load(_env: Env, _info: Term) -> bool {
    reactor::forget();
    true
}
