//! Work that keeps a core for longer than a turn of a reactor may last, as the signatures of TLS
//! handshakes do. Threads of its own do it, so that whoever floods them with it delays neither a
//! scheduler nor the reading of files.

use std::panic::{self, AssertUnwindSafe};
use std::thread;

use crossbeam::channel::{Sender, unbounded};
use once_cell::sync::Lazy;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

const THREAD_NAME: &str = "ferrosock_work";

static JOBS: Lazy<Sender<Job>> = Lazy::new(|| {
    let (sender, jobs) = unbounded::<Job>();
    for _ in 0..thread_count() {
        let jobs = jobs.clone();
        let run = move || {
            for job in jobs {
                // Its caller learns of a panic by the answer that does not come.
                let _ = panic::catch_unwind(AssertUnwindSafe(job));
            }
        };
        // Without any thread, the jobs are dropped with their queue, and so are their answers.
        let _ = thread::Builder::new().name(THREAD_NAME.into()).spawn(run);
    }
    sender
});

/// The schedulers need cores, too.
fn thread_count() -> usize {
    thread::available_parallelism().map_or(1, |n| (n.get() / 2).max(1))
}

/// Runs `work` on one of the threads; `None` where it panicked. Work that nobody waits for any more when
/// its turn comes is not done: the queue is as long as there are peers that wait for it.
pub(crate) async fn offload<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> Option<R> {
    let (answer, result) = oneshot::channel();
    let job: Job = Box::new(move || {
        if !answer.is_closed() {
            let _ = answer.send(work());
        }
    });
    // It fails where there is no thread, and so does the wait then.
    let _ = JOBS.send(job);
    result.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn work_is_done_on_another_thread() {
        let here = thread::current().id();
        let there = offload(|| thread::current().id()).await.unwrap();
        assert_ne!(here, there);
    }

    #[tokio::test]
    async fn a_panic_is_no_answer_and_no_end_of_the_thread() {
        for _ in 0..thread_count() * 2 {
            assert_eq!(offload(|| -> () { panic!("as it should") }).await, None);
        }
        assert_eq!(offload(|| 1).await, Some(1));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_not_done() {
        let (release, held) = mpsc::channel::<()>();
        let held = std::sync::Arc::new(std::sync::Mutex::new(held));
        let busy: Vec<_> = (0..thread_count())
            .map(|_| {
                let held = held.clone();
                tokio::spawn(offload(move || {
                    let _ = held.lock().map(|held| held.recv());
                }))
            })
            .collect();
        tokio::task::yield_now().await;
        let (done, was_done) = mpsc::channel();
        let given_up = tokio::spawn(offload(move || done.send(()).unwrap()));
        tokio::task::yield_now().await;
        given_up.abort();
        assert!(given_up.await.is_err());
        drop(release);
        for task in busy {
            task.await.unwrap();
        }
        // The threads take up jobs in order: what was given up comes before this.
        for _ in 0..thread_count() {
            offload(|| ()).await;
        }
        assert!(was_done.recv().is_err());
    }
}
