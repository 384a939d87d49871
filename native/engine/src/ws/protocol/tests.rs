//! Each deadline, event by event, in simulated time.

use std::time::Duration;

use super::sim::Seen::*;
use super::sim::*;
use super::{Action, CROWDED_READ_SIZE, End, Protocol, READ_SIZE};
use crate::buffer::VecBuffer;
use crate::config::SocketConfig;

#[test]
fn the_state_of_a_socket_is_small() {
    assert!(size_of::<Protocol<'_, VecBuffer>>() <= 320);
}

#[test]
fn without_limits_there_is_no_timeout() {
    let mut sim = Sim::new(patient());
    assert_eq!(sim.protocol.next_timeout(), None);
    sim.leap(86_400_000 * MS);
    assert_eq!(sim.seen(), []);
}

mod silence {
    use super::*;

    fn limited() -> SocketConfig {
        SocketConfig {
            timeout: Some(500 * MS),
            ..patient()
        }
    }

    #[test]
    fn ends_with_a_timeout_that_closes_with_1001() {
        let mut sim = Sim::new(limited());
        sim.pass(10_000 * MS);
        let expected = [
            (500, Timeout),
            // Nobody answers it.
            (5_500, CloseFor(1001)),
            (10_500, Ended(End::Finished)),
        ];
        assert_eq!(sim.seen(), expected[..2]);
        sim.pass(500 * MS);
        assert_eq!(sim.seen(), expected[2..]);
    }

    #[test]
    fn is_broken_by_any_byte() {
        let mut sim = Sim::new(limited());
        for byte in frame(0x82, b"slow") {
            sim.pass(499 * MS);
            assert!(sim.read(vec![byte]));
        }
        assert_eq!(sim.seen(), [(4_990, Message(4))]);
        sim.pass(499 * MS);
        assert_eq!(sim.seen(), []);
        sim.pass(MS);
        assert_eq!(sim.seen(), [(5_490, Timeout)]);
    }

    #[test]
    fn is_not_broken_by_what_the_owner_sends() {
        let mut sim = Sim::new(limited());
        for _ in 0..4 {
            sim.pass(100 * MS);
            sim.send();
        }
        sim.pass(100 * MS);
        assert_eq!(sim.seen(), [(500, Timeout)]);
    }

    #[test]
    fn means_nothing_before_the_owner_is_ready() {
        let mut sim = Sim::before_ready(limited());
        sim.pass(60_000 * MS);
        assert_eq!(sim.seen(), []);
        sim.answer();
        sim.pass(499 * MS);
        assert_eq!(sim.seen(), []);
        sim.pass(MS);
        assert_eq!(sim.seen(), [(60_500, Timeout)]);
    }
}

mod ping {
    use super::*;

    #[test]
    fn is_sent_once_to_a_silent_peer_and_its_answer_counts() {
        let mut sim = Sim::new(pinging());
        for n in 0..5 {
            sim.pass(1_299 * MS);
            assert_eq!(sim.seen(), [(n * 1_299 + 1_000, Pinged)]);
            assert!(sim.read(frame(0x8a, b"")));
        }
        assert_eq!(sim.seen(), [], "the owner hears nothing of it");
    }

    #[test]
    fn without_an_answer_ends_with_a_timeout() {
        let mut sim = Sim::new(pinging());
        sim.pass(1_300 * MS);
        assert_eq!(sim.seen(), [(1_000, Pinged), (1_300, Timeout)]);
        sim.close();
        sim.pass(5_000 * MS);
        assert_eq!(sim.seen(), [(6_300, Ended(End::Finished))]);
    }

    #[test]
    fn is_answered_by_data_and_by_half_a_frame() {
        let mut sim = Sim::new(pinging());
        for bytes in [&text()[..], &text()[..3], &text()[3..]] {
            sim.pass(1_299 * MS);
            assert!(sim.read(bytes.to_vec()));
        }
        let pings = sim.seen().into_iter().filter(|(_, seen)| *seen == Pinged);
        assert_eq!(pings.count(), 3);
    }

    #[test]
    fn is_not_sent_to_a_peer_that_sends_by_itself() {
        let mut sim = Sim::new(pinging());
        for _ in 0..25 {
            sim.pass(999 * MS);
            assert!(sim.read(frame(0x8a, b"")));
        }
        assert_eq!(sim.seen(), []);
    }

    #[test]
    fn is_sent_also_while_the_owner_sends() {
        let mut sim = Sim::new(pinging());
        for _ in 0..13 {
            sim.pass(100 * MS);
            sim.send();
        }
        assert_eq!(sim.seen(), [(1_000, Pinged), (1_300, Timeout)]);
    }

    #[test]
    fn is_no_more_after_the_last_event_or_our_close_frame() {
        let mut sim = Sim::new(pinging());
        sim.close();
        sim.pass(4_999 * MS);
        assert_eq!(sim.seen(), []);
        let mut sim = Sim::new(pinging());
        assert!(sim.read(close_frame(1000)));
        sim.pass(4_999 * MS);
        assert_eq!(sim.seen(), [(0, Close(Some(1000)))]);
    }

    #[test]
    fn does_not_put_off_an_earlier_timeout() {
        let mut sim = Sim::new(SocketConfig {
            timeout: Some(1_200 * MS),
            ..pinging()
        });
        sim.pass(1_200 * MS);
        assert_eq!(sim.seen(), [(1_000, Pinged), (1_200, Timeout)]);
    }

    #[test]
    fn that_is_answered_keeps_a_peer_beyond_its_timeout() {
        let mut sim = Sim::new(SocketConfig {
            timeout: Some(1_200 * MS),
            ..pinging()
        });
        for _ in 0..10 {
            sim.pass(1_100 * MS);
            assert!(sim.read(frame(0x8a, b"")));
        }
        assert!(sim.seen().iter().all(|(_, seen)| *seen == Pinged));
    }
}

mod lifetime {
    use super::*;

    fn limited() -> SocketConfig {
        SocketConfig {
            max_lifetime: Some(700 * MS),
            ..patient()
        }
    }

    #[test]
    fn ends_with_1012_at_its_time_whatever_happens() {
        let mut sim = Sim::new(limited());
        for _ in 0..6 {
            sim.pass(100 * MS);
            assert!(sim.read(text()));
            sim.answer();
            sim.send();
        }
        sim.seen();
        sim.pass(99 * MS);
        assert_eq!(sim.seen(), []);
        sim.pass(MS);
        assert_eq!(sim.seen(), [(700, Lifetime)]);
        // The peer says something more, which is ignored, and the owner nothing.
        assert!(sim.read(text()));
        sim.pass(5_000 * MS);
        assert_eq!(sim.seen(), [(5_700, CloseFor(1012))]);
        assert!(sim.read(close_frame(1012)));
        assert_eq!(sim.seen(), [(5_700, Ended(End::Finished))]);
    }

    #[test]
    fn counts_also_while_reading_is_paused_and_before_the_owner_is_ready() {
        let mut sim = Sim::before_ready(limited());
        while sim.read(text()) {}
        sim.seen();
        sim.pass(700 * MS);
        assert_eq!(
            sim.seen(),
            [(250, Paused(8)), (500, Paused(8)), (700, Lifetime)]
        );
    }
}

mod idleness {
    use super::*;

    fn noticing() -> SocketConfig {
        SocketConfig {
            hibernate_after: Some(100 * MS),
            ..patient()
        }
    }

    #[test]
    fn is_told_once_and_anew_after_something_that_concerns_the_owner() {
        let mut sim = Sim::new(noticing());
        sim.pass(1_000 * MS);
        assert_eq!(sim.seen(), [(100, Idle)]);
        assert!(sim.read(text()));
        sim.pass(1_000 * MS);
        assert_eq!(sim.seen(), [(1_000, Message(2)), (1_100, Idle)]);
        sim.send();
        sim.pass(1_000 * MS);
        assert_eq!(sim.seen(), [(2_100, Idle)]);
    }

    #[test]
    fn counts_from_the_last_message_whoever_sent_it() {
        let mut sim = Sim::new(noticing());
        for _ in 0..5 {
            sim.pass(99 * MS);
            sim.send();
            sim.pass(99 * MS);
            assert!(sim.read(text()));
            sim.answer();
        }
        sim.pass(60 * MS);
        sim.send();
        sim.seen();
        sim.pass(99 * MS);
        assert_eq!(sim.seen(), []);
        sim.pass(MS);
        assert_eq!(sim.seen(), [(1_150, Idle)]);
    }

    #[test]
    fn is_not_broken_by_pings_that_the_owner_does_not_hear_of() {
        let mut sim = Sim::new(SocketConfig {
            hibernate_after: Some(1_500 * MS),
            ..pinging()
        });
        for _ in 0..3 {
            sim.pass(1_100 * MS);
            assert!(sim.read(frame(0x8a, b"")));
            assert!(sim.read(frame(0x89, b"")));
        }
        let told = sim.seen().into_iter().filter(|(_, seen)| *seen == Idle);
        assert_eq!(told.collect::<Vec<_>>(), [(1_500, Idle)]);
    }

    #[test]
    fn is_broken_by_pings_that_the_owner_hears_of() {
        let mut sim = Sim::new(SocketConfig {
            control_events: true,
            ..noticing()
        });
        for _ in 0..5 {
            sim.pass(99 * MS);
            assert!(sim.read(frame(0x8a, b"")));
            sim.answer();
        }
        assert!(sim.seen().iter().all(|(_, seen)| *seen == Control));
    }
}

mod closing {
    use super::*;

    #[test]
    fn is_over_as_both_have_closed_and_all_is_sent() {
        let mut sim = Sim::new(patient());
        assert!(sim.read(close_frame(1001)));
        assert_eq!(sim.seen(), [(0, Close(Some(1001)))]);
        sim.stall();
        sim.close();
        assert_eq!(sim.seen(), [], "our close frame waits");
        sim.flow();
        assert_eq!(sim.seen(), [(0, Ended(End::Finished))]);

        let mut sim = Sim::new(patient());
        sim.close();
        sim.pass(4_999 * MS);
        assert_eq!(sim.seen(), [], "the peer's close frame is awaited");
        assert!(sim.read(close_frame(1000)));
        assert_eq!(sim.seen(), [(4_999, Ended(End::Finished))]);
    }

    #[test]
    fn waits_for_a_peer_that_does_not_answer_no_longer_than_it_may() {
        let mut sim = Sim::new(patient());
        sim.pass(77 * MS);
        sim.close();
        for _ in 0..100 {
            // It is muted, but not ignored.
            sim.pass(50 * MS);
            sim.read(text());
        }
        assert_eq!(sim.seen(), [(5_077, Ended(End::Finished))]);
    }

    #[test]
    fn ends_by_a_reset_where_the_peer_does_not_take_our_close_frame() {
        let mut sim = Sim::new(patient());
        sim.stall();
        sim.close();
        sim.pass(5_000 * MS);
        assert_eq!(sim.seen(), [(5_000, Ended(End::Reset))]);
    }

    #[test]
    fn waits_for_a_stalled_peer_no_longer_than_anything_else_does() {
        for (send_timeout, patience) in [(3_000, 3_000), (200, 1_000), (9_000, 5_000)] {
            let mut sim = Sim::new(SocketConfig {
                send_timeout: send_timeout * MS,
                ..patient()
            });
            sim.stall();
            sim.close();
            sim.pass(60_000 * MS);
            assert_eq!(sim.seen(), [(patience, Ended(End::Reset))]);
        }
    }

    #[test]
    fn has_all_its_time_again_where_the_peer_takes_something() {
        let mut sim = Sim::new(SocketConfig {
            send_timeout: 2_000 * MS,
            ..patient()
        });
        sim.stall();
        sim.close();
        sim.pass(1_999 * MS);
        sim.flow();
        sim.pass(3_000 * MS);
        assert_eq!(sim.seen(), []);
        sim.pass(MS);
        assert_eq!(sim.seen(), [(5_000, Ended(End::Finished))]);
    }

    #[test]
    fn is_answered_for_an_owner_that_does_not() {
        for (bytes, seen, code) in [
            (close_frame(4321), Close(Some(4321)), 4321),
            (frame(0x88, b""), Close(None), 1000),
            (frame(0x83, b""), Error(1002, "reserved_opcode"), 1002),
            (frame(0x81, b"\xff"), Error(1007, "invalid_utf8"), 1007),
        ] {
            let mut sim = Sim::new(patient());
            sim.pass(10 * MS);
            assert!(sim.read(bytes));
            assert_eq!(sim.seen(), [(10, seen)]);
            sim.pass(4_999 * MS);
            assert_eq!(sim.seen(), []);
            sim.pass(MS);
            let expected = [(5_010, CloseFor(code)), (5_010, Ended(End::Finished))];
            assert_eq!(sim.seen(), expected);
        }
    }

    #[test]
    fn ignores_what_follows_the_peers_close_frame() {
        let mut sim = Sim::new(patient());
        assert!(sim.read([text(), close_frame(1000), text()].concat()));
        assert!(sim.read(text()));
        assert_eq!(sim.seen(), [(0, Message(2)), (0, Close(Some(1000)))]);
    }

    #[test]
    fn of_no_length_at_all_is_over_at_once_but_sends_its_close_frame() {
        let mut sim = Sim::new(SocketConfig {
            close_timeout: Duration::ZERO,
            ..patient()
        });
        assert!(sim.read(close_frame(1000)));
        sim.pass(Duration::ZERO);
        let expected = [
            (0, Close(Some(1000))),
            (0, CloseFor(1000)),
            (0, Ended(End::Finished)),
        ];
        assert_eq!(sim.seen(), expected);
    }

    #[test]
    fn frame_of_ours_is_not_taken_for_sent_before_somebody_has_looked() {
        let mut sim = Sim::new(SocketConfig {
            close_timeout: Duration::ZERO,
            ..patient()
        });
        assert!(sim.read(close_frame(1000)));
        let action = sim.protocol.handle_timeout(sim.now);
        assert!(matches!(action, Some(Action::Close(1000))), "{action:?}");
        let action = sim.protocol.handle_timeout(sim.now);
        assert!(
            matches!(action, Some(Action::End(End::Reset))),
            "{action:?}"
        );
    }

    #[test]
    fn a_half_closed_peer_still_gets_what_its_owner_sends_after_its_last_event() {
        let mut sim = Sim::new(patient());
        assert!(sim.read(close_frame(1000)));
        sim.eof();
        assert!(!sim.read(text()), "there is nothing to read any more");
        sim.stall();
        sim.close();
        sim.pass(100 * MS);
        sim.flow();
        let expected = [(0, Close(Some(1000))), (100, Ended(End::Finished))];
        assert_eq!(sim.seen(), expected);
    }

    #[test]
    fn a_peer_that_goes_without_a_close_frame_is_lost() {
        let mut sim = Sim::new(patient());
        sim.eof();
        assert_eq!(sim.seen(), [(0, Closed), (0, Ended(End::Gone))]);
    }
}

mod stall {
    use super::*;

    #[test]
    fn ends_with_1013_after_send_timeout() {
        let mut sim = Sim::new(patient());
        sim.pass(10 * MS);
        sim.stall();
        sim.pass(29_999 * MS);
        // What the peer sends and what the owner sends is no excuse.
        assert!(sim.read(text()));
        sim.send();
        assert_eq!(sim.seen(), [(30_009, Message(2))]);
        sim.pass(MS);
        assert_eq!(sim.seen(), [(30_010, Error(1013, "slow_client"))]);
        sim.close();
        sim.pass(60_000 * MS);
        assert_eq!(sim.seen(), [(35_010, Ended(End::Reset))]);
    }

    #[test]
    fn counts_anew_after_the_peer_has_taken_something() {
        let mut sim = Sim::new(patient());
        for _ in 0..3 {
            sim.stall();
            sim.pass(29_999 * MS);
            sim.flow();
        }
        sim.pass(60_000 * MS);
        assert_eq!(sim.seen(), []);
    }
}

mod credit {
    use super::*;

    /// The owner has a batch for each read until it may have no more.
    fn paused(config: SocketConfig) -> Sim {
        let mut sim = Sim::new(config);
        for _ in 0..8 {
            assert!(sim.read(text()));
        }
        sim.seen();
        assert!(!sim.read(text()), "nobody has answered");
        sim
    }

    #[test]
    fn used_up_pauses_reading_which_is_told_at_intervals_that_double() {
        let mut sim = paused(patient());
        sim.pass(8_000 * MS);
        let expected = [250, 500, 1_000, 2_000, 4_000, 8_000].map(|ms| (ms, Paused(9)));
        assert_eq!(sim.seen(), expected);
        assert!(!sim.read(text()));
    }

    #[test]
    fn returns_with_each_answer() {
        let mut sim = paused(patient());
        for n in 0..20 {
            sim.pass(249 * MS);
            sim.answer();
            assert!(sim.read(text()), "answer {n}");
            assert!(!sim.read(text()));
        }
        assert!(sim.seen().iter().all(|(_, seen)| *seen == Message(2)));
    }

    #[test]
    fn used_up_stops_the_time_that_the_peer_may_be_silent() {
        let mut sim = paused(SocketConfig {
            timeout: Some(2_000 * MS),
            ..pinging()
        });
        sim.pass(7_000 * MS);
        let seen = sim.seen();
        assert!(
            seen.iter().all(|(_, seen)| matches!(seen, Paused(_))),
            "{seen:?}"
        );
        sim.answer();
        sim.pass(1_300 * MS);
        assert_eq!(sim.seen(), [(8_000, Pinged), (8_300, Timeout)]);
    }

    #[test]
    fn is_not_needed_for_what_the_owner_does_not_hear() {
        let mut sim = Sim::new(patient());
        for _ in 0..100 {
            assert!(sim.read(frame(0x89, b"")));
        }
        sim.seen();
        // After its end, neither.
        let mut sim = paused(patient());
        sim.close();
        for _ in 0..100 {
            assert!(sim.read(text()));
        }
        assert!(sim.read(close_frame(1000)));
        assert_eq!(sim.seen(), [(0, Ended(End::Finished))]);
    }
}

mod flood {
    use super::*;

    #[test]
    fn of_control_frames_rests_a_millisecond_after_each_read_and_loses_nothing() {
        let mut sim = Sim::new(patient());
        for n in 0..100 {
            assert!(sim.read(frame(0x89, b"").repeat(129)));
            assert_eq!(sim.seen(), [(n, Pongs(258))]);
            assert!(!sim.read(text()));
            sim.pass(Duration::from_micros(999));
            assert!(!sim.read(text()));
            sim.pass(Duration::from_micros(1));
        }
        assert!(sim.read([frame(0x8a, b"").repeat(128), text()].concat()));
        assert_eq!(sim.seen(), [(100, Message(2))]);
        assert!(sim.read(text()), "so many are no flood");
    }

    #[test]
    fn is_read_on_when_its_time_has_come() {
        let mut sim = Sim::new(patient());
        assert!(sim.read(frame(0x8a, b"").repeat(129)));
        let due = sim.now + MS;
        assert_eq!(sim.protocol.next_timeout(), Some(due));
        let action = sim.protocol.handle_timeout(due);
        assert!(matches!(action, Some(Action::Read)), "{action:?}");
        assert_eq!(sim.protocol.next_timeout(), None);
    }

    #[test]
    fn is_read_on_by_whoever_looks_late_enough() {
        let mut sim = Sim::new(patient());
        assert!(sim.read(frame(0x8a, b"").repeat(129)));
        sim.now += MS;
        assert!(sim.read(text()));
        assert_eq!(sim.protocol.next_timeout(), None);
    }

    #[test]
    fn of_messages_is_read_in_smaller_pieces_but_does_not_rest() {
        let mut sim = Sim::new(patient());
        assert_eq!(sim.protocol.read_size(), READ_SIZE);
        assert!(sim.read(text().repeat(129)));
        assert_eq!(sim.protocol.read_size(), CROWDED_READ_SIZE);
        assert!(sim.read(text()));
        assert_eq!(sim.protocol.read_size(), READ_SIZE);
    }

    #[test]
    fn does_not_put_off_what_is_due() {
        let mut sim = Sim::new(SocketConfig {
            max_lifetime: Some(10 * MS),
            ..patient()
        });
        for _ in 0..10 {
            assert!(sim.read(frame(0x8a, b"").repeat(129)));
            sim.pass(MS);
        }
        assert_eq!(sim.seen(), [(10, Lifetime)]);
    }
}
