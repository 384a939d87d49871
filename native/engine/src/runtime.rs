//! The one tokio runtime of the process. It is never dropped: a NIF library has no moment at which
//! that would be safe, and a drop inside async code panics.

use std::pin::Pin;
use std::task::{Context, Poll};

use once_cell::sync::OnceCell;
use pin_project_lite::pin_project;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::stats::{self, Counted};

static RUNTIME: OnceCell<(Runtime, usize)> = OnceCell::new();

/// Threads for file reads. They are few because each holds a piece of a file in memory.
const BLOCKING_THREADS: usize = 16;

/// Starts the runtime with `workers` threads (0: the default), unless it runs already.
/// Returns the number of workers it has.
pub fn start(workers: usize) -> std::io::Result<usize> {
    RUNTIME
        .get_or_try_init(|| {
            let workers = if workers == 0 {
                default_workers()
            } else {
                workers
            };
            let runtime = Builder::new_multi_thread()
                .worker_threads(workers)
                .max_blocking_threads(BLOCKING_THREADS)
                .thread_name("ferrosock")
                .enable_all()
                .build()?;
            Ok((runtime, workers))
        })
        .map(|(_, workers)| *workers)
}

/// The BEAM's schedulers run the handlers on the same cores: more workers than half of the cores
/// only wake each other.
fn default_workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    (cores / 2).max(1)
}

pub(crate) fn handle() -> &'static Handle {
    let (runtime, _) = RUNTIME.get_or_init(|| unreachable!("a listener starts the runtime"));
    runtime.handle()
}

/// Spawns a task that is counted in [`stats`] for as long as it lives.
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    handle().spawn(CountedTask {
        task,
        _count: stats::TASKS.count(),
    });
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
