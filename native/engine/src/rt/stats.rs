//! What is alive in the engine. Tests hold these against zero to find what leaked.

use std::sync::atomic::{AtomicUsize, Ordering};

pub static LISTENERS: Gauge = Gauge::new();
pub static CONNECTIONS: Gauge = Gauge::new();
pub static EXCHANGES: Gauge = Gauge::new();
pub static SOCKETS: Gauge = Gauge::new();
pub static TASKS: Gauge = Gauge::new();

pub struct Gauge(AtomicUsize);

impl Gauge {
    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one until the result is dropped.
    pub(crate) fn count(&'static self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self)
    }
}

pub(crate) struct Counted(&'static Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
