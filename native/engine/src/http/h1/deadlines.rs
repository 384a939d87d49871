//! When what a connection of HTTP/1 waits for has to be there, as a machine that is told the time: hyper's own
//! timer does not run before the first byte. Who looks at the clock is the concern of
//! [`wire`](super::wire), and what is answered to a client that is late that of [`crate::serve`].

use std::time::Duration;

use tokio::time::Instant;

use crate::server::LAST_CALL;

/// How long what nobody has read of a body may take. A client that needs longer is still sending it when the
/// connection ends, so no request of its is lost.
const DRAIN: Duration = Duration::from_secs(3);

/// How long the client may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// From the accept, the end of a handshake, or the first byte of a later request, to the end of the head.
    pub header: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// To take something of what waits for it.
    pub send: Duration,
}

pub(crate) struct Deadlines {
    phase: Phase,
    /// When that began; for the first head, the accept or the end of the handshake.
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing of the first request has been read.
    FirstRequest,
    FirstHead,
    NextRequest,
    /// A part of a later head has been read.
    NextHead,
    /// A request is served: its client waits for us.
    Request,
    /// The response is out, and what nobody has read of the request's body is read.
    Drain,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    Response,
    /// The rest of a request's head.
    Rest,
    FirstRequest {
        since: Instant,
    },
    NextRequest,
    /// The rest of a body that nobody reads, after the response.
    RestOfBody,
}

/// What is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Or what follows it.
    Body,
    Head,
    /// The first of it has been read.
    RestOfHead,
}

/// What did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// A request, or the rest of its body.
    Request,
    /// The rest of a head that the client has begun.
    Head,
    /// Its taking anything of what waits for it.
    Receipt,
}

/// When a connection whose listener drains has no request to wait for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastCall {
    Over,
    OverAt(Instant),
    /// After a head that is being read.
    Later,
}

impl Deadlines {
    pub(crate) fn new(begun: Instant) -> Self {
        Self {
            phase: Phase::FirstRequest,
            since: begun,
        }
    }

    pub(crate) fn request_started(&mut self) {
        self.phase = Phase::Request;
    }

    pub(crate) fn request_ended(&mut self, now: Instant) {
        self.enter(Phase::NextRequest, now);
    }

    pub(crate) fn drain_started(&mut self, now: Instant) {
        self.enter(Phase::Drain, now);
    }

    /// The clock is looked at only where there was something to drain.
    pub(crate) fn drain_ended(&mut self, now: impl FnOnce() -> Instant) {
        // Not where the next request is being served already.
        if self.phase == Phase::Drain {
            self.enter(Phase::NextRequest, now());
        }
    }

    /// A part of a head, or of a body. The clock is looked at only where a later head begins: the first one
    /// has its time from the accept on, and none gets more by coming byte by byte.
    pub(crate) fn read_some(&mut self, now: impl FnOnce() -> Instant) {
        match self.phase {
            Phase::FirstRequest => self.phase = Phase::FirstHead,
            Phase::NextRequest => self.enter(Phase::NextHead, now()),
            Phase::FirstHead | Phase::NextHead | Phase::Request | Phase::Drain => {}
        }
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.since = now;
    }

    /// Whether what is read may be of a body.
    pub(crate) fn in_body(&self) -> bool {
        matches!(self.phase, Phase::Request | Phase::Drain)
    }

    pub(crate) fn expected(&self) -> Expected {
        match self.phase {
            Phase::Request | Phase::Drain => Expected::Body,
            Phase::FirstHead | Phase::NextHead => Expected::RestOfHead,
            Phase::FirstRequest | Phase::NextRequest => Expected::Head,
        }
    }

    /// `has_arrivals` tells whether there is something that was not read yet.
    pub(crate) fn awaited(&self, has_arrivals: impl Fn() -> bool) -> Awaited {
        match self.phase {
            Phase::Request => Awaited::Response,
            Phase::Drain => Awaited::RestOfBody,
            Phase::FirstHead | Phase::NextHead => Awaited::Rest,
            Phase::FirstRequest | Phase::NextRequest if has_arrivals() => Awaited::Rest,
            Phase::FirstRequest => Awaited::FirstRequest { since: self.since },
            Phase::NextRequest => Awaited::NextRequest,
        }
    }

    /// When the client is late, unless something happens before. `stalled`: since when it takes nothing of
    /// what waits for it.
    pub(crate) fn next_timeout(
        &self,
        limits: &Limits,
        stalled: Option<Instant>,
    ) -> Option<Instant> {
        self.next_due(limits, stalled).map(|(at, _)| at)
    }

    /// What has not come by now.
    pub(crate) fn handle_timeout(
        &self,
        limits: &Limits,
        stalled: Option<Instant>,
        now: Instant,
    ) -> Option<Late> {
        let (at, late) = self.next_due(limits, stalled)?;
        (at <= now).then_some(late)
    }

    fn next_due(&self, limits: &Limits, stalled: Option<Instant>) -> Option<(Instant, Late)> {
        let (limit, late) = match self.phase {
            Phase::Request => (None, Late::Request),
            Phase::Drain => (Some(DRAIN), Late::Request),
            Phase::FirstRequest => (Some(limits.header), Late::Request),
            Phase::FirstHead | Phase::NextHead => (Some(limits.header), Late::Head),
            Phase::NextRequest => (Some(limits.idle), Late::Request),
        };
        let request = limit.map(|limit| (self.since + limit, late));
        let receipt = stalled.map(|since| (since + limits.send, Late::Receipt));
        request.into_iter().chain(receipt).min_by_key(|(at, _)| *at)
    }
}

impl Awaited {
    pub(crate) fn last_call(self) -> LastCall {
        match self {
            Self::Response | Self::NextRequest | Self::RestOfBody => LastCall::Over,
            Self::FirstRequest { since } => LastCall::OverAt(since + LAST_CALL),
            Self::Rest => LastCall::Later,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::sim::{MS, Machine};

    const LIMITS: Limits = Limits {
        header: Duration::from_secs(10),
        idle: Duration::from_secs(60),
        send: Duration::from_secs(30),
    };

    type Sim = crate::http::sim::Sim<Deadlines>;

    impl Machine for Deadlines {
        type Late = Late;

        fn next_timeout(&self, stalled: Option<Instant>) -> Option<Instant> {
            self.next_timeout(&LIMITS, stalled)
        }

        fn handle_timeout(&self, stalled: Option<Instant>, now: Instant) -> Option<Late> {
            self.handle_timeout(&LIMITS, stalled, now)
        }
    }

    impl Sim {
        fn accepted() -> Self {
            Self::new(Deadlines::new)
        }

        /// One that is between two requests.
        fn idle() -> Self {
            let mut sim = Self::accepted();
            sim.deadlines.request_started();
            sim.deadlines.request_ended(sim.now);
            sim
        }

        fn read(&mut self) {
            let now = self.now;
            self.deadlines.read_some(|| now);
        }

        fn end_drain(&mut self) {
            let now = self.now;
            self.deadlines.drain_ended(|| now);
        }
    }

    #[test]
    fn the_first_head_has_its_time_from_the_accept_on() {
        let mut sim = Sim::accepted();
        sim.assert_late(Late::Request, 10_000);
        sim.pass(9_000);
        sim.read();
        sim.assert_late(Late::Head, 10_000);
    }

    #[test]
    fn a_later_head_has_its_time_from_its_first_byte_on() {
        let mut sim = Sim::idle();
        sim.pass(59_999);
        sim.read();
        sim.assert_late(Late::Head, 69_999);
    }

    #[test]
    fn a_head_gets_no_more_time_by_coming_byte_by_byte() {
        for (mut sim, due) in [(Sim::accepted(), 10_000), (Sim::idle(), 11_000)] {
            for _ in 0..9 {
                sim.pass(1_000);
                sim.read();
            }
            sim.assert_late(Late::Head, due);
        }
    }

    #[test]
    fn the_time_between_two_requests_begins_anew_after_each() {
        let mut sim = Sim::idle();
        for n in 1..5 {
            sim.pass(59_999);
            assert_eq!(sim.late(), None);
            sim.read();
            sim.deadlines.request_started();
            sim.deadlines.request_ended(sim.now);
            sim.assert_late(Late::Request, n * 59_999 + 60_000);
        }
    }

    #[test]
    fn while_a_request_is_served_its_client_has_all_the_time_there_is() {
        let mut sim = Sim::accepted();
        sim.read();
        sim.deadlines.request_started();
        assert_eq!(sim.next_timeout(), None);
        sim.pass(86_400_000);
        // Of the body.
        sim.read();
        assert_eq!((sim.next_timeout(), sim.late()), (None, None));
        sim.deadlines.request_ended(sim.now);
        sim.assert_late(Late::Request, 86_460_000);
    }

    #[test]
    fn what_is_left_of_a_body_has_a_deadline_of_its_own() {
        let mut sim = Sim::idle();
        sim.deadlines.request_started();
        sim.pass(1_000);
        sim.deadlines.drain_started(sim.now);
        for _ in 0..5 {
            sim.pass(500);
            sim.read();
        }
        sim.assert_late(Late::Request, 4_000);
        assert_eq!(sim.deadlines.awaited(|| true), Awaited::RestOfBody);
        sim.end_drain();
        sim.assert_late(Late::Request, 63_500);
    }

    #[test]
    fn the_end_of_a_body_does_not_end_the_next_request() {
        let mut sim = Sim::idle();
        sim.deadlines.request_started();
        sim.deadlines.drain_started(sim.now);
        // hyper may have read the next request together with the rest.
        sim.deadlines.request_started();
        sim.end_drain();
        assert_eq!(sim.next_timeout(), None);
        assert_eq!(sim.deadlines.awaited(|| false), Awaited::Response);
    }

    #[test]
    fn a_client_that_takes_nothing_is_late_in_whatever_it_is() {
        let mut sim = Sim::idle();
        sim.deadlines.request_started();
        sim.pass(500);
        sim.stalled = Some(sim.now);
        sim.assert_late(Late::Receipt, 30_500);
        sim.deadlines.request_ended(sim.now);
        sim.assert_late(Late::Receipt, 30_500);
        sim.read();
        sim.assert_late(Late::Head, 10_500);
        sim.stalled = None;
        sim.assert_late(Late::Head, 10_500);
    }

    #[test]
    fn a_draining_listener_waits_for_a_request_only_where_one_may_be_on_its_way() {
        let mut sim = Sim::accepted();
        let last_call = |sim: &Sim, arrivals| sim.deadlines.awaited(|| arrivals).last_call();
        sim.pass(100);
        let due = sim.start + 250 * MS;
        assert_eq!(last_call(&sim, false), LastCall::OverAt(due));
        assert_eq!(last_call(&sim, true), LastCall::Later);
        sim.read();
        assert_eq!(last_call(&sim, false), LastCall::Later);
        sim.deadlines.request_started();
        assert_eq!(last_call(&sim, true), LastCall::Over);
        sim.deadlines.drain_started(sim.now);
        assert_eq!(last_call(&sim, true), LastCall::Over);
        sim.end_drain();
        assert_eq!(last_call(&sim, false), LastCall::Over);
        assert_eq!(last_call(&sim, true), LastCall::Later);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Pass(u32),
        Read,
        Start,
        End,
        Drain,
        EndDrain,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..20_000u32).prop_map(Step::Pass),
            3 => Just(Step::Read),
            1 => Just(Step::Start),
            1 => Just(Step::End),
            1 => Just(Step::Drain),
            1 => Just(Step::EndDrain),
        ]
    }

    proptest! {
        /// Whatever happens: what a client sends never puts off its deadline by more than a head may take, a
        /// request that is served has none, and any other state has one within the longest limit.
        #[test]
        fn bytes_buy_no_time(steps in prop::collection::vec(step(), 0..60)) {
            let mut sim = Sim::accepted();
            for step in steps {
                let before = sim.next_timeout();
                let had_begun = sim.deadlines.expected() != Expected::Head;
                match step {
                    Step::Pass(ms) => sim.pass(ms),
                    Step::Read => sim.read(),
                    Step::Start => sim.deadlines.request_started(),
                    Step::End => sim.deadlines.request_ended(sim.now),
                    Step::Drain => sim.deadlines.drain_started(sim.now),
                    Step::EndDrain => sim.end_drain(),
                }
                let next = sim.next_timeout();
                match step {
                    Step::Read if had_begun => prop_assert_eq!(next, before),
                    Step::Read => prop_assert!(next <= Some(sim.now + LIMITS.header)),
                    Step::Start => prop_assert_eq!(next, None),
                    Step::Drain => prop_assert_eq!(next, Some(sim.now + DRAIN)),
                    Step::End => prop_assert_eq!(next, Some(sim.now + LIMITS.idle)),
                    Step::Pass(_) => prop_assert_eq!(next, before),
                    Step::EndDrain => {}
                }
                let is_served = sim.deadlines.awaited(|| false) == Awaited::Response;
                prop_assert_eq!(next.is_none(), is_served);
                prop_assert!(next <= Some(sim.now + LIMITS.idle));
            }
        }
    }
}
