//! A WebSocket with its owner and its peer, in simulated time: tests say what time it is, and take none.

use std::mem;

use super::*;
use crate::buffer::VecBuffer;
use crate::owner::{Payload, Sink};
use crate::ws::ending::LastEvent;

pub(super) const MS: Duration = Duration::from_millis(1);

/// What the owner and the peer have come to know.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    Message(usize),
    /// A ping or a pong that the owner has heard of.
    Control,
    Close(Option<u16>),
    Error(u16, &'static str),
    Timeout,
    Lifetime,
    Closed,
    Idle,
    Paused(u32),
    /// A ping of ours.
    Pinged,
    /// Bytes of answers to pings.
    Pongs(usize),
    /// A close frame in the owner's place.
    CloseFor(u16),
    Ended(End),
}
use Seen::*;

impl Seen {
    pub(super) fn is_last_event(&self) -> bool {
        matches!(self, Close(_) | Error(..) | Timeout | Lifetime | Closed)
    }
}

#[derive(Default)]
pub(super) struct Batch(Vec<Seen>);

impl Sink<VecBuffer> for Batch {
    fn text(&mut self, payload: Payload<'_, VecBuffer>) {
        self.binary(payload);
    }

    fn binary(&mut self, payload: Payload<'_, VecBuffer>) {
        self.0.push(Message(match payload {
            Payload::Slice(bytes) => bytes.len(),
            Payload::Buffer(buffer) => buffer.len(),
        }));
    }

    fn ping(&mut self, _payload: &[u8]) {
        self.0.push(Control);
    }

    fn pong(&mut self, _payload: &[u8]) {
        self.0.push(Control);
    }

    fn close(&mut self, code: Option<u16>, _reason: &[u8]) {
        self.0.push(Close(code));
    }
}

impl Events<VecBuffer> for Batch {
    fn error(&mut self, code: u16, reason: &'static str) {
        self.0.push(Error(code, reason));
    }

    fn timeout(&mut self) {
        self.0.push(Timeout);
    }

    fn lifetime(&mut self) {
        self.0.push(Lifetime);
    }

    fn closed(&mut self, _reason: &io::Error) {
        self.0.push(Closed);
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A socket, its owner and its peer, at a time of their own.
pub(super) struct Sim {
    pub(super) protocol: Protocol<'static, VecBuffer>,
    start: Instant,
    pub(super) now: Instant,
    outgoing: Outgoing,
    pub(super) answered: u32,
    last_event: LastEvent,
    /// With the milliseconds from the start.
    seen: Vec<(u128, Seen)>,
    pub(super) end: Option<End>,
}

impl Sim {
    /// Its owner is not ready yet.
    pub(super) fn before_ready(config: SocketConfig) -> Self {
        let now = Instant::now();
        Self {
            protocol: Protocol::new(Box::leak(Box::new(config)), None, now),
            start: now,
            now,
            outgoing: Outgoing {
                closing: None,
                stalled: None,
                is_all_sent: true,
                last_sent: now,
                told_idle: false,
            },
            answered: 0,
            last_event: LastEvent::default(),
            seen: Vec::new(),
            end: None,
        }
    }

    pub(super) fn new(config: SocketConfig) -> Self {
        let mut sim = Self::before_ready(config);
        sim.answer();
        sim
    }

    fn note(&mut self, seen: Seen) {
        self.seen.push(((self.now - self.start).as_millis(), seen));
    }

    /// What was seen since this was asked last.
    pub(super) fn seen(&mut self) -> Vec<(u128, Seen)> {
        mem::take(&mut self.seen)
    }

    /// The task looks, as it does whenever something has happened.
    fn look(&mut self) {
        if self.end.is_some() {
            return;
        }
        self.protocol.observe(&self.outgoing);
        if self.protocol.is_finished() {
            self.ends(End::Finished);
        }
        self.may_read();
    }

    fn may_read(&mut self) -> bool {
        let now = self.now;
        self.protocol.wants_input(|| now) && self.protocol.has_credit(self.answered, || now)
    }

    fn ends(&mut self, end: End) {
        self.end = Some(end);
        self.note(Ended(end));
    }

    /// Time goes on, and each timeout is handled when it is due. Asked a moment before, there is nothing to
    /// do.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.next_timeout().filter(|due| *due <= until) {
            if due > self.now {
                let before = due - Duration::from_nanos(1);
                let action = self.protocol.handle_timeout(before);
                assert!(action.is_none(), "{action:?} before its time");
                self.now = due;
            }
            self.handle_timeouts();
        }
        self.now = until;
    }

    /// Time goes on, and nobody looks until then.
    pub(super) fn leap(&mut self, time: Duration) {
        self.now += time;
        self.look();
        self.handle_timeouts();
    }

    fn next_timeout(&self) -> Option<Instant> {
        self.protocol.next_timeout().filter(|_| self.end.is_none())
    }

    fn handle_timeouts(&mut self) {
        for _ in 0..100 {
            match self.protocol.handle_timeout(self.now) {
                Some(action) if self.end.is_none() => self.act(action),
                _ => {
                    let next = self.next_timeout();
                    assert!(next.is_none_or(|due| due > self.now), "a busy loop");
                    return;
                }
            }
        }
        panic!("there is always something to do: {:?}", self.seen);
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Read => {}
            Action::Ping => self.note(Pinged),
            Action::Idle { since } if self.outgoing.last_sent > since => {
                self.protocol.active(self.outgoing.last_sent);
            }
            Action::Idle { .. } => {
                self.outgoing.told_idle = true;
                self.note(Idle);
            }
            Action::Paused { batches } => self.note(Paused(batches)),
            Action::Tell(ending) | Action::GiveUp(ending) => self.tell(&ending),
            Action::Close(code) => {
                self.note(CloseFor(code));
                self.close();
            }
            Action::End(end) => self.ends(end),
        }
        self.look();
    }

    fn tell(&mut self, ending: &Ending) {
        let mut batch = Batch::default();
        ending.tell(&mut batch);
        batch.0.into_iter().for_each(|seen| self.note(seen));
    }

    /// The peer sends. `false`: it is not read.
    pub(super) fn read(&mut self, mut bytes: Vec<u8>) -> bool {
        self.look();
        if self.end.is_some() || !self.may_read() {
            return false;
        }
        let (mut batch, mut pongs) = (Batch::default(), Vec::new());
        let outlet = Outlet {
            batch: &mut batch,
            pongs: &mut pongs,
            last_event: &self.last_event,
        };
        let intake = self.protocol.feed(&mut bytes, outlet);
        let last_events = batch.0.iter().filter(|seen| seen.is_last_event()).count();
        assert_eq!(last_events, usize::from(intake.has_last_event));
        assert!(self.last_event.exists() || last_events == 0);
        if self.protocol.has_read(intake, self.now) {
            self.outgoing.told_idle = false;
        }
        batch.0.into_iter().for_each(|seen| self.note(seen));
        if !pongs.is_empty() {
            self.note(Pongs(pongs.len()));
        }
        self.look();
        true
    }

    /// The peer closes its half.
    pub(super) fn eof(&mut self) {
        self.look();
        if self.end.is_some() || !self.may_read() {
            return;
        }
        match self.protocol.has_read_to_end() {
            Ok(()) => self.look(),
            Err(error) => self.lose(&error),
        }
    }

    pub(super) fn lose(&mut self, error: &io::Error) {
        if self.end.is_none() {
            if let Some(ending) = self.protocol.lost(error, self.now) {
                self.tell(&ending);
            }
            self.ends(End::Gone);
        }
    }

    /// The owner answers a batch.
    pub(super) fn answer(&mut self) {
        self.answered += 1;
        self.look();
    }

    /// The owner sends, and the peer takes it at once.
    pub(super) fn send(&mut self) {
        self.outgoing.last_sent = self.now;
        self.outgoing.told_idle = false;
        self.look();
    }

    /// The owner closes.
    pub(super) fn close(&mut self) {
        self.outgoing.closing.get_or_insert(self.now);
        self.look();
    }

    /// What is sent from now on waits, as the peer takes nothing.
    pub(super) fn stall(&mut self) {
        self.outgoing.stalled = Some(self.now);
        self.outgoing.is_all_sent = false;
        self.look();
    }

    pub(super) fn flow(&mut self) {
        self.outgoing.stalled = None;
        self.outgoing.is_all_sent = true;
        self.look();
    }
}

impl Drop for Sim {
    /// As the task does.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.lose(&io::ErrorKind::ConnectionAborted.into());
        }
    }
}

/// A client's frame, with a mask that changes nothing.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126);
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

pub(super) fn text() -> Vec<u8> {
    frame(0x81, b"hi")
}

pub(super) fn close_frame(code: u16) -> Vec<u8> {
    frame(0x88, &code.to_be_bytes())
}

/// Nothing is due in it but the end of a closing handshake.
pub(super) fn patient() -> SocketConfig {
    SocketConfig {
        timeout: None,
        ping_interval: None,
        ping_timeout: 300 * MS,
        max_lifetime: None,
        hibernate_after: None,
        close_timeout: 5_000 * MS,
        max_frame_size: 1 << 20,
        max_fragments: 100,
        validate_utf8: true,
        control_events: false,
        high_water_mark: 1 << 16,
        send_timeout: 30_000 * MS,
        deflate: None,
    }
}

pub(super) fn pinging() -> SocketConfig {
    SocketConfig {
        ping_interval: Some(1_000 * MS),
        ..patient()
    }
}
