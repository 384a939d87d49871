//! The programs as they are run: right answers give figures, wrong ones an exit code.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ferrosock_load::frame;
use serde_json::Value;

use support::*;

/// The echo of a message of 8 bytes.
const RIGHT: &[u8] = b"\x82\x08abcdefgh";
fn echo(addr: SocketAddr) -> Output {
    load("echo", addr, &format!("{SHORT_RUN} --size 8"))
}

/// A `ceiling` program, ended with its test.
struct Ceiling {
    child: Child,
    addr: SocketAddr,
}

impl Ceiling {
    fn start(kind: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ceiling"))
            .args([kind, "0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let addr = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap()
            .parse()
            .unwrap();
        Self { child, addr }
    }
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn both_ceilings_pass_every_load_for_websockets() {
    for kind in ["epoll", "tungstenite"] {
        let server = Ceiling::start(kind);
        let pid = format!("--pid {}", server.child.id());

        for size in [0, 1, 125, 126, 65535, 65536, 300_000] {
            let options = format!("{SHORT_RUN} {pid} --size {size} --conns 3 --depth 4");
            let report = figures(load("echo", server.addr, &options));
            assert_eq!(report["mode"], "echo");
            assert_eq!(report["size"], size);
            assert_eq!(report["messages"].as_u64().unwrap() % 4, 0, "{report}");
            assert!(
                report["p50_us"].as_f64() <= report["max_us"].as_f64(),
                "{report}"
            );
            assert!(report["server_rss_kib"].as_u64().unwrap() > 0, "{report}");
        }

        let text = figures(load("echo", server.addr, &format!("{SHORT_RUN} --text")));
        assert_eq!(
            text["server_cpu_us"],
            Value::Null,
            "nobody said which process it is"
        );

        figures(load("connect", server.addr, &format!("{SHORT_RUN} {pid}")));

        let options = format!("--rest 0 --secs 0.1 --conns 200 --json {pid}");
        let report = figures(load("idle", server.addr, &options));
        assert_eq!(report["conns"], 200);
        assert_eq!(report["pings"], 0);
    }
}

#[test]
fn a_flood_lets_a_quiet_connection_through_or_fails_the_run() {
    let server = Ceiling::start("tungstenite");
    let report = figures(load("fair", server.addr, SHORT_RUN));
    assert!(report["p50_us"].as_f64().unwrap() > 0.0, "{report}");

    let server = serve(|mut stream| {
        read_head(&mut stream);
        stream.write_all(HANDSHAKE.as_bytes()).unwrap();
        wait_for_end(stream);
    });
    let complaint = complaint(load("fair", server, "--patience 1"));
    assert!(complaint.contains("the flood"), "{complaint}");
}

#[test]
fn idle_connections_ping_and_each_ping_must_have_its_pong() {
    let options = "--rest 0 --secs 0.5 --ping-every 0.2 --conns 20 --json";
    let server = Ceiling::start("tungstenite");
    assert_eq!(
        figures(load("idle", server.addr, options))["pings"],
        50,
        "evenly spread over the time"
    );

    // It sends back what it gets, whatever it is.
    let server = Ceiling::start("epoll");
    assert!(complaint(load("idle", server.addr, options)).contains("50 pings and 0 pongs"));
}

#[test]
fn compressed_messages_come_back_compressed() {
    let options = format!("{SHORT_RUN} --deflate --size 1024 --depth 2 --conns 3");
    let report = figures(load("echo", deflating_server(), &options));
    assert_eq!(report["messages"].as_u64().unwrap() % 2, 0, "{report}");

    let options = "--rest 0 --secs 0.1 --deflate --size 300 --conns 3 --json";
    assert_eq!(
        figures(load("idle", deflating_server(), options))["conns"],
        3
    );
}

#[test]
fn a_server_that_does_not_compress_fails_the_run() {
    let server = Ceiling::start("epoll");
    let complaint = complaint(load("echo", server.addr, "--deflate --size 1024"));
    assert!(complaint.contains("was not accepted"), "{complaint}");
}

#[test]
fn a_push_to_one_connection_is_an_echo() {
    let server = Ceiling::start("epoll");
    figures(load("push", server.addr, &format!("{SHORT_RUN} --conns 1")));

    let options = "--conns 2 --secs 30 --warm 0 --patience 0.5";
    let complaint = complaint(load("push", server.addr, options));
    assert!(
        complaint.contains("1 of 2 connections got no answer"),
        "{complaint}"
    );
}

#[test]
fn an_answer_of_another_content_fails_the_run() {
    let server = wrong_server(b"\x82\x08abcdefgX");
    assert!(complaint(echo(server)).contains("wrong at byte 9"));
}

#[test]
fn an_answer_of_another_opcode_fails_the_run() {
    let server = wrong_server(b"\x81\x08abcdefgh");
    assert!(complaint(echo(server)).contains("wrong at byte 0"));
}

#[test]
fn an_answer_that_is_too_long_fails_the_run() {
    let server = wrong_server(&[RIGHT, b"\x8a"].concat());
    assert!(complaint(echo(server)).contains("too long"));
}

#[test]
fn an_answer_that_is_too_short_fails_the_run_in_time() {
    let server = wrong_server(&RIGHT[..9]);
    let began = Instant::now();
    let options = "--size 8 --secs 30 --warm 0 --patience 0.5";
    assert!(
        complaint(load("echo", server, options)).contains("64 of 64 connections got no answer")
    );
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_server_that_speaks_first_fails_the_run() {
    let server = serve(|mut stream| {
        read_head(&mut stream);
        stream
            .write_all(&[HANDSHAKE.as_bytes(), RIGHT].concat())
            .unwrap();
        wait_for_end(stream);
    });
    assert!(complaint(echo(server)).contains("spoke first"));
}

#[test]
fn a_refused_handshake_fails_the_run() {
    let server = page_server("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno");
    assert!(complaint(echo(server)).contains("refused: HTTP/1.1 404 Not Found"));
}

#[test]
fn a_server_that_is_not_there_fails_the_run() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert!(complaint(load("echo", free, SHORT_RUN)).contains("opening connection 1 of 64"));
}

#[test]
fn pages_are_counted_and_an_error_fails_the_run() {
    let options = &format!("{SHORT_RUN} --conns 4");
    let server = page_server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    figures(load("get", server, options));

    let server = page_server("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    assert!(complaint(load("get", server, options)).contains("404"));
}

/// Answers a handshake as it should, and the first message of 8 bytes with `answer`.
fn wrong_server(answer: &[u8]) -> SocketAddr {
    let answer = answer.to_vec();
    serve(move |mut stream| {
        read_head(&mut stream);
        stream.write_all(HANDSHAKE.as_bytes()).unwrap();
        stream.read_exact(&mut [0; 2 + 4 + 8]).unwrap();
        stream.write_all(&answer).unwrap();
        wait_for_end(stream);
    })
}

/// Sends compressed frames back as they are: an echo, as no context is taken over.
fn deflating_server() -> SocketAddr {
    serve(|mut stream| {
        read_head(&mut stream);
        let agreed = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover";
        let (lines, _end) = HANDSHAKE.split_at(HANDSHAKE.len() - 2);
        let head = format!("{lines}{agreed}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut head = [0; 4];
        while stream.read_exact(&mut head).is_ok() {
            assert_eq!(
                head[1],
                0x80 | 126,
                "the frame is masked and of medium length"
            );
            let len = u16::from_be_bytes([head[2], head[3]]);
            let mut rest = vec![0; 4 + usize::from(len)];
            stream.read_exact(&mut rest).unwrap();
            let (key, payload) = rest.split_first_chunk_mut().unwrap();
            frame::apply_mask(payload, *key);
            let answer = [&head[..1], &[126], &head[2..], payload].concat();
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    })
}

fn page_server(response: &'static str) -> SocketAddr {
    serve(move |mut stream| {
        while read_head(&mut stream) {
            if stream.write_all(response.as_bytes()).is_err() {
                return;
            }
        }
    })
}
