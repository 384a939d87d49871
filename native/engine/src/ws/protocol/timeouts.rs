//! What time does to a WebSocket: what is due next, and what happens then.

use std::time::Duration;

use tokio::time::Instant;

use super::{End, Phase, Protocol};
use crate::buffer::Buffer;
use crate::ws::ending::Ending;

/// How long at least our close frame waits for a peer that takes nothing.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What is to be done because its time has come.
#[derive(Debug)]
pub(in crate::ws) enum Action {
    /// Read on.
    Read,
    /// Send a ping, unless something waits to be sent that the peer has to acknowledge anyway.
    Ping,
    /// Tell the owner that it is idle, unless it has sent something since then; if it has, say so by
    /// [`Protocol::active`].
    Idle {
        since: Instant,
    },
    /// Tell the owner that reading waits for its answers to what were so many batches.
    Paused {
        batches: u32,
    },
    /// Tell the owner its last event.
    Tell(Ending),
    /// The same; and what is still to be sent never will be.
    GiveUp(Ending),
    /// Send a close frame in the owner's place.
    Close(u16),
    End(End),
}

#[derive(Clone, Copy)]
enum Due {
    Read,
    Ping,
    Idle,
    Pause,
    Silence,
    Lifetime,
    Stall,
    /// The owner has not answered its last event.
    Answer(u16),
    /// The closing handshake takes too long.
    End,
}

impl<B: Buffer> Protocol<'_, B> {
    /// When to call [`Self::handle_timeout`], if nothing else happens before.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.next_due().map(|(at, _)| at)
    }

    /// The next thing that is to be done by now. There may be another one after it; once there is none,
    /// the next timeout is later than now.
    #[must_use]
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Action> {
        let (_, due) = self.next_due().filter(|(at, _)| *at <= now)?;
        let action = match due {
            Due::Read => {
                self.rests_until = None;
                Action::Read
            }
            Due::Ping => {
                self.pinged = Some(now);
                Action::Ping
            }
            Due::Idle => {
                self.told_idle = true;
                let since = self.last_active;
                Action::Idle { since }
            }
            Due::Pause => {
                let batches = self.credit.noticed();
                Action::Paused { batches }
            }
            Due::Silence => Action::Tell(self.tell(1001, Ending::Timeout, now)),
            Due::Lifetime => Action::Tell(self.tell(1012, Ending::Lifetime, now)),
            Due::Stall => {
                let ending = Ending::Error(1013, "slow_client");
                Action::GiveUp(self.tell(1013, ending, now))
            }
            Due::Answer(code) => {
                self.phase = Phase::Closing { since: now };
                self.is_all_sent = false;
                Action::Close(code)
            }
            Due::End if self.is_all_sent => Action::End(End::Finished),
            // The peer does not even take our close frame.
            Due::End => Action::End(End::Reset),
        };
        Some(action)
    }

    fn tell(&mut self, code: u16, ending: Ending, now: Instant) -> Ending {
        self.phase = Phase::Told { at: now, code };
        ending
    }

    fn next_due(&self) -> Option<(Instant, Due)> {
        let mut next = Earliest(None);
        if let Some(until) = self.rests_until {
            next.or(until, Due::Read);
        }
        match self.phase {
            Phase::Open => self.find_while_open(&mut next),
            Phase::Told { at, code } => next.or(at + self.config.close_timeout, Due::Answer(code)),
            Phase::Closing { since } => next.or(since + self.close_patience(), Due::End),
        }
        next.0
    }

    #[inline]
    fn find_while_open(&self, next: &mut Earliest) {
        let config = self.config;
        match self.credit.next_notice() {
            Some(at) => next.or(at, Due::Pause),
            None if self.is_ready => self.find_while_listening(next),
            None => {}
        }
        if let Some(since) = self.stalled {
            next.or(since + config.send_timeout, Due::Stall);
        }
        if let Some(limit) = config.max_lifetime {
            next.or(self.start + limit, Due::Lifetime);
        }
        if let Some(limit) = config.hibernate_after
            && !self.told_idle
        {
            next.or(self.last_active + limit, Due::Idle);
        }
    }

    #[inline]
    fn find_while_listening(&self, next: &mut Earliest) {
        if let Some(limit) = self.config.timeout {
            next.or(self.last_read + limit, Due::Silence);
        }
        if let Some(interval) = self.config.ping_interval {
            match self.pinged {
                Some(at) => next.or(at + self.config.ping_timeout, Due::Silence),
                None => next.or(self.last_read + interval, Due::Ping),
            }
        }
    }

    /// How long our close frame may wait to be answered: no longer than anything else where the peer does
    /// not even take it.
    fn close_patience(&self) -> Duration {
        let config = self.config;
        match self.stalled {
            Some(_) => config
                .close_timeout
                .min(config.send_timeout.max(LAST_WORDS)),
            None => config.close_timeout,
        }
    }
}

/// Found without a list: this is asked after each message.
struct Earliest(Option<(Instant, Due)>);

impl Earliest {
    /// Of two at the same time, the first one found.
    #[inline]
    fn or(&mut self, at: Instant, due: Due) {
        if self.0.is_none_or(|(earliest, _)| at < earliest) {
            self.0 = Some((at, due));
        }
    }
}
