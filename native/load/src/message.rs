//! The message of a run: what is sent, and as what it comes back.

use std::rc::Rc;
use std::time::Instant;

use anyhow::Result;

use crate::answer::{Answer, DeflatedEcho, Echo};
use crate::args::{Kind, Server};
use crate::deflate::deflate;
use crate::frame;
use crate::handshake;
use crate::stream::Stream;

const WORDS: [&str; 16] = [
    "the",
    "room",
    "is",
    "open",
    "until",
    "noon",
    "and",
    "nobody",
    "has",
    "found",
    "a",
    "key",
    "for",
    "it",
    "since",
    "yesterday",
];

pub struct Message {
    kind: Kind,
    payload: Rc<[u8]>,
}

impl Message {
    pub fn new(kind: Kind) -> Self {
        let size = kind.size as usize;
        let payload = if kind.deflate {
            json(size)
        } else {
            (b'a'..=b'z').cycle().take(size).collect()
        };
        Self {
            kind,
            payload: payload.into(),
        }
    }

    pub fn text(payload: String, deflate: bool) -> Self {
        let kind = Kind {
            size: payload.len() as u32,
            text: true,
            deflate,
        };
        Self {
            kind,
            payload: payload.into_bytes().into(),
        }
    }

    /// A connection that takes such messages.
    pub fn open(&self, server: &Server, deadline: Instant) -> Result<Stream> {
        if self.kind.deflate {
            handshake::deflated(server, deadline)
        } else {
            handshake::websocket(server, deadline)
        }
    }

    pub fn request(&self) -> Vec<u8> {
        if self.kind.deflate {
            let opcode = frame::COMPRESSED | frame::TEXT;
            frame::masked(opcode, &deflate(&self.payload))
        } else {
            frame::masked(self.opcode(), &self.payload)
        }
    }

    /// Judges what one connection gets for `depth` such messages at once.
    pub fn answer(&self, depth: usize) -> Box<dyn Answer> {
        if self.kind.deflate {
            Box::new(DeflatedEcho::new(self.payload.clone(), depth))
        } else {
            let frame = frame::unmasked(self.opcode(), &self.payload);
            Box::new(Echo::new(frame.into(), depth))
        }
    }

    fn opcode(&self) -> u8 {
        if self.kind.text {
            frame::TEXT
        } else {
            frame::BINARY
        }
    }
}

/// Numbers that are the same in every run.
pub fn random() -> impl FnMut() -> u64 {
    let mut state = 1_u64;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state >> 33
    }
}

pub fn word(random: u64) -> &'static str {
    WORDS[random as usize % WORDS.len()]
}

/// A JSON array of so many bytes, which has of repetition and of noise what messages of apps have.
fn json(size: usize) -> Vec<u8> {
    let mut random = random();
    let mut text = String::from("[");
    for id in 0.. {
        let words: Vec<&str> = (0..6).map(|_| word(random())).collect();
        let comma = if id == 0 { "" } else { "," };
        let item = format!(
            r#"{comma}{{"id":{id},"from":"{:08x}","at":{},"text":"{}","read":{}}}"#,
            random(),
            1_700_000_000_000 + random(),
            words.join(" "),
            random().is_multiple_of(2)
        );
        if text.len() + item.len() + 1 > size {
            break;
        }
        text += &item;
    }
    // Spaces are allowed where no further object has room.
    let mut text = format!("{text:<width$}]", width = size.saturating_sub(1)).into_bytes();
    text.truncate(size);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_json_of_the_right_size_and_gets_smaller() {
        for size in [2, 50, 1024, 65536] {
            let json = json(size);
            assert_eq!(json.len(), size);
            serde_json::from_slice::<serde_json::Value>(&json).unwrap();
        }
        let share = deflate(&json(1024)).len() * 100 / 1024;
        assert!((25..60).contains(&share), "{share} %");
        assert_eq!(json(0), b"");
    }
}
