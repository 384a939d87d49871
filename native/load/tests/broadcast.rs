//! Members of a channel, as the program plays them: what they all get once gives figures, and whatever else
//! fails the run.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use ferrosock_load::deflate::{deflate, inflate};
use ferrosock_load::frame::{self, COMPRESSED, TEXT};
use serde_json::{Value, json};

use support::*;

const MEMBERS: &str = "--conns 5";

/// What a member is to get instead of a frame, by its place among those who have joined and the broadcast's number.
type Deliver = fn(usize, u64, Vec<u8>) -> Vec<u8>;

fn room(deflates: bool, deliver: Deliver) -> SocketAddr {
    let members: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    serve(move |mut stream| {
        read_head(&mut stream);
        let extension = if deflates {
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"
        } else {
            ""
        };
        let (lines, end) = HANDSHAKE.split_at(HANDSHAKE.len() - 2);
        let head = format!("{lines}{extension}{end}");
        stream.write_all(head.as_bytes()).unwrap();
        let mut say = Value::Null;
        let mut number = 0;
        while let Some(message) = read_message(&mut stream) {
            let mut members = members.lock().unwrap();
            match message[3].as_str().unwrap() {
                "phx_join" => {
                    say = message[4]["say"].clone();
                    stream.write_all(&reply("ok")).unwrap();
                    members.push(stream.try_clone().unwrap());
                }
                "shout" => {
                    number += 1;
                    say["number"] = number.into();
                    let frame = said(&say, deflates);
                    for (at, mut member) in members.iter().enumerate() {
                        // It may have left, as the run is over.
                        let _ = member.write_all(&deliver(at, number, frame.clone()));
                    }
                }
                other => panic!("{other}"),
            }
        }
    })
}

fn said(say: &Value, deflates: bool) -> Vec<u8> {
    let text = json!([null, null, "room:lobby", "said", say]).to_string();
    if deflates {
        frame::unmasked(COMPRESSED | TEXT, &deflate(text.as_bytes()))
    } else {
        frame::unmasked(TEXT, text.as_bytes())
    }
}

fn reply(status: &str) -> Vec<u8> {
    let payload = json!({"status": status, "response": {}});
    let text = json!(["1", "1", "room:lobby", "phx_reply", payload]).to_string();
    frame::unmasked(TEXT, text.as_bytes())
}

/// Gives the reason.
fn endless_run_fails(server: SocketAddr) -> String {
    complaint(load(
        "broadcast",
        server,
        &format!("{MEMBERS} --secs 600 --warm 0"),
    ))
}

/// As short as they are here.
fn read_message(stream: &mut TcpStream) -> Option<Value> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let mut len = usize::from(head[1] & 0x7f);
    if len == 126 {
        let mut bytes = [0; 2];
        stream.read_exact(&mut bytes).ok()?;
        len = u16::from_be_bytes(bytes).into();
    }
    let mut rest = vec![0; 4 + len];
    stream.read_exact(&mut rest).ok()?;
    let (key, payload) = rest.split_first_chunk_mut().unwrap();
    frame::apply_mask(payload, *key);
    let text = if head[0] & COMPRESSED != 0 {
        inflate(payload, 1 << 16).unwrap()
    } else {
        payload.to_vec()
    };
    Some(serde_json::from_slice(&text).unwrap())
}

#[test]
fn deliveries_to_all_members_are_counted() {
    for (deflates, options) in [
        (false, ""),
        (false, "--objects 50"),
        (true, "--deflate"),
        (true, "--deflate --objects 50"),
    ] {
        let server = room(deflates, |_member, _number, frame| frame);
        let options = format!("{SHORT_RUN} {MEMBERS} {options}");
        let report = figures(load("broadcast", server, &options));
        assert_eq!(report["mode"], "broadcast");
        assert!(report["messages"].as_u64().unwrap() > 0, "{report}");
        assert!(report["p50_us"].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[test]
fn a_delivery_that_does_not_come_fails_the_run_in_time() {
    let server = room(false, |member, number, frame| match (member, number) {
        (3, 2) => Vec::new(),
        _ => frame,
    });
    let options = format!("{MEMBERS} --secs 30 --warm 0 --patience 0.5");
    let complaint = complaint(load("broadcast", server, &options));
    assert!(
        complaint.contains("1 of 5 connections got no answer"),
        "{complaint}"
    );
}

#[test]
fn a_delivery_that_comes_twice_fails_the_run() {
    let server = room(false, |member, number, frame| match (member, number) {
        (3, 2) => frame.repeat(2),
        _ => frame,
    });
    endless_run_fails(server);
}

#[test]
fn what_is_not_what_was_asked_for_fails_the_run() {
    let server = room(false, |member, number, mut frame| {
        if (member, number) == (3, 2) {
            let last = frame.len() - 8;
            frame[last] ^= 1;
        }
        frame
    });
    let complaint = endless_run_fails(server);
    assert!(complaint.contains("instead of"), "{complaint}");
}

#[test]
fn a_member_that_may_not_join_fails_the_run() {
    let server = serve(|mut stream| {
        read_head(&mut stream);
        stream.write_all(HANDSHAKE.as_bytes()).unwrap();
        read_message(&mut stream);
        stream.write_all(&reply("error")).unwrap();
        wait_for_end(stream);
    });
    let complaint = endless_run_fails(server);
    assert!(complaint.contains(r#""status":"error""#), "{complaint}");
}

#[test]
fn idle_members_have_joined_and_got_a_broadcast() {
    let options = "--join --rest 0 --secs 0.1 --conns 5 --json";
    let server = room(false, |_member, _number, frame| frame);
    assert_eq!(figures(load("idle", server, options))["conns"], 5);
    let server = room(true, |_member, _number, frame| frame);
    let options = format!("{options} --deflate");
    assert_eq!(figures(load("idle", server, &options))["conns"], 5);
}
