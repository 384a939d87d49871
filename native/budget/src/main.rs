//! `ferrosock_budget CONNECTIONS echo DEPTH` or `get`: serves its own connections in lock step, for a program
//! that counts the instructions of [`measured`] (bench/budget does, by callgrind).
//!
//! A round: the clients send; when the kernel has it all, the reactor is turned until nothing is left, and
//! then the owners answer what they were told, and so on until neither has anything to do. Only that is
//! measured. One thread does all of it, and allocates nothing in between: what an allocation takes depends
//! on those before it.

mod client;
mod clock;
mod server;

use std::env;

use client::{Clients, Kind};
use server::Server;

/// Until everything has grown as large as it will.
const WARM: u64 = 10;
const ROUNDS: u64 = 10;
/// At least: what comes once a second, as a date does, must not weigh.
const MESSAGES: u64 = 200;

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().expect("a number");
    let (connections, kind) = match arguments[..] {
        [connections, "echo", depth] => (number(connections), Kind::Echo(number(depth))),
        [connections, "get"] => (number(connections), Kind::Get),
        _ => panic!("usage: ferrosock_budget CONNECTIONS echo DEPTH | CONNECTIONS get"),
    };
    let server = Server::start();
    let mut clients = Clients::connect(&server, kind, connections);
    let rounds = ROUNDS.max(MESSAGES / clients.messages());
    for round in 0..WARM + rounds {
        clients.send(&server);
        clock::stopped(|| {
            if round < WARM {
                server.settle();
            } else {
                measured(&server);
            }
        });
        clients.receive();
    }
    println!("{}", rounds * clients.messages());
}

/// What is counted, by its name.
#[inline(never)]
fn measured(server: &Server) {
    server.settle();
}
