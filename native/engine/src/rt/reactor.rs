//! Where the engine's tasks run.
//!
//! Connections are tasks of reactors. A [`Reactor`] is a tokio runtime with an epoll of its own and
//! without a thread: the host waits until [`Reactor::fd`] is readable and then [`turn`](Reactor::turn)s
//! it, which runs what is due and returns. On the BEAM, that happens on the schedulers that also run the
//! handlers, so that no thread has to wake another one for a message. Where the epoll cannot be found,
//! and where there is no such host, a thread turns it.
//!
//! Timers and what waits for a disk have threads in any case.
//!
//! Nothing of this is ever dropped: a NIF library has no moment at which that would be safe.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{self, AssertUnwindSafe};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, TryLockError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{fs, ptr, thread};

use async_task::Runnable;
use crossbeam::queue::SegQueue;
use once_cell::sync::OnceCell;
use pin_project_lite::pin_project;
use tokio::net;
use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};
use tokio::task::unconstrained;
use tokio::time::Instant;

use crate::net::stream::{Stream, Unwatched};
use crate::rt::stats::{self, Counted, Gauge};

static ENGINE: OnceCell<Engine> = OnceCell::new();

/// Threads for files. They are few because each may hold a piece of a file in memory.
const BLOCKING_THREADS: usize = 16;

/// How long a turn goes on taking up tasks.
const TURN_TIME: Duration = Duration::from_micros(250);

/// After so many short lulls, a reactor looks for news instead of waiting for them.
const SHORT_LULLS: u32 = 8;
/// With the time that it takes to be woken.
const SHORT_LULL: Duration = Duration::from_micros(100);
/// How long it looks.
const LOOK_TIME: Duration = Duration::from_micros(50);

/// With more tasks or requests at once than this, a call does not run those that it wakes.
const CROWD: usize = 4;

const THREAD_NAME: &str = "ferrosock";

struct Engine {
    reactors: Vec<Reactor>,
    /// Where the next connection goes.
    next: AtomicUsize,
    background: Runtime,
}

/// Who turns the reactors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    Host,
    Threads,
}

/// What a turn has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// Nothing, until the descriptor is readable.
    Idle,
    /// Something to do.
    More,
    /// Nothing, but it pays to turn again before waiting.
    Soon,
}

/// Starts `count` reactors (0: the default number), unless there are some. Returns how many there are.
pub fn start(count: usize, driver: Driver) -> io::Result<usize> {
    let engine = ENGINE.get_or_try_init(|| Engine::new(count, driver))?;
    Ok(engine.reactors.len())
}

/// All that there are.
pub fn reactors() -> &'static [Reactor] {
    ENGINE.get().map_or(&[], |engine| &engine.reactors)
}

impl Engine {
    fn new(count: usize, driver: Driver) -> io::Result<Self> {
        let count = if count == 0 { default_count() } else { count };
        Ok(Self {
            reactors: (0..count)
                .map(|_| Reactor::new(driver))
                .collect::<Result<_, _>>()?,
            next: AtomicUsize::new(0),
            background: Builder::new_multi_thread()
                .worker_threads(1)
                .max_blocking_threads(BLOCKING_THREADS)
                .thread_name(THREAD_NAME)
                .enable_time()
                .build()?,
        })
    }
}

/// The handlers need cores, too.
fn default_count() -> usize {
    let cores = thread::available_parallelism().map_or(1, |n| n.get());
    (cores / 2).max(1)
}

fn engine() -> &'static Engine {
    ENGINE.get_or_init(|| unreachable!("whoever hosts the engine starts it"))
}

/// The reactor for a new connection.
pub(crate) fn next() -> &'static Reactor {
    let engine = engine();
    let next = engine.next.fetch_add(1, Ordering::Relaxed);
    &engine.reactors[next % engine.reactors.len()]
}

/// Runs what blocks.
pub fn spawn_blocking<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> tokio::task::JoinHandle<R> {
    engine().background.spawn_blocking(work)
}

/// What is made while the guard lives has its time from the background, which never stands still as a
/// reactor may. `None` in tests that bring their own runtime.
pub(crate) fn in_background() -> Option<EnterGuard<'static>> {
    ENGINE.get().map(|engine| engine.background.enter())
}

pub struct Reactor {
    handle: Handle,
    queue: &'static Queue,
    hosted: Option<Hosted>,
    /// Requests that are being served.
    pub(crate) serving: Gauge,
}

struct Hosted {
    /// Locked for a turn.
    turning: Mutex<Turning>,
    fd: RawFd,
}

struct Turning {
    runtime: Runtime,
    lull: Lull,
}

/// Time without anything to do. A peer that answers at once is answered sooner, and at less cost, by a
/// reactor that looks for news than by one that has to be woken.
#[derive(Default)]
struct Lull {
    since: Option<Instant>,
    /// How many before it were short, in succession.
    short: u32,
}

impl Lull {
    fn end(&mut self) {
        if let Some(since) = self.since.take() {
            let is_short = since.elapsed() < SHORT_LULL;
            self.short = if is_short {
                self.short.saturating_add(1)
            } else {
                0
            };
        }
    }

    fn go_on(&mut self) -> Turned {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if self.short < SHORT_LULLS {
            return Turned::Idle;
        }
        if now - since < LOOK_TIME {
            return Turned::Soon;
        }
        self.short = 0;
        Turned::Idle
    }
}

impl Reactor {
    fn new(driver: Driver) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let handle = runtime.handle().clone();
        let queue: &'static Queue = Box::leak(Box::new(Queue::new(&handle)?));
        let fd = match driver {
            Driver::Host => epoll_that_watches(queue.kicks.as_raw_fd()),
            Driver::Threads => None,
        };
        let hosted = if let Some(fd) = fd {
            let lull = Lull::default();
            let turning = Mutex::new(Turning { runtime, lull });
            Some(Hosted { turning, fd })
        } else {
            thread::Builder::new()
                .name(THREAD_NAME.into())
                .spawn(move || queue.run(&runtime))?;
            None
        };
        Ok(Self {
            handle,
            queue,
            hosted,
            serving: Gauge::new(),
        })
    }

    /// Readable when there is something to do; it belongs to the reactor and lives as long as the
    /// process. `None` when a thread turns this one.
    pub fn fd(&self) -> Option<RawFd> {
        self.hosted.as_ref().map(|hosted| hosted.fd)
    }

    /// Runs the tasks that are due, for a fraction of a millisecond.
    pub fn turn(&self) -> Turned {
        let Some(hosted) = &self.hosted else {
            return Turned::Idle;
        };
        match hosted.turning.try_lock() {
            Ok(mut turning) => self.queue.turn(&mut turning),
            Err(TryLockError::Poisoned(poisoned)) => self.queue.turn(&mut poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Turned::More,
        }
    }

    /// Makes a call that wakes tasks, and runs them here, where nobody has to be woken. Where there is
    /// much to do it only makes the call: one turn for many tasks is cheaper.
    pub fn run_with<R>(&self, call: impl FnOnce() -> R) -> R {
        let crowd = self
            .queue
            .crowd
            .load(Ordering::Relaxed)
            .max(self.serving.get());
        let hosted = self.hosted.as_ref().filter(|_| crowd <= CROWD);
        match hosted.map(|hosted| hosted.turning.try_lock()) {
            Some(Ok(mut turning)) => self.queue.turn_with(&mut turning, call),
            _ => call(),
        }
    }

    /// Spawns a task that is counted in [`stats`] for as long as it lives.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let count = stats::TASKS.count();
        let task = CountedTask {
            task,
            _count: count,
        };
        let queue = self.queue;
        let (runnable, task) = async_task::spawn(task, move |runnable| queue.push(runnable));
        task.detach();
        runnable.schedule();
    }

    /// Sockets that are made while the guard lives are this reactor's.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Takes over a stream that another reactor accepted.
    pub(crate) fn adopt(&self, stream: Stream, from: &Self) -> io::Result<Stream> {
        if ptr::eq(self, from) {
            return Ok(stream);
        }
        let _guard = self.enter();
        stream.adopt()
    }

    /// Takes a stream that is no reactor's.
    pub(crate) fn take(&self, stream: Unwatched) -> io::Result<Stream> {
        let _guard = self.enter();
        stream.watch()
    }
}

/// The tasks of a reactor that are to be run. tokio's own queue would not do: it does not tell whether
/// it is empty, and to wait for news while it is not would be to wait for ever.
struct Queue {
    ready: SegQueue<Runnable>,
    /// How many there were the last time.
    crowd: AtomicUsize,
    /// Whether the next turn is certain to come.
    kicked: AtomicBool,
    /// Makes the epoll readable.
    kick: UnixStream,
    kicks: net::UnixStream,
    /// Where a thread runs it: polls the queue anew.
    root: OnceCell<Waker>,
}

thread_local! {
    /// The queue whose tasks this thread runs.
    static RUNNING: Cell<*const Queue> = const { Cell::new(ptr::null()) };
    /// Until when it does.
    static TURN_ENDS: Cell<Option<Instant>> = const { Cell::new(None) };
    /// When the task that runs last looked at the clock.
    static SEEN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The time, for a task that ends soon after it has looked: who runs it need not look again.
pub(crate) fn now() -> Instant {
    let now = Instant::now();
    SEEN.set(Some(now));
    now
}

/// When the turn that this thread runs is over: which one it is.
pub(crate) fn turn_end() -> Option<Instant> {
    TURN_ENDS.get()
}

/// Whether a task should let others have the thread.
pub(crate) fn is_late(now: Instant) -> bool {
    TURN_ENDS.get().is_some_and(|end| end <= now)
}

/// Lets others have the thread. tokio's own function would not do: it may keep the task until a time
/// after the turn, which never comes.
pub(crate) async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Queue {
    fn new(handle: &Handle) -> io::Result<Self> {
        let (kick, kicks) = UnixStream::pair()?;
        kick.set_nonblocking(true)?;
        kicks.set_nonblocking(true)?;
        let _guard = handle.enter();
        Ok(Self {
            ready: SegQueue::new(),
            crowd: AtomicUsize::new(0),
            kicked: AtomicBool::new(false),
            kick,
            kicks: net::UnixStream::from_std(kicks)?,
            root: OnceCell::new(),
        })
    }

    fn push(&self, runnable: Runnable) {
        self.ready.push(runnable);
        if ptr::eq(RUNNING.get(), self) {
            if let Some(root) = self.root.get() {
                root.wake_by_ref();
            }
        } else {
            self.kick();
        }
    }

    fn kick(&self) {
        if !self.kicked.swap(true, Ordering::AcqRel) {
            // When it is full, there are kicks enough.
            let _ = (&self.kick).write(&[0]);
        }
    }

    /// Whoever pushes from now on kicks anew. Comes after the epoll was asked and before the queue is
    /// looked at: a kick that is gone must not leave its flag behind, nor a task that nobody sees.
    fn take_kicks(&self) {
        if self.kicked.load(Ordering::Acquire) {
            let _ = self.kicks.try_read(&mut [0; 64]);
            self.kicked.swap(false, Ordering::AcqRel);
        }
    }

    /// Runs what is ready, until the end of the turn. `false`: there is more.
    fn run_ready(&self) -> bool {
        self.crowd.store(self.ready.len(), Ordering::Relaxed);
        let end = Instant::now() + TURN_TIME;
        TURN_ENDS.set(Some(end));
        SEEN.set(None);
        while let Some(runnable) = self.ready.pop() {
            // The task's guards have told its owner; its message went to stderr.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| runnable.run()));
            // After each of them: what a task does may be up to its peer.
            if is_late(SEEN.take().unwrap_or_else(Instant::now)) {
                return self.ready.is_empty();
            }
        }
        true
    }

    fn turn(&self, turning: &mut Turning) -> Turned {
        let Turning { runtime, lull } = turning;
        let _running = Running::new(self);
        let mut has_asked = false;
        runtime.block_on(unconstrained(poll_fn(|cx| {
            if has_asked {
                self.take_kicks();
                if self.ready.is_empty() {
                    return Poll::Ready(lull.go_on());
                }
                lull.end();
                if !self.run_ready() {
                    return Poll::Ready(Turned::More);
                }
            }
            // Has tokio ask the epoll for news, without waiting for any.
            has_asked = true;
            pin!(tokio::task::yield_now())
                .poll(cx)
                .map(|()| Turned::More)
        })))
    }

    /// Makes a call whose tasks the turn after it runs. A whole turn: a task that is woken by its timer
    /// must know what the sockets have.
    fn turn_with<R>(&self, turning: &mut Turning, call: impl FnOnce() -> R) -> R {
        let running = Running::new(self);
        let result = call();
        drop(running);
        if self.turn(turning) == Turned::More {
            self.kick();
        }
        result
    }

    /// Turns for ever.
    fn run(&self, runtime: &Runtime) {
        let _running = Running::new(self);
        runtime.block_on(unconstrained(poll_fn(|cx| {
            self.root.get_or_init(|| cx.waker().clone());
            while self.kicks.poll_read_ready(cx).is_ready() {
                let _ = self.kicks.try_read(&mut [0; 64]);
            }
            self.take_kicks();
            if !self.run_ready() {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })))
    }
}

/// Until it is dropped, this thread runs the queue.
struct Running;

impl Running {
    fn new(queue: &Queue) -> Self {
        RUNNING.set(queue);
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(ptr::null());
        TURN_ENDS.set(None);
    }
}

/// The epoll of a runtime, which tokio keeps to itself: the one that watches what only that runtime does.
/// `None` where the kernel does not tell.
fn epoll_that_watches(fd: RawFd) -> Option<RawFd> {
    fs::read_dir("/proc/self/fd")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|epoll| watches(*epoll, fd))
}

/// proc_pid_fdinfo(5): an epoll has a line `tfd: FD ...` for each descriptor that it watches.
fn watches(epoll: RawFd, fd: RawFd) -> bool {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{epoll}")).unwrap_or_default();
    info.lines()
        .filter_map(|line| line.strip_prefix("tfd:")?.split_whitespace().next())
        .any(|watched| watched.parse() == Ok(fd))
}

pin_project! {
    /// A struct and not an async block, which would hold the task twice: as what it captured and as
    /// what it awaits.
    struct CountedTask<F> {
        #[pin]
        task: F,
        _count: Counted,
    }
}

impl<F: Future<Output = ()>> Future for CountedTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().task.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    async fn lull_of(lull: &mut Lull, time: Duration) -> Turned {
        let turned = lull.go_on();
        advance(time).await;
        lull.end();
        turned
    }

    #[tokio::test(start_paused = true)]
    async fn short_lulls_make_it_look_for_the_end_of_the_next_one() {
        let mut lull = Lull::default();
        for _ in 0..SHORT_LULLS {
            assert_eq!(lull_of(&mut lull, SHORT_LULL / 2).await, Turned::Idle);
        }
        assert_eq!(lull_of(&mut lull, LOOK_TIME / 2).await, Turned::Soon);
        assert_eq!(lull.go_on(), Turned::Soon);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_lull_makes_it_wait_for_news_again() {
        let mut lull = Lull::default();
        for _ in 0..SHORT_LULLS {
            lull_of(&mut lull, Duration::ZERO).await;
        }
        assert_eq!(lull.go_on(), Turned::Soon);
        advance(LOOK_TIME / 2).await;
        assert_eq!(lull.go_on(), Turned::Soon);
        advance(LOOK_TIME).await;
        assert_eq!(lull.go_on(), Turned::Idle);
        assert_eq!(lull.go_on(), Turned::Idle);
        lull.end();
        assert_eq!(lull.go_on(), Turned::Idle);
    }

    #[tokio::test(start_paused = true)]
    async fn lulls_are_short_in_succession_or_not_at_all() {
        let mut lull = Lull::default();
        for _ in 0..SHORT_LULLS * 2 {
            assert_eq!(lull_of(&mut lull, Duration::ZERO).await, Turned::Idle);
            assert_eq!(lull_of(&mut lull, SHORT_LULL).await, Turned::Idle);
        }
    }
}
