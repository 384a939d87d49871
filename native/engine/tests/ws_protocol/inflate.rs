//! Compressed messages from the client (RFC 7692).

use ferrosock_engine::buffer::VecBuffer;
use ferrosock_engine::config::DeflateConfig;
use ferrosock_engine::ws::extension::Agreed;
use ferrosock_engine::ws::frame::Error;
use ferrosock_engine::ws::message::{Limits, Reader};

use crate::support::*;

const MIB: usize = 1 << 20;
const COMPRESSED_TEXT: u8 = FIN | RSV1 | TEXT;
const COMPRESSED_BINARY: u8 = FIN | RSV1 | BINARY;
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

fn agreed(parameters: &str) -> Option<Agreed> {
    Some(agree(parameters, DeflateConfig::default()))
}

/// Reads as a whole and byte by byte; both have to agree.
fn read(limits: Limits, parameters: &str, bytes: &[u8]) -> Outcome {
    let deflate = agreed(parameters);
    let outcome = feed_whole(reader(limits, deflate), bytes);
    let cut = feed_cut::<VecBuffer>(reader(limits, deflate), bytes, &[1], true);
    assert!(cut == outcome, "byte by byte: {:?} {:?}", cut.1, outcome.1);
    outcome
}

fn events(bytes: &[u8]) -> Vec<Event> {
    let (events, error) = read(NO_LIMITS, "", bytes);
    assert_eq!(error, None);
    events
}

fn error(limits: Limits, bytes: &[u8]) -> Option<Error> {
    let (events, error) = read(limits, "", bytes);
    assert_eq!(events, []);
    error
}

fn at_most(max_frame_size: u64) -> Limits {
    Limits {
        max_frame_size,
        ..NO_LIMITS
    }
}

/// Bytes that do not compress.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[test]
fn the_examples_of_rfc7692_7_2_3() {
    let hello = frame(COMPRESSED_TEXT, &HELLO);
    assert_eq!(events(&hello), [text("Hello")]);

    // In two fragments, of which the first alone is marked.
    let fragments = [
        frame(RSV1 | TEXT, &HELLO[..3]),
        frame(FIN | CONTINUATION, &HELLO[3..]),
    ];
    assert_eq!(events(&fragments.concat()), [text("Hello")]);

    // The second message refers to the first.
    let again = frame(COMPRESSED_TEXT, &[0xf2, 0x00, 0x11, 0x00, 0x00]);
    let both = [&hello[..], &again].concat();
    assert_eq!(events(&both), [text("Hello"), text("Hello")]);

    let not_compressed = b"\x00\x05\x00\xfa\xffHello\x00";
    assert_eq!(
        events(&frame(COMPRESSED_TEXT, not_compressed)),
        [text("Hello")]
    );
    let final_block = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    assert_eq!(
        events(&frame(COMPRESSED_TEXT, &final_block)),
        [text("Hello")]
    );
    let two_blocks = [
        0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
    ];
    assert_eq!(
        events(&frame(COMPRESSED_TEXT, &two_blocks)),
        [text("Hello")]
    );
    assert_eq!(events(&frame(COMPRESSED_TEXT, &[0x00])), [text("")]);
}

#[test]
fn compressed_and_plain_messages_mix() {
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    let bytes = [
        frame(COMPRESSED_TEXT, &HELLO),
        frame(FIN | BINARY, b"plain"),
        frame(FIN | PING, b"ping"),
        frame(TEXT, b"pl"),
        frame(FIN | CONTINUATION, b"ain"),
        frame(COMPRESSED_BINARY, &again),
        frame(COMPRESSED_TEXT, &[0x00]),
        frame(COMPRESSED_TEXT, &again),
        close(1000, b""),
    ];
    assert_eq!(
        events(&bytes.concat()),
        [
            text("Hello"),
            Event::Binary(b"plain".into()),
            Event::Ping(b"ping".into()),
            text("plain"),
            Event::Binary(b"Hello".into()),
            text(""),
            text("Hello"),
            Event::Close(Some(1000), vec![]),
        ]
    );
}

#[test]
fn a_message_may_be_cut_into_fragments_anywhere_with_control_frames_between() {
    for first in 0..=HELLO.len() {
        for second in first..=HELLO.len() {
            let bytes = [
                frame(RSV1 | TEXT, &HELLO[..first]),
                frame(FIN | PING, b"1"),
                frame(CONTINUATION, &HELLO[first..second]),
                frame(FIN | PONG, b"2"),
                frame(FIN | CONTINUATION, &HELLO[second..]),
            ];
            let ping = Event::Ping(b"1".into());
            let pong = Event::Pong(b"2".into());
            assert_eq!(events(&bytes.concat()), [ping, pong, text("Hello")]);
        }
    }
}

#[test]
fn empty_messages_are_understood_in_all_their_forms() {
    for payload in [
        &[0x00][..],
        // As no fragment, and as nothing at all, which is not correct but clear.
        &[],
        // An empty block of fixed codes, one that is final, and several of them.
        &[0x02, 0x00],
        &[0x03, 0x00, 0x00],
        &[0x03, 0x00, 0x03, 0x00, 0x02, 0x00],
        // An empty block without compression before the one that is cut.
        &[0x00, 0x00, 0x00, 0xff, 0xff, 0x00],
    ] {
        let bytes = [
            frame(COMPRESSED_TEXT, payload),
            frame(RSV1 | BINARY, payload),
            frame(FIN | CONTINUATION, b""),
            frame(COMPRESSED_TEXT, &HELLO),
        ];
        let empty = Event::Binary(vec![]);
        assert_eq!(
            events(&bytes.concat()),
            [text(""), empty, text("Hello")],
            "{payload:x?}"
        );
    }
}

#[test]
fn what_follows_a_final_block_belongs_to_the_message_and_may_refer_back() {
    let final_hello = &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..];
    let again = &[0xf2, 0x00, 0x11, 0x00, 0x00][..];
    let final_again = &[0xf3, 0x00, 0x11, 0x00][..];
    for (payload, expected) in [
        ([final_hello, &HELLO].concat(), "HelloHello"),
        ([final_hello, again].concat(), "HelloHello"),
        (
            [final_hello, final_again, again].concat(),
            "HelloHelloHello",
        ),
        // Without the empty block that ought to come after it.
        ([final_hello, final_again].concat(), "HelloHello"),
    ] {
        let bytes = [
            frame(COMPRESSED_TEXT, &payload),
            frame(COMPRESSED_TEXT, again),
        ];
        assert_eq!(events(&bytes.concat()), [text(expected), text("Hello")]);
    }
    // Back into the message before, from behind a final block.
    let bytes = [
        frame(COMPRESSED_TEXT, &HELLO),
        frame(COMPRESSED_TEXT, &[&[0x03, 0x00], again].concat()),
    ];
    assert_eq!(events(&bytes.concat()), [text("Hello"), text("Hello")]);
}

#[test]
fn broken_data_is_refused() {
    let table: &[&[u8]] = &[
        // A reserved type of block, at once and after something.
        &[0x06],
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0x06],
        // Lengths of a block without compression that do not match.
        b"\x00\x05\x00\xfa\xfeHello\x00",
        // A reference to before the beginning.
        &[0xf2, 0x00, 0x11, 0x00, 0x00],
        // The end of what a flush makes was not taken off.
        &[
            0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00, 0x00, 0xff, 0xff,
        ],
        // A final block without its last bits.
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07],
        // Garbage after a final block.
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x06],
    ];
    for payload in table {
        let bytes = frame(COMPRESSED_BINARY, payload);
        assert_eq!(
            error(NO_LIMITS, &bytes),
            Some(Error::InvalidDeflate),
            "{payload:x?}"
        );
    }
    // Truncated anywhere but where it is nothing at all, of every type of block.
    let stored = b"\x00\x05\x00\xfa\xffHello\x00";
    let mut client = Client::new(15, false);
    let long = (0..3000).map(|i: u32| (i * i % 251) as u8).collect();
    let dynamic = client.payload(&[long, noise(100, 1)].concat());
    for payload in [&HELLO[..], stored, &dynamic] {
        for len in 1..payload.len() {
            // The end of a block is an end.
            if payload == stored && len == 1 {
                continue;
            }
            let bytes = frame(COMPRESSED_BINARY, &payload[..len]);
            assert_eq!(
                error(NO_LIMITS, &bytes),
                Some(Error::InvalidDeflate),
                "{len}"
            );
        }
    }
    assert_eq!(Error::InvalidDeflate.close_code(), 1007);
    assert_eq!(Error::InvalidDeflate.name(), "invalid_deflate");
}

#[test]
fn nothing_is_delivered_after_broken_data() {
    let bytes = [
        frame(COMPRESSED_TEXT, &HELLO),
        frame(RSV1 | TEXT, &[0x06]),
        frame(FIN | CONTINUATION, b""),
        frame(COMPRESSED_TEXT, &HELLO),
    ];
    assert_eq!(
        read(NO_LIMITS, "", &bytes.concat()),
        (vec![text("Hello")], Some(Error::InvalidDeflate))
    );
}

#[test]
fn rsv1_is_for_the_first_frame_of_a_message_and_for_agreed_compression() {
    let start = frame(RSV1 | TEXT, &HELLO[..3]);
    let plain_start = frame(TEXT, b"a");
    for (deflate, bytes) in [
        (None, frame(COMPRESSED_TEXT, &HELLO)),
        (
            agreed(""),
            [start, frame(FIN | RSV1 | CONTINUATION, &HELLO[3..])].concat(),
        ),
        (
            agreed(""),
            [plain_start, frame(FIN | RSV1 | CONTINUATION, b"")].concat(),
        ),
        (agreed(""), frame(FIN | RSV1 | PING, b"")),
        (agreed(""), frame(FIN | RSV1 | PONG, b"")),
        (agreed(""), frame(FIN | RSV1 | CLOSE, b"")),
        (agreed(""), frame(FIN | 0x20 | TEXT, b"")),
        (agreed(""), frame(FIN | 0x10 | TEXT, b"")),
        (agreed(""), frame(FIN | RSV1 | 0x20 | TEXT, b"")),
    ] {
        let outcome = feed_whole(reader(NO_LIMITS, deflate), &bytes);
        assert_eq!(outcome, (vec![], Some(Error::ReservedBits)), "{bytes:x?}");
    }
    let nested = [
        frame(RSV1 | TEXT, &HELLO[..3]),
        frame(COMPRESSED_TEXT, &HELLO),
    ];
    assert_eq!(
        error(NO_LIMITS, &nested.concat()),
        Some(Error::ExpectedContinuation)
    );
}

#[test]
fn inflated_text_is_refused_at_its_first_bad_byte() {
    let mut client = Client::new(15, false);
    let good = "κόσμε\u{1f4a9}";
    assert_eq!(
        events(&client.frame(TEXT, good.as_bytes())),
        [text(good)],
        "whole"
    );
    for bad in [
        &b"\xff"[..],
        "a\u{e9}".as_bytes().split_last().unwrap().1,
        b"\xf4\x90",
    ] {
        let bytes = client.frame(TEXT, &[good.as_bytes(), bad].concat());
        assert_eq!(error(NO_LIMITS, &bytes), Some(Error::InvalidUtf8));
        assert_eq!(
            events(&client.frame(BINARY, bad)),
            [Event::Binary(bad.into())]
        );
    }

    // Neither the message nor its frame has ended, and what follows is no DEFLATE data.
    let mut payload = client.payload(b"good\xff");
    payload.extend([0x00, 0x00, 0xff, 0xff, 0x06]);
    let header_len = 6;
    let bytes = frame(RSV1 | TEXT, &payload);
    let seen = &bytes[..header_len + payload.len() - 1];
    assert_eq!(error(NO_LIMITS, seen), Some(Error::InvalidUtf8));
    assert_eq!(error(NO_LIMITS, &bytes), Some(Error::InvalidUtf8));

    let limits = Limits {
        validate_utf8: false,
        ..NO_LIMITS
    };
    let bytes = client.frame(TEXT, b"\xff\xe9");
    let unchecked = Event::Text(b"\xff\xe9".into());
    assert_eq!(read(limits, "", &bytes), (vec![unchecked], None));
}

#[test]
fn sizes_at_and_past_the_limit() {
    let mut client = Client::new(15, false);
    for len in [0usize, 1, 255, 256, 257, 1000, 65_535, 65_536, 65_537] {
        let message = vec![b'x'; len];
        let payload = client.payload(&message);
        let whole = frame(COMPRESSED_BINARY, &payload);
        let (first, second) = payload.split_at(payload.len() / 2);
        let fragments = [
            frame(RSV1 | BINARY, first),
            frame(FIN | CONTINUATION, second),
        ]
        .concat();
        for bytes in [whole, fragments] {
            // A limit that the frames keep, as they are not what is of interest.
            let largest_frame = payload.len();
            for limit in [len.saturating_sub(1), len, len + 1] {
                if limit < largest_frame {
                    continue;
                }
                let (events, error) = read(at_most(limit as u64), "", &bytes);
                if limit < len {
                    assert_eq!((events.len(), error), (0, Some(Error::TooBig)), "{len}");
                } else {
                    assert!(events == [Event::Binary(message.clone())], "{len}");
                    assert_eq!(error, None);
                }
            }
        }
    }
    // The frame itself, on its header.
    let bytes = header(COMPRESSED_BINARY, 101);
    assert_eq!(error(at_most(100), &bytes), Some(Error::TooBig));
    // A message may take more bytes compressed than it has, as long as no frame is over the limit.
    let message = noise(100, 7);
    let payload = client.payload(&message);
    assert!(payload.len() > 100);
    let (first, second) = payload.split_at(60);
    let bytes = [
        frame(RSV1 | BINARY, first),
        frame(FIN | CONTINUATION, second),
    ];
    assert_eq!(
        read(at_most(100), "", &bytes.concat()),
        (vec![Event::Binary(message)], None)
    );
}

#[test]
fn a_bomb_is_refused_at_the_limit() {
    const LIMIT: usize = 64 * 1024;
    let payload = Client::new(15, false).payload(&vec![0; MIB]);
    assert!(payload.len() < 1200);
    let whole = frame(COMPRESSED_BINARY, &payload);
    let mut fragments = frame(RSV1 | BINARY, b"");
    for part in payload.chunks(100) {
        fragments.extend(frame(CONTINUATION, part));
    }
    fragments.extend(frame(FIN | CONTINUATION, b""));

    for bytes in [&whole, &fragments] {
        for size in [1, 7, 100, bytes.len()] {
            let before = Metered::usage();
            let reader: Reader<Metered> = reader(at_most(LIMIT as u64), agreed(""));
            let outcome = feed_cut(reader, bytes, &[size], true);
            assert_eq!(outcome, (vec![], Some(Error::TooBig)));
            let usage = Metered::usage();
            assert!(usage.total - before.total <= 2 * LIMIT);
            assert_eq!(usage.live, 0);
        }
    }
}

#[test]
fn fragments_of_compressed_messages_are_counted_too() {
    let limits = Limits {
        max_fragments: 3,
        ..NO_LIMITS
    };
    let message = |fragments: usize| {
        [
            frame(RSV1 | TEXT, &HELLO),
            frame(CONTINUATION, b"").repeat(fragments - 2),
            frame(FIN | CONTINUATION, b""),
        ]
        .concat()
    };
    assert_eq!(read(limits, "", &message(3)), (vec![text("Hello")], None));
    assert_eq!(error(limits, &message(4)), Some(Error::TooManyFragments));
}

#[test]
fn a_compressed_message_has_no_tail() {
    let mut reader: Reader<VecBuffer> = reader(NO_LIMITS, agreed(""));
    let mut events = Events::default();
    let mut input = header(COMPRESSED_BINARY, 100_000);
    reader.feed(&mut input, &mut events).unwrap();
    assert_eq!(tail_len(&mut reader), None);
}

#[test]
#[should_panic(expected = "filled past the frame's end")]
fn a_tail_that_there_is_not_cannot_be_filled() {
    let mut reader: Reader<VecBuffer> = reader(NO_LIMITS, agreed(""));
    let mut events = Events::default();
    let mut input = header(COMPRESSED_BINARY, 100_000);
    reader.feed(&mut input, &mut events).unwrap();
    reader.tail_filled(1, &mut events).ok();
}

#[test]
fn a_whole_message_is_lent() {
    let mut client = Client::new(15, false);
    let mut reader: Reader<Metered> = reader(NO_LIMITS, agreed(""));
    let mut events = Events::default();
    // The last outgrows what the thread keeps.
    for len in [5, 5000, 500_000, 5] {
        let message = vec![b'm'; len];
        reader
            .feed(&mut client.frame(TEXT, &message), &mut events)
            .unwrap();
        assert!(events.all.pop() == Some(Event::Text(message)));
    }
    assert_eq!(events.lent, 4);
    assert_eq!(Metered::usage(), Usage::default());
}

#[test]
fn a_message_of_eight_megabytes() {
    const LEN: usize = 8 * MIB;
    let mut message = noise(LEN / 2, 3);
    message.extend_from_within(..);
    let mut client = Client::new(15, true);
    let bytes = client.frame(BINARY, &message);
    for size in [64 * 1024, bytes.len()] {
        let reader: Reader<Metered> = reader(at_most(9_000_000), agreed(""));
        let (events, error) = feed_cut(reader, &bytes, &[size], true);
        assert_eq!(error, None);
        assert!(events == [Event::Binary(message.clone())]);
    }
    assert!(Metered::usage().total <= 3 * LEN);
}

const NEEDLE: usize = 64;

/// What a client with a 32 KiB window makes of a needle, and of the same again, `distance` later.
fn needles(distance: usize) -> Vec<u8> {
    let needle = noise(NEEDLE, 1);
    let between = noise(distance - needle.len(), 2);
    let mut client = Client::new(15, true);
    [
        client.frame(BINARY, &needle),
        client.frame(BINARY, &between),
        client.frame(BINARY, &needle),
    ]
    .concat()
}

#[test]
fn a_client_may_refer_back_as_far_as_its_window() {
    for (parameters, window) in [
        ("; client_max_window_bits=9", 1 << 9),
        ("; client_max_window_bits", 1 << 12),
        ("; client_max_window_bits=12", 1 << 12),
    ] {
        for distance in [NEEDLE, NEEDLE + 1, 300, window - 1, window] {
            let (events, error) = read(NO_LIMITS, parameters, &needles(distance));
            assert_eq!((events.len(), error), (3, None), "{distance}");
            assert_eq!(events[0], events[2]);
        }
        // Not even the needle's end is in reach of what repeats it.
        let (events, error) = read(NO_LIMITS, parameters, &needles(window + NEEDLE));
        assert_eq!((events.len(), error), (2, Some(Error::InvalidDeflate)));
    }
    // zlib keeps some 262 bytes of its window to itself.
    for distance in [4096, 4097, 20_000, 32_768 - 262] {
        let (events, error) = read(NO_LIMITS, "", &needles(distance));
        assert_eq!((events.len(), error), (3, None), "{distance}");
        assert_eq!(events[0], events[2]);
    }
    // zlib has made windows of 512 bytes of 256.
    let (events, _) = read(NO_LIMITS, "; client_max_window_bits=8", &needles(512));
    assert_eq!(events.len(), 3);
}

/// Three bytes from behind, as one block of fixed codes: the code of the distance as it is in
/// RFC1951§3.2.5, and its extra bits, lowest first.
fn three_bytes_from(code: &str, extra: &str) -> Vec<u8> {
    let (block, length, end, flush) = ("010", "0000001", "0000000", "000");
    let bits = [block, length, code, extra, end, flush].concat();
    let bytes = bits.as_bytes().chunks(8);
    let byte = |bits: &[u8]| (0..).zip(bits).map(|(i, bit)| (bit - b'0') << i).sum();
    bytes.map(byte).collect()
}

#[test]
fn not_one_byte_more_than_the_window_is_kept() {
    let history = noise(600, 1);
    let mut bytes = Client::new(15, false).frame(BINARY, &history);
    // 385 + 127, and 513.
    let furthest = three_bytes_from("10001", "1111111");
    let too_far = three_bytes_from("10010", "00000000");
    bytes.extend(frame(COMPRESSED_BINARY, &furthest));
    bytes.extend(frame(COMPRESSED_BINARY, &too_far));

    // The second message moves the window by its three bytes.
    let expected = [&history[..], &history[600 - 512..][..3]];
    let expected = expected.map(|bytes| Event::Binary(bytes.into())).to_vec();
    let outcome = read(NO_LIMITS, "; client_max_window_bits=9", &bytes);
    assert_eq!(outcome, (expected, Some(Error::InvalidDeflate)));
}

#[test]
fn a_client_without_context_cannot_refer_back() {
    let parameters = "; client_no_context_takeover";
    let (events, error) = read(NO_LIMITS, parameters, &needles(NEEDLE));
    assert_eq!((events.len(), error), (2, Some(Error::InvalidDeflate)));

    let mut client = Client::new(15, false);
    let message = client.frame(TEXT, b"again and again");
    let (events, error) = read(NO_LIMITS, parameters, &message.repeat(100));
    assert_eq!(error, None);
    assert_eq!(events, vec![text("again and again"); 100]);
}

#[test]
fn a_context_is_carried_over_any_number_and_size_of_messages() {
    for bits in [9, 10, 12, 15] {
        let parameters = format!("; client_max_window_bits={bits}");
        let config = DeflateConfig {
            client_window_bits: bits,
            ..DeflateConfig::default()
        };
        let mut client = Client::new(bits, true);
        let mut sent = vec![];
        let mut bytes = vec![];
        for i in 0..300usize {
            let size = [0, 1, 40, 300, 511, 513, 1000, 4096, 40_000][i * 7 % 9];
            let line = format!(
                "{{\"id\":{i},\"event\":\"new_msg\",\"to\":\"room {}\"}}",
                i % 13
            );
            let message: String = line.chars().cycle().take(size).collect();
            bytes.extend(client.frame(TEXT, message.as_bytes()));
            sent.push(text(&message));
        }
        let deflate = Some(agree(&parameters, config));
        for sizes in [&[bytes.len()][..], &[1, 1000, 3], &[10_000]] {
            let outcome = feed_cut::<VecBuffer>(reader(NO_LIMITS, deflate), &bytes, sizes, true);
            assert!(outcome == (sent.clone(), None), "{bits} bits");
        }
    }
}

/// Each line: window bits, and the payloads of one client, in hexadecimal. Python's zlib made them of
/// `message(0)`, `message(1)` and so on; its first three lines with a context, its others without.
#[test]
fn payloads_that_zlib_made() {
    let hex = |text: &str| -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        digits
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    };
    for line in include_str!("zlib_payloads.txt").lines() {
        let mut words = line.split(' ');
        let bits: u8 = words.next().unwrap().parse().unwrap();
        let parameters = match words.next().unwrap() {
            "context" => format!("; client_max_window_bits={bits}"),
            _ => "; client_no_context_takeover".into(),
        };
        let payloads = words.map(|word| frame(COMPRESSED_TEXT, &hex(word)));
        let bytes = payloads.collect::<Vec<_>>().concat();
        let (events, error) = read(NO_LIMITS, &parameters, &bytes);
        assert_eq!((events.len(), error), (12, None), "{line}");
        for (i, event) in events.into_iter().enumerate() {
            let user = format!("{{\"user\":{},\"text\":\"grüße\"}}", i * 7919);
            assert_eq!(event, text(&user.repeat(i)));
        }
    }
}
