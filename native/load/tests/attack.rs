//! Attacks, and the echo beside them.

mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;

use ferrosock_load::frame;
use serde_json::Value;

use support::*;

/// Of the connection that does no harm.
const ECHO_SIZE: usize = 64;

#[test]
fn what_an_echo_waits_beside_pings_is_told() {
    for weapon in ["ping", "ping-read"] {
        let report = attack(weapon, sink(), "--conns 2");
        assert_eq!(report["weapon"], "pings");
        assert!(report["attacks"].as_u64().unwrap() > 2, "{report}");
        // One every 20 ms, if the machine lets it.
        let messages = report["messages"].as_u64().unwrap();
        assert!((1..=26).contains(&messages), "{report}");
        assert!(report["max_us"].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[test]
fn handshakes_are_counted_as_far_as_they_are_answered() {
    let server = serve(|mut stream| {
        let mut record = [0; 5];
        stream.read_exact(&mut record).unwrap();
        assert_eq!(record[..2], [0x16, 0x03], "a record of a handshake");
        stream.write_all(&record).ok();
    });
    let report = attack("hello", server, "--conns 3");
    assert!(report["attacks"].as_u64().unwrap() >= 3, "{report}");

    let closes = serve(drop);
    let complaint = complaint(run("hello", echo_server(), closes, ""));
    assert!(complaint.contains("the attack did nothing"), "{complaint}");
}

#[test]
fn pushes_are_counted_in_megabytes() {
    let server = serve(|mut stream| {
        shake_hands(&mut stream);
        let mut request = [0; 2 + 4 + 9];
        let zeros = vec![0; 1 << 20];
        while stream.read_exact(&mut request).is_ok() {
            let mut header = vec![frame::FIN | frame::BINARY, 127];
            header.extend_from_slice(&300_000_000u64.to_be_bytes());
            let mut left = 300_000_000;
            if stream.write_all(&header).is_err() {
                return;
            }
            while left > 0 {
                let count = left.min(zeros.len());
                if stream.write_all(&zeros[..count]).is_err() {
                    return;
                }
                left -= count;
            }
        }
    });
    let report = attack("push", server, "");
    assert_eq!(report["weapon"], "MB");
    assert!(report["attacks"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn a_server_that_ends_an_attack_is_attacked_again() {
    let server = serve(|mut stream| {
        shake_hands(&mut stream);
        stream.read_exact(&mut [0; 6]).ok();
    });
    attack("ping", server, "");
}

#[test]
fn what_cannot_be_attacked_and_a_wrong_echo_fail_the_run() {
    let page = serve(|mut stream| {
        read_head(&mut stream);
        let page = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(page.as_bytes()).unwrap();
        wait_for_end(stream);
    });
    assert!(complaint(run("ping", echo_server(), page, "")).contains("refused"));
    assert!(complaint(run("window", echo_server(), page, "")).contains("the attack"));

    let wrong = serve(|mut stream| {
        shake_hands(&mut stream);
        stream
            .read_exact(&mut [0; 2 + frame::MASK_LEN + ECHO_SIZE])
            .unwrap();
        stream.write_all(&[0; 2 + ECHO_SIZE]).unwrap();
        wait_for_end(stream);
    });
    assert!(complaint(run("ping", wrong, sink(), "")).contains("is wrong"));
}

fn attack(weapon: &str, target: SocketAddr, options: &str) -> Value {
    figures(run(weapon, echo_server(), target, options))
}

fn run(weapon: &str, echo: SocketAddr, target: SocketAddr, options: &str) -> std::process::Output {
    let options = format!("{weapon} --target {target} {SHORT_RUN} {options}");
    load("attack", echo, &options)
}

fn echo_server() -> SocketAddr {
    serve(|mut stream| {
        shake_hands(&mut stream);
        let mut message = [0; 2 + frame::MASK_LEN + ECHO_SIZE];
        while stream.read_exact(&mut message).is_ok() {
            let (key, payload) = message[2..].split_first_chunk_mut().unwrap();
            frame::apply_mask(payload, *key);
            let echo = frame::unmasked(frame::BINARY, payload);
            if stream.write_all(&echo).is_err() {
                return;
            }
        }
    })
}

fn sink() -> SocketAddr {
    serve(|mut stream| {
        shake_hands(&mut stream);
        wait_for_end(stream);
    })
}

fn shake_hands(stream: &mut (impl Read + Write)) {
    read_head(stream);
    stream.write_all(HANDSHAKE.as_bytes()).ok();
}
