//! The reader's events, kept for comparison.

use ferrosock_engine::buffer::{Buffer, VecBuffer};
use ferrosock_engine::owner::{Payload, Sink};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
}

#[derive(Debug, Default)]
pub struct Events(pub Vec<Event>);

fn bytes(payload: Payload<'_, VecBuffer>) -> Vec<u8> {
    match payload {
        Payload::Slice(slice) => slice.to_vec(),
        Payload::Buffer(mut buffer) => buffer.filled().to_vec(),
    }
}

impl Sink<VecBuffer> for Events {
    fn text(&mut self, payload: Payload<'_, VecBuffer>) {
        self.0.push(Event::Text(bytes(payload)));
    }

    fn binary(&mut self, payload: Payload<'_, VecBuffer>) {
        self.0.push(Event::Binary(bytes(payload)));
    }

    fn ping(&mut self, payload: &[u8]) {
        self.0.push(Event::Ping(payload.to_vec()));
    }

    fn pong(&mut self, payload: &[u8]) {
        self.0.push(Event::Pong(payload.to_vec()));
    }

    fn close(&mut self, code: Option<u16>, reason: &[u8]) {
        self.0.push(Event::Close(code, reason.to_vec()));
    }
}
