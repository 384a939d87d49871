//! A channel of Phoenix, as its V2 JSON serializer has it, and its members: all join, one of them asks for
//! broadcasts, and all get them.
//!
//! The app keeps as `say` what a member joins with. When that member sends `shout`, the app broadcasts it as
//! `said`, with the number of this broadcast in it.

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::args::Server;
use crate::deflate::inflate;
use crate::exchange::exchange;
use crate::frame::{COMPRESSED, FIN, Header, TEXT};
use crate::handshake;
use crate::message::Message;
use crate::stream::Stream;

const TOPIC: &str = "room:lobby";
/// What a reply and a broadcast have besides the payload, and what another writer of JSON may add to that.
const ENVELOPE: usize = 256;

pub struct Room {
    deflate: bool,
    say: Value,
    judge: Rc<RefCell<Judge>>,
}

impl Room {
    pub fn new(say: Value, deflate: bool) -> Self {
        let judge = Judge {
            deflate,
            say: say.clone(),
            max_len: 2 * say.to_string().len() + ENVELOPE,
            right: None,
        };
        Self {
            deflate,
            say,
            judge: Rc::new(RefCell::new(judge)),
        }
    }

    /// Connections that have joined. The first one is the one who can ask.
    pub fn open_all(&self, server: &Server, count: u32) -> Result<Vec<Stream>> {
        let mut streams = handshake::open_all(server, count, |server, deadline| {
            if self.deflate {
                handshake::deflated(server, deadline)
            } else {
                handshake::websocket(server, deadline)
            }
        })?;
        let (first, others) = streams.split_at_mut(1);
        let (say, none) = (json!({ "say": self.say }), json!({}));
        exchange(first, &self.request("phx_join", say), || self.member(0))?;
        exchange(others, &self.request("phx_join", none), || self.member(0))?;
        Ok(streams)
    }

    /// Asks for a broadcast.
    pub fn ask(&self) -> Vec<u8> {
        self.request("shout", json!({}))
    }

    /// Judges what one of them gets that has joined.
    pub fn joined(&self) -> Member {
        self.member(1)
    }

    fn request(&self, event: &str, payload: Value) -> Vec<u8> {
        let text = json!(["1", "1", TOPIC, event, payload]).to_string();
        Message::text(text, self.deflate).request()
    }

    fn member(&self, awaits: u64) -> Member {
        Member {
            judge: self.judge.clone(),
            awaits,
            begun: Vec::new(),
        }
    }
}

/// Gets the reply to its joining and then broadcast after broadcast, none lost and none twice.
pub struct Member {
    judge: Rc<RefCell<Judge>>,
    /// The number of the broadcast, from 1, or 0 for the reply.
    awaits: u64,
    /// What has arrived of a frame that is not whole.
    begun: Vec<u8>,
}

impl Member {
    fn take_frame(&mut self, frame: &[u8]) -> Result<()> {
        self.judge.borrow_mut().judge(self.awaits, frame)?;
        self.awaits += 1;
        Ok(())
    }
}

impl Answer for Member {
    fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        if self.begun.is_empty() && is_whole(bytes)? {
            return self.take_frame(bytes).map(|()| true);
        }
        self.begun.extend_from_slice(bytes);
        if !is_whole(&self.begun)? {
            return Ok(false);
        }
        let frame = mem::take(&mut self.begun);
        self.take_frame(&frame).map(|()| true)
    }
}

fn is_whole(bytes: &[u8]) -> Result<bool> {
    let Some(header) = Header::parse(bytes) else {
        return Ok(false);
    };
    let len = header.len + header.payload_len;
    ensure!(bytes.len() <= len, "a member got more than one message");
    Ok(bytes.len() == len)
}

/// All members get the same frame, byte for byte. So the first one that has it from the server is judged, and
/// the others are compared with it; where one differs, it is judged itself.
struct Judge {
    deflate: bool,
    say: Value,
    /// Of a text.
    max_len: usize,
    /// What was right last: what it was the answer to, and the frame.
    right: Option<(u64, Vec<u8>)>,
}

impl Judge {
    fn judge(&mut self, awaited: u64, frame: &[u8]) -> Result<()> {
        if let Some((number, right)) = &self.right
            && *number == awaited
            && right == frame
        {
            return Ok(());
        }
        let expected = self.expected(awaited);
        let text = self.text(awaited, frame)?;
        let got: Value = serde_json::from_slice(&text).context("a message is no JSON")?;
        ensure!(got == expected, "a member got {got} instead of {expected}");
        self.right = Some((awaited, frame.to_vec()));
        Ok(())
    }

    fn expected(&self, awaited: u64) -> Value {
        if awaited == 0 {
            let reply = json!({"status": "ok", "response": {}});
            return json!(["1", "1", TOPIC, "phx_reply", reply]);
        }
        let mut said = self.say.clone();
        said["number"] = awaited.into();
        json!([null, null, TOPIC, "said", said])
    }

    /// A reply is short enough that a server may send it as it is.
    fn text(&self, awaited: u64, frame: &[u8]) -> Result<Vec<u8>> {
        let header = Header::parse(frame).context("no whole frame")?;
        let compressed = frame[0] & COMPRESSED != 0;
        ensure!(
            frame[0] & !COMPRESSED == FIN | TEXT,
            "a member got no whole text: its first byte is {:#04x}",
            frame[0]
        );
        ensure!(
            compressed == self.deflate || awaited == 0,
            "a broadcast is compressed or not, other than it was agreed"
        );
        let payload = &frame[header.len..];
        if compressed {
            inflate(payload, self.max_len)
        } else {
            Ok(payload.to_vec())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deflate::deflate;
    use crate::frame::unmasked;

    fn room(deflate: bool) -> Room {
        Room::new(json!({"text": "Hello"}), deflate)
    }

    fn said(number: u64) -> Vec<u8> {
        format!(r#"[null,null,"room:lobby","said",{{"text":"Hello","number":{number}}}]"#).into()
    }

    fn broadcast(number: u64) -> Vec<u8> {
        unmasked(TEXT, &said(number))
    }

    #[test]
    fn broadcasts_are_complete_wherever_they_are_cut() {
        for cut in 1..broadcast(1).len() {
            let room = room(false);
            let mut members = [room.joined(), room.joined()];
            for number in 1..=3 {
                let frame = broadcast(number);
                for member in &mut members {
                    assert!(!member.take(&frame[..cut]).unwrap());
                    assert!(member.take(&frame[cut..]).unwrap());
                }
            }
        }
    }

    #[test]
    fn a_broadcast_that_is_lost_or_comes_twice_is_an_error() {
        let room = room(false);
        let (mut one, mut other) = (room.joined(), room.joined());
        assert!(one.take(&broadcast(1)).unwrap());
        assert!(one.take(&broadcast(2)).unwrap());
        other.take(&broadcast(2)).unwrap_err();
        one.take(&broadcast(2)).unwrap_err();
        one.take(&broadcast(3).repeat(2)).unwrap_err();
    }

    #[test]
    fn a_wrong_byte_is_an_error_whether_another_member_had_the_right_ones_or_not() {
        let right = broadcast(1);
        let text_at = right.len() - said(1).len();
        for at in text_at..right.len() {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            let room = room(false);
            assert!(room.joined().take(&wrong).is_err(), "byte {at}");
            assert!(room.joined().take(&right).unwrap());
            assert!(room.joined().take(&wrong).is_err(), "byte {at}");
        }
        let binary = unmasked(crate::frame::BINARY, &said(1));
        room(false).joined().take(&binary).unwrap_err();
    }

    #[test]
    fn a_compressed_broadcast_is_inflated_and_one_that_is_not_is_an_error() {
        let compressed = |text: &[u8]| unmasked(COMPRESSED | TEXT, &deflate(text));
        let room = room(true);
        assert!(room.joined().take(&compressed(&said(1))).unwrap());
        room.joined().take(&compressed(&said(2))).unwrap_err();
        room.joined().take(&broadcast(1)).unwrap_err();
        super::tests::room(false)
            .joined()
            .take(&compressed(&said(1)))
            .unwrap_err();
    }

    #[test]
    fn a_reply_says_that_the_member_has_joined() {
        let reply = |status: &str| {
            let payload = json!({"status": status, "response": {}});
            let text = json!(["1", "1", TOPIC, "phx_reply", payload]).to_string();
            unmasked(TEXT, text.as_bytes())
        };
        for deflate in [false, true] {
            assert!(room(deflate).member(0).take(&reply("ok")).unwrap());
            room(deflate).member(0).take(&reply("error")).unwrap_err();
        }
    }
}
