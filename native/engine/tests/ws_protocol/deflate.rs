//! Messages that we compress (RFC 7692), read by an inflater that is not zlib's.

use ferrosock_engine::config::DeflateConfig;
use ferrosock_engine::ws::deflate::Deflater;
use proptest::prelude::*;

use crate::puff;
use crate::support::*;

fn deflater(config: DeflateConfig) -> Deflater {
    Deflater::new(&agree("", config))
}

fn config(level: u8, mem_level: u8, window_bits: u8) -> DeflateConfig {
    DeflateConfig {
        level,
        mem_level,
        window_bits,
        ..DeflateConfig::default()
    }
}

fn with_context(config: DeflateConfig) -> DeflateConfig {
    DeflateConfig {
        server_context_takeover: true,
        ..config
    }
}

fn in_pieces(deflater: &mut Deflater, message: &[u8], size: usize) -> Vec<u8> {
    let mut out = vec![];
    let mut stream = deflater.start();
    for part in message.chunks(size) {
        stream.push(part, &mut out);
    }
    deflater.finish(stream, &mut out);
    out
}

fn whole(deflater: &mut Deflater, message: &[u8]) -> Option<Vec<u8>> {
    let mut out = b"before".to_vec();
    let is_compressed = deflater.compress(message, &mut out);
    let payload = out.strip_prefix(b"before").unwrap().to_vec();
    assert!(is_compressed || payload.is_empty());
    is_compressed.then_some(payload)
}

fn json(len: usize) -> Vec<u8> {
    let line = |i: usize| {
        format!(
            "{{\"id\":{i},\"user\":\"u{}\",\"at\":{}}},",
            i % 97,
            i * 7919
        )
    };
    let mut text: Vec<u8> = (0..len / 20).flat_map(|i| line(i).into_bytes()).collect();
    text.truncate(len);
    text
}

#[test]
fn an_empty_message_is_one_byte() {
    // Twice in a row too, which zlib would make nothing of.
    let mut deflater = deflater(with_context(DeflateConfig::default()));
    for _ in 0..2 {
        assert_eq!(whole(&mut deflater, b"").as_deref(), Some(&[0x00][..]));
        assert_eq!(in_pieces(&mut deflater, b"", 1), [0x00]);
    }
}

#[test]
fn the_end_of_the_flush_is_left_out() {
    let mut deflater = deflater(DeflateConfig::default());
    // As RFC7692§7.2.3.1 has it.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(in_pieces(&mut deflater, b"Hello", 5), hello);
    assert_eq!(in_pieces(&mut deflater, b"Hello", 2), hello);
}

#[test]
fn every_setting_makes_a_stream_within_its_window() {
    let message = json(40_000);
    for level in 1..=9 {
        for (mem_level, window_bits) in [(1, 9), (9, 12), (8, 15)] {
            let config = config(level, mem_level, window_bits);
            let mut plain = deflater(config.clone());
            let mut keeping = deflater(with_context(config));
            let mut history = vec![];
            for len in [0, 5, 600, 40_000, 3, 600] {
                let message = &message[..len];
                let alone = in_pieces(&mut plain, message, 10_000);
                assert!(puff::inflate(&alone, b"", window_bits).0 == message);
                let payload = in_pieces(&mut keeping, message, 10_000);
                assert!(puff::inflate(&payload, &history, window_bits).0 == message);
                history.extend(message);
            }
        }
    }
}

#[test]
fn a_context_makes_later_messages_smaller_and_is_kept_to_its_window() {
    // zlib keeps 262 bytes of its window to itself.
    let message = json(240);
    let mut keeping = deflater(with_context(config(6, 8, 9)));
    let first = whole(&mut keeping, &message).unwrap();
    let second = whole(&mut keeping, &message).unwrap();
    assert!(second.len() < first.len() / 3);
    let (inflated, distance) = puff::inflate(&second, &message, 9);
    assert_eq!(inflated, message);
    assert!(distance == 240, "it refers to the first");

    let mut forgetting = deflater(config(6, 8, 9));
    assert_eq!(whole(&mut forgetting, &message), Some(first.clone()));
    assert_eq!(whole(&mut forgetting, &message), Some(first));
}

#[test]
fn threads_may_share_a_compressor_among_settings() {
    let message = json(1000);
    // More settings than a thread keeps compressors for.
    let mut deflaters: Vec<Deflater> = (1..=9)
        .map(|level| deflater(config(level, 8, 15)))
        .collect();
    let first: Vec<_> = deflaters
        .iter_mut()
        .map(|deflater| whole(deflater, &message))
        .collect();
    for _ in 0..3 {
        for (deflater, first) in deflaters.iter_mut().zip(&first) {
            assert_eq!(whole(deflater, &message), *first);
        }
    }
    assert!(first[0] > first[8]);
}

#[test]
fn a_message_may_be_compressed_on_several_threads() {
    let message = json(100_000);
    for context_takeover in [false, true] {
        let mut deflater = deflater(DeflateConfig {
            server_context_takeover: context_takeover,
            ..config(1, 8, 12)
        });
        let mut stream = deflater.start();
        let mut out = vec![];
        for part in message.chunks(16 * 1024) {
            std::thread::scope(|scope| {
                scope.spawn(|| stream.push(part, &mut out));
            });
        }
        deflater.finish(stream, &mut out);
        assert!(puff::inflate(&out, b"", 12).0 == message);
    }
}

#[test]
fn what_does_not_get_smaller_is_left_as_it_is_unless_there_is_a_context() {
    for message in [&b""[..], b"a", b"\x00\xff\x80\x7f\x01"] {
        assert_eq!(
            whole(&mut deflater(DeflateConfig::default()), message),
            None
        );
        let mut keeping = deflater(with_context(DeflateConfig::default()));
        let payload = whole(&mut keeping, message).unwrap();
        assert_eq!(puff::inflate(&payload, b"", 15).0, message);
    }
}

#[test]
fn a_message_that_is_given_up_leaves_a_deflater_that_works() {
    let message = json(5000);
    for config in [config(1, 8, 12), with_context(config(1, 8, 12))] {
        let mut deflater = deflater(config);
        assert!(whole(&mut deflater, &json(300)).is_some());
        let mut out = vec![];
        deflater.start().push(&message, &mut out);
        let payload = whole(&mut deflater, &message).unwrap();
        assert!(puff::inflate(&payload, b"", 12).0 == message);
    }
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[ab]{0,2000}".prop_map(String::into_bytes),
        ".{0,200}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..1000),
        (0..5000usize).prop_map(json),
    ]
}

proptest! {
    #[test]
    fn what_is_compressed_is_inflated_the_same(
        messages in prop::collection::vec(message(), 1..6),
        level in 1..=9u8,
        mem_level in 1..=9u8,
        window_bits in 9..=15u8,
        context_takeover in any::<bool>(),
        size in 1..5000usize,
    ) {
        let mut deflater = deflater(DeflateConfig {
            server_context_takeover: context_takeover,
            ..config(level, mem_level, window_bits)
        });
        let mut history = vec![];
        for message in messages {
            let payload = in_pieces(&mut deflater, &message, size);
            let (inflated, _) = puff::inflate(&payload, &history, window_bits);
            prop_assert!(inflated == message);
            if context_takeover {
                history.extend(message);
            }
        }
    }
}
