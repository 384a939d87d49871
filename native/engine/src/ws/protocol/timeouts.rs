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
        let rest = self.rests_until.map(|until| (until, Due::Read));
        let due = match self.phase {
            Phase::Open => self.next_due_while_open(),
            Phase::Told { at, code } => Some((at + self.config.close_timeout, Due::Answer(code))),
            Phase::Closing { since } => Some((since + self.close_patience(), Due::End)),
        };
        earliest([rest, due])
    }

    fn next_due_while_open(&self) -> Option<(Instant, Due)> {
        let config = self.config;
        let after = |start: Instant, limit: Option<Duration>, due| Some((start + limit?, due));
        let pause = self.credit.next_notice().map(|at| (at, Due::Pause));
        let is_listening = self.is_ready && pause.is_none();
        let silence = after(self.last_read, config.timeout, Due::Silence);
        let ping = config.ping_interval.map(|interval| match self.pinged {
            Some(at) => (at + config.ping_timeout, Due::Silence),
            None => (self.last_read + interval, Due::Ping),
        });
        let stall = self
            .stalled
            .map(|since| (since + config.send_timeout, Due::Stall));
        let idle = after(self.last_active, config.hibernate_after, Due::Idle);
        earliest([
            pause,
            silence.filter(|_| is_listening),
            ping.filter(|_| is_listening),
            stall,
            after(self.start, config.max_lifetime, Due::Lifetime),
            idle.filter(|_| !self.told_idle),
        ])
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

fn earliest<const N: usize>(dues: [Option<(Instant, Due)>; N]) -> Option<(Instant, Due)> {
    dues.into_iter().flatten().min_by_key(|(at, _)| *at)
}
