//! Where the engine's tasks run, what they wait for, and how they are counted.
//!
//! - `runtime`: all reactors, and the threads beside them
//! - `reactor`: runs tasks, turned by the host or by a thread
//! - `queue`: the tasks to be run, and the turns that run them; `turn`: the one that this thread is in
//! - `spin`: whether an idle reactor spins or sleeps; `epoll`: what it sleeps on
//! - `timer`: deadlines
//! - `offload`: what takes a core for long
//! - [`stats`]: how many there are of what
//! - `lock`: a mutex that outlives a panic

mod epoll;
mod lock;
pub(crate) mod offload;
mod queue;
mod reactor;
mod runtime;
mod spin;
pub mod stats;
pub(crate) mod timer;
mod turn;

pub(crate) use lock::lock;
pub use reactor::{Driver, Reactor};
pub(crate) use runtime::{in_background, next};
pub use runtime::{reactors, spawn_blocking, start};
pub use turn::Turned;
pub(crate) use turn::{is_late, now, turn_end, yield_now};
