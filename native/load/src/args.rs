//! What the command line of `load` says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use rustls::ClientConfig;

use crate::tls::trusting;

/// Puts load on a web or WebSocket server and tells what a message cost it.
///
/// Exits with 1 when the server answers wrongly, too much, or not at all.
#[derive(Debug, Parser)]
#[command(name = "load", version)]
pub struct Args {
    #[command(subcommand)]
    pub mode: Mode,

    /// Print one JSON object instead of a sentence.
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum Mode {
    /// Every connection sends messages and awaits them back.
    Echo(Messages),
    /// One connection sends messages, and every connection awaits them all.
    Push(Messages),
    /// Members of a Phoenix channel: one of them has a message broadcast, and all await it.
    Broadcast(Broadcast),
    /// Every connection asks for a page, again and again (HTTP/1.1 keep-alive).
    Get(Get),
    /// Connections that do nothing, or ping now and then: what they weigh.
    Idle(Idle),
    /// Opens and closes WebSockets, one after the other.
    Connect(Connect),
    /// One connection floods: what another one waits that sends a message now and then.
    Fair(Fair),
    /// Connections do harm: what another one waits meanwhile that sends a message every 20 ms.
    Attack(Attack),
}

#[derive(Debug, clap::Args)]
pub struct Messages {
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub timing: Timing,

    #[arg(long, default_value = "64", value_parser = clap::value_parser!(u32).range(1..))]
    pub conns: u32,

    /// Messages sent at once before their answers are awaited. Latency is that of all of them.
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub depth: u32,

    #[command(flatten)]
    pub kind: Kind,
}

/// What every message is.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Kind {
    /// Bytes of payload.
    #[arg(long, default_value = "64", value_parser = clap::value_parser!(u32).range(..=1 << 28))]
    pub size: u32,

    /// Send text frames instead of binary ones.
    #[arg(long)]
    pub text: bool,

    /// Send JSON as text frames, compressed with permessage-deflate both ways.
    #[arg(long, conflicts_with = "text")]
    pub deflate: bool,
}

/// The path is that of a socket of Phoenix, with `vsn=2.0.0`. Latency is that of each delivery.
#[derive(Debug, clap::Args)]
pub struct Broadcast {
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub timing: Timing,

    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    pub conns: u32,

    /// Bytes of text in the message.
    #[arg(long, default_value = "200", value_parser = clap::value_parser!(u32).range(..=1 << 20))]
    pub size: u32,

    /// A list of so many objects in place of the text, 40 bytes each.
    #[arg(long, conflicts_with = "size", value_parser = clap::value_parser!(u32).range(..=1 << 16))]
    pub objects: Option<u32>,

    /// Compress with permessage-deflate both ways.
    #[arg(long)]
    pub deflate: bool,
}

#[derive(Debug, clap::Args)]
pub struct Get {
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub timing: Timing,

    #[arg(long, default_value = "64", value_parser = clap::value_parser!(u32).range(1..))]
    pub conns: u32,
}

#[derive(Debug, clap::Args)]
pub struct Idle {
    #[command(flatten)]
    pub server: Server,

    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    pub conns: u32,

    /// What each connection exchanges once, when all are open.
    #[command(flatten)]
    pub kind: Kind,

    /// Join a Phoenix channel instead of exchanging that. The path is that of a socket, with `vsn=2.0.0`.
    #[arg(long, conflicts_with_all = ["size", "text"])]
    pub join: bool,

    /// Seconds from then until memory is read.
    #[arg(long, default_value = "1", value_parser = seconds)]
    pub rest: Duration,

    /// Seconds after that, of which the CPU time is measured.
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub secs: Duration,

    /// Seconds between two pings of a connection meanwhile; without it there are none.
    #[arg(long, value_parser = interval)]
    pub ping_every: Option<Duration>,
}

#[derive(Debug, clap::Args)]
pub struct Connect {
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub timing: Timing,
}

#[derive(Debug, clap::Args)]
pub struct Fair {
    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub timing: Timing,

    /// Bytes of payload.
    #[arg(long, default_value = "64", value_parser = clap::value_parser!(u32).range(..=1 << 28))]
    pub size: u32,
}

/// The server's address and path are those of the echo; it is asked without TLS. The attack begins
/// after the warm-up.
#[derive(Debug, clap::Args)]
pub struct Attack {
    #[arg(value_enum)]
    pub weapon: Weapon,

    #[command(flatten)]
    pub server: Server,
    #[command(flatten)]
    pub timing: Timing,

    /// Whom to attack, if not the address of the echo.
    #[arg(long, value_name = "IP:PORT")]
    pub target: Option<SocketAddr>,

    /// The path to attack, if not that of the echo.
    #[arg(long, value_parser = request_target)]
    pub target_path: Option<String>,

    /// Connections that attack, all at once.
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub conns: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Weapon {
    /// Pings without payload, as many as the server takes, and no look at the pongs.
    Ping,
    /// The same, and the pongs are read.
    PingRead,
    /// TLS: sends a ClientHello, leaves at the first byte of the answer, and comes again.
    Hello,
    /// Asks for a message of 300 MB, reads it as fast as it can, and asks again. The path must be one
    /// that pushes so many bytes as a text message says.
    Push,
    /// WebSockets over HTTP/2, without TLS, that give the server no window and send pings.
    Window,
}

#[derive(Debug, clap::Args)]
pub struct Server {
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:4000")]
    pub addr: SocketAddr,

    #[arg(long, default_value = "/", value_parser = request_target)]
    pub path: String,

    /// Speak TLS 1.3, with a server whose certificate for its IP address is in this PEM file.
    #[arg(long, value_name = "CERTFILE", value_parser = trusting)]
    pub tls: Option<Arc<ClientConfig>>,

    /// The server's process: tells what it spends.
    #[arg(long)]
    pub pid: Option<u32>,
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Timing {
    /// Seconds of measured load.
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub secs: Duration,

    /// Seconds of load before it is measured.
    #[arg(long, default_value = "1", value_parser = seconds)]
    pub warm: Duration,

    /// Seconds without any answer after which the server counts as stuck.
    #[arg(long, default_value = "5", value_parser = seconds)]
    pub patience: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(secs) if (0.0..=3600.0).contains(&secs) => Ok(Duration::from_secs_f64(secs)),
        _ => Err("expected seconds, 0 to 3600".into()),
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    match seconds(text) {
        Ok(Duration::ZERO) => Err("expected more than 0 seconds".into()),
        other => other,
    }
}

fn request_target(text: &str) -> Result<String, String> {
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.into())
    } else {
        Err("expected a path that starts with / and has no spaces".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn an_echo_with_all_its_options() {
        let args = parse(
            "load echo --addr 127.0.0.1:9 --path /echo?timeout=infinity --pid 7 --conns 3 \
             --depth 16 --size 4096 --text --secs 0.5 --warm 0 --json",
        )
        .unwrap();
        assert!(args.json);
        let Mode::Echo(echo) = args.mode else {
            panic!("{:?}", args.mode)
        };
        assert_eq!(echo.server.addr.port(), 9);
        assert_eq!(echo.server.path, "/echo?timeout=infinity");
        assert_eq!(echo.server.pid, Some(7));
        assert_eq!((echo.conns, echo.depth, echo.kind.size), (3, 16, 4096));
        assert!(echo.kind.text);
        assert_eq!(echo.timing.secs, Duration::from_millis(500));
        assert_eq!(echo.timing.warm, Duration::ZERO);
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for line in [
            "load",
            "load shout",
            "load echo --conns 0",
            "load echo --depth 0",
            "load echo --secs -1",
            "load echo --secs NaN",
            "load echo --secs 1e9",
            "load echo --addr localhost",
            "load get --path echo",
            "load get --depth 2",
            "load echo --text --deflate",
            "load idle --ping-every 0",
            "load idle --join --size 64",
            "load broadcast --conns 0",
            "load broadcast --size 200 --objects 50",
            "load get --tls /dev/null",
            "load attack",
            "load attack kindness",
            "load attack ping --conns 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
