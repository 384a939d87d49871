//! One WebSocket. Its owner sends and closes from any thread; its task reads, keeps the times and
//! ends the connection. The messages are the concern of [`super::message`], what they mean that of
//! the owner.
//!
//! How it ends: the task tells the owner a last event (the peer's close frame, a broken protocol,
//! silence, or a lost transport) and reads no more messages. The owner sends what it still has to
//! say and then its close frame; the task ends the closing handshake by itself. An owner that does
//! not answer its last event in time is answered for.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::ReadBuf;
use tokio::time::Instant;

use crate::buffer::Buffer;
use crate::config::SocketConfig;
use crate::connection::Connection;
use crate::flow::{Waiter, call};
use crate::owner::{Events, Owner};
use crate::rt::lock;
use crate::rt::stats::{self, Counted};
use crate::rt::timer::Timer;
use crate::rt::{self as runtime, Reactor};
use crate::ws::encoder::{Compression, Message};
use crate::ws::ending::{Ending, Last, LastEvent};
use crate::ws::extension::Agreed;
use crate::ws::frame::{self, Opcode};
use crate::ws::message::{Limits, Payload, Reader, Sink};
use crate::ws::outbound::{Outbound, Sent};
use crate::ws::transport::{Receiver, Transport as Carrier};

/// How many batches, and bytes in them, the owner may have unanswered before reading pauses.
const MAX_UNANSWERED: usize = 8;
const MAX_UNANSWERED_BYTES: usize = 256 * 1024;
/// How long reading has to wait for answers before the owner hears of it, then twice as long, and so
/// on. A callback that empties its mailbox takes batches that nobody will answer.
const PAUSE: Duration = Duration::from_millis(250);

/// How long at least our close frame waits for a peer that takes nothing.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Read at once, into a buffer that belongs to the thread. The smallest frames make more than a thousand
/// messages of it, which takes most of a millisecond.
const READ_SIZE: usize = 8 * 1024;
/// The same where messages are compressed: it may become a thousand times as much.
const COMPRESSED_READ_SIZE: usize = 1024;
/// The same after a read that held more frames than [`MANY_FRAMES`]. A flood of the smallest ones is then
/// taken in by several turns, with others in between.
const CROWDED_READ_SIZE: usize = 2 * 1024;
/// How long a peer is not read whose last read held more control frames than that: nobody needs so many, and
/// they cost it less than us.
const REST: Duration = Duration::from_millis(1);
const MANY_FRAMES: usize = 128;
/// Read at once into a large message's own buffer.
const TAIL_READ_SIZE: usize = 128 * 1024;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_SIZE].into_boxed_slice());
    /// The answers to the pings of one read.
    static PONGS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

pub struct Socket<O: Owner> {
    connection: Arc<Connection<O>>,
    config: Arc<SocketConfig>,
    agreed: Option<Agreed>,
    state: Mutex<State>,
    /// Batches that the owner has answered, counted from the start; its becoming ready is the first.
    answered: AtomicU32,
    last_event: LastEvent,
    _count: Counted,
}

struct State {
    outbound: Outbound,
    phase: Phase,
    task: Option<Waker>,
    /// Reading has paused until the owner answers.
    starved: bool,
    /// When the owner last sent something.
    last_sent: Instant,
    /// The owner knows that it is idle; it is told anew after the next thing that concerns it.
    told_idle: bool,
    /// The peer has taken nothing for too long: what its owner still sends would only wait, too.
    is_given_up: bool,
    reset: bool,
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
        let budget = connection.listener.budget.clone();
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

    /// The socket's task: from the end of the handshake to that of its carrier.
    pub(crate) async fn run(self: Arc<Self>, carrier: Carrier) {
        let mut task = Task::new(&self);
        let Some((mut receiver, sender, mut early)) = carrier.open(self.connection.io()).await
        else {
            return;
        };
        self.state().outbound.connect(sender.clone());

        task.feed(&mut early);
        drop(early);
        let end = poll_fn(|cx| task.poll(cx, &mut receiver)).await;
        drop(task);
        match end {
            // Boxed, as it would be the larger part of every socket's task.
            End::Finished => Box::pin(receiver.finish(sender)).await,
            End::Reset => sender.reset(),
            End::Gone => sender.end(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
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
    fn send_pongs(&mut self, frames: &[u8]) {
        if self.phase == Phase::Open && self.outbound.send_pongs(frames) {
            self.wake();
        }
    }

    /// Asks for a sign of life, unless enough waits for the peer to get one by itself. Its owner may be idle
    /// all the same.
    fn ping(&mut self) {
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
    fn give_up(&mut self) -> Vec<Waiter> {
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

    fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    fn register(&mut self, waker: &Waker) {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(waker)) {
            self.task = Some(waker.clone());
        }
    }
}

enum End {
    /// Everything is sent and said.
    Finished,
    /// The transport is lost.
    Gone,
    Reset,
}

/// What only the task knows.
struct Task<'a, O: Owner> {
    socket: &'a Socket<O>,
    reader: Reader<O::Buffer>,
    /// Whether what was read last held many frames.
    is_crowded: bool,
    /// Until when the peer is not read.
    rests_until: Option<Instant>,
    /// A large message that is being compressed, one piece at a time.
    compression: Option<Box<Compression>>,
    timer: Timer,
    start: Instant,
    last_read: Instant,
    /// When the owner last had an event or sent something.
    last_active: Instant,
    told_idle: bool,
    /// When we sent a ping that nothing has followed yet.
    pinged: Option<Instant>,
    unanswered: Unanswered,
    /// The owner has said that it is ready; before, the peer's silence means nothing.
    ready: bool,
    /// Reading waits for the owner, so the peer's silence means nothing.
    paused: bool,
    paused_since: Instant,
    /// How often the owner has been told so.
    told_paused: u32,
    /// When our close frame was queued.
    closing: Option<Instant>,
    /// Since when the peer takes nothing of what waits.
    stalled: Option<Instant>,
    /// The owner has had its last event.
    told: Option<Told>,
    /// The peer's close frame, a broken frame or the end was read: nothing is awaited from it.
    done_reading: bool,
    at_eof: bool,
}

enum Due {
    /// The closing handshake takes too long.
    End,
    /// The owner does not answer its last event; it is answered for, with this code.
    Answer(u16),
    /// The peer takes nothing of what waits.
    Stalled,
    Timeout,
    Ping,
    Lifetime,
    Idle,
    Pause,
    /// The peer has rested.
    Read,
}

struct Told {
    at: Instant,
    /// Sent for an owner that does not answer.
    code: u16,
}

impl<'a, O: Owner> Task<'a, O> {
    fn new(socket: &'a Socket<O>) -> Self {
        let limits = Limits {
            max_frame_size: socket.config.max_frame_size,
            max_fragments: socket.config.max_fragments,
            validate_utf8: socket.config.validate_utf8,
        };
        let mut unanswered = Unanswered::default();
        unanswered.push(0);
        let now = Instant::now();
        Self {
            socket,
            reader: match &socket.agreed {
                Some(agreed) => Reader::new(limits).with_deflate(agreed),
                None => Reader::new(limits),
            },
            is_crowded: false,
            rests_until: None,
            compression: None,
            timer: Timer::default(),
            start: now,
            last_read: now,
            last_active: now,
            told_idle: false,
            pinged: None,
            unanswered,
            ready: false,
            paused: false,
            paused_since: now,
            told_paused: 0,
            closing: None,
            stalled: None,
            told: None,
            done_reading: false,
            at_eof: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, receiver: &mut Receiver) -> Poll<End> {
        loop {
            if let Some(end) = self.poll_outbound(cx) {
                return Poll::Ready(end);
            }
            self.compress(cx);
            match self.poll_read(cx, receiver) {
                Poll::Ready(Ok(())) if runtime::is_late(self.last_read) => {
                    // A peer that never stops sending does not put off what is due.
                    let _ = self.poll_time(cx);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) => continue,
                Poll::Ready(Err(e)) => {
                    self.lost(&e);
                    return Poll::Ready(End::Gone);
                }
                Poll::Pending => ready!(self.poll_time(cx)),
            }
        }
    }

    /// Writes what is queued, and finds out whether all is said.
    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Option<End> {
        let mut state = self.socket.state();
        state.register(cx.waker());
        let reset = state.reset;
        let (waiters, flushed) = state.outbound.poll_flush(cx);
        let all_sent = state.outbound.is_empty();
        self.stalled = state.outbound.stalled_since();
        if self.compression.is_none() {
            self.compression = state.outbound.next_compression().map(Box::new);
        }
        let told_idle = state.told_idle;
        self.closing = match state.phase {
            Phase::Closing { since } => Some(since),
            Phase::Open | Phase::Gone => None,
        };
        drop(state);

        call(waiters, true);
        if self.told_idle && !told_idle {
            self.active(Instant::now());
        }
        if reset {
            self.lost(&io::ErrorKind::ConnectionAborted.into());
            return Some(End::Reset);
        }
        if let Err(e) = flushed {
            self.lost(&e);
            return Some(End::Gone);
        }
        let late = self.closing?.elapsed() >= self.close_patience();
        match (all_sent, self.done_reading || late) {
            (true, true) => {
                // Not before: a VM that halts as soon as all is said would reset the connection of a peer
                // that is about to answer our close frame.
                self.socket.connection.settle();
                Some(End::Finished)
            }
            // The peer does not even take our close frame.
            (false, _) if late => Some(End::Reset),
            _ => None,
        }
    }

    /// How long our close frame may wait to be answered: no longer than anything else where the peer does not
    /// even take it.
    fn close_patience(&self) -> Duration {
        let config = &self.socket.config;
        match self.stalled {
            Some(_) => config
                .close_timeout
                .min(config.send_timeout.max(LAST_WORDS)),
            None => config.close_timeout,
        }
    }

    /// Compresses the next piece, without the lock, and lets other tasks run before the one after.
    fn compress(&mut self, cx: &mut Context<'_>) {
        let Some(compression) = self.compression.as_mut() else {
            return;
        };
        if !runtime::is_late(Instant::now())
            && !compression.step()
            && let Some(compression) = self.compression.take()
        {
            let waiters = self.socket.state().outbound.compressed(*compression);
            call(waiters, true);
        }
        cx.waker().wake_by_ref();
    }

    /// Ready when something was read, or the end.
    fn poll_read(&mut self, cx: &mut Context<'_>, receiver: &mut Receiver) -> Poll<io::Result<()>> {
        if self.at_eof || self.is_resting() || !self.may_read() {
            return Poll::Pending;
        }
        let (n, delivered) = if let Some(tail) = self.reader.tail() {
            let len = tail.len().min(TAIL_READ_SIZE);
            let n = ready!(poll_into(cx, receiver, &mut tail[..len]))?;
            let delivered = self.take(|reader, intake| reader.tail_filled(n, intake));
            (n, delivered)
        } else {
            let len = self.read_size();
            ready!(READ.with_borrow_mut(|buf| {
                let n = ready!(poll_into(cx, receiver, &mut buf[..len]))?;
                let delivered = self.feed(&mut buf[..n]);
                Poll::Ready(io::Result::Ok((n, delivered)))
            }))?
        };
        if n == 0 {
            return Poll::Ready(self.eof());
        }
        let now = runtime::now();
        self.last_read = now;
        self.pinged = None;
        if delivered {
            self.active(now);
        }
        Poll::Ready(Ok(()))
    }

    fn is_resting(&mut self) -> bool {
        let Some(until) = self.rests_until else {
            return false;
        };
        let is_resting = Instant::now() < until;
        if !is_resting {
            self.rests_until = None;
        }
        is_resting
    }

    fn read_size(&self) -> usize {
        match &self.socket.agreed {
            Some(_) => COMPRESSED_READ_SIZE,
            None if self.is_crowded => CROWDED_READ_SIZE,
            None => READ_SIZE,
        }
    }

    /// The owner is told anew when nothing happens for a while from now on.
    fn active(&mut self, now: Instant) {
        self.last_active = now;
        if std::mem::take(&mut self.told_idle) {
            self.socket.state().told_idle = false;
        }
    }

    /// The peer may have closed only its half, and the owner may still be about to answer.
    fn eof(&mut self) -> io::Result<()> {
        self.at_eof = true;
        self.done_reading = true;
        if self.has_ended() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Ready when a due time has passed and was acted on.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ready && self.socket.answered.load(Ordering::Acquire) > 0 {
            self.ready = true;
            self.last_read = Instant::now();
        }
        let Some((at, due)) = self.next_due() else {
            return Poll::Pending;
        };
        ready!(self.timer.poll(cx, at));
        match due {
            Due::End | Due::Read => {}
            Due::Answer(code) => self.socket.close(Some(code), b""),
            Due::Stalled => self.give_up(),
            Due::Timeout => self.end(1001, Ending::Timeout, |batch| batch.timeout()),
            Due::Lifetime => self.end(1012, Ending::Lifetime, |batch| batch.lifetime()),
            Due::Ping => {
                self.pinged = Some(Instant::now());
                self.socket.state().ping();
            }
            Due::Idle => self.idle(),
            Due::Pause => {
                self.told_paused += 1;
                self.socket.connection.owner.paused(self.unanswered.sent);
            }
        }
        Poll::Ready(())
    }

    fn next_due(&self) -> Option<(Instant, Due)> {
        let read = self.rests_until.map(|until| (until, Due::Read));
        [read, self.next_event()]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    fn next_event(&self) -> Option<(Instant, Due)> {
        let config = &self.socket.config;
        if let Some(since) = self.closing {
            return Some((since + self.close_patience(), Due::End));
        }
        if let Some(told) = &self.told {
            return Some((told.at + config.close_timeout, Due::Answer(told.code)));
        }
        let listening = self.ready && !self.paused;
        let silence = config
            .timeout
            .map(|timeout| (self.last_read + timeout, Due::Timeout));
        let ping = config.ping.map(|ping| match self.pinged {
            Some(at) => (at + ping.timeout, Due::Timeout),
            None => (self.last_read + ping.interval, Due::Ping),
        });
        let stall = self
            .stalled
            .map(|since| (since + config.send_timeout, Due::Stalled));
        let lifetime = config
            .max_lifetime
            .map(|lifetime| (self.start + lifetime, Due::Lifetime));
        let idle = config
            .idle_notice
            .map(|idle| (self.last_active + idle, Due::Idle));
        let patience = PAUSE.saturating_mul(1 << self.told_paused.min(16));
        let pause = (self.paused_since + patience, Due::Pause);
        [
            Some(pause).filter(|_| self.paused),
            silence.filter(|_| listening),
            ping.filter(|_| listening),
            stall,
            lifetime,
            idle.filter(|_| !self.told_idle),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }

    /// Tells the owner an end of our own making.
    fn end(&mut self, code: u16, ending: Ending, event: impl for<'b> FnOnce(&mut O::Batch<'b>)) {
        self.tell(code);
        self.socket.last_event.is(ending);
        self.socket.connection.owner.deliver(event);
        self.socket.last_event.told();
    }

    /// The owner is told, and so are those who wait for room.
    fn give_up(&mut self) {
        let ending = Ending::Error(1013, "slow_client");
        self.end(1013, ending, |batch| batch.error(1013, "slow_client"));
        let waiters = self.socket.state().give_up();
        call(waiters, false);
    }

    fn idle(&mut self) {
        let mut state = self.socket.state();
        if state.last_sent > self.last_active {
            self.last_active = state.last_sent;
            return;
        }
        state.told_idle = true;
        drop(state);
        self.told_idle = true;
        self.socket.connection.owner.idle();
    }

    fn may_read(&mut self) -> bool {
        if self.has_ended() || self.has_credit() {
            return true;
        }
        self.socket.state().starved = true;
        let was_paused = self.paused;
        // The answer may have come before the flag was up.
        self.paused = !self.has_credit();
        if self.paused && !was_paused {
            self.paused_since = Instant::now();
            self.told_paused = 0;
        }
        !self.paused
    }

    fn has_credit(&mut self) -> bool {
        let credit = self
            .unanswered
            .has_room(self.socket.answered.load(Ordering::Acquire));
        if credit && std::mem::take(&mut self.paused) {
            self.last_read = Instant::now();
        }
        credit
    }

    fn feed(&mut self, bytes: &mut [u8]) -> bool {
        self.take(|reader, intake| reader.feed(bytes, intake))
    }

    /// Whether the owner has something to answer.
    fn take(
        &mut self,
        read: impl for<'b, 'e> FnOnce(
            &mut Reader<O::Buffer>,
            &mut Intake<'b, O, O::Batch<'e>>,
        ) -> Result<(), frame::Error>,
    ) -> bool {
        let (socket, reader) = (self.socket, &mut self.reader);
        let muted = self.closing.is_some() || self.told.is_some();
        let (close, size, messages, controls) = socket.connection.owner.deliver(|batch| {
            let mut intake = Intake {
                socket,
                batch,
                muted,
                has_pongs: false,
                messages: 0,
                controls: 0,
                size: 0,
                close: None,
            };
            let result = read(reader, &mut intake);
            // Before the owner can answer what came with them.
            intake.send_pongs();
            let Intake {
                messages,
                controls,
                size,
                mut close,
                ..
            } = intake;
            if let Err(e) = result {
                close = Some(e.close_code());
                if !muted {
                    socket
                        .last_event
                        .is(Ending::Error(e.close_code(), e.name()));
                    batch.error(e.close_code(), e.name());
                }
            }
            let size = (!batch.is_empty()).then_some(size);
            (close, size, messages, controls)
        });
        self.is_crowded = messages + controls > MANY_FRAMES;
        if controls > MANY_FRAMES {
            self.rests_until = Some(Instant::now() + REST);
        }
        if let Some(size) = size {
            self.unanswered.push(size);
        }
        if let Some(code) = close {
            self.done_reading = true;
            if !muted {
                self.tell(code);
                socket.last_event.told();
            }
        }
        size.is_some()
    }

    /// The transport is gone.
    fn lost(&mut self, error: &io::Error) {
        if !self.has_ended() {
            self.end(1011, Ending::closed(error), |batch| batch.closed(error));
        }
    }

    fn tell(&mut self, code: u16) {
        self.told = Some(Told {
            at: Instant::now(),
            code,
        });
    }

    /// The owner hears nothing any more: it has had its last event, or has closed.
    fn has_ended(&self) -> bool {
        self.closing.is_some() || self.told.is_some()
    }
}

impl<O: Owner> Drop for Task<'_, O> {
    /// By whatever way the task ends, a panic too, its owner has a last event and no sender waits.
    fn drop(&mut self) {
        self.lost(&io::ErrorKind::ConnectionAborted.into());
        // Also where it was being told when the task failed.
        self.socket.last_event.told();
        let mut state = self.socket.state();
        state.phase = Phase::Gone;
        let waiters = state.outbound.disconnect();
        drop(state);
        self.socket.connection.end();
        call(waiters, false);
    }
}

fn poll_into(
    cx: &mut Context<'_>,
    receiver: &mut Receiver,
    buf: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buf = ReadBuf::new(buf);
    ready!(receiver.poll_read(cx, &mut buf))?;
    Poll::Ready(Ok(buf.filled().len()))
}

/// Between the reader and the owner's batch: answers pings, counts, and notes the close frame.
struct Intake<'a, O: Owner, E> {
    socket: &'a Socket<O>,
    batch: &'a mut E,
    /// Only the close frame still matters.
    muted: bool,
    /// There are some to be sent.
    has_pongs: bool,
    messages: usize,
    controls: usize,
    /// Bytes of the messages.
    size: usize,
    /// The code to close with.
    close: Option<u16>,
}

impl<O: Owner, E: Events<O::Buffer>> Intake<'_, O, E> {
    fn message(
        &mut self,
        payload: Payload<'_, O::Buffer>,
        pass: fn(&mut E, Payload<'_, O::Buffer>),
    ) {
        self.messages += 1;
        if self.muted {
            return;
        }
        self.size += match &payload {
            Payload::Slice(bytes) => bytes.len(),
            Payload::Buffer(buffer) => buffer.len(),
        };
        pass(self.batch, payload);
    }

    fn send_pongs(&mut self) {
        if std::mem::take(&mut self.has_pongs) {
            PONGS.with_borrow_mut(|pongs| {
                self.socket.state().send_pongs(pongs);
                pongs.clear();
            });
        }
    }
}

impl<O: Owner, E: Events<O::Buffer>> Sink<O::Buffer> for Intake<'_, O, E> {
    fn text(&mut self, payload: Payload<'_, O::Buffer>) {
        self.message(payload, E::text);
    }

    fn binary(&mut self, payload: Payload<'_, O::Buffer>) {
        self.message(payload, E::binary);
    }

    fn ping(&mut self, payload: &[u8]) {
        self.controls += 1;
        PONGS.with_borrow_mut(|pongs| {
            // Of an earlier read that ended in a panic.
            if !self.has_pongs {
                pongs.clear();
            }
            frame::encode_header(pongs, Opcode::Pong, false, payload.len());
            pongs.extend_from_slice(payload);
        });
        self.has_pongs = true;
        if !self.muted && self.socket.config.control_events {
            self.batch.ping(payload);
        }
    }

    fn pong(&mut self, payload: &[u8]) {
        self.controls += 1;
        if !self.muted && self.socket.config.control_events {
            self.batch.pong(payload);
        }
    }

    fn close(&mut self, code: Option<u16>, reason: &[u8]) {
        self.close = Some(code.unwrap_or(1000));
        if !self.muted {
            let ending = Ending::Close(code, reason.to_vec());
            self.socket.last_event.is(ending);
            self.batch.close(code, reason);
        }
    }
}

/// Batches that the owner has not answered yet. It answers in order.
#[derive(Default)]
struct Unanswered {
    sent: u32,
    answered: u32,
    bytes: usize,
    sizes: [u32; MAX_UNANSWERED],
}

impl Unanswered {
    fn push(&mut self, size: usize) {
        let counted = u32::try_from(size).unwrap_or(u32::MAX);
        self.sizes[self.sent as usize % MAX_UNANSWERED] = counted;
        self.bytes += counted as usize;
        self.sent = self.sent.wrapping_add(1);
    }

    fn has_room(&mut self, answered: u32) -> bool {
        while self.answered != answered && self.answered != self.sent {
            self.bytes -= self.sizes[self.answered as usize % MAX_UNANSWERED] as usize;
            self.answered = self.answered.wrapping_add(1);
        }
        let batches = self.sent.wrapping_sub(self.answered) as usize;
        batches < MAX_UNANSWERED && (batches == 0 || self.bytes < MAX_UNANSWERED_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_counted_in_batches() {
        let mut unanswered = Unanswered::default();
        for _ in 0..MAX_UNANSWERED {
            assert!(unanswered.has_room(0));
            unanswered.push(1);
        }
        assert!(!unanswered.has_room(0));
        assert!(unanswered.has_room(1));
        unanswered.push(1);
        assert!(!unanswered.has_room(1));
        assert!(unanswered.has_room(9));
    }

    #[test]
    fn credit_is_counted_in_bytes() {
        let mut unanswered = Unanswered::default();
        unanswered.push(MAX_UNANSWERED_BYTES);
        assert!(!unanswered.has_room(0));
        assert!(
            unanswered.has_room(1),
            "one message of any size may be under way"
        );
        unanswered.push(MAX_UNANSWERED_BYTES - 1);
        assert!(unanswered.has_room(1));
    }
}
