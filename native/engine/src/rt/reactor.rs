//! What runs tasks. A reactor is a tokio runtime with an epoll of its own and without a thread: the host waits
//! until [`Reactor::fd`] is readable and then [`turn`](Reactor::turn)s it, which runs what is due and returns. On
//! the BEAM, that happens on the schedulers that also run the handlers, so that no thread has to wake another
//! one for a message. Where the epoll cannot be found, and where there is no such host, a thread turns it.

use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::{Mutex, TryLockError};
use std::task::{Context, Poll};
use std::thread;

use pin_project_lite::pin_project;
use tokio::runtime::{Builder, EnterGuard, Handle};

use super::epoll::epoll_that_watches;
use super::queue::{Queue, Turning};
use super::stats::{self, Counted, Gauge};
use super::turn::Turned;

/// With more tasks or requests at once than this, a call does not run those that it wakes.
const MAX_DEPTH: usize = 4;

pub(super) const THREAD_NAME: &str = "ferrosock";

/// Who turns the reactors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    Host,
    Threads,
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

impl Reactor {
    pub(super) fn new(driver: Driver) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let handle = runtime.handle().clone();
        let queue: &'static Queue = Box::leak(Box::new(Queue::new(&handle)?));
        let fd = match driver {
            Driver::Host => epoll_that_watches(queue.wakes_fd()),
            Driver::Threads => None,
        };
        let hosted = if let Some(fd) = fd {
            let turning = Mutex::new(Turning::new(runtime));
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
        let depth = self.queue.depth().max(self.serving.get());
        let hosted = self.hosted.as_ref().filter(|_| depth <= MAX_DEPTH);
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
