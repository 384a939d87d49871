use std::net::{Ipv4Addr, TcpListener};

use anyhow::Result;
use clap::{Parser, Subcommand};
use ferrosock_load::ceiling::{epoll, tungstenite};

/// WebSocket echo servers without a BEAM: what servers with one are measured against.
///
/// Listens on 127.0.0.1 until it is ended; prints "listening" when it is ready.
#[derive(Parser)]
#[command(name = "ceiling", version)]
struct Args {
    #[command(subcommand)]
    server: Server,
}

#[derive(Subcommand)]
enum Server {
    /// One thread that reads, unmasks and writes: what the kernel alone costs.
    Epoll {
        /// 0 takes a free one.
        port: u16,
    },
    /// tokio-tungstenite: what a Rust server without the BEAM costs.
    Tungstenite {
        /// 0 takes a free one.
        port: u16,
        /// Threads of the tokio runtime.
        #[arg(long, default_value = "2", value_parser = clap::value_parser!(u16).range(1..=1024))]
        workers: u16,
    },
}

fn main() -> Result<()> {
    match Args::parse().server {
        Server::Epoll { port } => epoll::serve(listen(port)?),
        Server::Tungstenite { port, workers } => tungstenite::serve(listen(port)?, workers.into()),
    }
}

fn listen(port: u16) -> Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    println!("listening on {}", listener.local_addr()?);
    Ok(listener)
}
