//! The epoll of a tokio runtime, which tokio keeps to itself.

use std::fs;
use std::os::fd::RawFd;

/// The one that watches what only that runtime does. `None` where the kernel does not tell.
pub(super) fn epoll_that_watches(fd: RawFd) -> Option<RawFd> {
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
