//! What a thread has compressed of late, for a message that goes to many sockets: of a broadcast each thread
//! compresses the first two, and copies what came of the second for all others.
//!
//! This is only for output that depends on nothing but the payload and the settings, which are compared in
//! full. Where the context is taken over, it also depends on what the client had before. A message is kept
//! when it comes for the second time: most never do, and cost no more than a look at some of their words.
//!
//! What is kept are messages in the clear, but so few that it does not matter when they go: the compressors
//! that a thread has idle hold as much in their windows. Nor do they tell a client much by the time that it
//! takes. Who can have the server send a guess may see whether two others were sent the same of late, but
//! only by a guess of the whole message: one that is right in part has another key, and takes as long as any.

use std::cell::RefCell;
use std::mem;

use super::deflate::{Deflater, Settings};

/// Messages that a thread keeps.
const MAX_ENTRIES: usize = 16;

/// Bytes of these, and of what came of them.
const MAX_BYTES: usize = 64 * 1024;

/// A larger payload would leave no room for others.
const MAX_PAYLOAD: usize = 16 * 1024;

/// Keys of messages that came once.
const MAX_SEEN: usize = 1 << SEEN_BITS;
const SEEN_BITS: u32 = 6;

/// An entry makes room when it was of no use to so many messages. Where more are broadcast at a time than there is
/// room for, some stay: if always the oldest had to go, none would be there when it is asked for.
const PATIENCE: u32 = 256;

thread_local! {
    static CACHE: RefCell<Cache> = const { RefCell::new(Cache::new()) };
}

/// Passes on what becomes of a payload: `None` where it is better sent as it is.
pub(super) fn compress<R>(
    deflater: &mut Deflater,
    payload: &[u8],
    pass_on: impl FnOnce(Option<&[u8]>) -> R,
) -> R {
    CACHE.with_borrow_mut(|cache| pass_on(cache.compress(deflater, payload)))
}

struct Cache {
    entries: Vec<Entry>,
    /// What they weigh.
    bytes: usize,
    /// Each in the place that its first bits name.
    seen: [u64; MAX_SEEN],
    /// Messages so far.
    now: u32,
    /// What was compressed last.
    output: Vec<u8>,
}

struct Entry {
    key: Key,
    payload: Box<[u8]>,
    output: Option<Box<[u8]>>,
    used: u32,
}

impl Entry {
    fn weight(&self) -> usize {
        self.payload.len() + self.output.as_deref().map_or(0, <[u8]>::len)
    }
}

impl Cache {
    const fn new() -> Self {
        Self {
            entries: Vec::new(),
            bytes: 0,
            seen: [0; MAX_SEEN],
            now: 0,
            output: Vec::new(),
        }
    }

    fn compress(&mut self, deflater: &mut Deflater, payload: &[u8]) -> Option<&[u8]> {
        let key = deflater.reusable().and_then(|by| Key::new(payload, by));
        if let Some(key) = key
            && let Some(at) = self.find(key, payload)
        {
            return self.entries[at].output.as_deref();
        }
        self.output.clear();
        let is_smaller = deflater.compress(payload, &mut self.output);
        if let Some(key) = key
            && self.has_seen(key)
        {
            self.keep(key, payload, is_smaller);
        }
        is_smaller.then_some(&self.output)
    }

    fn find(&mut self, key: Key, payload: &[u8]) -> Option<usize> {
        self.now = self.now.wrapping_add(1);
        let is_it = |entry: &Entry| entry.key == key && *entry.payload == *payload;
        let at = self.entries.iter().position(is_it)?;
        self.entries[at].used = self.now;
        Some(at)
    }

    fn has_seen(&mut self, key: Key) -> bool {
        let place = (key.words >> (u64::BITS - SEEN_BITS)) as usize;
        mem::replace(&mut self.seen[place], key.words) == key.words
    }

    fn keep(&mut self, key: Key, payload: &[u8], is_smaller: bool) {
        let output = is_smaller.then_some(&self.output[..]);
        let weight = payload.len() + output.map_or(0, <[u8]>::len);
        if !self.make_room(weight) {
            return;
        }
        let output = is_smaller.then(|| self.output[..].into());
        self.bytes += weight;
        self.entries.push(Entry {
            key,
            payload: payload.into(),
            output,
            used: self.now,
        });
    }

    fn make_room(&mut self, weight: usize) -> bool {
        while self.entries.len() == MAX_ENTRIES || self.bytes + weight > MAX_BYTES {
            let ages = self
                .entries
                .iter()
                .map(|entry| self.now.wrapping_sub(entry.used));
            let Some((at, age)) = ages.enumerate().max_by_key(|(_, age)| *age) else {
                return false;
            };
            if age < PATIENCE {
                return false;
            }
            self.bytes -= self.entries.swap_remove(at).weight();
        }
        true
    }
}

/// By which a payload is looked for. Others may have the same.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    words: u64,
    settings: Settings,
}

impl Key {
    /// `None`: nothing of it is kept.
    fn new(payload: &[u8], settings: Settings) -> Option<Self> {
        const WORD: usize = size_of::<u64>();
        /// Besides the first. Messages that are no broadcast usually differ in one of them, by an id or a time.
        const WORDS: usize = 7;
        /// 2^64 by the golden ratio.
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

        let last = payload.len().checked_sub(WORD)?;
        if payload.len() > MAX_PAYLOAD {
            return None;
        }
        let words = (0..=WORDS).fold(payload.len() as u64, |words, n| {
            let at = last * n / WORDS;
            let word = payload[at..at + WORD].try_into().expect("a word");
            (words.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(ODD)
        });
        Some(Self { words, settings })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::buffer::{Buffer, VecBuffer};
    use crate::config::DeflateConfig;
    use crate::ws::deflate::Inflater;
    use crate::ws::extension::{Agreed, negotiate};

    fn agreed(config: &DeflateConfig) -> Agreed {
        negotiate(["permessage-deflate"].into_iter(), config).unwrap()
    }

    fn deflater(config: DeflateConfig) -> Deflater {
        Deflater::new(&agreed(&config))
    }

    fn text(number: usize, length: usize) -> Vec<u8> {
        let mut text = format!("message {number} ").repeat(length).into_bytes();
        text.truncate(length);
        text
    }

    impl Cache {
        /// Whether nothing is compressed for the payload.
        fn reuses(&mut self, deflater: &mut Deflater, payload: &[u8]) -> bool {
            const UNTOUCHED: &[u8] = b"what no message is compressed to";
            self.output = UNTOUCHED.into();
            let _ = self.compress(deflater, payload);
            self.output == UNTOUCHED
        }

        /// The same for the payload each time that it comes.
        fn reuses_of(&mut self, deflater: &mut Deflater, payload: &[u8], times: usize) -> usize {
            (0..times)
                .filter(|_| self.reuses(deflater, payload))
                .count()
        }
    }

    #[test]
    fn a_message_is_compressed_twice_and_then_copied() {
        let mut cache = Cache::new();
        let (mut one, mut other) = (
            deflater(DeflateConfig::default()),
            deflater(DeflateConfig::default()),
        );
        let first = cache.compress(&mut one, &text(1, 300)).unwrap().to_vec();
        assert!(!cache.reuses(&mut other, &text(1, 300)));
        assert!(cache.reuses(&mut one, &text(1, 300)));
        assert!(cache.reuses(&mut other, &text(1, 300)));
        assert_eq!(cache.compress(&mut other, &text(1, 300)), Some(&first[..]));
        assert!(!cache.reuses(&mut one, &text(2, 300)));
    }

    #[test]
    fn that_a_message_does_not_get_smaller_is_kept_too() {
        let mut cache = Cache::new();
        let mut deflater = deflater(DeflateConfig::default());
        let noise: Vec<u8> = (0..200u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        assert_eq!(cache.reuses_of(&mut deflater, &noise, 5), 3);
        assert_eq!(cache.compress(&mut deflater, &noise), None);
    }

    #[test]
    fn other_settings_make_another_message() {
        let mut cache = Cache::new();
        let base = DeflateConfig::default();
        let settings = [
            base.clone(),
            DeflateConfig {
                level: 9,
                ..base.clone()
            },
            DeflateConfig {
                mem_level: 1,
                ..base.clone()
            },
            DeflateConfig {
                window_bits: 9,
                ..base
            },
        ];
        let mut deflaters: Vec<_> = settings.into_iter().map(deflater).collect();
        // Its repetitions are further apart than the small window reaches.
        let payload = [text(1, 1000), text(2, 1000)].concat().repeat(3);
        for deflater in &mut deflaters {
            assert_eq!(cache.reuses_of(deflater, &payload, 1), 0);
        }
        for deflater in &mut deflaters {
            let mut anew = Vec::new();
            assert!(deflater.compress(&payload, &mut anew));
            cache.reuses_of(deflater, &payload, 2);
            assert!(cache.reuses(deflater, &payload));
            assert_eq!(cache.compress(deflater, &payload), Some(&anew[..]));
        }
    }

    #[test]
    fn nothing_is_kept_of_a_context_and_where_it_is_switched_off() {
        let mut cache = Cache::new();
        let base = DeflateConfig::default();
        for config in [
            DeflateConfig {
                server_context_takeover: true,
                ..base.clone()
            },
            DeflateConfig {
                cache: false,
                ..base
            },
        ] {
            let mut deflater = deflater(config);
            assert_eq!(cache.reuses_of(&mut deflater, &text(1, 300), 5), 0);
        }
        assert!(cache.entries.is_empty());
    }

    #[test]
    fn nor_of_what_is_too_long_or_too_short() {
        let mut cache = Cache::new();
        let mut deflater = deflater(DeflateConfig::default());
        for (length, reuses) in [
            (0, 0),
            (7, 0),
            (8, 3),
            (MAX_PAYLOAD, 3),
            (MAX_PAYLOAD + 1, 0),
        ] {
            let payload = text(1, length);
            assert_eq!(
                cache.reuses_of(&mut deflater, &payload, 5),
                reuses,
                "{length}"
            );
        }
    }

    #[test]
    fn a_payload_that_differs_where_its_key_does_not_look_is_another() {
        let mut cache = Cache::new();
        let mut deflater = deflater(DeflateConfig::default());
        let (one, mut other) = (text(1, 1000), text(1, 1000));
        other[20] = b'X';
        let settings = deflater.reusable().unwrap();
        assert!(Key::new(&one, settings) == Key::new(&other, settings));
        cache.reuses_of(&mut deflater, &one, 3);
        assert!(!cache.reuses(&mut deflater, &other));
        assert!(cache.reuses(&mut deflater, &other));
        assert!(cache.reuses(&mut deflater, &one));
    }

    #[test]
    fn what_is_of_no_use_any_more_makes_room() {
        let mut cache = Cache::new();
        let mut deflater = deflater(DeflateConfig::default());
        for number in 0..100 {
            assert!(cache.reuses_of(&mut deflater, &text(number, 2000), 600) > 200);
        }
        assert_eq!(cache.entries.len(), MAX_ENTRIES);
    }

    #[test]
    fn of_more_broadcasts_than_there_is_room_for_some_are_reused() {
        let mut cache = Cache::new();
        let mut deflater = deflater(DeflateConfig::default());
        let payloads: Vec<_> = (0..2 * MAX_ENTRIES).map(|n| text(n, 300)).collect();
        let mut reuses = 0;
        for _ in 0..10 {
            for payload in &payloads {
                reuses += cache.reuses_of(&mut deflater, payload, 1);
            }
        }
        assert!(reuses >= 8 * MAX_ENTRIES * 3 / 4, "{reuses}");
    }

    /// A client that reads what a deflater sends, and that deflater.
    fn pair(config: &DeflateConfig) -> (Deflater, Inflater) {
        let of_client = DeflateConfig {
            client_context_takeover: config.server_context_takeover,
            client_window_bits: config.window_bits,
            ..DeflateConfig::default()
        };
        let offer = match config.server_context_takeover {
            true => "permessage-deflate; client_max_window_bits",
            false => "permessage-deflate; client_max_window_bits; client_no_context_takeover",
        };
        let of_client = negotiate([offer].into_iter(), &of_client).unwrap();
        (Deflater::new(&agreed(config)), Inflater::new(&of_client))
    }

    fn config() -> impl Strategy<Value = DeflateConfig> {
        // Few settings, so that some sockets have the same.
        let settings = (1..=2u8, 8..=9u8, 10..=11u8, 0..4u8, 0..4u8);
        settings.prop_map(
            |(level, mem_level, window_bits, takeover, cache)| DeflateConfig {
                level,
                mem_level,
                window_bits,
                server_context_takeover: takeover == 0,
                cache: cache > 0,
                ..DeflateConfig::default()
            },
        )
    }

    fn payload() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            (0..9usize, 0..3000usize).prop_map(|(number, length)| text(number, length)),
            (0..9usize, 9_000..20_000usize).prop_map(|(number, length)| text(number, length)),
            prop::collection::vec(any::<u8>(), 0..300),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is sent again, to whichever sockets, is what each client gets; what is kept has its bounds.
        #[test]
        fn each_client_gets_what_was_sent(
            configs in prop::collection::vec(config(), 1..8),
            payloads in prop::collection::vec(payload(), 1..9),
            sends in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..60),
        ) {
            let mut cache = Cache::new();
            let mut sockets: Vec<_> = configs.iter().map(pair).collect();
            for (socket, payload) in sends {
                let at = socket.index(sockets.len());
                let (deflater, inflater) = &mut sockets[at];
                let payload = payload.get(&payloads);
                if let Some(compressed) = cache.compress(deflater, payload) {
                    let mut inflated = VecBuffer::with_capacity(0);
                    inflater.push(compressed, &mut inflated, usize::MAX, |_| Ok(())).unwrap();
                    prop_assert!(inflated.filled() == payload);
                    inflater.finish(payload).unwrap();
                }
                let weight: usize = cache.entries.iter().map(Entry::weight).sum();
                prop_assert_eq!(weight, cache.bytes);
                prop_assert!(weight <= MAX_BYTES && cache.entries.len() <= MAX_ENTRIES);
            }
        }
    }
}
