//! The engine's clock, which bench/budget.c lets stand: how far a turn gets must not depend on how slowly it
//! runs.

use std::env;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs while it stands.
pub fn stopped(run: impl FnOnce()) {
    static STOPS: AtomicU64 = AtomicU64::new(1);
    write(STOPS.fetch_add(1, Ordering::Relaxed));
    run();
    write(0);
}

/// See `struct counts` there.
fn write(stop: u64) {
    static FILE: OnceLock<File> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let path = env::var_os("BUDGET_COUNTS").expect("BUDGET_COUNTS, as bench/budget sets it");
        let file = File::options().write(true).open(path);
        file.expect("the file of the counts")
    });
    file.write_all_at(&stop.to_le_bytes(), 0).expect("room");
}
