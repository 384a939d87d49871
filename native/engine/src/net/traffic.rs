//! What a listener's connections have carried.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

/// How many bytes the connections of a listener have carried. Each counter has a cache line of its own: one
/// thread reads while another writes.
#[derive(Default)]
pub(crate) struct Traffic {
    received: CachePadded<AtomicU64>,
    sent: CachePadded<AtomicU64>,
}

impl Traffic {
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    pub(super) fn count_received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count_sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
