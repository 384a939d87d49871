//! All reactors, and the threads beside them: for timers, and for what waits for a disk.
//!
//! Nothing of this is ever dropped: a NIF library has no moment at which that would be safe.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use once_cell::sync::OnceCell;
use tokio::runtime::{Builder, EnterGuard, Runtime};
use tokio::task::JoinHandle;

use super::reactor::{Driver, Reactor, THREAD_NAME};

static ENGINE: OnceCell<Engine> = OnceCell::new();

/// Threads for files. They are few because each may hold a piece of a file in memory.
const BLOCKING_THREADS: usize = 16;

struct Engine {
    reactors: Vec<Reactor>,
    /// Where the next connection goes.
    next: AtomicUsize,
    background: Runtime,
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
) -> JoinHandle<R> {
    engine().background.spawn_blocking(work)
}

/// What is made while the guard lives has its time from the background, which never stands still as a
/// reactor may. `None` in tests that bring their own runtime.
pub(crate) fn in_background() -> Option<EnterGuard<'static>> {
    ENGINE.get().map(|engine| engine.background.enter())
}
