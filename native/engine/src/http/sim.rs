//! The deadlines of a connection in simulated time, for the tests of HTTP/1's and HTTP/2's.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::Instant;

pub(super) const MS: Duration = Duration::from_millis(1);

/// A machine that says when a client is late, and with what.
pub(super) trait Machine {
    type Late: Debug + PartialEq;

    fn next_timeout(&self, stalled: Option<Instant>) -> Option<Instant>;
    fn handle_timeout(&self, stalled: Option<Instant>, now: Instant) -> Option<Self::Late>;
}

pub(super) struct Sim<M> {
    pub deadlines: M,
    pub start: Instant,
    pub now: Instant,
    /// The client takes nothing since then.
    pub stalled: Option<Instant>,
}

impl<M: Machine> Sim<M> {
    pub fn new(deadlines: impl FnOnce(Instant) -> M) -> Self {
        let now = Instant::now();
        Self {
            deadlines: deadlines(now),
            start: now,
            now,
            stalled: None,
        }
    }

    pub fn pass(&mut self, ms: u32) {
        self.now += ms * MS;
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        self.deadlines.next_timeout(self.stalled)
    }

    pub fn late(&self) -> Option<M::Late> {
        self.late_at(self.now)
    }

    fn late_at(&self, now: Instant) -> Option<M::Late> {
        self.deadlines.handle_timeout(self.stalled, now)
    }

    /// It is late so many milliseconds after the start, and not a moment before.
    pub fn assert_late(&self, late: M::Late, ms: u32) {
        let due = self.start + ms * MS;
        assert_eq!(self.next_timeout(), Some(due));
        assert_eq!(self.late_at(due - Duration::from_nanos(1)), None);
        assert_eq!(self.late_at(due), Some(late));
    }
}
