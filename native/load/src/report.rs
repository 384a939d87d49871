//! How a run is told: one sentence for people, one JSON object for programs.

use std::fmt;

use serde::Serialize;

use crate::meter::Figures;

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Report {
    Load(LoadReport),
    Idle(IdleReport),
    Attack(AttackReport),
}

#[derive(Debug, Serialize)]
pub struct LoadReport {
    pub mode: &'static str,
    /// What is counted.
    pub unit: &'static str,
    pub conns: u32,
    pub depth: u32,
    pub size: u32,
    #[serde(flatten)]
    pub figures: Figures,
}

/// The messages and the latencies are those of the connection that does no harm.
#[derive(Debug, Serialize)]
pub struct AttackReport {
    /// What the attack counts, and how many it has made.
    pub weapon: &'static str,
    pub attacks: u64,
    #[serde(flatten)]
    pub load: LoadReport,
}

/// `None` is what only the server's process could tell, when it was not given.
#[derive(Debug, Serialize)]
pub struct IdleReport {
    pub mode: &'static str,
    pub conns: u32,
    pub pings: u64,
    pub open_secs: f64,
    /// Spent on opening one connection.
    pub open_cpu_us: Option<f64>,
    /// Spent on all of them while they did nothing.
    pub idle_cpu_percent: Option<f64>,
    pub rss_kib: Option<u64>,
    pub rss_kib_per_conn: Option<f64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Report::Load(report) => report.fmt(f),
            Report::Idle(report) => report.fmt(f),
            Report::Attack(report) => {
                write!(f, "beside {} {}: ", report.attacks, report.weapon)?;
                report.load.fmt(f)
            }
        }
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let LoadReport {
            mode,
            unit,
            conns,
            depth,
            size,
            figures,
        } = self;
        write!(
            f,
            "{mode} {conns}x{depth}x{size}: {:.0} {unit}/s",
            figures.per_second
        )?;
        write!(f, ", p50 {:.0} p99 {:.0}", figures.p50_us, figures.p99_us)?;
        write!(f, " max {:.0} µs", figures.max_us)?;
        if let (Some(cpu), Some(percent), Some(rss)) = (
            figures.server_cpu_us,
            figures.server_cpu_percent,
            figures.server_rss_kib,
        ) {
            write!(
                f,
                ", server {cpu:.2} µs each ({percent:.0}% CPU, {rss} KiB)"
            )?;
        }
        write!(f, ", client {:.2} µs each", figures.client_cpu_us)
    }
}

impl fmt::Display for IdleReport {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "idle {}: opened in {:.2} s", self.conns, self.open_secs)?;
        if let (Some(open), Some(idle), Some(rss), Some(each)) = (
            self.open_cpu_us,
            self.idle_cpu_percent,
            self.rss_kib,
            self.rss_kib_per_conn,
        ) {
            write!(f, ", server {open:.1} µs each, then {idle:.1}% CPU")?;
            write!(f, ", {rss} KiB, {each:.2} KiB each")?;
        }
        Ok(())
    }
}
