//! The kinds of load, one file each.

mod attack;
mod broadcast;
mod connect;
mod fair;
mod get;
mod idle;
mod messages;

use anyhow::Result;
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::args::Mode;
use crate::drive::{Pace, Until};
use crate::report::Report;

pub fn run(mode: Mode) -> Result<Report> {
    raise_descriptor_limit()?;
    match mode {
        Mode::Echo(args) => messages::run("echo", Pace::Each, &args).map(Report::Load),
        Mode::Push(args) => {
            messages::run("push", Pace::Together(Until::Last), &args).map(Report::Load)
        }
        Mode::Broadcast(args) => broadcast::run(&args).map(Report::Load),
        Mode::Get(args) => get::run(&args).map(Report::Load),
        Mode::Connect(args) => connect::run(&args).map(Report::Load),
        Mode::Fair(args) => fair::run(&args).map(Report::Load),
        Mode::Attack(args) => attack::run(&args).map(Report::Attack),
        Mode::Idle(args) => idle::run(&args).map(Report::Idle),
    }
}

/// The usual 1024 descriptors are fewer than the connections of a test.
fn raise_descriptor_limit() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}
