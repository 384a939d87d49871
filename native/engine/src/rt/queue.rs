//! The tasks of a reactor that are to be run, and the turns that run them.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use async_task::Runnable;
use crossbeam::queue::SegQueue;
use once_cell::sync::OnceCell;
use tokio::net;
use tokio::runtime::{Handle, Runtime};
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::spin::Spin;
use super::turn::{self, Turned};

/// What a turn needs for itself alone.
pub(super) struct Turning {
    runtime: Runtime,
    spin: Spin,
}

impl Turning {
    pub(super) fn new(runtime: Runtime) -> Self {
        Self {
            runtime,
            spin: Spin::default(),
        }
    }
}

thread_local! {
    /// The queue whose tasks this thread runs.
    static RUNNING: Cell<*const Queue> = const { Cell::new(ptr::null()) };
}

/// The tasks of a reactor that are ready to run. tokio's own queue would not do: it does not tell whether it is
/// empty, and a reactor that waits for news while it is not would wait for ever.
pub(super) struct Queue {
    ready: SegQueue<Runnable>,
    /// How many there were the last time.
    depth: AtomicUsize,
    /// Whether the next turn is certain to come.
    is_woken: AtomicBool,
    /// Makes the epoll readable.
    wake: UnixStream,
    wakes: net::UnixStream,
    /// Where a thread runs it: polls the queue anew.
    root: OnceCell<Waker>,
}

impl Queue {
    pub(super) fn new(handle: &Handle) -> io::Result<Self> {
        let (wake, wakes) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        wakes.set_nonblocking(true)?;
        let _guard = handle.enter();
        Ok(Self {
            ready: SegQueue::new(),
            depth: AtomicUsize::new(0),
            is_woken: AtomicBool::new(false),
            wake,
            wakes: net::UnixStream::from_std(wakes)?,
            root: OnceCell::new(),
        })
    }

    /// Its wakes can be read from this descriptor.
    pub(super) fn wakes_fd(&self) -> RawFd {
        self.wakes.as_raw_fd()
    }

    /// How many tasks there were to run the last time.
    pub(super) fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }

    pub(super) fn push(&self, runnable: Runnable) {
        self.ready.push(runnable);
        if ptr::eq(RUNNING.get(), self) {
            if let Some(root) = self.root.get() {
                root.wake_by_ref();
            }
        } else {
            self.wake();
        }
    }

    fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            // When it is full, there are wakes enough.
            let _ = (&self.wake).write(&[0]);
        }
    }

    /// Whoever pushes from now on wakes anew. Comes after the epoll was asked and before the queue is
    /// looked at: a wake that is gone must not leave its flag behind, nor a task that nobody sees.
    fn take_wakes(&self) {
        if self.is_woken.load(Ordering::Acquire) {
            let _ = self.wakes.try_read(&mut [0; 64]);
            self.is_woken.swap(false, Ordering::AcqRel);
        }
    }

    /// Runs what is ready, until the end of the turn. `false`: there is more.
    fn run_ready(&self, now: Instant) -> bool {
        self.depth.store(self.ready.len(), Ordering::Relaxed);
        turn::begin(now);
        while let Some(runnable) = self.ready.pop() {
            // The task's guards have told its owner; its message went to stderr.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| runnable.run()));
            // After each of them: what a task does may be up to its peer.
            if turn::is_over() {
                return self.ready.is_empty();
            }
        }
        true
    }

    pub(super) fn turn(&self, turning: &mut Turning) -> Turned {
        let Turning { runtime, spin } = turning;
        let _running = Running::new(self);
        let mut has_asked = false;
        runtime.block_on(unconstrained(poll_fn(|cx| {
            if has_asked {
                self.take_wakes();
                let now = Instant::now();
                if self.ready.is_empty() {
                    return Poll::Ready(spin.idle(now));
                }
                spin.end_spell(now);
                if !self.run_ready(now) {
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
    pub(super) fn turn_with<R>(&self, turning: &mut Turning, call: impl FnOnce() -> R) -> R {
        let running = Running::new(self);
        let result = call();
        drop(running);
        if self.turn(turning) == Turned::More {
            self.wake();
        }
        result
    }

    /// Turns for ever.
    pub(super) fn run(&self, runtime: &Runtime) {
        let _running = Running::new(self);
        runtime.block_on(unconstrained(poll_fn(|cx| {
            self.root.get_or_init(|| cx.waker().clone());
            while self.wakes.poll_read_ready(cx).is_ready() {
                let _ = self.wakes.try_read(&mut [0; 64]);
            }
            self.take_wakes();
            if !self.run_ready(Instant::now()) {
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
        turn::end();
    }
}
