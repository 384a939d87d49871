//! Where the engine's tasks run, what they wait for, and how they are counted.
//!
//! - `reactor`: turned by the host, or by a thread
//! - `timer`: deadlines
//! - `offload`: what takes a core for long
//! - [`stats`]: how many there are of what
//! - `lock`: a mutex that outlives a panic

mod lock;
pub(crate) mod offload;
mod reactor;
pub mod stats;
pub(crate) mod timer;

pub(crate) use lock::lock;
pub use reactor::{Driver, Reactor, Turned, reactors, spawn_blocking, start};
pub(crate) use reactor::{in_background, is_late, next, now, turn_end, yield_now};
