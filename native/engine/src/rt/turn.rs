//! The turn of a reactor that this thread is in: how long it may still take, and how a task gives it up.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

/// How long a turn goes on taking up tasks.
const TURN_TIME: Duration = Duration::from_micros(250);

/// What a turn has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// Nothing, until the descriptor is readable.
    Idle,
    /// Something to do.
    More,
    /// Nothing, but it pays to turn again before waiting.
    Soon,
}

thread_local! {
    static TURN_ENDS: Cell<Option<Instant>> = const { Cell::new(None) };
    /// When the task that runs last looked at the clock.
    static SEEN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Begins the time of a turn, or of what follows in the same one.
pub(super) fn begin(now: Instant) {
    TURN_ENDS.set(Some(now + TURN_TIME));
    SEEN.set(None);
}

pub(super) fn end() {
    TURN_ENDS.set(None);
}

/// Whether the turn is over, after a task has run.
pub(super) fn is_over() -> bool {
    is_late(SEEN.take().unwrap_or_else(Instant::now))
}

/// The time, for a task that ends soon after it has looked: who runs it need not look again.
#[inline]
pub(crate) fn now() -> Instant {
    let now = Instant::now();
    SEEN.set(Some(now));
    now
}

/// When the turn that this thread is in is over: which one it is.
pub(crate) fn turn_end() -> Option<Instant> {
    TURN_ENDS.get()
}

/// Whether a task should let others have the thread.
#[inline]
pub(crate) fn is_late(now: Instant) -> bool {
    TURN_ENDS.get().is_some_and(|end| end <= now)
}

/// Lets others have the thread. tokio's own function would not do: it may keep the task until a time
/// after the turn, which never comes.
pub(crate) async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
