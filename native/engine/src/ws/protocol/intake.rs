//! Between the reader and the owner's batch: counts what comes, collects the answers to pings, and notes
//! how it ends.

use crate::buffer::Buffer;
use crate::owner::{Events, Payload, Sink};
use crate::ws::ending::{Ending, LastEvent};
use crate::ws::frame::{self, Opcode};

/// Where what was read goes to.
pub(in crate::ws) struct Outlet<'a, E> {
    /// What the owner is to hear.
    pub batch: &'a mut E,
    /// Frames that answer pings, for the peer to have before the owner can answer.
    pub pongs: &'a mut Vec<u8>,
    pub last_event: &'a LastEvent,
}

/// What was read at once. The time that it took is told afterwards, with
/// [`Protocol::has_read`](super::Protocol::has_read).
#[derive(Default, Clone, Copy)]
pub(in crate::ws) struct Intake {
    /// Bytes of messages for the owner.
    pub(super) size: usize,
    pub(super) messages: u32,
    pub(super) controls: u32,
    /// The code to close with: nothing more is awaited from the peer.
    pub(super) close: Option<u16>,
    /// There is something in the batch, which the owner answers.
    pub(super) has_events: bool,
    /// The last one of them is the last event.
    pub(in crate::ws) has_last_event: bool,
}

pub(super) struct Taking<'a, E> {
    pub(super) outlet: Outlet<'a, E>,
    pub(super) intake: Intake,
    /// Only the close frame still matters.
    pub(super) is_muted: bool,
    /// The owner wants to hear of pings and pongs.
    pub(super) tells_controls: bool,
}

impl<E> Taking<'_, E> {
    fn message<B: Buffer>(&mut self, payload: Payload<'_, B>, pass: fn(&mut E, Payload<'_, B>)) {
        self.intake.messages += 1;
        if self.is_muted {
            return;
        }
        self.intake.size += match &payload {
            Payload::Slice(bytes) => bytes.len(),
            Payload::Buffer(buffer) => buffer.len(),
        };
        pass(self.outlet.batch, payload);
    }

    fn last_event(&mut self, ending: Ending) {
        self.outlet.last_event.is(ending);
        self.intake.has_last_event = true;
    }

    /// Ends it, by the error if there was one.
    pub(super) fn finish<B: Buffer>(mut self, result: Result<(), frame::Error>) -> Intake
    where
        E: Events<B>,
    {
        if let Err(error) = result {
            self.fail(&error);
        }
        self.intake.has_events = !self.outlet.batch.is_empty();
        self.intake
    }

    #[cold]
    fn fail<B: Buffer>(&mut self, error: &frame::Error)
    where
        E: Events<B>,
    {
        let (code, name) = (error.close_code(), error.name());
        self.intake.close = Some(code);
        if !self.is_muted {
            self.outlet.batch.error(code, name);
            self.last_event(Ending::Error(code, name));
        }
    }
}

impl<B: Buffer, E: Events<B>> Sink<B> for Taking<'_, E> {
    fn text(&mut self, payload: Payload<'_, B>) {
        self.message(payload, E::text);
    }

    fn binary(&mut self, payload: Payload<'_, B>) {
        self.message(payload, E::binary);
    }

    /// Answered also where it is not told (RFC6455§5.5.2).
    fn ping(&mut self, payload: &[u8]) {
        self.intake.controls += 1;
        frame::encode_header(self.outlet.pongs, Opcode::Pong, false, payload.len());
        self.outlet.pongs.extend_from_slice(payload);
        if self.tells_controls && !self.is_muted {
            self.outlet.batch.ping(payload);
        }
    }

    fn pong(&mut self, payload: &[u8]) {
        self.intake.controls += 1;
        if self.tells_controls && !self.is_muted {
            self.outlet.batch.pong(payload);
        }
    }

    fn close(&mut self, code: Option<u16>, reason: &[u8]) {
        self.intake.close = Some(code.unwrap_or(1000));
        if !self.is_muted {
            self.outlet.batch.close(code, reason);
            self.last_event(Ending::Close(code, reason.to_vec()));
        }
    }
}
