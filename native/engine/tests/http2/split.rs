//! Wherever the bytes are cut, and however little of them is taken out at once: the same passes.

use proptest::prelude::*;

use crate::client::*;
use crate::judge::*;

/// What makes up a stream of bytes that is mostly right.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let block = prop_oneof![
        // Static fields, those of the table, and a few that are literal.
        prop::collection::vec(
            prop::sample::select(vec![0x82, 0x84, 0x86, 0xbe, 0xbf, 0x90]),
            0..9
        ),
        Just(b"\x82\x84\x86\x41\x01a\x40\x01x\x01y".to_vec()),
        Just(b"\x82\x84\x86\x41\x01a\x40\x01X\x01y".to_vec()),
        Just(b"\x82\x84\x86\x41\x82\x1f\xff".to_vec()),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    let id = prop::sample::select(vec![1, 3, 5, 7, 9, 11, 2, 0]);
    let flags = prop::sample::select(vec![0, END_STREAM]);
    let priority = prop::option::weighted(0.2, prop::sample::select(vec![0, 1, 3, 5]));
    prop_oneof![
        6 => (id.clone(), block, flags.clone(), 1..4_usize, priority).prop_map(
            |(id, block, flags, parts, priority)| headers(id, &block, flags, parts, priority)
        ),
        4 => (id.clone(), flags, prop::collection::vec(any::<u8>(), 0..3000))
            .prop_map(|(id, flags, data)| frame(DATA, flags, id, &data)),
        1 => id.clone().prop_map(|id| frame(RST_STREAM, 0, id, &[0, 0, 0, 8])),
        1 => Just(frame(6, 0, 0, &[0; 8])),
        1 => Just(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, 0])),
        1 => (any::<u8>(), any::<u8>(), id, prop::collection::vec(any::<u8>(), 0..12))
            .prop_map(|(kind, flags, id, payload)| frame(kind, flags, id, &payload)),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(piece(), 0..12)
        .prop_map(|pieces| [PREFACE, &frame(SETTINGS, 0, 0, &[]), &pieces.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn bytes_pass_the_same_however_they_are_cut(
        bytes in bytes(),
        sizes in prop::collection::vec(1..600_usize, 1..5),
        spaces in prop::collection::vec(1..600_usize, 1..5),
    ) {
        let whole = filter(&bytes, &[bytes.len()], &[1 << 20]);
        prop_assert_eq!(&filter(&bytes, &sizes, &spaces), &whole);
        prop_assert_eq!(&filter(&bytes, &[1], &[1]), &whole);
    }

    #[test]
    fn what_has_passed_passes_again_as_it_is(bytes in bytes()) {
        let (passed, _) = filter(&bytes, &[bytes.len()], &[1 << 20]);
        let again = filter(&passed, &[bytes.len()], &[1 << 20]);
        prop_assert_eq!(again, (passed, None));
    }
}
