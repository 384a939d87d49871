use std::time::{Duration, Instant};

use ferrosock_engine::buffer::VecBuffer;
use ferrosock_engine::ws::frame::Error;
use ferrosock_engine::ws::message::{Limits, Reader};

use crate::cut::fill_tail;
use crate::support::*;

const MIB: usize = 1 << 20;

/// Reads as a whole and byte by byte; both have to agree.
fn read(limits: Limits, bytes: &[u8]) -> Outcome {
    let outcome = read_whole(limits, bytes);
    assert_eq!(
        read_cut(limits, bytes, &[1], false),
        outcome,
        "byte by byte"
    );
    outcome
}

fn events(bytes: &[u8]) -> Vec<Event> {
    let (events, error) = read(NO_LIMITS, bytes);
    assert_eq!(error, None);
    events
}

fn error(limits: Limits, bytes: &[u8]) -> Option<Error> {
    let (events, error) = read(limits, bytes);
    assert_eq!(events, []);
    error
}

#[test]
fn the_examples_of_rfc6455_5_7() {
    // A single-frame masked text message.
    let hello = [
        0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    assert_eq!(events(&hello), [text("Hello")]);

    // A masked pong.
    let pong = [
        0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    assert_eq!(events(&pong), [Event::Pong(b"Hello".into())]);

    // What the RFC shows unmasked comes from servers, and is an error from a client.
    for server in [
        &b"\x81\x05Hello"[..],
        b"\x01\x03Hel\x80\x02lo",
        b"\x89\x05Hello",
    ] {
        assert_eq!(error(NO_LIMITS, server), Some(Error::UnmaskedFrame));
    }

    // The same messages as a client has to send them.
    let fragmented = [frame(TEXT, b"Hel"), frame(FIN | CONTINUATION, b"lo")].concat();
    assert_eq!(events(&fragmented), [text("Hello")]);
    let ping = frame(FIN | PING, b"Hello");
    assert_eq!(events(&ping), [Event::Ping(b"Hello".into())]);

    // 256 bytes and 64 KiB of binary: the other two forms of the length.
    for (len, start) in [
        (256, &[0x82, 0xfe, 0x01, 0x00][..]),
        (65_536, &[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let bytes = frame(FIN | BINARY, &payload);
        assert!(bytes.starts_with(start));
        assert_eq!(events(&bytes), [Event::Binary(payload)]);
    }
}

#[test]
fn empty_frames_and_empty_fragments_are_legal() {
    let bytes = [
        frame(FIN | TEXT, b""),
        frame(FIN | BINARY, b""),
        frame(FIN | PING, b""),
        frame(TEXT, b""),
        frame(CONTINUATION, b""),
        frame(CONTINUATION, b"x"),
        frame(FIN | CONTINUATION, b""),
        frame(BINARY, b""),
        frame(FIN | CONTINUATION, b""),
    ]
    .concat();
    assert_eq!(
        events(&bytes),
        [
            text(""),
            Event::Binary(vec![]),
            Event::Ping(vec![]),
            text("x"),
            Event::Binary(vec![]),
        ]
    );
}

#[test]
fn control_frames_between_fragments_come_in_their_place() {
    let bytes = [
        frame(FIN | PONG, b"0"),
        frame(TEXT, b"a"),
        frame(FIN | PING, b"1"),
        frame(CONTINUATION, b"b"),
        frame(FIN | PONG, b"2"),
        frame(FIN | CONTINUATION, b"c"),
        frame(BINARY, b"d"),
        close(1000, b"bye"),
    ]
    .concat();
    assert_eq!(
        events(&bytes),
        [
            Event::Pong(b"0".into()),
            Event::Ping(b"1".into()),
            Event::Pong(b"2".into()),
            text("abc"),
            Event::Close(Some(1000), b"bye".into()),
        ]
    );
}

#[test]
fn control_frames_carry_up_to_125_bytes() {
    let payload = [b'p'; 125];
    assert_eq!(
        events(&frame(FIN | PING, &payload)),
        [Event::Ping(payload.into())]
    );
    let reason = [b'r'; 123];
    assert_eq!(
        events(&close(4999, &reason)),
        [Event::Close(Some(4999), reason.into())]
    );
    assert_eq!(
        error(NO_LIMITS, &frame(FIN | PING, &[0; 126])),
        Some(Error::ControlFrameTooBig)
    );
}

/// Each error with the close code and the atom that it becomes, and the bytes that raise it.
#[test]
fn every_error_is_raised_named_and_final() {
    let table: &[(Error, u16, &str, &[u8])] = &[
        (Error::ReservedBits, 1002, "reserved_bits", &[0xc1]),
        (Error::ReservedBits, 1002, "reserved_bits", &[0xa2]),
        (Error::ReservedBits, 1002, "reserved_bits", &[0x99]),
        (Error::ReservedOpcode, 1002, "reserved_opcode", &[0x83]),
        (Error::ReservedOpcode, 1002, "reserved_opcode", &[0x0f]),
        (
            Error::InvalidLength,
            1002,
            "invalid_length",
            &[0x82, 0xff, 0x80],
        ),
        (Error::UnmaskedFrame, 1002, "unmasked_frame", &[0x82, 0x7f]),
        (
            Error::ControlFrameTooBig,
            1002,
            "control_frame_too_big",
            &[0x88, 0xfe],
        ),
        (
            Error::FragmentedControlFrame,
            1002,
            "fragmented_control_frame",
            &[0x09],
        ),
        (
            Error::UnexpectedContinuation,
            1002,
            "unexpected_continuation",
            &frame(FIN | CONTINUATION, b"x"),
        ),
        (
            Error::UnexpectedContinuation,
            1002,
            "unexpected_continuation",
            &[
                frame(TEXT, b"x"),
                frame(FIN | CONTINUATION, b"y"),
                frame(CONTINUATION, b"z"),
            ]
            .concat(),
        ),
        (
            Error::ExpectedContinuation,
            1002,
            "expected_continuation",
            &[frame(BINARY, b"x"), frame(FIN | BINARY, b"y")].concat(),
        ),
        (
            Error::ExpectedContinuation,
            1002,
            "expected_continuation",
            &[frame(BINARY, b""), header(TEXT, 1000)].concat(),
        ),
        (
            Error::InvalidUtf8,
            1007,
            "invalid_utf8",
            &frame(FIN | TEXT, b"\xff"),
        ),
        (
            Error::InvalidUtf8,
            1007,
            "invalid_utf8",
            &close(1000, b"\xff"),
        ),
        (
            Error::TooBig,
            1009,
            "too_big",
            &header(FIN | BINARY, 1_000_001),
        ),
        (
            Error::TooManyFragments,
            1009,
            "too_many_fragments",
            &frame(CONTINUATION, b"").repeat(1001),
        ),
        (
            Error::InvalidCloseFrame,
            1002,
            "invalid_close_frame",
            &frame(FIN | CLOSE, b"\x03"),
        ),
        (
            Error::InvalidCloseCode,
            1002,
            "invalid_close_code",
            &close(1005, b""),
        ),
    ];
    let limits = Limits {
        max_frame_size: 1_000_000,
        max_fragments: 1000,
        ..NO_LIMITS
    };
    for (expected, code, name, bytes) in table {
        let mut input = vec![];
        let mut before = vec![];
        if *expected == Error::TooManyFragments {
            input.extend(frame(TEXT, b""));
        } else {
            // What came before an error is delivered, and text that is complete is not held back.
            input.extend(frame(FIN | TEXT, b"before"));
            before.push(text("before"));
            if *name == "unexpected_continuation" && bytes[0] == TEXT {
                before.push(text("xy"));
            }
        }
        input.extend(*bytes);
        input.extend(frame(FIN | TEXT, b"after"));

        assert_eq!(read(limits, &input), (before, Some(*expected)), "{name}");
        assert_eq!((expected.close_code(), expected.name()), (*code, *name));
    }
}

#[test]
fn nothing_is_read_or_kept_after_an_error_or_a_close() {
    for end in [&[0xff][..], &frame(FIN | CLOSE, b"")] {
        let mut reader = Reader::<Metered>::new(NO_LIMITS);
        let mut events = Events::default();
        reader
            .feed(&mut frame(TEXT, &[b'a'; 9000]), &mut events)
            .unwrap();
        assert_eq!(Metered::usage().live, 1);
        let result = reader.feed(&mut end.to_vec(), &mut events);
        assert_eq!(result.is_err(), end == [0xff]);
        assert_eq!(Metered::usage().live, 0);
        assert_reads_nothing(reader, events);
    }
}

#[test]
fn nothing_is_read_or_kept_after_an_error_in_the_tail() {
    let mut reader = Reader::<Metered>::new(NO_LIMITS);
    let mut events = Events::default();
    reader
        .feed(&mut header(FIN | TEXT, 10_000), &mut events)
        .unwrap();
    let [a, wrong] = masked(b"a\xff")[..] else {
        unreachable!("two bytes");
    };
    assert_eq!(fill_tail(&mut reader, &[a]), Some(1));
    assert_eq!(reader.tail_filled(1, &mut events), Ok(()));
    assert_eq!(fill_tail(&mut reader, &[wrong]), Some(1));
    let result = reader.tail_filled(1, &mut events);
    assert_eq!(result, Err(Error::InvalidUtf8));
    assert_eq!(Metered::usage().live, 0);
    assert_reads_nothing(reader, events);
}

fn assert_reads_nothing(mut reader: Reader<Metered>, mut events: Events) {
    let seen = events.all.len();
    assert_eq!(tail_len(&mut reader), None);
    assert_eq!(reader.tail_filled(0, &mut events), Ok(()));
    for mut late in [frame(FIN | CONTINUATION, b"late"), vec![0xff], vec![]] {
        assert_eq!(reader.feed(&mut late, &mut events), Ok(()));
    }
    assert_eq!(events.all.len(), seen);
}

#[test]
fn close_frames_carry_nothing_or_a_code_and_a_reason() {
    assert_eq!(
        events(&frame(FIN | CLOSE, b"")),
        [Event::Close(None, vec![])]
    );
    assert_eq!(
        events(&close(1001, "tschüß".as_bytes())),
        [Event::Close(Some(1001), "tschüß".into())]
    );
    assert_eq!(
        error(NO_LIMITS, &frame(FIN | CLOSE, b"\x03")),
        Some(Error::InvalidCloseFrame)
    );
    assert_eq!(
        error(NO_LIMITS, &close(1000, b"\xc3")),
        Some(Error::InvalidUtf8)
    );
}

#[test]
fn close_codes_of_the_registry_pass_and_no_others() {
    let valid = |code| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    for code in 0..=u16::MAX {
        let outcome = read_whole(NO_LIMITS, &close(code, b""));
        if valid(code) {
            assert_eq!(outcome, (vec![Event::Close(Some(code), vec![])], None));
        } else {
            assert_eq!(outcome, (vec![], Some(Error::InvalidCloseCode)), "{code}");
        }
    }
}

#[test]
fn sizes_at_and_past_the_limit() {
    let limits = Limits {
        max_frame_size: 100,
        ..NO_LIMITS
    };
    let whole = |len| frame(FIN | BINARY, &vec![0; len]);
    let two = |first, second| {
        [
            frame(BINARY, &vec![0; first]),
            frame(FIN | CONTINUATION, &vec![0; second]),
        ]
        .concat()
    };
    let delivered = |len| (vec![Event::Binary(vec![0; len])], None);
    let refused = (vec![], Some(Error::TooBig));

    for (bytes, outcome) in [
        (whole(99), delivered(99)),
        (whole(100), delivered(100)),
        (whole(101), refused.clone()),
        (two(0, 100), delivered(100)),
        (two(100, 0), delivered(100)),
        (two(50, 50), delivered(100)),
        (two(50, 51), refused.clone()),
        (two(100, 1), refused.clone()),
        (two(1, 100), refused.clone()),
        (two(101, 0), refused.clone()),
        (frame(FIN | PING, &[0; 101]), refused.clone()),
    ] {
        assert_eq!(read(limits, &bytes), outcome);
    }
    // Joined sizes are per message.
    let (events, error) = read(limits, &two(50, 50).repeat(3));
    assert_eq!((events.len(), error), (3, None));
}

#[test]
fn an_oversized_frame_is_refused_on_its_header() {
    let limits = Limits {
        max_frame_size: 5000,
        ..NO_LIMITS
    };
    let table = [
        (vec![], header(FIN | BINARY, 5001)),
        (vec![], header(TEXT, 5001)),
        (frame(BINARY, &[0; 4000]), header(CONTINUATION, 1001)),
        (
            frame(BINARY, &[0; 4000]),
            header(CONTINUATION, u64::MAX >> 1),
        ),
    ];
    for (mut start, mut oversized) in table {
        let mut reader = Reader::<Metered>::new(limits);
        let mut events = Events::default();
        reader.feed(&mut start, &mut events).unwrap();
        let before = Metered::usage().allocations;
        let result = reader.feed(&mut oversized, &mut events);
        assert_eq!(result, Err(Error::TooBig));
        assert_eq!(Metered::usage().allocations, before);
    }
}

#[test]
fn fragments_at_and_past_the_limit() {
    let message = |fragments: usize| {
        [
            frame(TEXT, b"a"),
            frame(CONTINUATION, b"").repeat(fragments - 2),
            frame(FIN | PING, b""),
            frame(FIN | CONTINUATION, b"b"),
        ]
        .concat()
    };
    let limits = Limits {
        max_fragments: 4,
        ..NO_LIMITS
    };
    let ping = Event::Ping(vec![]);
    let delivered = (vec![ping.clone(), text("ab")], None);
    assert_eq!(read(limits, &message(3)), delivered);
    assert_eq!(read(limits, &message(4)), delivered);
    assert_eq!(
        read(limits, &message(5)),
        (vec![ping], Some(Error::TooManyFragments))
    );
    // They are counted per message.
    let (events, error) = read(limits, &message(4).repeat(3));
    assert_eq!((events.len(), error), (6, None));
}

#[test]
fn a_code_point_may_be_split_over_fragments_and_reads() {
    let code_point = "\u{1f4a9}".as_bytes();
    let splits: &[&[&[u8]]] = &[
        &[&code_point[..1], &code_point[1..]],
        &[&code_point[..2], &code_point[2..]],
        &[&code_point[..3], &code_point[3..]],
        &[&code_point[..1], &code_point[1..2], &code_point[2..]],
        &[&code_point[..2], b"", &code_point[2..]],
        &[
            &code_point[..1],
            &code_point[1..2],
            &code_point[2..3],
            &code_point[3..],
        ],
    ];
    for parts in splits {
        let mut bytes = frame(TEXT, b"");
        for part in *parts {
            bytes.extend(frame(CONTINUATION, part));
        }
        bytes.extend(frame(FIN | CONTINUATION, b""));
        assert_eq!(events(&bytes), [text("\u{1f4a9}")]);
    }
}

#[test]
fn text_may_not_end_inside_a_code_point() {
    let partial = &"\u{1f4a9}".as_bytes()[..3];
    for bytes in [
        frame(FIN | TEXT, partial),
        [frame(TEXT, partial), frame(FIN | CONTINUATION, b"")].concat(),
        [frame(TEXT, b"a"), frame(FIN | CONTINUATION, partial)].concat(),
    ] {
        assert_eq!(error(NO_LIMITS, &bytes), Some(Error::InvalidUtf8));
    }
    // Binary may.
    let binary = [frame(BINARY, partial), frame(FIN | CONTINUATION, b"\xff")].concat();
    assert_eq!(
        events(&binary),
        [Event::Binary([partial, b"\xff"].concat())]
    );
}

#[test]
fn bad_text_is_refused_at_its_first_bad_byte() {
    // Autobahn 6.4: the message has not ended, nor even the frame.
    let good = "κόσμε".as_bytes();
    let payload = [good, b"\xf4\x90\x80\x80", b"edited"].concat();
    let bad = good.len() + 1;

    let in_a_frame = frame(FIN | TEXT, &payload);
    let in_a_fragment = frame(TEXT, &payload);
    let header_len = 6;
    for bytes in [in_a_frame, in_a_fragment] {
        let until = |len| error(NO_LIMITS, &bytes[..header_len + len]);
        assert_eq!(until(bad), None);
        assert_eq!(until(bad + 1), Some(Error::InvalidUtf8));
    }
    let over_two = [frame(TEXT, &payload[..bad]), header(CONTINUATION, 50)].concat();
    assert_eq!(error(NO_LIMITS, &over_two), None);
    let second = masked(&payload[bad..]);
    assert_eq!(
        error(NO_LIMITS, &[&over_two, &second[..1]].concat()),
        Some(Error::InvalidUtf8)
    );
}

#[test]
fn utf8_is_left_alone_when_told_so() {
    let limits = Limits {
        validate_utf8: false,
        ..NO_LIMITS
    };
    let bytes = [
        frame(FIN | TEXT, b"\xff"),
        frame(TEXT, b"\xc3"),
        frame(FIN | CONTINUATION, b"\xff"),
        close(1000, b"\xff"),
    ]
    .concat();
    let (events, error) = read(limits, &bytes);
    assert_eq!(error, None);
    assert_eq!(
        events,
        [
            Event::Text(b"\xff".into()),
            Event::Text(b"\xc3\xff".into()),
            Event::Close(Some(1000), b"\xff".into()),
        ]
    );
}

#[test]
fn a_whole_message_is_lent_not_copied() {
    let mut reader = Reader::<Metered>::new(NO_LIMITS);
    let mut events = Events::default();
    let mut input = [
        frame(FIN | TEXT, b"one"),
        frame(FIN | PING, b""),
        frame(FIN | BINARY, &[2; 70_000]),
    ]
    .concat();
    reader.feed(&mut input, &mut events).unwrap();
    assert_eq!((events.lent, events.all.len()), (2, 3));

    // Also when only its header came earlier.
    let bytes = frame(FIN | TEXT, b"three");
    for part in bytes.chunks(3) {
        reader.feed(&mut part.to_vec(), &mut events).unwrap();
    }
    let mut input = frame(FIN | TEXT, b"four");
    let (start, rest) = input.split_at_mut(5);
    reader.feed(start, &mut events).unwrap();
    let before = Metered::usage().allocations;
    reader.feed(rest, &mut events).unwrap();
    assert_eq!(events.lent, 3);
    assert_eq!(Metered::usage().allocations, before);
    assert_eq!(events.all[3..], [text("three"), text("four")]);
}

#[test]
fn an_idle_reader_is_small() {
    assert!(size_of::<Reader<VecBuffer>>() <= 100 + size_of::<Limits>());
}

#[test]
fn a_large_frame_is_read_straight_into_its_final_buffer() {
    let message = "日本".repeat(50_000);
    let bytes = frame(FIN | TEXT, message.as_bytes());
    let (start, mut rest) = bytes.split_at(1000);

    let mut reader = Reader::<Metered>::new(NO_LIMITS);
    let mut events = Events::default();
    assert_eq!(tail_len(&mut reader), None);
    reader.feed(&mut start.to_vec(), &mut events).unwrap();
    assert_eq!(tail_len(&mut reader), Some(rest.len()));

    for n in [0, 1, 4097, 7777] {
        let (part, after) = rest.split_at(n);
        assert_eq!(fill_tail(&mut reader, part), Some(n));
        reader.tail_filled(n, &mut events).unwrap();
        rest = after;
    }
    // Its end is too short for a read of its own, which may bring the next frame as well.
    let n = rest.len() - 4096;
    assert_eq!(fill_tail(&mut reader, &rest[..n]), Some(n));
    reader.tail_filled(n, &mut events).unwrap();
    assert_eq!(tail_len(&mut reader), Some(4096));
    assert_eq!(fill_tail(&mut reader, &rest[n..=n]), Some(1));
    reader.tail_filled(1, &mut events).unwrap();
    assert_eq!(tail_len(&mut reader), None);
    let mut input = [&rest[n + 1..], &frame(FIN | TEXT, b"next")].concat();
    reader.feed(&mut input, &mut events).unwrap();

    assert_eq!(events.all, [text(&message), text("next")]);
    let usage = Usage {
        allocations: 1,
        total: message.len(),
        live: 0,
    };
    assert_eq!(Metered::usage(), usage);
}

#[test]
#[should_panic(expected = "filled past the frame's end")]
fn the_tail_cannot_be_filled_past_its_frame() {
    let mut reader = Reader::<VecBuffer>::new(NO_LIMITS);
    let mut events = Events::default();
    let mut input = header(BINARY, 5000);
    reader.feed(&mut input, &mut events).unwrap();
    reader.tail_filled(5001, &mut events).ok();
}

#[test]
fn a_header_that_lies_does_not_allocate_much() {
    for first in [FIN | BINARY, TEXT] {
        let before = Metered::usage().total;
        let mut reader = Reader::<Metered>::new(NO_LIMITS);
        let mut events = Events::default();
        let mut input = header(first, 1 << 62);
        reader.feed(&mut input, &mut events).unwrap();
        assert_eq!(Metered::usage().total - before, MIB);

        // From there on it pays for what it gets.
        for sent in 1..=320 {
            fill_tail(&mut reader, &masked(&[b'a'; 32 * 1024])).unwrap();
            reader.tail_filled(32 * 1024, &mut events).unwrap();
            let allocated = Metered::usage().total - before;
            assert!(allocated <= 4 * sent * 32 * 1024 + MIB);
        }
        assert_eq!(events.all, []);
    }
}

#[test]
fn a_long_message_ends_in_a_buffer_of_its_length() {
    const LEN: usize = 5 * MIB + 3;
    let payload = vec![7; LEN];
    let mut reader = Reader::<Metered>::new(NO_LIMITS);
    let mut events = Events::default();
    for part in frame(FIN | BINARY, &payload).chunks_mut(100_000) {
        reader.feed(part, &mut events).unwrap();
    }
    assert!(events.all == [Event::Binary(payload)]);
    let usage = Usage {
        allocations: 4,
        total: (1 + 2 + 4) * MIB + LEN,
        live: 0,
    };
    assert_eq!(Metered::usage(), usage);
}

#[test]
fn the_tail_is_never_a_sliver() {
    let mut reader = Reader::<VecBuffer>::new(NO_LIMITS);
    let mut events = Events::default();
    let mut input = header(FIN | BINARY, 10 * MIB as u64);
    reader.feed(&mut input, &mut events).unwrap();
    assert_eq!(fill_tail(&mut reader, &[0; MIB - 10]), Some(MIB - 10));
    reader.tail_filled(MIB - 10, &mut events).unwrap();
    let len = tail_len(&mut reader);
    assert_eq!(len, Some(MIB + 10), "it grows before it is full");
}

#[test]
fn a_million_fragments_take_linear_time() {
    const FRAGMENTS: usize = 1_000_000;
    let mut bytes = frame(TEXT, b"a");
    bytes.extend(frame(CONTINUATION, b"a").repeat(FRAGMENTS - 2));
    bytes.extend(frame(FIN | CONTINUATION, b"a"));

    let start = Instant::now();
    let mut reader = Reader::<Metered>::new(NO_LIMITS);
    let mut events = Events::default();
    for part in bytes.chunks_mut(1000) {
        reader.feed(part, &mut events).unwrap();
    }
    assert!(events.all == [Event::Text(vec![b'a'; FRAGMENTS])]);
    assert!(Metered::usage().total < 4 * FRAGMENTS);
    // Well under a second; quadratic copying would take minutes.
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn the_spare_bytes_of_a_buffer_are_not_part_of_the_message() {
    let bytes = [frame(BINARY, &[1; 3]), frame(CONTINUATION, &[2; 4])].concat();
    let mut reader = Reader::<VecBuffer>::new(NO_LIMITS);
    let mut events = Events::default();
    reader.feed(&mut bytes.clone(), &mut events).unwrap();
    reader
        .feed(&mut frame(CONTINUATION, &[3; 2]), &mut events)
        .unwrap();
    reader
        .feed(&mut frame(FIN | CONTINUATION, b""), &mut events)
        .unwrap();
    assert_eq!(events.all, [Event::Binary(vec![1, 1, 1, 2, 2, 2, 2, 3, 3])]);
}
