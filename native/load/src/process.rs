//! What a process has used, from `/proc` (proc_pid_stat(5)).

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Some ticks, of which each is 10 ms.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub struct Process {
    folder: PathBuf,
}

impl Process {
    pub fn new(pid: u32) -> Self {
        Self {
            folder: format!("/proc/{pid}").into(),
        }
    }

    pub fn own() -> Self {
        Self {
            folder: "/proc/self".into(),
        }
    }

    /// User and system time of all threads, also of those that have ended.
    pub fn cpu(&self) -> Result<Duration> {
        let ticks = parse_cpu(&self.read("stat")?).context("/proc has an unknown stat")?;
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
    }

    /// Until it hardly does anything any more, or the time is over.
    pub fn await_rest(&self, at_most: Duration) -> Result<()> {
        let until = Instant::now() + at_most;
        let mut before = self.cpu()?;
        while Instant::now() < until {
            thread::sleep(LOOK_EVERY);
            let now = self.cpu()?;
            if now - before < LOOK_EVERY / 8 {
                break;
            }
            before = now;
        }
        Ok(())
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> Result<u64> {
        parse_rss(&self.read("status")?).context("the server's process has ended")
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

/// Fields 14 and 15. They are counted from the end of field 2, the program's name in parentheses,
/// which may itself have spaces and parentheses.
fn parse_cpu(stat: &str) -> Option<u64> {
    let (_, from_third) = stat.rsplit_once(')')?;
    let mut fields = from_third.split_whitespace().skip(14 - 3);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn parse_rss(status: &str) -> Option<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let stat = "7 (a ) 1 2) S 1 7 7 0 -1 4194560 100 0 0 0 250 40 9 9 20 0 1 0 5 0 0";
        assert_eq!(parse_cpu(stat), Some(290));
        assert_eq!(parse_cpu("7 (short) S 1"), None);
    }

    #[test]
    fn what_works_is_seen_in_the_own_process() {
        let before = Process::own().cpu().unwrap();
        // A tick is 10 ms on most kernels.
        while Process::own().cpu().unwrap() < before + Duration::from_millis(20) {}
        assert!(Process::own().rss_kib().unwrap() > 0);
    }
}
