//! The events of a WebSocket as terms: `t:Ferrosock.Native.event/0`.

use std::io;

use ferrosock_engine::owner::Events;
use ferrosock_engine::owner::{Payload, Sink};
use ferrosock_engine::ws::ending::Ending;
use rustler::{Encoder, Env, Term};

use crate::raw::BinaryBuffer;
use crate::term::{atom, atoms, binary, posix};

/// The events of one message.
pub struct Batch<'a> {
    env: Env<'a>,
    events: Vec<Term<'a>>,
}

impl<'a> Batch<'a> {
    pub fn new(env: Env<'a>) -> Self {
        Self {
            env,
            events: Vec::new(),
        }
    }

    pub fn into_events(self) -> Vec<Term<'a>> {
        self.events
    }

    /// A last event, for an owner that asks for it.
    pub fn last(env: Env<'a>, ending: &Ending) -> Term<'a> {
        let mut batch = Self {
            env,
            events: Vec::with_capacity(1),
        };
        ending.tell(&mut batch);
        batch.events[0]
    }

    fn push(&mut self, event: impl Encoder) {
        self.events.push(event.encode(self.env));
    }
}

impl Sink<BinaryBuffer> for Batch<'_> {
    fn text(&mut self, payload: Payload<'_, BinaryBuffer>) {
        let payload = into_term(self.env, payload);
        self.push((atoms::text(), payload));
    }

    fn binary(&mut self, payload: Payload<'_, BinaryBuffer>) {
        let payload = into_term(self.env, payload);
        self.push((atoms::binary(), payload));
    }

    fn ping(&mut self, payload: &[u8]) {
        self.push((atoms::ping(), binary(self.env, payload)));
    }

    fn pong(&mut self, payload: &[u8]) {
        self.push((atoms::pong(), binary(self.env, payload)));
    }

    fn close(&mut self, code: Option<u16>, reason: &[u8]) {
        self.push((atoms::close(), code, binary(self.env, reason)));
    }
}

impl Events<BinaryBuffer> for Batch<'_> {
    fn error(&mut self, code: u16, reason: &'static str) {
        self.push((atoms::error(), code, atom(self.env, reason)));
    }

    fn timeout(&mut self) {
        self.push(atoms::timeout());
    }

    fn lifetime(&mut self) {
        self.push(atoms::max_lifetime());
    }

    fn closed(&mut self, reason: &io::Error) {
        self.push((atoms::closed(), posix(self.env, reason)));
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

fn into_term<'a>(env: Env<'a>, payload: Payload<'_, BinaryBuffer>) -> Term<'a> {
    match payload {
        Payload::Slice(bytes) => binary(env, bytes),
        Payload::Buffer(buffer) => buffer.into_binary(env).encode(env),
    }
}
