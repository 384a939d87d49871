//! What all queues of a server hold together, and may hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What waits for the peers of one server, all together.
pub(crate) struct Budget {
    queued: AtomicUsize,
    max: usize,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            queued: AtomicUsize::new(0),
            max,
        })
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// As long as this is so, every queue that is not empty is full.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.queued() > self.max
    }

    /// Counts bytes that wait elsewhere than in a [`Watermark`]'s queue, until the result is dropped.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> HeldBytes {
        self.add(bytes);
        HeldBytes {
            budget: self.clone(),
            bytes,
        }
    }

    pub(super) fn add(&self, bytes: usize) {
        self.queued.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }
}

pub(crate) struct HeldBytes {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.budget.remove(self.bytes);
    }
}
