//! Wherever the bytes are cut, and whichever way they are taken in: the same events, the same error.

use ferrosock_engine::ws::message::Limits;
use proptest::prelude::*;

use crate::support::*;

const LIMITS: Limits = Limits {
    max_frame_size: 40_000,
    max_fragments: 6,
    validate_utf8: true,
};

/// Mostly text of code points of all lengths; sometimes large enough to be read by its tail.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => ".{0,60}".prop_map(String::into_bytes),
        2 => "[aé日\u{1f4a9}]{4000,6000}".prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..300),
        1 => prop::collection::vec(any::<u8>(), 4000..20_000),
    ]
}

fn control() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop::sample::select(vec![FIN | PING, FIN | PONG]);
    (opcode, prop::collection::vec(any::<u8>(), 0..=125))
        .prop_map(|(first, payload)| frame(first, &payload))
}

/// One message in up to eight fragments, cut anywhere, with control frames in between.
fn fragmented() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop::sample::select(vec![TEXT, BINARY]);
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..8);
    let controls = prop::collection::vec(prop::option::weighted(0.2, control()), 8);
    (opcode, payload(), cuts, controls).prop_map(|(opcode, payload, cuts, controls)| {
        let mut cuts: Vec<usize> = cuts
            .iter()
            .map(|cut| cut.index(payload.len() + 1))
            .collect();
        cuts.extend([0, payload.len()]);
        cuts.sort();
        let last = cuts.len() - 2;
        let parts = cuts.windows(2).zip(controls).enumerate();
        let frames = parts.map(|(i, (cut, control))| {
            let opcode = if i == 0 { opcode } else { CONTINUATION };
            let fin = if i == last { FIN } else { 0 };
            let part = frame(fin | opcode, &payload[cut[0]..cut[1]]);
            // Not after the last: it would be the same as a control frame of its own.
            [part, control.filter(|_| i < last).unwrap_or_default()].concat()
        });
        frames.collect::<Vec<_>>().concat()
    })
}

/// Any first byte, with a payload that may or may not suit it.
fn odd() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), payload()).prop_map(|(first, payload)| frame(first, &payload))
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => fragmented(),
        3 => control(),
        1 => odd(),
        1 => (any::<u16>(), "\\PC{0,20}").prop_map(|(code, reason)| close(code, reason.as_bytes())),
    ];
    let flip = prop::option::weighted(0.3, (any::<prop::sample::Index>(), 0..8u8));
    (prop::collection::vec(piece, 1..8), flip).prop_map(|(pieces, flip)| {
        let mut bytes = pieces.concat();
        if let Some((at, bit)) = flip {
            *at.get_mut(&mut bytes) ^= 1 << bit;
        }
        bytes
    })
}

/// How much the socket has ready, read for read.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![1]),
        prop::collection::vec(1..20usize, 1..20),
        prop::collection::vec(1..10_000usize, 1..20),
    ]
}

proptest! {
    #[test]
    fn cut_anywhere_the_outcome_is_the_same(
        bytes in stream(),
        sizes in sizes(),
        use_tail in any::<bool>(),
    ) {
        for limits in [LIMITS, NO_LIMITS] {
            let outcome = read_whole(limits, &bytes);
            // Not prop_assert_eq: it would print tens of kilobytes at every step of shrinking.
            prop_assert!(read_cut(limits, &bytes, &sizes, use_tail) == outcome);
        }
    }

    #[test]
    fn any_bytes_are_survived(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        sizes in sizes(),
    ) {
        // Past the first check, which would refuse most of them.
        if let Some(first) = bytes.first_mut() {
            *first &= 0x8f;
        }
        let outcome = read_whole(NO_LIMITS, &bytes);
        prop_assert_eq!(read_cut(NO_LIMITS, &bytes, &sizes, true), outcome);
    }
}
