//! The last event of a WebSocket, kept for an owner that has lost the message that told it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use once_cell::sync::OnceCell;

use crate::buffer::Buffer;
use crate::owner::Events;

/// As [`Events`] tells it.
#[derive(Debug)]
pub enum Ending {
    Close(Option<u16>, Vec<u8>),
    Error(u16, &'static str),
    Timeout,
    Lifetime,
    Closed(io::Error),
}

impl Ending {
    pub(crate) fn closed(error: &io::Error) -> Self {
        Self::Closed(match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => error.kind().into(),
        })
    }

    pub fn tell<B: Buffer>(&self, batch: &mut impl Events<B>) {
        match self {
            Self::Close(code, reason) => batch.close(*code, reason),
            Self::Error(code, reason) => batch.error(*code, reason),
            Self::Timeout => batch.timeout(),
            Self::Lifetime => batch.lifetime(),
            Self::Closed(error) => batch.closed(error),
        }
    }
}

/// What the owner may ask for.
pub enum Last<'a> {
    /// Nothing has ended.
    None,
    /// It is being told.
    Soon,
    Told(&'a Ending),
}

/// Set before the message is sent and again after it, so that an owner that has received the message and
/// lost it knows that there was one, and that one which has not need not look for it.
#[derive(Default)]
pub(crate) struct LastEvent {
    event: OnceCell<Ending>,
    is_told: AtomicBool,
}

impl LastEvent {
    /// The first one stays.
    pub(crate) fn is(&self, event: Ending) {
        let _ = self.event.set(event);
    }

    pub(crate) fn told(&self) {
        self.is_told.store(true, Ordering::Release);
    }

    pub(crate) fn exists(&self) -> bool {
        self.event.get().is_some()
    }

    pub(crate) fn get(&self) -> Last<'_> {
        match self.event.get() {
            None => Last::None,
            Some(event) if self.is_told.load(Ordering::Acquire) => Last::Told(event),
            Some(_) => Last::Soon,
        }
    }
}
