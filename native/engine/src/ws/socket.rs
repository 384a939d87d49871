//! One WebSocket, as its owner has it: it sends and closes from any thread, and writes where it stands. The
//! task that reads and keeps the times is that of [`super::task`], and what either is to the other lies here
//! under one lock.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use bytes::Bytes;
use tokio::time::Instant;

use crate::config::SocketConfig;
use crate::connection::{Connection, Ward};
use crate::flow::Waiter;
use crate::owner::Owner;
use crate::rt::stats::{self, Counted};
use crate::rt::{Reactor, lock};
use crate::ws::encoder::Message;
use crate::ws::ending::{Last, LastEvent};
use crate::ws::extension::Agreed;
use crate::ws::frame::Opcode;
use crate::ws::outbound::{Outbound, Sent};
use crate::ws::protocol::Outgoing;

pub struct Socket<O: Owner> {
    pub(super) connection: Arc<Connection<O>>,
    pub(super) config: Arc<SocketConfig>,
    pub(super) agreed: Option<Agreed>,
    state: Mutex<State>,
    /// Batches that the owner has answered, counted from the start; its becoming ready is the first.
    answered: AtomicU32,
    pub(super) last_event: LastEvent,
    _count: Counted,
}

pub(super) struct State {
    pub(super) outbound: Outbound,
    phase: Phase,
    task: Option<Waker>,
    /// Reading has paused until the owner answers.
    pub(super) starved: bool,
    /// When the owner last sent something.
    last_sent: Instant,
    /// The owner knows that it is idle; it is told anew after the next thing that concerns it.
    told_idle: bool,
    /// The peer has taken nothing for too long: what its owner still sends would only wait, too.
    is_given_up: bool,
    pub(super) reset: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Open,
    /// Our close frame is queued or sent.
    Closing {
        since: Instant,
    },
    Gone,
}

impl<O: Owner> Socket<O> {
    pub(crate) fn new(
        connection: Arc<Connection<O>>,
        config: Arc<SocketConfig>,
        agreed: Option<Agreed>,
    ) -> Arc<Self> {
        let budget = connection.server.budget.clone();
        let state = State {
            outbound: Outbound::new(config.high_water_mark, budget, agreed.as_ref()),
            phase: Phase::Open,
            task: None,
            starved: false,
            last_sent: Instant::now(),
            told_idle: false,
            is_given_up: false,
            reset: false,
        };
        Arc::new(Self {
            connection,
            config,
            agreed,
            state: Mutex::new(state),
            answered: AtomicU32::new(0),
            last_event: LastEvent::default(),
            _count: stats::SOCKETS.count(),
        })
    }

    /// Sends messages in order. `hold` turns the payload of the message with that index into bytes
    /// that outlive the call; it is asked only for what the kernel does not take.
    pub fn send(&self, messages: &[Message<'_>], hold: impl Fn(usize) -> Bytes) -> Sent {
        self.state().send(messages, hold)
    }

    /// [`Self::send`], and the answer to one batch of events. The first one answers none: it says
    /// that the owner is ready, and starts the time that the peer may be silent.
    pub fn ack(&self, messages: &[Message<'_>], hold: impl Fn(usize) -> Bytes) -> Sent {
        let is_first = self.answered.fetch_add(1, Ordering::AcqRel) == 0;
        let mut state = self.state();
        if state.starved || is_first {
            state.starved = false;
            state.wake();
        }
        state.send(messages, hold)
    }

    /// The owner has handled all of so many batches that it has not lost.
    pub fn resume(&self, batches: u32) {
        let is_more = |answered: u32| {
            let more = batches.wrapping_sub(answered);
            (1..=u32::MAX / 2).contains(&more).then_some(batches)
        };
        let _ = self
            .answered
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, is_more);
        let mut state = self.state();
        if std::mem::take(&mut state.starved) {
            state.wake();
        }
    }

    /// Whether the last event has been told, or is about to be.
    pub fn has_last_event(&self) -> bool {
        self.last_event.exists()
    }

    /// For an owner that has lost it.
    pub fn last_event(&self) -> Last<'_> {
        self.last_event.get()
    }

    /// Keeps the waiter when there is no room to send now, and says so.
    pub fn wait(&self, waiter: Waiter) -> bool {
        self.state().outbound.wait(waiter)
    }

    /// Sends a close frame; `None` is one without a code.
    pub fn close(&self, code: Option<u16>, reason: &[u8]) {
        self.state().close(code, reason);
    }

    /// What runs the task that sending may wake.
    pub fn reactor(&self) -> &'static Reactor {
        self.connection.reactor
    }

    /// Ends the connection at once, by a reset.
    pub fn abort(&self) {
        let mut state = self.state();
        state.reset = true;
        state.wake();
    }

    /// The owner is dead, or has let go of the socket.
    pub fn owner_down(&self) {
        self.close(Some(1011), b"");
    }

    pub(super) fn answered(&self) -> u32 {
        self.answered.load(Ordering::Acquire)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl<O: Owner> Ward for Socket<O> {
    fn owner_down(self: Arc<Self>) {
        Self::owner_down(&self);
    }
}

impl State {
    fn send(&mut self, messages: &[Message<'_>], hold: impl Fn(usize) -> Bytes) -> Sent {
        if self.phase != Phase::Open || self.is_given_up {
            return Sent::Closed;
        }
        if !messages.is_empty() && self.outbound.send(messages, hold) | self.active() {
            self.wake();
        }
        if self.outbound.is_full() {
            Sent::Full
        } else {
            Sent::Ok
        }
    }

    /// Whether the task has to hear of it.
    fn active(&mut self) -> bool {
        self.last_sent = Instant::now();
        std::mem::take(&mut self.told_idle)
    }

    /// Answers pings by these frames (RFC6455§5.5.2).
    pub(super) fn send_pongs(&mut self, frames: &[u8]) {
        if self.phase == Phase::Open && self.outbound.send_pongs(frames) {
            self.wake();
        }
    }

    /// Asks for a sign of life, unless enough waits for the peer to get one by itself. Its owner may be idle
    /// all the same.
    pub(super) fn ping(&mut self) {
        let ping = [Message {
            opcode: Opcode::Ping,
            payload: b"",
        }];
        if self.phase == Phase::Open
            && self.outbound.is_empty()
            && self.outbound.send(&ping, |_| Bytes::new())
        {
            self.wake();
        }
    }

    /// The peer takes nothing. Returns those to tell who wait for room.
    pub(super) fn give_up(&mut self) -> Vec<Waiter> {
        self.is_given_up = true;
        self.outbound.give_up()
    }

    fn close(&mut self, code: Option<u16>, reason: &[u8]) {
        let mut payload = Vec::with_capacity(2 + reason.len());
        if let Some(code) = code {
            payload.extend_from_slice(&code.to_be_bytes());
            payload.extend_from_slice(reason);
        }
        if self.phase != Phase::Open {
            return;
        }
        let message = Message {
            opcode: Opcode::Close,
            payload: &payload,
        };
        let hold = |_| Bytes::copy_from_slice(&payload);
        self.outbound.send(&[message], hold);
        self.phase = Phase::Closing {
            since: Instant::now(),
        };
        self.wake();
    }

    pub(super) fn outgoing(&self) -> Outgoing {
        Outgoing {
            closing: match self.phase {
                Phase::Closing { since } => Some(since),
                Phase::Open | Phase::Gone => None,
            },
            stalled: self.outbound.stalled_since(),
            is_all_sent: self.outbound.is_empty(),
            last_sent: self.last_sent,
            told_idle: self.told_idle,
        }
    }

    /// Whether the owner has been idle since then, and so is to be told; else when it last sent something.
    pub(super) fn become_idle(&mut self, since: Instant) -> Result<(), Instant> {
        if self.last_sent > since {
            return Err(self.last_sent);
        }
        self.told_idle = true;
        Ok(())
    }

    pub(super) fn no_longer_idle(&mut self) {
        self.told_idle = false;
    }

    /// Nothing can be sent any more. Returns those to tell who wait for room.
    pub(super) fn disconnect(&mut self) -> Vec<Waiter> {
        self.phase = Phase::Gone;
        self.outbound.disconnect()
    }

    fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    pub(super) fn register(&mut self, waker: &Waker) {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            self.task = Some(waker.clone());
        }
    }
}
