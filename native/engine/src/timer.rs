//! A timer whose due time moves at almost every look, and that almost never fires.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

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
    use std::time::Duration;

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
