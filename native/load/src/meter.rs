//! What is measured between the end of the warm-up and the end of the load.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::args::Timing;
use crate::process::Process;

pub struct Meter {
    server: Option<Process>,
    client: Process,
    secs: Duration,
    begins_at: Instant,
    /// Where the clocks stood when the warm-up was over.
    begun: Option<Clocks>,
    messages: u64,
    /// Nanoseconds; 4 bytes each, as there may be millions. What takes over 4 s counts as 4 s.
    latencies: Vec<u32>,
}

struct Clocks {
    time: Instant,
    server: Duration,
    client: Duration,
}

/// Times are µs; `None` is what only the server's process could tell, when it was not given.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub secs: f64,
    pub messages: u64,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
    pub server_cpu_us: Option<f64>,
    pub server_cpu_percent: Option<f64>,
    pub server_rss_kib: Option<u64>,
    pub client_cpu_us: f64,
}

impl Meter {
    /// The warm-up begins.
    pub fn new(pid: Option<u32>, timing: &Timing) -> Self {
        Self {
            server: pid.map(Process::new),
            client: Process::own(),
            secs: timing.secs,
            begins_at: Instant::now() + timing.warm,
            begun: None,
            messages: 0,
            latencies: Vec::with_capacity(1 << 20),
        }
    }

    pub fn count(&mut self, messages: u64) {
        self.messages += messages;
    }

    pub fn latency(&mut self, latency: Duration) {
        self.latencies
            .push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
    }

    /// Is to be called often. Gives the figures when the time is over.
    pub fn tick(&mut self, now: Instant) -> Result<Option<Figures>> {
        match &self.begun {
            None if now >= self.begins_at => {
                self.begun = Some(self.clocks()?);
                self.messages = 0;
                self.latencies.clear();
                Ok(None)
            }
            Some(begun) if now >= begun.time + self.secs => self.figures(begun).map(Some),
            _ => Ok(None),
        }
    }

    fn clocks(&self) -> Result<Clocks> {
        Ok(Clocks {
            server: self
                .server
                .as_ref()
                .map_or(Ok(Duration::ZERO), Process::cpu)?,
            client: self.client.cpu()?,
            time: Instant::now(),
        })
    }

    fn figures(&self, begun: &Clocks) -> Result<Figures> {
        ensure!(
            self.messages > 0,
            "nothing was answered while it was measured"
        );
        let ended = self.clocks()?;
        let secs = (ended.time - begun.time).as_secs_f64();
        let messages = self.messages as f64;
        let server_secs = (ended.server - begun.server).as_secs_f64();
        let client_secs = (ended.client - begun.client).as_secs_f64();
        let server = self.server.as_ref();
        let mut latencies = self.latencies.clone();
        Ok(Figures {
            secs,
            messages: self.messages,
            per_second: messages / secs,
            p50_us: percentile_us(&mut latencies, 50),
            p99_us: percentile_us(&mut latencies, 99),
            max_us: percentile_us(&mut latencies, 100),
            server_cpu_us: server.map(|_| server_secs * 1e6 / messages),
            server_cpu_percent: server.map(|_| server_secs * 100.0 / secs),
            server_rss_kib: server.map(Process::rss_kib).transpose()?,
            client_cpu_us: client_secs * 1e6 / messages,
        })
    }
}

/// 0 where there is none: a push that is not over when the time is.
fn percentile_us(nanos: &mut [u32], percent: usize) -> f64 {
    if nanos.is_empty() {
        return 0.0;
    }
    let index = (nanos.len() - 1) * percent / 100;
    f64::from(*nanos.select_nth_unstable(index).1) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(warm: Duration) -> Timing {
        Timing {
            warm,
            secs: Duration::from_secs(1),
            patience: Duration::from_secs(1),
        }
    }

    #[test]
    fn percentiles_of_unsorted_latencies() {
        let mut nanos: Vec<u32> = (1..=101).rev().map(|n| n * 1000).collect();
        assert_eq!(percentile_us(&mut nanos, 50), 51.0);
        assert_eq!(percentile_us(&mut nanos, 99), 100.0);
        assert_eq!(percentile_us(&mut nanos, 100), 101.0);
        assert_eq!(percentile_us(&mut [], 50), 0.0);
    }

    #[test]
    fn what_the_warm_up_did_does_not_count() {
        let mut meter = Meter::new(None, &timing(Duration::ZERO));
        meter.count(1000);
        meter.latency(Duration::from_secs(1));
        assert!(meter.tick(Instant::now()).unwrap().is_none());
        meter.count(3);
        meter.latency(Duration::from_micros(7));
        let end = Instant::now() + Duration::from_secs(1);
        let figures = meter.tick(end).unwrap().unwrap();
        assert_eq!(figures.messages, 3);
        assert_eq!(figures.max_us, 7.0);
        assert_eq!(figures.server_cpu_us, None);
    }

    #[test]
    fn no_message_is_an_error() {
        let mut meter = Meter::new(None, &timing(Duration::ZERO));
        meter.count(1);
        meter.tick(Instant::now()).unwrap();
        meter
            .tick(Instant::now() + Duration::from_secs(1))
            .unwrap_err();
    }
}
