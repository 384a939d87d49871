//! Against tungstenite: an implementation that is not ours, at the other end.

use std::io::{self, Cursor, Read, Write};

use ferrosock_engine::ws::frame::{Opcode, encode_header};
use proptest::prelude::*;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use crate::support::*;

/// Reads what it was given, keeps what is written.
#[derive(Default)]
struct Pipe {
    unread: Cursor<Vec<u8>>,
    written: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.unread.read(buf)
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.written.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn client(unread: Vec<u8>) -> WebSocket<Pipe> {
    let pipe = Pipe {
        unread: Cursor::new(unread),
        ..Pipe::default()
    };
    // Its default buffers are 128 KiB each, for every case.
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(0);
    WebSocket::from_raw_socket(pipe, Role::Client, Some(config))
}

fn event() -> impl Strategy<Value = Event> {
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..=max);
    prop_oneof![
        ".{0,200}".prop_map(|text| Event::Text(text.into())),
        bytes(200).prop_map(Event::Binary),
        bytes(70_000).prop_map(Event::Binary),
        bytes(125).prop_map(Event::Ping),
        bytes(125).prop_map(Event::Pong),
    ]
}

fn close_event() -> impl Strategy<Value = Event> {
    let code = prop_oneof![1000..=1003u16, 1007..=1013u16, 3000..=4999u16];
    let with_code =
        (code, "[a-zé日]{0,30}").prop_map(|(code, reason)| Event::Close(Some(code), reason.into()));
    prop_oneof![Just(Event::Close(None, vec![])), with_code]
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let events = prop::collection::vec(event(), 0..12);
    (events, prop::option::of(close_event())).prop_map(|(mut events, close)| {
        events.extend(close);
        events
    })
}

fn utf8(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn to_message(event: &Event) -> Message {
    match event {
        Event::Text(text) => Message::text(utf8(text)),
        Event::Binary(bytes) => Message::binary(bytes.clone()),
        Event::Ping(bytes) => Message::Ping(bytes.clone().into()),
        Event::Pong(bytes) => Message::Pong(bytes.clone().into()),
        Event::Close(code, reason) => Message::Close(code.map(|code| CloseFrame {
            code: code.into(),
            reason: utf8(reason).into(),
        })),
    }
}

/// A message in fragments of `size`, as tungstenite sends them when told frame by frame.
fn fragments(data: Data, payload: &[u8], size: usize) -> Vec<Message> {
    let count = payload.len().div_ceil(size).max(1);
    let frame = |i: usize| {
        let part = &payload[i * size..payload.len().min((i + 1) * size)];
        let data = if i == 0 { data } else { Data::Continue };
        Frame::message(part.to_vec(), OpCode::Data(data), i + 1 == count)
    };
    (0..count).map(|i| Message::Frame(frame(i))).collect()
}

fn encode(out: &mut Vec<u8>, event: &Event) {
    let (opcode, payload) = match event {
        Event::Text(text) => (Opcode::Text, text.clone()),
        Event::Binary(bytes) => (Opcode::Binary, bytes.clone()),
        Event::Ping(bytes) => (Opcode::Ping, bytes.clone()),
        Event::Pong(bytes) => (Opcode::Pong, bytes.clone()),
        Event::Close(None, _) => (Opcode::Close, vec![]),
        Event::Close(Some(code), reason) => {
            (Opcode::Close, [&code.to_be_bytes(), &reason[..]].concat())
        }
    };
    encode_header(out, opcode, false, payload.len());
    out.extend(payload);
}

proptest! {
    #[test]
    fn we_read_what_it_writes(
        events in events(),
        size in prop::option::of(1..5000usize),
        reads in prop::collection::vec(1..20_000usize, 1..8),
    ) {
        let mut client = client(vec![]);
        for event in &events {
            let messages = match (event, size) {
                (Event::Text(text), Some(size)) => fragments(Data::Text, text, size),
                (Event::Binary(bytes), Some(size)) => fragments(Data::Binary, bytes, size),
                _ => vec![to_message(event)],
            };
            for message in messages {
                client.send(message).unwrap();
            }
        }
        let bytes = &client.get_ref().written;
        prop_assert!(read_whole(NO_LIMITS, bytes) == (events.clone(), None));
        prop_assert!(read_cut(NO_LIMITS, bytes, &reads, true) == (events, None));
    }

    #[test]
    fn it_reads_what_we_write(events in events()) {
        let mut bytes = vec![];
        for event in &events {
            encode(&mut bytes, event);
        }
        let mut client = client(bytes);
        for event in &events {
            prop_assert!(client.read().unwrap() == to_message(event));
        }
        // Nothing is left over.
        prop_assert!(client.read().is_err());
    }
}
