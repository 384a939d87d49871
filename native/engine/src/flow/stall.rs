//! Since when a peer takes nothing of what waits for it.

use tokio::time::Instant;

/// Bytes wait that a peer does not take.
#[derive(Clone, Copy)]
pub(crate) struct Stall {
    pub(crate) since: Instant,
    /// How many had moved by then.
    moved: u64,
}

impl Stall {
    /// Notes that bytes still wait, and returns since when nothing has moved.
    pub(crate) fn note(stall: &mut Option<Self>, moved: u64) -> Instant {
        match stall {
            Some(stall) if stall.moved == moved => stall.since,
            _ => {
                let since = Instant::now();
                *stall = Some(Self { since, moved });
                since
            }
        }
    }
}
