//! How a sender that runs ahead of its peer is told to wait, and how a peer that takes nothing is found.
//!
//! - `watermark`: the mark of one queue, and who waits at it
//! - `budget`: what all queues of a server hold together
//! - `stall`: since when nothing has moved

mod budget;
mod stall;
mod watermark;

pub(crate) use budget::{Budget, HeldBytes};
pub(crate) use stall::Stall;
pub use watermark::Waiter;
pub(crate) use watermark::{Watermark, call};
