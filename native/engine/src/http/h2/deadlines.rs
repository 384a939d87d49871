//! When what a connection of HTTP/2 waits for has to be there, as a machine that is told the time: h2 keeps no
//! deadline. Who looks at the clock, and what becomes of a client that is late, is the concern of
//! [`crate::serve`].

use std::time::Duration;

use tokio::time::Instant;

use crate::net::linger::LINGER;
use crate::server::LAST_CALL;

/// How long the client may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// To send its preface, from the moment that we await it.
    pub preface: Duration,
    /// To open a stream where there is none.
    pub idle: Duration,
    /// To take something of what waits for it.
    pub send: Duration,
}

pub(crate) struct Deadlines {
    limits: Limits,
    phase: Phase,
    /// The client has been told that it may open no stream any more (RFC9113§6.8).
    is_last: bool,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The client has yet to send its preface (RFC9113§3.4), and is late with it at `due`.
    Preface { due: Instant, late: Late },
    /// There are streams: their client waits for us.
    Streams,
    /// There has been no stream since then.
    Idle(Instant),
}

/// What did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// The preface.
    Preface,
    /// The preface of a client that may have connected before it could know that the listener drains, and is
    /// not to blame.
    LastCall,
    /// A stream.
    Stream,
    /// The end of a connection on which there is to be no other stream.
    End,
    /// The client's taking anything of what waits for it.
    Receipt,
}

impl Deadlines {
    pub(crate) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            phase: Phase::Preface {
                due: now + limits.preface,
                late: Late::Preface,
            },
            is_last: false,
        }
    }

    /// The listener drains while the client has yet to send its preface, which then has to come soon.
    pub(crate) fn drain_started(&mut self, now: Instant) {
        let last_call = now + LAST_CALL;
        if matches!(self.phase, Phase::Preface { due, .. } if last_call < due) {
            self.phase = Phase::Preface {
                due: last_call,
                late: Late::LastCall,
            };
        }
    }

    pub(crate) fn preface_read(&mut self) {
        self.phase = Phase::Streams;
    }

    /// Whether there are streams, told at every look. The clock is looked at only where the last of them has
    /// just ended.
    pub(crate) fn look(&mut self, has_streams: bool, now: impl FnOnce() -> Instant) {
        match self.phase {
            _ if has_streams => self.phase = Phase::Streams,
            Phase::Idle(_) => {}
            Phase::Streams | Phase::Preface { .. } => self.phase = Phase::Idle(now()),
        }
    }

    /// GOAWAY goes out. What there has been no stream for so far does not count: the client has time to hear
    /// of it and to close the connection.
    pub(crate) fn goaway_sent(&mut self) {
        self.is_last = true;
        self.phase = Phase::Streams;
    }

    pub(crate) fn is_last(&self) -> bool {
        self.is_last
    }

    /// When the client is late, unless something happens before. `stalled`: since when it takes nothing of
    /// what waits for it.
    pub(crate) fn next_timeout(&self, stalled: Option<Instant>) -> Option<Instant> {
        self.next_due(stalled).map(|(at, _)| at)
    }

    /// What has not come by now.
    pub(crate) fn handle_timeout(&self, stalled: Option<Instant>, now: Instant) -> Option<Late> {
        let (at, late) = self.next_due(stalled)?;
        (at <= now).then_some(late)
    }

    fn next_due(&self, stalled: Option<Instant>) -> Option<(Instant, Late)> {
        let stream = match self.phase {
            // What waits for a client before its preface is our SETTINGS, and no more.
            Phase::Preface { due, late } => return Some((due, late)),
            Phase::Streams => None,
            Phase::Idle(since) if self.is_last => Some((since + LINGER, Late::End)),
            Phase::Idle(since) => Some((since + self.limits.idle, Late::Stream)),
        };
        let receipt = stalled.map(|since| (since + self.limits.send, Late::Receipt));
        receipt.into_iter().chain(stream).min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::sim::Machine;

    const LIMITS: Limits = Limits {
        preface: Duration::from_secs(15),
        idle: Duration::from_secs(60),
        send: Duration::from_secs(30),
    };

    type Sim = crate::http::sim::Sim<Deadlines>;

    impl Machine for Deadlines {
        type Late = Late;

        fn next_timeout(&self, stalled: Option<Instant>) -> Option<Instant> {
            self.next_timeout(stalled)
        }

        fn handle_timeout(&self, stalled: Option<Instant>, now: Instant) -> Option<Late> {
            self.handle_timeout(stalled, now)
        }
    }

    impl Sim {
        fn accepted() -> Self {
            Self::new(|now| Deadlines::new(LIMITS, now))
        }

        /// One that has sent its preface, and no request.
        fn idle() -> Self {
            let mut sim = Self::accepted();
            sim.deadlines.preface_read();
            sim.look(false);
            sim
        }

        fn look(&mut self, has_streams: bool) {
            let now = self.now;
            self.deadlines.look(has_streams, || now);
        }
    }

    #[test]
    fn a_preface_has_its_time() {
        Sim::accepted().assert_late(Late::Preface, 15_000);
    }

    #[test]
    fn a_draining_listener_waits_for_a_preface_that_may_be_on_its_way_and_blames_nobody() {
        let mut sim = Sim::accepted();
        sim.pass(100);
        sim.deadlines.drain_started(sim.now);
        sim.assert_late(Late::LastCall, 350);
        let mut sim = Sim::accepted();
        sim.pass(14_900);
        sim.deadlines.drain_started(sim.now);
        sim.assert_late(Late::Preface, 15_000);
    }

    #[test]
    fn a_drain_does_not_end_the_wait_for_a_stream_by_itself() {
        let mut sim = Sim::idle();
        sim.deadlines.drain_started(sim.now);
        sim.assert_late(Late::Stream, 60_000);
    }

    #[test]
    fn while_there_are_streams_their_client_has_all_the_time_there_is() {
        let mut sim = Sim::idle();
        sim.pass(59_999);
        sim.look(true);
        sim.pass(86_400_000);
        assert_eq!((sim.next_timeout(), sim.late()), (None, None));
    }

    #[test]
    fn the_time_without_a_stream_begins_with_the_end_of_the_last() {
        let mut sim = Sim::idle();
        for n in 1..5 {
            sim.pass(59_999);
            sim.look(true);
            sim.look(false);
            sim.assert_late(Late::Stream, n * 59_999 + 60_000);
        }
    }

    #[test]
    fn to_look_again_buys_no_time() {
        let mut sim = Sim::idle();
        for _ in 0..5 {
            sim.pass(10_000);
            sim.look(false);
        }
        sim.assert_late(Late::Stream, 60_000);
    }

    #[test]
    fn after_a_goaway_the_client_has_a_second_from_its_last_stream_on() {
        let mut sim = Sim::idle();
        sim.pass(60_000);
        sim.deadlines.goaway_sent();
        assert_eq!(sim.next_timeout(), None);
        sim.look(false);
        sim.assert_late(Late::End, 61_000);
        let mut sim = Sim::idle();
        sim.look(true);
        sim.deadlines.goaway_sent();
        sim.pass(90_000);
        sim.look(true);
        assert_eq!(sim.next_timeout(), None);
        sim.look(false);
        sim.assert_late(Late::End, 91_000);
    }

    #[test]
    fn a_client_that_takes_nothing_is_late_whether_it_has_streams_or_not() {
        let mut sim = Sim::idle();
        sim.pass(500);
        sim.stalled = Some(sim.now);
        sim.assert_late(Late::Receipt, 30_500);
        sim.look(true);
        sim.assert_late(Late::Receipt, 30_500);
        sim.deadlines.goaway_sent();
        sim.look(false);
        sim.assert_late(Late::End, 1_500);
        sim.stalled = None;
        sim.assert_late(Late::End, 1_500);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Pass(u32),
        Look(bool),
        Drain,
        Goaway,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..20_000u32).prop_map(Step::Pass),
            4 => any::<bool>().prop_map(Step::Look),
            1 => Just(Step::Drain),
            1 => Just(Step::Goaway),
        ]
    }

    proptest! {
        /// Whatever happens, a connection without a stream has a deadline within the longest limit, which
        /// only a stream or a GOAWAY puts off, and one with a stream has none.
        #[test]
        fn only_a_stream_buys_time(steps in prop::collection::vec(step(), 0..60)) {
            let mut sim = Sim::idle();
            let mut has_streams = false;
            for step in steps {
                let before = sim.next_timeout();
                match step {
                    Step::Pass(ms) => sim.pass(ms),
                    Step::Look(now_has) => {
                        sim.look(now_has);
                        if !has_streams && !now_has && before.is_some() {
                            prop_assert_eq!(sim.next_timeout(), before);
                        }
                        has_streams = now_has;
                    }
                    Step::Drain => sim.deadlines.drain_started(sim.now),
                    Step::Goaway => {
                        sim.deadlines.goaway_sent();
                        sim.look(has_streams);
                    }
                }
                let limit = if sim.deadlines.is_last() { LINGER } else { LIMITS.idle };
                prop_assert_eq!(sim.next_timeout().is_none(), has_streams);
                prop_assert!(sim.next_timeout() <= Some(sim.now + limit));
            }
        }
    }
}
