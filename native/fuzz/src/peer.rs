//! A client's bytes through ours and through tungstenite: the same messages up to the first error,
//! and an error of ours wherever there is one of theirs.

use std::io::{self, Cursor, Read, Write};

use ferrosock_engine::ws::frame;
use ferrosock_engine::ws::message::{Limits, Reader};
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use crate::event::Event;
use crate::reader::read;
use crate::source::Source;
use crate::stream::stream;

const MAX_SIZE: usize = 50_000;

pub fn check(data: &[u8]) {
    let bytes = stream(&mut Source::new(data), None);
    let limits = Limits {
        max_frame_size: MAX_SIZE as u64,
        max_fragments: u32::MAX,
        validate_utf8: true,
    };
    let (ours, our_error) = read(Reader::new(limits), &bytes, &[bytes.len()], false);
    let (mut theirs, their_error) = read_by_tungstenite(bytes);

    // Where we differ on purpose.
    if refused_close(theirs.last()) {
        // To them a close code that must not be sent is no error. 1014, of IANA's registry, is one.
        if let Some(close @ Event::Close(Some(1014), _)) = ours.last() {
            theirs.pop();
            theirs.push(close.clone());
        } else if our_error == Some(frame::Error::InvalidCloseCode) {
            theirs.pop();
        }
    }
    if our_error == Some(frame::Error::ControlFrameTooBig) {
        // They accept a control frame whose length has a longer form, when it is short enough.
        theirs.truncate(ours.len());
    }

    assert_eq!(
        ours, theirs,
        "our error {our_error:?}, theirs {their_error:?}"
    );
    // Not the other way round: we refuse a frame before it is complete.
    if let Some(error) = their_error {
        assert!(our_error.is_some(), "only they say {error}");
    }
}

/// What they make of a close frame whose code must not be sent.
fn refused_close(event: Option<&Event>) -> bool {
    matches!(event, Some(Event::Close(Some(1002), reason)) if reason == b"Protocol violation")
}

/// What it reads until the bytes end, or until its first error.
fn read_by_tungstenite(bytes: Vec<u8>) -> (Vec<Event>, Option<Error>) {
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(0)
        .max_frame_size(Some(MAX_SIZE))
        .max_message_size(Some(MAX_SIZE));
    let peer = Peer(Cursor::new(bytes));
    let mut socket = WebSocket::from_raw_socket(peer, Role::Server, Some(config));

    let mut events = vec![];
    loop {
        match socket.read() {
            Ok(Message::Close(frame)) => {
                events.push(close(frame));
                return (events, None);
            }
            Ok(message) => events.push(event(message)),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return (events, None);
            }
            Err(error) => return (events, Some(error)),
        }
    }
}

fn event(message: Message) -> Event {
    match message {
        Message::Text(text) => Event::Text(text.as_bytes().to_vec()),
        Message::Binary(bytes) => Event::Binary(bytes.to_vec()),
        Message::Ping(bytes) => Event::Ping(bytes.to_vec()),
        Message::Pong(bytes) => Event::Pong(bytes.to_vec()),
        Message::Close(_) | Message::Frame(_) => unreachable!("neither comes from a read here"),
    }
}

fn close(frame: Option<CloseFrame>) -> Event {
    match frame {
        Some(frame) => Event::Close(Some(frame.code.into()), frame.reason.as_bytes().to_vec()),
        None => Event::Close(None, vec![]),
    }
}

/// Reads what it was given; answers go nowhere.
struct Peer(Cursor<Vec<u8>>);

impl Read for Peer {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Peer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
