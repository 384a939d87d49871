//! The connections of a listener that have a descriptor. Each has a [`Permit`], which its bytes carry with
//! them and which is given back when the descriptor is closed, whoever was the last to have it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Descriptors {
    served: AtomicUsize,
    /// Those of connections too many, which are told so.
    refused: AtomicUsize,
    /// Wakes the accepting when a connection that was served has ended.
    freed: Notify,
}

impl Descriptors {
    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    pub(crate) fn permit(self: &Arc<Self>, is_refused: bool) -> Permit {
        let permit = Permit {
            descriptors: self.clone(),
            is_refused,
        };
        permit.count().fetch_add(1, Ordering::Relaxed);
        permit
    }
}

pub(crate) struct Permit {
    descriptors: Arc<Descriptors>,
    is_refused: bool,
}

impl Permit {
    fn count(&self) -> &AtomicUsize {
        match self.is_refused {
            true => &self.descriptors.refused,
            false => &self.descriptors.served,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.count().fetch_sub(1, Ordering::Relaxed);
        if !self.is_refused {
            self.descriptors.freed.notify_one();
        }
    }
}
