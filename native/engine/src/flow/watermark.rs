//! A byte-counted queue's water marks: past the high mark its senders are asked to wait, and are
//! told when it has fallen to half of that.

use std::sync::Arc;

use super::budget::Budget;

/// Called once: `true` when there is room again, `false` when nothing will ever be sent again.
pub type Waiter = Box<dyn FnOnce(bool) + Send>;

pub(crate) struct Watermark {
    queued: usize,
    high: usize,
    waiters: Vec<Waiter>,
    /// Of the server that the queue is one of.
    budget: Arc<Budget>,
}

impl Watermark {
    pub(crate) fn new(high: usize, budget: Arc<Budget>) -> Self {
        Self {
            queued: 0,
            high,
            waiters: Vec::new(),
            budget,
        }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.queued += bytes;
        self.budget.add(bytes);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.queued > self.high || (self.queued > 0 && self.budget.is_exceeded())
    }

    /// Returns those to call, outside of any lock.
    #[must_use]
    pub(crate) fn remove(&mut self, bytes: usize) -> Vec<Waiter> {
        self.queued -= bytes;
        self.budget.remove(bytes);
        if self.queued == 0 || (self.queued <= self.high / 2 && !self.budget.is_exceeded()) {
            std::mem::take(&mut self.waiters)
        } else {
            Vec::new()
        }
    }

    /// Keeps the waiter for later when there is no room now.
    pub(crate) fn wait(&mut self, waiter: Waiter) -> bool {
        let full = self.is_full();
        if full {
            self.waiters.push(waiter);
        }
        full
    }

    /// Those who wait for room that will not come: returns those to call.
    #[must_use]
    pub(crate) fn give_up(&mut self) -> Vec<Waiter> {
        std::mem::take(&mut self.waiters)
    }

    /// Nothing is queued any more, and nothing will be: returns those to call.
    #[must_use]
    pub(crate) fn close(&mut self) -> Vec<Waiter> {
        self.budget.remove(std::mem::take(&mut self.queued));
        self.give_up()
    }
}

impl Drop for Watermark {
    fn drop(&mut self) {
        self.budget.remove(self.queued);
    }
}

/// Mostly there are none.
#[inline]
pub(crate) fn call(waiters: Vec<Waiter>, drained: bool) {
    if !waiters.is_empty() {
        call_all(waiters, drained);
    }
}

fn call_all(waiters: Vec<Waiter>, drained: bool) {
    for waiter in waiters {
        waiter(drained);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn mark(high: usize) -> Watermark {
        Watermark::new(high, Budget::new(usize::MAX))
    }

    /// How often the waiter was called.
    fn counting() -> (Arc<AtomicUsize>, Waiter) {
        let calls = Arc::new(AtomicUsize::new(0));
        let seen = calls.clone();
        let waiter: Waiter = Box::new(move |drained| {
            assert!(drained);
            seen.fetch_add(1, Ordering::Relaxed);
        });
        (calls, waiter)
    }

    #[test]
    fn a_waiter_is_called_once_at_half_the_mark() {
        let (calls, waiter) = counting();
        let mut mark = mark(100);
        mark.add(101);
        assert!(mark.wait(waiter));
        call(mark.remove(50), true);
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        call(mark.remove(1), true);
        call(mark.remove(50), true);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn nobody_waits_at_the_mark_itself() {
        let mut mark = mark(100);
        mark.add(100);
        assert!(!mark.wait(Box::new(|_| panic!("kept"))));
    }

    #[test]
    fn where_the_server_has_no_room_a_queue_is_full_unless_it_is_empty() {
        let budget = Budget::new(100);
        let mut large = Watermark::new(1_000, budget.clone());
        let mut small = Watermark::new(1_000, budget.clone());
        large.add(100);
        assert!(!large.is_full());
        small.add(1);
        assert!(large.is_full() && small.is_full());
        let (calls, waiter) = counting();
        assert!(small.wait(waiter));
        call(small.remove(1), true);
        assert_eq!(calls.load(Ordering::Relaxed), 1, "its own queue is empty");
        assert!(!small.is_full() && !large.is_full());
    }

    #[test]
    fn what_is_dropped_waits_no_more() {
        let budget = Budget::new(100);
        let mut mark = Watermark::new(1_000, budget.clone());
        mark.add(70);
        let held = budget.hold(30);
        assert_eq!(budget.queued(), 100);
        drop(held);
        assert_eq!(budget.queued(), 70);
        drop(mark.close());
        assert_eq!(budget.queued(), 0);
        mark.add(7);
        drop(mark);
        assert_eq!(budget.queued(), 0);
    }
}
