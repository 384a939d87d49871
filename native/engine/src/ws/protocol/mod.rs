//! The life of one WebSocket after its handshake, as a machine without I/O, clock or lock. What was read,
//! what the owner has done and what time it is go in; events for the owner, frames to send and the time
//! of the next look come out.
//!
//! How it ends: the owner gets a last event (the peer's close frame, a broken protocol, silence, too long
//! a life, or a lost transport), and the peer's messages count no more. The owner sends what it still has
//! to say and then its close frame; an owner that does not do so in time is answered for. The closing
//! handshake is over when all is sent and the peer has closed, too, or after a while.
//!
//! - `intake`: what a read brings
//! - `timeouts`: what is due when
//!
//! How frames become messages is the concern of [`crate::ws::message`]; how messages are sent that of
//! [`crate::ws::socket`]; who calls this that of [`crate::ws::task`].

mod intake;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
mod timeouts;

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::buffer::{Buffer, ReadBuf};
use crate::config::SocketConfig;
use crate::owner::Events;
use crate::ws::credit::Credit;
use crate::ws::ending::Ending;
use crate::ws::extension::Agreed;
use crate::ws::message::{Limits, Reader};

use intake::Taking;
pub(super) use intake::{Intake, Outlet};
pub(super) use timeouts::Action;

/// Read at once. The smallest frames make more than a thousand messages of it, which takes most of a
/// millisecond.
pub(super) const READ_SIZE: usize = 8 * 1024;
/// The same where messages are compressed: it may become a thousand times as much.
const COMPRESSED_READ_SIZE: usize = 1024;
/// The same after a read that held more frames than [`MANY_FRAMES`]. A flood of the smallest ones is then
/// taken in by several turns, with others in between.
const CROWDED_READ_SIZE: usize = 2 * 1024;
/// How long a peer is not read whose last read held more control frames than that: nobody needs so many, and
/// they cost it less than us.
const REST: Duration = Duration::from_millis(1);
const MANY_FRAMES: u32 = 128;

pub(super) struct Protocol<'c, B: Buffer> {
    config: &'c SocketConfig,
    reader: Reader<B>,
    /// The batches that the owner has yet to answer.
    credit: Credit,
    phase: Phase,
    start: Instant,
    last_read: Instant,
    /// When the owner last had an event or sent something.
    last_active: Instant,
    /// When we sent a ping that nothing has followed yet.
    pinged: Option<Instant>,
    /// Until when the peer is not read.
    rests_until: Option<Instant>,
    /// Since when the peer takes nothing of what waits for it.
    stalled: Option<Instant>,
    /// Nothing waits for the peer.
    is_all_sent: bool,
    /// What was read last held many frames.
    is_crowded: bool,
    /// The owner has said that it is ready; before, the peer's silence means nothing.
    is_ready: bool,
    /// The owner has heard that it is idle, and nothing that concerns it has happened since.
    told_idle: bool,
    /// The peer's close frame, a broken frame or the end was read: nothing is awaited from the peer.
    has_read_all: bool,
    /// There is nothing to read any more.
    at_eof: bool,
}

enum Phase {
    Open,
    /// The owner has had its last event. Without an answer, its socket is closed with this code.
    Told {
        at: Instant,
        code: u16,
    },
    /// Our close frame is queued or sent.
    Closing {
        since: Instant,
    },
}

/// The sending side, on which the owner may act at any time.
pub(super) struct Outgoing {
    /// When our close frame was queued.
    pub closing: Option<Instant>,
    /// Since when the peer takes nothing of what waits for it.
    pub stalled: Option<Instant>,
    /// Nothing waits for the peer.
    pub is_all_sent: bool,
    pub last_sent: Instant,
    /// Nothing was sent since the owner heard that it is idle.
    pub told_idle: bool,
}

/// How the connection or the stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Everything is sent and said.
    Finished,
    /// The transport is lost.
    Gone,
    Reset,
}

impl<'c, B: Buffer> Protocol<'c, B> {
    pub fn new(config: &'c SocketConfig, agreed: Option<&Agreed>, now: Instant) -> Self {
        let reader = Reader::new(Limits {
            max_frame_size: config.max_frame_size,
            max_fragments: config.max_fragments,
            validate_utf8: config.validate_utf8,
        });
        Self {
            config,
            reader: match agreed {
                Some(agreed) => reader.with_deflate(agreed),
                None => reader,
            },
            credit: Credit::new(),
            phase: Phase::Open,
            start: now,
            last_read: now,
            last_active: now,
            pinged: None,
            rests_until: None,
            stalled: None,
            is_all_sent: true,
            is_crowded: false,
            is_ready: false,
            told_idle: false,
            has_read_all: false,
            at_eof: false,
        }
    }

    /// The owner hears nothing any more: it has had its last event, or has closed.
    pub fn has_ended(&self) -> bool {
        !matches!(self.phase, Phase::Open)
    }

    /// All is sent, and nothing is awaited.
    pub fn is_finished(&self) -> bool {
        let is_closing = matches!(self.phase, Phase::Closing { .. });
        is_closing && self.is_all_sent && self.has_read_all
    }
}

/// What the peer does.
impl<B: Buffer> Protocol<'_, B> {
    /// Whether the peer is to be read, as far as the owner does not matter. Only a peer that rests costs a
    /// look at the clock.
    pub fn wants_input(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if self.rests_until.is_some_and(|until| until <= now()) {
            self.rests_until = None;
        }
        !self.at_eof && self.rests_until.is_none()
    }

    /// How much is to be read at once, unless there is a [`Self::tail`].
    pub fn read_size(&self) -> usize {
        if self.reader.inflates() {
            COMPRESSED_READ_SIZE
        } else if self.is_crowded {
            CROWDED_READ_SIZE
        } else {
            READ_SIZE
        }
    }

    /// Takes what was read. [`Self::has_read`] follows.
    #[must_use]
    pub fn feed<E: Events<B>>(&mut self, input: &mut [u8], outlet: Outlet<'_, E>) -> Intake {
        let mut taking = self.taking(outlet);
        let result = self.reader.feed(input, &mut taking);
        taking.finish(result)
    }

    /// Reads the rest of a large frame to where it belongs, if one is being read. Says how much it was.
    pub fn fill_tail<R>(
        &mut self,
        limit: usize,
        fill: impl FnOnce(&mut ReadBuf<'_>) -> R,
    ) -> Option<(usize, R)> {
        self.reader.fill_tail(limit, fill)
    }

    /// As [`Self::feed`], after so many bytes were read by [`Self::fill_tail`].
    #[must_use]
    pub fn tail_filled<E: Events<B>>(&mut self, n: usize, outlet: Outlet<'_, E>) -> Intake {
        let mut taking = self.taking(outlet);
        let result = self.reader.tail_filled(n, &mut taking);
        taking.finish(result)
    }

    fn taking<'a, E>(&self, outlet: Outlet<'a, E>) -> Taking<'a, E> {
        Taking {
            outlet,
            intake: Intake::default(),
            is_muted: self.has_ended(),
            tells_controls: self.config.control_events,
        }
    }

    /// The time is told after the work, because of how long that may take. Returns what
    /// [`Self::active`] does.
    #[must_use]
    pub fn has_read(&mut self, intake: Intake, now: Instant) -> bool {
        self.last_read = now;
        self.pinged = None;
        self.is_crowded = intake.messages + intake.controls > MANY_FRAMES;
        if intake.controls > MANY_FRAMES {
            self.rests_until = Some(now + REST);
        }
        if let Some(code) = intake.close {
            self.has_read_all = true;
            if !self.has_ended() {
                self.phase = Phase::Told { at: now, code };
            }
        }
        if !intake.has_events {
            return false;
        }
        self.credit.push(intake.size);
        self.active(now)
    }

    /// The peer has closed its half, and the owner may still be about to answer; otherwise it has gone.
    pub fn has_read_to_end(&mut self) -> io::Result<()> {
        self.at_eof = true;
        self.has_read_all = true;
        if self.has_ended() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// The transport is gone. Returns what to tell the owner.
    #[must_use]
    pub fn lost(&mut self, error: &io::Error, now: Instant) -> Option<Ending> {
        if self.has_ended() {
            return None;
        }
        self.phase = Phase::Told {
            at: now,
            code: 1011,
        };
        Some(Ending::closed(error))
    }
}

/// What the owner does.
impl<B: Buffer> Protocol<'_, B> {
    /// Sees what has become of what was sent.
    pub fn observe(&mut self, outgoing: &Outgoing) {
        self.stalled = outgoing.stalled;
        self.is_all_sent = outgoing.is_all_sent;
        if let Some(since) = outgoing.closing {
            self.phase = Phase::Closing { since };
        }
        if self.told_idle && !outgoing.told_idle {
            self.active(outgoing.last_sent);
        }
    }

    /// The owner has had an event or has sent something, and is told anew when nothing has happened for a
    /// while since then. Returns whether it was told before.
    pub fn active(&mut self, at: Instant) -> bool {
        self.last_active = at;
        std::mem::take(&mut self.told_idle)
    }

    /// Whether the owner, after so many answers from the start, may have more, or wants to have none. If
    /// not, reading waits for it, and meanwhile the peer's silence means nothing. The clock is looked at
    /// only as that begins or ends.
    pub fn has_credit(&mut self, answered: u32, now: impl FnOnce() -> Instant) -> bool {
        let has_credit = self.has_ended() || self.credit.has_room(answered);
        let is_as_before = has_credit != self.credit.is_paused() && self.is_ready;
        if !is_as_before {
            self.credit_changes(has_credit, answered > 0, now);
        }
        has_credit
    }

    #[cold]
    fn credit_changes(&mut self, has_credit: bool, is_ready: bool, now: impl FnOnce() -> Instant) {
        let is_first_answer = is_ready && !self.is_ready;
        match (has_credit, self.credit.is_paused()) {
            (false, false) => self.credit.pause(now()),
            (true, true) => {
                self.credit.resume();
                self.last_read = now();
            }
            (true, false) if is_first_answer => self.last_read = now(),
            _ => {}
        }
        self.is_ready |= is_ready;
    }
}
