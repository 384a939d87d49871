//! What holds in whatever order things happen to a WebSocket, in simulated time.

use std::io;
use std::time::Duration;

use proptest::prelude::*;

use super::sim::Seen::*;
use super::sim::*;
use crate::config::SocketConfig;

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Leap(u64),
    Read(u8),
    Answer,
    AnswerAll,
    Send,
    Close,
    Stall,
    Flow,
    Eof,
    Lose,
}

fn step() -> impl Strategy<Value = Step> {
    // Most of what ends a socket is rare, so that something happens before.
    prop_oneof![
        20 => (0..2_000u64).prop_map(Step::Pass),
        10 => (0..5_000u64).prop_map(Step::Leap),
        30 => any::<u8>().prop_map(Step::Read),
        15 => Just(Step::Answer),
        5 => Just(Step::AnswerAll),
        10 => Just(Step::Send),
        1 => Just(Step::Close),
        5 => Just(Step::Stall),
        5 => Just(Step::Flow),
        1 => Just(Step::Eof),
        1 => Just(Step::Lose),
    ]
}

fn take(sim: &mut Sim, step: Step) {
    match step {
        Step::Pass(ms) => sim.pass(Duration::from_millis(ms)),
        Step::Leap(ms) => sim.leap(Duration::from_millis(ms)),
        Step::Read(kind) => _ = sim.read(some_bytes(kind)),
        Step::Answer if sim.answered < u32::MAX => sim.answer(),
        Step::AnswerAll => (0..8).for_each(|_| sim.answer()),
        Step::Send => sim.send(),
        Step::Close => sim.close(),
        Step::Stall => sim.stall(),
        Step::Flow => sim.flow(),
        Step::Eof => sim.eof(),
        Step::Lose => sim.lose(&io::ErrorKind::ConnectionReset.into()),
        Step::Answer => {}
    }
}

fn some_bytes(kind: u8) -> Vec<u8> {
    match kind {
        0..=3 => close_frame(1000),
        4..=5 => frame(0x83, b""),
        6..=20 => frame(0x89, b"").repeat(150),
        21..=60 => frame(0x8a, b""),
        61..=80 => text().repeat(3),
        // It goes on with what comes next.
        81..=82 => text()[..4].to_vec(),
        _ => text(),
    }
}

fn limit() -> impl Strategy<Value = Option<Duration>> {
    prop::option::of((1..3_000u64).prop_map(Duration::from_millis))
}

prop_compose! {
    fn config()(
        timeout in limit(),
        ping_interval in limit(),
        ping_timeout in 1..1_000u64,
        max_lifetime in limit(),
        hibernate_after in limit(),
        close_timeout in 0..2_000u64,
        send_timeout in 1..3_000u64,
        control_events in any::<bool>(),
    ) -> SocketConfig {
        SocketConfig {
            timeout,
            ping_interval,
            ping_timeout: Duration::from_millis(ping_timeout),
            max_lifetime: max_lifetime.map(|limit| limit * 10),
            hibernate_after,
            close_timeout: Duration::from_millis(close_timeout),
            send_timeout: Duration::from_millis(send_timeout),
            control_events,
            ..patient()
        }
    }
}

fn without_order(seen: &[(u128, Seen)]) -> Vec<&Seen> {
    seen.iter().map(|(_, seen)| seen).collect()
}

proptest! {
    /// Whatever happens in whatever order: one last event at most, and exactly one if the owner has not
    /// closed before; nothing for the owner after it; and no timeout in the past ([`Sim::handle_timeouts`]
    /// holds that).
    #[test]
    fn any_life_has_one_last_event(
        config in config(),
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut sim = Sim::new(config);
        let mut owner_closed_first = false;
        for step in steps {
            let has_ended = sim.protocol.has_ended();
            owner_closed_first |= matches!(step, Step::Close) && !has_ended && sim.end.is_none();
            take(&mut sim, step);
        }
        sim.lose(&io::ErrorKind::ConnectionAborted.into());

        let seen = sim.seen();
        let last = seen.iter().position(|(_, seen)| seen.is_last_event());
        let count = seen.iter().filter(|(_, seen)| seen.is_last_event()).count();
        prop_assert_eq!(count, usize::from(!owner_closed_first), "{:?}", seen);
        let after = last.map_or(&[][..], |at| &seen[at + 1..]);
        for seen in without_order(after) {
            prop_assert!(matches!(seen, Pongs(_) | CloseFor(_) | Ended(_)), "{:?}", seen);
        }
        let ends = seen.iter().filter(|(_, seen)| matches!(seen, Ended(_))).count();
        prop_assert_eq!(ends, 1);
        let closes = seen.iter().filter(|(_, seen)| matches!(seen, CloseFor(_))).count();
        prop_assert!(closes <= 1);
    }

    /// A socket that nobody touches any more ends by itself once it has had its last event, within the
    /// time for that event's answer and for the closing handshake.
    #[test]
    fn an_end_takes_no_longer_than_it_may(
        config in config(),
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let patience = 2 * config.close_timeout;
        let mut sim = Sim::new(config);
        steps.into_iter().for_each(|step| take(&mut sim, step));
        sim.close();
        sim.pass(patience);
        prop_assert!(sim.end.is_some());
    }

    /// The owner hears the same whether all comes at once or cut anywhere.
    #[test]
    fn bytes_cut_anywhere_are_read_the_same(
        cuts in prop::collection::vec(0..400usize, 0..10),
        kinds in prop::collection::vec(any::<u8>(), 1..20),
    ) {
        let bytes: Vec<u8> = kinds.into_iter().flat_map(some_bytes).collect();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut whole = Sim::new(patient());
        prop_assert!(whole.read(bytes.clone()));
        let mut pieces = Sim::new(patient());
        for piece in cuts.windows(2) {
            pieces.pass(MS);
            prop_assert!(pieces.read(bytes[piece[0]..piece[1]].to_vec()));
            pieces.answer();
        }
        let heard = |sim: &mut Sim| -> Vec<Seen> {
            sim.seen()
                .into_iter()
                .map(|(_, seen)| seen)
                .filter(|seen| !matches!(seen, Pongs(_)))
                .collect()
        };
        prop_assert_eq!(heard(&mut whole), heard(&mut pieces));
    }
}
