//! A byte-counted queue's water marks: past the high mark its senders are asked to wait, and are
//! told when it has fallen to half of that.

/// Called once: `true` when there is room again, `false` when nothing will ever be sent again.
pub type Waiter = Box<dyn FnOnce(bool) + Send>;

pub(crate) struct Watermark {
    queued: usize,
    high: usize,
    waiters: Vec<Waiter>,
}

impl Watermark {
    pub(crate) fn new(high: usize) -> Self {
        Self {
            queued: 0,
            high,
            waiters: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.queued += bytes;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.queued > self.high
    }

    /// Returns those to call, outside of any lock.
    #[must_use]
    pub(crate) fn remove(&mut self, bytes: usize) -> Vec<Waiter> {
        self.queued -= bytes;
        if self.queued <= self.high / 2 {
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

    /// Nothing is queued any more, and nothing will be: returns those to call.
    #[must_use]
    pub(crate) fn close(&mut self) -> Vec<Waiter> {
        self.queued = 0;
        std::mem::take(&mut self.waiters)
    }
}

pub(crate) fn call(waiters: Vec<Waiter>, drained: bool) {
    for waiter in waiters {
        waiter(drained);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_waiter_is_called_once_at_half_the_mark() {
        let calls = Arc::new(AtomicUsize::new(0));
        let seen = calls.clone();
        let mut mark = Watermark::new(100);
        mark.add(101);
        assert!(mark.wait(Box::new(move |drained| {
            assert!(drained);
            seen.fetch_add(1, Ordering::Relaxed);
        })));
        call(mark.remove(50), true);
        assert_eq!(calls.load(Ordering::Relaxed), 0);
        call(mark.remove(1), true);
        call(mark.remove(50), true);
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn nobody_waits_at_the_mark_itself() {
        let mut mark = Watermark::new(100);
        mark.add(100);
        assert!(!mark.wait(Box::new(|_| panic!("kept"))));
    }
}
