//! The task of a WebSocket: reads, writes and waits as its [`Protocol`] says, which decides everything.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::time::Instant;

use crate::flow::call;
use crate::owner::Owner;
use crate::rt;
use crate::rt::timer::Timer;
use crate::ws::encoder::Compression;
use crate::ws::ending::Ending;
use crate::ws::protocol::{Action, End, Intake, Outlet, Protocol, READ_SIZE};
use crate::ws::socket::Socket;
use crate::ws::transport::{Receiver, Transport};

/// Read at once into a large message's own buffer.
const TAIL_READ_SIZE: usize = 128 * 1024;

/// What a read needs for its time only, so that it belongs to the thread and no socket has its own.
struct Scratch {
    input: Box<[u8]>,
    /// The answers to the pings of one read.
    pongs: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        input: vec![0; READ_SIZE].into_boxed_slice(),
        pongs: Vec::new(),
    });
}

/// From the end of the handshake to that of its transport.
pub(crate) async fn run<O: Owner>(socket: Arc<Socket<O>>, transport: Transport) {
    let mut task = Task::new(&socket);
    let Some((mut receiver, sender, early)) = transport.open(socket.connection.io()).await else {
        return;
    };
    socket.state().outbound.connect(sender.clone());

    task.take_early(early);
    let end = poll_fn(|cx| task.poll(cx, &mut receiver)).await;
    drop(task);
    match end {
        // Boxed, as it would be the larger part of every socket's task.
        End::Finished => Box::pin(receiver.finish(sender)).await,
        End::Reset => sender.reset(),
        End::Gone => sender.end(),
    }
}

struct Task<'a, O: Owner> {
    socket: &'a Socket<O>,
    protocol: Protocol<'a, O::Buffer>,
    /// A large message that is being compressed, one piece at a time.
    compression: Option<Box<Compression>>,
    timer: Timer,
}

/// After something was read.
enum Read {
    /// There may be more.
    More,
    /// There may be more, but others should have the thread.
    Late,
}

impl<'a, O: Owner> Task<'a, O> {
    fn new(socket: &'a Socket<O>) -> Self {
        let agreed = socket.agreed.as_ref();
        Self {
            socket,
            protocol: Protocol::new(&socket.config, agreed, Instant::now()),
            compression: None,
            timer: Timer::default(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, receiver: &mut Receiver) -> Poll<End> {
        loop {
            if let Some(end) = self.poll_outbound(cx) {
                return Poll::Ready(end);
            }
            self.compress(cx);
            let end = match self.poll_read(cx, receiver) {
                Poll::Ready(Ok(Read::Late)) => {
                    cx.waker().wake_by_ref();
                    // A peer that never stops sending does not put off what is due.
                    match self.poll_time(cx) {
                        Poll::Ready(Some(end)) => Some(end),
                        _ => return Poll::Pending,
                    }
                }
                Poll::Ready(Ok(Read::More)) => None,
                Poll::Ready(Err(e)) => {
                    self.lost(&e);
                    Some(End::Gone)
                }
                Poll::Pending => ready!(self.poll_time(cx)),
            };
            if let Some(end) = end {
                return Poll::Ready(end);
            }
        }
    }

    /// Writes what is queued, and finds out whether all is said.
    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> Option<End> {
        let mut state = self.socket.state();
        state.register(cx.waker());
        let reset = state.reset;
        let (waiters, flushed) = state.outbound.poll_flush(cx);
        let outgoing = state.outgoing();
        if self.compression.is_none() {
            self.compression = state.outbound.next_compression().map(Box::new);
        }
        drop(state);

        call(waiters, true);
        self.protocol.observe(&outgoing);
        if reset {
            self.lost(&io::ErrorKind::ConnectionAborted.into());
            return Some(End::Reset);
        }
        if let Err(e) = flushed {
            self.lost(&e);
            return Some(End::Gone);
        }
        self.protocol.is_finished().then_some(End::Finished)
    }

    /// Compresses the next piece, without the lock, and lets other tasks run before the one after.
    fn compress(&mut self, cx: &mut Context<'_>) {
        let Some(compression) = self.compression.as_mut() else {
            return;
        };
        if !rt::is_late(Instant::now())
            && !compression.step()
            && let Some(compression) = self.compression.take()
        {
            let waiters = self.socket.state().outbound.compressed(*compression);
            call(waiters, true);
        }
        cx.waker().wake_by_ref();
    }

    /// Ready when something was read, or the end.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        receiver: &mut Receiver,
    ) -> Poll<io::Result<Read>> {
        if !self.may_read() {
            return Poll::Pending;
        }
        let read = |tail: &mut ReadBuf<'_>| receiver.poll_read(cx, tail);
        if let Some((n, read)) = self.protocol.fill_tail(TAIL_READ_SIZE, read) {
            ready!(read)?;
            // The rest of a message holds no pings.
            let mut pongs = Vec::new();
            return Poll::Ready(self.take(n, &mut pongs, |protocol, outlet| {
                protocol.tail_filled(n, outlet)
            }));
        }
        SCRATCH.with_borrow_mut(|Scratch { input, pongs }| {
            let length = self.protocol.read_size();
            let n = ready!(poll_into(cx, receiver, &mut input[..length]))?;
            Poll::Ready(self.take(n, pongs, |protocol, outlet| {
                protocol.feed(&mut input[..n], outlet)
            }))
        })
    }

    /// What came together with the request.
    fn take_early(&mut self, mut early: Vec<u8>) {
        if !early.is_empty() {
            self.deliver(&mut Vec::new(), |protocol, outlet| {
                protocol.feed(&mut early, outlet)
            });
        }
    }

    fn take(
        &mut self,
        n: usize,
        pongs: &mut Vec<u8>,
        feed: impl for<'b, 'e> FnOnce(&mut Protocol<'a, O::Buffer>, Outlet<'b, O::Batch<'e>>) -> Intake,
    ) -> io::Result<Read> {
        if n == 0 {
            return self.protocol.has_read_to_end().map(|()| Read::More);
        }
        Ok(self.deliver(pongs, feed))
    }

    /// Passes on what was read.
    fn deliver(
        &mut self,
        pongs: &mut Vec<u8>,
        feed: impl for<'b, 'e> FnOnce(&mut Protocol<'a, O::Buffer>, Outlet<'b, O::Batch<'e>>) -> Intake,
    ) -> Read {
        let (socket, protocol) = (self.socket, &mut self.protocol);
        // There are some of an earlier read if that ended in a panic.
        pongs.clear();
        let intake = socket.connection.owner.deliver(|batch| {
            let outlet = Outlet {
                batch,
                pongs,
                last_event: &socket.last_event,
            };
            let intake = feed(protocol, outlet);
            // Before the owner can answer what came with them.
            if !pongs.is_empty() {
                socket.state().send_pongs(pongs);
            }
            intake
        });
        if intake.has_last_event {
            socket.last_event.told();
        }
        let now = rt::now();
        if protocol.has_read(intake, now) {
            socket.state().no_longer_idle();
        }
        match rt::is_late(now) {
            true => Read::Late,
            false => Read::More,
        }
    }

    fn may_read(&mut self) -> bool {
        let (socket, protocol) = (self.socket, &mut self.protocol);
        if !protocol.wants_input(Instant::now) {
            return false;
        }
        if protocol.has_credit(socket.answered(), Instant::now) {
            return true;
        }
        socket.state().starved = true;
        // The answer may have come before the flag was up.
        protocol.has_credit(socket.answered(), Instant::now)
    }

    /// Ready when a due time has passed and was acted on.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<Option<End>> {
        let Some(due) = self.protocol.next_timeout() else {
            return Poll::Pending;
        };
        ready!(self.timer.poll(cx, due));
        let action = self.protocol.handle_timeout(Instant::now());
        Poll::Ready(action.and_then(|action| self.act(action)))
    }

    fn act(&mut self, action: Action) -> Option<End> {
        let socket = self.socket;
        match action {
            Action::Read => {}
            Action::Ping => socket.state().ping(),
            Action::Idle { since } => {
                let idle = socket.state().become_idle(since);
                match idle {
                    Ok(()) => socket.connection.owner.idle(),
                    Err(last_sent) => _ = self.protocol.active(last_sent),
                }
            }
            Action::Paused { batches } => socket.connection.owner.paused(batches),
            Action::Tell(ending) => self.tell(ending),
            Action::GiveUp(ending) => {
                self.tell(ending);
                let waiters = socket.state().give_up();
                call(waiters, false);
            }
            Action::Close(code) => socket.close(Some(code), b""),
            Action::End(end) => return Some(end),
        }
        None
    }

    /// Tells the owner a last event that is not the peer's.
    fn tell(&self, ending: Ending) {
        let socket = self.socket;
        socket.connection.owner.deliver(|batch| {
            ending.tell(batch);
            socket.last_event.is(ending);
        });
        socket.last_event.told();
    }

    /// The transport is gone.
    fn lost(&mut self, error: &io::Error) {
        if let Some(ending) = self.protocol.lost(error, Instant::now()) {
            self.tell(ending);
        }
    }
}

impl<O: Owner> Drop for Task<'_, O> {
    /// By whatever way the task ends, a panic too, its owner has a last event and no sender waits.
    fn drop(&mut self) {
        self.lost(&io::ErrorKind::ConnectionAborted.into());
        // Also where it was being told when the task failed.
        self.socket.last_event.told();
        let waiters = self.socket.state().disconnect();
        // Not before: a VM that halts as soon as all is said would reset the connection of a peer that is
        // about to answer our close frame.
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
