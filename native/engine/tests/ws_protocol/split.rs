//! Wherever the bytes are cut, and whichever way they are taken in: the same events, the same error.

use ferrosock_engine::buffer::VecBuffer;
use ferrosock_engine::config::DeflateConfig;
use ferrosock_engine::ws::extension::Agreed;
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

/// What a stream is made of.
#[derive(Debug, Clone)]
enum Piece {
    Bytes(Vec<u8>),
    Message(Message),
}

/// One message in up to eight fragments, cut anywhere, with control frames in between.
#[derive(Debug, Clone)]
struct Message {
    opcode: u8,
    payload: Vec<u8>,
    compressed: bool,
    cuts: Vec<prop::sample::Index>,
    controls: Vec<Option<Vec<u8>>>,
}

impl Message {
    fn encode(self, client: &mut Client) -> Vec<u8> {
        let (opcode, payload) = match self.compressed {
            true => (RSV1 | self.opcode, client.payload(&self.payload)),
            false => (self.opcode, self.payload),
        };
        let cuts = self.cuts.iter().map(|cut| cut.index(payload.len() + 1));
        let mut cuts: Vec<usize> = cuts.collect();
        cuts.extend([0, payload.len()]);
        cuts.sort();
        let last = cuts.len() - 2;
        let parts = cuts.windows(2).zip(self.controls).enumerate();
        let frames = parts.map(|(i, (cut, control))| {
            let opcode = if i == 0 { opcode } else { CONTINUATION };
            let fin = if i == last { FIN } else { 0 };
            let part = frame(fin | opcode, &payload[cut[0]..cut[1]]);
            // Not after the last: it would be the same as a control frame of its own.
            [part, control.filter(|_| i < last).unwrap_or_default()].concat()
        });
        frames.collect::<Vec<_>>().concat()
    }
}

fn message() -> impl Strategy<Value = Message> {
    let opcode = prop::sample::select(vec![TEXT, BINARY]);
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..8);
    let controls = prop::collection::vec(prop::option::weighted(0.2, control()), 8);
    (opcode, payload(), any::<bool>(), cuts, controls).prop_map(
        |(opcode, payload, compressed, cuts, controls)| Message {
            opcode,
            payload,
            compressed,
            cuts,
            controls,
        },
    )
}

/// Any first byte, with a payload that may or may not suit it.
fn odd() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), payload()).prop_map(|(first, payload)| frame(first, &payload))
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => message().prop_map(Piece::Message),
        3 => control().prop_map(Piece::Bytes),
        1 => odd().prop_map(Piece::Bytes),
        1 => (any::<u16>(), "\\PC{0,20}")
            .prop_map(|(code, reason)| Piece::Bytes(close(code, reason.as_bytes()))),
    ];
    let flip = prop::option::weighted(0.3, (any::<prop::sample::Index>(), 0..8u8));
    let pieces = prop::collection::vec(piece, 1..8);
    (pieces, any::<bool>(), flip).prop_map(|(pieces, context_takeover, flip)| {
        let mut client = Client::new(12, context_takeover);
        let pieces = pieces.into_iter().map(|piece| match piece {
            Piece::Bytes(bytes) => bytes,
            Piece::Message(message) => message.encode(&mut client),
        });
        let mut bytes = pieces.collect::<Vec<_>>().concat();
        if let Some((at, bit)) = flip {
            *at.get_mut(&mut bytes) ^= 1 << bit;
        }
        bytes
    })
}

/// Mostly as the stream needs it, but also with less: any bytes may come.
fn deflate() -> impl Strategy<Value = Option<Agreed>> {
    let agree = |parameters| Some(agree(parameters, DeflateConfig::default()));
    prop_oneof![
        6 => Just(agree("; client_max_window_bits=12")),
        1 => Just(agree("; client_no_context_takeover")),
        1 => Just(None),
    ]
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
        deflate in deflate(),
        sizes in sizes(),
        use_tail in any::<bool>(),
    ) {
        for limits in [LIMITS, NO_LIMITS] {
            let outcome = feed_whole(reader(limits, deflate), &bytes);
            let cut = feed_cut::<VecBuffer>(reader(limits, deflate), &bytes, &sizes, use_tail);
            // Not prop_assert_eq: it would print tens of kilobytes at every step of shrinking.
            prop_assert!(cut == outcome);
        }
    }

    #[test]
    fn any_bytes_are_survived(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        deflate in deflate(),
        sizes in sizes(),
    ) {
        // Past the first check, which would refuse most of them.
        if let Some(first) = bytes.first_mut() {
            *first &= if deflate.is_some() { 0xcf } else { 0x8f };
        }
        let outcome = feed_whole(reader(NO_LIMITS, deflate), &bytes);
        let cut = feed_cut::<VecBuffer>(reader(NO_LIMITS, deflate), &bytes, &sizes, true);
        prop_assert_eq!(cut, outcome);
    }

    #[test]
    fn any_compressed_payload_is_survived(
        payload in prop::collection::vec(any::<u8>(), 0..200),
        sizes in sizes(),
    ) {
        let deflate = Some(agree("", DeflateConfig::default()));
        let bytes = frame(FIN | RSV1 | TEXT, &payload).repeat(2);
        let outcome = feed_whole(reader(LIMITS, deflate), &bytes);
        let cut = feed_cut::<VecBuffer>(reader(LIMITS, deflate), &bytes, &sizes, true);
        prop_assert_eq!(cut, outcome);
    }
}
