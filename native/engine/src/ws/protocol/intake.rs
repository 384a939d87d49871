//! Between the reader and the owner's batch: counts what comes, collects the answers to pings, and notes
//! how it ends.

use crate::buffer::Buffer;
use crate::owner::{Events, Payload, Sink};
use crate::ws::ending::Ending;
use crate::ws::frame::{self, Opcode};

/// What was read at once. The time that it took is told afterwards, with
/// [`Protocol::has_read`](super::Protocol::has_read).
#[derive(Default)]
pub(in crate::ws) struct Intake {
    /// Bytes of the messages in the batch; `None` if there is nothing that the owner would answer.
    pub(super) size: Option<usize>,
    pub(super) messages: usize,
    pub(super) controls: usize,
    /// The code to close with: nothing more is awaited from the peer.
    pub(super) close: Option<u16>,
    /// The last event, which is in the batch.
    pub(in crate::ws) ending: Option<Ending>,
}

pub(super) struct Taking<'a, E> {
    pub(super) intake: Intake,
    /// Bytes of the messages so far.
    pub(super) size: usize,
    pub(super) batch: &'a mut E,
    /// Frames.
    pub(super) pongs: &'a mut Vec<u8>,
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
        self.size += match &payload {
            Payload::Slice(bytes) => bytes.len(),
            Payload::Buffer(buffer) => buffer.len(),
        };
        pass(self.batch, payload);
    }

    /// Ends it, by the error if there was one.
    pub(super) fn finish<B: Buffer>(mut self, result: Result<(), frame::Error>) -> Intake
    where
        E: Events<B>,
    {
        if let Err(e) = result {
            let (code, name) = (e.close_code(), e.name());
            self.intake.close = Some(code);
            if !self.is_muted {
                self.batch.error(code, name);
                self.intake.ending = Some(Ending::Error(code, name));
            }
        }
        self.intake.size = (!self.batch.is_empty()).then_some(self.size);
        self.intake
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
        frame::encode_header(self.pongs, Opcode::Pong, false, payload.len());
        self.pongs.extend_from_slice(payload);
        if self.tells_controls && !self.is_muted {
            self.batch.ping(payload);
        }
    }

    fn pong(&mut self, payload: &[u8]) {
        self.intake.controls += 1;
        if self.tells_controls && !self.is_muted {
            self.batch.pong(payload);
        }
    }

    fn close(&mut self, code: Option<u16>, reason: &[u8]) {
        self.intake.close = Some(code.unwrap_or(1000));
        if !self.is_muted {
            self.batch.close(code, reason);
            self.intake.ending = Some(Ending::Close(code, reason.to_vec()));
        }
    }
}
