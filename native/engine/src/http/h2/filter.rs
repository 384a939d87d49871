//! What a client sends, before h2 gets it. A malformed request is a fault of its stream alone (RFC9113§8.1.1):
//! others may be on the connection of a proxy. h2 ends the connection where a field cannot be a `http`
//! one, and knows one error code for whatever is wrong with a frame. So frames are checked here, and a
//! malformed header block is replaced by a small one of which h2 says that it is malformed: it resets the
//! stream by itself, ignores what else comes for it, and counts how often that happens.
//!
//! What is right passes as it is. After a block was replaced, h2's table lacks what that had for it; from
//! then on h2 gets literals that need no table.
//!
//! There is no I/O here. The work is bounded by the bytes that come, and what is kept by one header block
//! and one read.

use h2::Reason;

use super::block::{Block, Found};
use super::field::Judge;
use super::frame::{
    ACK, CONTINUATION, DATA, END_STREAM, GOAWAY, HEAD_LEN, HEADERS, Head, MAX_31_BITS,
    MAX_FRAME_SIZE, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use super::hpack::{self, Decoder};
use super::rewrite::{MALFORMED, Rewrite};
use super::streams::{State, Streams};

const PREFACE_LEN: usize = 24;
const PRIORITY_LEN: usize = 5;

const INITIAL_WINDOW_SIZE: u16 = 4;

/// How often over its bound a list of header fields ends the connection, as with h2, which answers smaller
/// ones.
const ABUSE: usize = 4;

/// How many streams may wait to be reset for another reason than a malformed request.
const MAX_REASONS: usize = 64;

/// A buffer that is larger is given back.
const KEPT: usize = 4096;

/// Given to h2 in the place of what is wrong, and what is kept until more has come.
pub struct Filter {
    preface_left: usize,
    /// How much of a frame passes that has begun to.
    passing: usize,
    has_settings: bool,
    streams: Streams,
    decoder: Decoder,
    max_header_length: usize,
    /// What is known of the header block under way, if a part of it has come.
    found: Option<Found>,
    /// h2's table is no longer that of the client.
    is_detached: bool,
    /// What has come and is not yet looked at.
    held: Vec<u8>,
    /// How much of `held` has been passed on.
    held_at: usize,
    /// What h2 gets next.
    out: Vec<u8>,
    out_at: usize,
    fault: Option<Reason>,
    /// Why streams are reset of which h2 thinks that their request is malformed.
    reasons: Vec<(u32, Reason)>,
}

/// What is to happen with the bytes at the front.
enum Step {
    /// So many pass as they are.
    Pass(usize),
    /// So many are replaced by what is in `out`.
    Replace(usize),
    More,
}

impl Filter {
    pub fn new(max_header_length: u32) -> Self {
        Self {
            preface_left: PREFACE_LEN,
            passing: 0,
            has_settings: false,
            streams: Streams::new(),
            decoder: Decoder::new(),
            max_header_length: max_header_length as usize,
            found: None,
            is_detached: false,
            held: vec![],
            held_at: 0,
            out: vec![],
            out_at: 0,
            fault: None,
            reasons: vec![],
        }
    }

    /// Takes what was read. Returns how much of its front passes as it is; the rest is kept, and to be had
    /// by [`Self::give`].
    pub fn take(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        if !self.is_holding() {
            while passed < bytes.len() && self.fault.is_none() {
                match self.step(&bytes[passed..]) {
                    Ok(Step::Pass(n)) => passed += n,
                    Ok(Step::Replace(n)) => {
                        self.held.extend_from_slice(&bytes[passed + n..]);
                        return passed;
                    }
                    Ok(Step::More) => break,
                    Err(reason) => self.fault = Some(reason),
                }
            }
        }
        if self.fault.is_none() {
            self.held.drain(..self.held_at);
            self.held_at = 0;
            self.held.extend_from_slice(&bytes[passed..]);
        }
        passed
    }

    /// Puts what is to pass into `space`. Returns how much that is: nothing where more of the client's bytes
    /// is needed for it, or where there is a fault.
    pub fn give(&mut self, space: &mut [u8]) -> usize {
        let mut given = 0;
        while given < space.len() {
            let space = &mut space[given..];
            if self.out_at < self.out.len() {
                let copied = copy(&self.out[self.out_at..], space);
                self.out_at += copied;
                given += copied;
                continue;
            }
            empty(&mut self.out, &mut self.out_at);
            if self.fault.is_some() || self.held_at == self.held.len() {
                break;
            }
            match self.step_held(space) {
                Some(copied) => given += copied,
                None => break,
            }
        }
        if self.fault.is_some() || self.held_at == self.held.len() {
            empty(&mut self.held, &mut self.held_at);
        }
        if self.out_at == self.out.len() {
            empty(&mut self.out, &mut self.out_at);
        }
        given
    }

    /// Takes a step with what is held. Returns how much of it has passed into `space`; `None` where more of the
    /// client's bytes is needed.
    fn step_held(&mut self, space: &mut [u8]) -> Option<usize> {
        // Taken out, as the step changes what is beside it.
        let held = std::mem::take(&mut self.held);
        let mut passed = Some(0);
        match self.step(&held[self.held_at..]) {
            Ok(Step::Pass(n)) => {
                let copied = copy(&held[self.held_at..][..n], space);
                // What has no room passes later.
                self.passing += n - copied;
                self.held_at += copied;
                passed = Some(copied);
            }
            Ok(Step::Replace(n)) => self.held_at += n,
            Ok(Step::More) => passed = None,
            Err(reason) => self.fault = Some(reason),
        }
        self.held = held;
        passed
    }

    /// Why the connection has to end. Nothing passes any more.
    pub fn fault(&self) -> Option<Reason> {
        self.fault.filter(|_| self.out.is_empty())
    }

    /// Whether something waits to be given, or for more.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty() || !self.out.is_empty()
    }

    /// Why a stream is reset, where h2 would say something else.
    pub(super) fn reason(&self, id: u32) -> Option<Reason> {
        let mut reasons = self.reasons.iter();
        reasons
            .find(|(other, _)| *other == id)
            .map(|(_, reason)| *reason)
    }

    pub(super) fn has_reasons(&self) -> bool {
        !self.reasons.is_empty()
    }

    /// A reset of ours is on its way to the client.
    pub(super) fn resets(&mut self, id: u32) {
        self.streams.set(id, State::Reset);
        self.reasons.retain(|(other, _)| *other != id);
    }

    fn step(&mut self, bytes: &[u8]) -> Result<Step, Reason> {
        for left in [&mut self.preface_left, &mut self.passing] {
            if *left > 0 {
                let passed = bytes.len().min(*left);
                *left -= passed;
                return Ok(Step::Pass(passed));
            }
        }
        let Some(head) = Head::parse(bytes) else {
            return Ok(Step::More);
        };
        self.check(&head)?;
        match head.kind {
            HEADERS => self.headers(&head, bytes),
            SETTINGS | PRIORITY | WINDOW_UPDATE => self.whole(&head, bytes),
            _ => Ok(self.by_head(&head, bytes)),
        }
    }

    /// A frame that is judged by its payload, and waits until all of it is there.
    fn whole(&mut self, head: &Head, bytes: &[u8]) -> Result<Step, Reason> {
        let Some(payload) = head.payload(bytes) else {
            return Ok(Step::More);
        };
        if head.kind == SETTINGS {
            check_settings(payload)?;
            self.has_settings = true;
        } else if self.is_taken_out(head, payload) {
            return Ok(Step::Replace(HEAD_LEN + head.len));
        }
        Ok(self.pass(HEAD_LEN + head.len, bytes))
    }

    /// A frame that is judged by its head alone, so that its payload passes as it comes.
    fn by_head(&mut self, head: &Head, bytes: &[u8]) -> Step {
        match head.kind {
            DATA if self.streams.state(head.stream) == State::Ended => {
                // It is left to follow: its bytes count for the connection's window.
                self.refuse(head, Reason::STREAM_CLOSED);
                return Step::Replace(0);
            }
            DATA if head.has(END_STREAM) => self.end(head.stream),
            RST_STREAM => self.skip(head.stream),
            _ => {}
        }
        self.pass(HEAD_LEN + head.len, bytes)
    }

    fn pass(&mut self, len: usize, bytes: &[u8]) -> Step {
        let passed = bytes.len().min(len);
        self.passing = len - passed;
        Step::Pass(passed)
    }

    /// Whether a frame is one that h2 must not get: it would end the connection for a fault of the stream's.
    fn is_taken_out(&mut self, head: &Head, payload: &[u8]) -> bool {
        let value = payload
            .first_chunk()
            .map_or(0, |value| u32::from_be_bytes(*value));
        let value = value & MAX_31_BITS;
        let reason = match head.kind {
            PRIORITY if payload.len() != PRIORITY_LEN => Some(Reason::FRAME_SIZE_ERROR),
            // Priorities say nothing any more (RFC9113§5.3.2), but h2 would reset the stream, also one that
            // nobody has opened, and take those below it for closed.
            PRIORITY if value == head.stream && value != 0 => None,
            // A window that grows by 0 is an error of the stream (RFC9113§6.9).
            WINDOW_UPDATE if value == 0 && self.may_be_refused(head.stream) => {
                Some(Reason::PROTOCOL_ERROR)
            }
            _ => return false,
        };
        self.out.clear();
        if let Some(reason) = reason.filter(|_| self.streams.state(head.stream) != State::Reset) {
            self.refuse(head, reason);
        }
        true
    }

    /// Whether it is a stream that somebody has opened, so that its end may be all that a fault leads to.
    fn may_be_refused(&self, id: u32) -> bool {
        let state = self.streams.state(id);
        id % 2 == 1 && !matches!(state, State::Idle | State::Skipped)
    }

    /// What the head of a frame tells (RFC9113§4.2, §6). That it is on the wrong stream is told by h2.
    fn check(&self, head: &Head) -> Result<(), Reason> {
        let fits = match head.kind {
            _ if head.len > MAX_FRAME_SIZE => false,
            PRIORITY => head.len == PRIORITY_LEN || self.may_be_refused(head.stream),
            RST_STREAM | WINDOW_UPDATE => head.len == 4,
            SETTINGS if head.has(ACK) => head.len == 0,
            SETTINGS => head.len.is_multiple_of(6),
            PING => head.len == 8,
            GOAWAY => head.len >= 8,
            _ => true,
        };
        if !fits {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        // The first frame is SETTINGS, and no acknowledgement (RFC9113§3.4).
        let may_be_first = head.kind == SETTINGS && !head.has(ACK);
        let is_expected = match head.kind {
            HEADERS => head.stream % 2 == 1,
            PUSH_PROMISE | CONTINUATION => false,
            _ => true,
        };
        if !is_expected || !self.has_settings && !may_be_first {
            return Err(Reason::PROTOCOL_ERROR);
        }
        Ok(())
    }

    fn headers(&mut self, head: &Head, bytes: &[u8]) -> Result<Step, Reason> {
        let max = self.max_header_length;
        let found = self.found.get_or_insert_with(|| Found::new(head, max));
        let Some(block) = Block::collect(head, bytes, found)? else {
            return Ok(Step::More);
        };
        self.found = None;
        let id = head.stream;
        let state = self.streams.state(id);
        match state {
            // A stream may not be opened after one with a higher number (RFC9113§5.1.1).
            State::Skipped => return Err(Reason::PROTOCOL_ERROR),
            State::Idle => self.streams.open(id),
            _ => {}
        }
        self.is_detached |= block.priority == Some(id);
        // A block for a stream that was forgotten may be the head of a request that comes too late.
        let is_trailers = !matches!(state, State::Idle | State::Forgotten);
        let is_malformed = self.decode(&block.bytes, is_trailers)?;
        match state {
            State::Ended | State::Left => self.refuse(head, Reason::STREAM_CLOSED),
            // h2 may know nothing of it any more, and then it would be one that is too low.
            State::Reset => {
                self.is_detached = true;
                self.out.clear();
            }
            _ if is_malformed => self.refuse(head, Reason::PROTOCOL_ERROR),
            _ => {
                if head.has(END_STREAM) {
                    self.end(id);
                }
                if !self.is_detached {
                    return Ok(self.pass(block.len, bytes));
                }
                self.out = head.frames(&self.out);
            }
        }
        Ok(Step::Replace(block.len))
    }

    /// Returns whether the block is malformed. Leaves in `out` what h2 gets in its place, if its table is
    /// no longer that of the client.
    fn decode(&mut self, block: &[u8], is_trailers: bool) -> Result<bool, Reason> {
        let max = self.max_header_length;
        let judge = Judge::new(is_trailers);
        let mut rewrite = Rewrite::new(&mut self.out, judge, max, self.is_detached);
        let abuse = max.saturating_mul(ABUSE);
        let decoded = self
            .decoder
            .decode(block, abuse, |field| rewrite.field(field));
        if let Err(error) = decoded {
            // No part of it is to pass.
            self.out.clear();
            return Err(match error {
                hpack::Error::Malformed => Reason::COMPRESSION_ERROR,
                hpack::Error::TooLarge => Reason::ENHANCE_YOUR_CALM,
            });
        }
        let (is_malformed, is_needed) = rewrite.finish();
        self.is_detached = is_needed;
        Ok(is_malformed)
    }

    /// Has a stream reset by h2.
    fn refuse(&mut self, head: &Head, reason: Reason) {
        self.is_detached = true;
        self.streams.set(head.stream, State::Reset);
        self.out = Head {
            flags: END_STREAM,
            ..*head
        }
        .frames(MALFORMED);
        if reason != Reason::PROTOCOL_ERROR {
            // The oldest may be of a stream that was over by itself.
            if self.reasons.len() == MAX_REASONS {
                self.reasons.remove(0);
            }
            self.reasons.push((head.stream, reason));
        }
    }

    fn end(&mut self, id: u32) {
        if self.streams.state(id) == State::Open {
            self.streams.set(id, State::Ended);
        }
    }

    fn skip(&mut self, id: u32) {
        if self.streams.state(id) != State::Reset {
            self.streams.set(id, State::Left);
        }
    }
}

fn check_settings(payload: &[u8]) -> Result<(), Reason> {
    // What else there is to check is checked by h2.
    let is_window = |setting: &[u8]| setting[..2] == INITIAL_WINDOW_SIZE.to_be_bytes();
    let is_high = |setting: &[u8]| setting[2] & 0x80 != 0;
    match payload
        .chunks_exact(6)
        .any(|setting| is_window(setting) && is_high(setting))
    {
        true => Err(Reason::FLOW_CONTROL_ERROR),
        false => Ok(()),
    }
}

/// Copies as much as there is room for, and returns how much that was.
fn copy(from: &[u8], to: &mut [u8]) -> usize {
    let len = from.len().min(to.len());
    to[..len].copy_from_slice(&from[..len]);
    len
}

/// Leaves no large buffer to a connection that may be idle.
fn empty(buffer: &mut Vec<u8>, at: &mut usize) {
    *at = 0;
    match buffer.capacity() > KEPT {
        true => *buffer = vec![],
        false => buffer.clear(),
    }
}
