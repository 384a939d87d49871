//! Time, from the runtime that has a thread for it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{self, Instant, Sleep, Timeout};

use crate::rt::in_background;

pub(crate) fn sleep(duration: Duration) -> Sleep {
    let _guard = in_background();
    time::sleep(duration)
}

pub(crate) fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    let _guard = in_background();
    time::timeout(duration, future)
}

pub(crate) fn timeout_at<F: Future>(due: Instant, future: F) -> Timeout<F> {
    let _guard = in_background();
    time::timeout_at(due, future)
}

fn sleep_until(due: Instant) -> Sleep {
    let _guard = in_background();
    time::sleep_until(due)
}

/// One whose due time moves at almost every look, and that almost never fires.
#[derive(Default)]
pub(crate) struct Timer {
    /// Allocated on first use: a socket without timeouts has none.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready when `due` has passed. A timer that is armed too early is left to fire and is armed
    /// anew then, which costs far less than moving it at each message.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if due < sleep.deadline() {
            sleep.as_mut().reset(due);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn fires_at_the_latest_due_time_and_not_at_the_one_it_was_armed_for() {
        let start = Instant::now();
        let mut timer = Timer::default();
        let mut due = start + Duration::from_secs(1);
        poll_fn(|cx| {
            let _ = timer.poll(cx, due);
            Poll::Ready(())
        })
        .await;
        due = start + Duration::from_secs(5);
        poll_fn(|cx| timer.poll(cx, due)).await;
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_due_time_may_move_forward() {
        let start = Instant::now();
        let mut timer = Timer::default();
        let mut due = start + Duration::from_secs(60);
        poll_fn(|cx| {
            let _ = timer.poll(cx, due);
            Poll::Ready(())
        })
        .await;
        due = start + Duration::from_secs(2);
        poll_fn(|cx| timer.poll(cx, due)).await;
        assert_eq!(start.elapsed().as_secs(), 2);
    }
}
