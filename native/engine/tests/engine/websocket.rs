use std::io::Write;
use std::time::{Duration, Instant};

use ferrosock_engine::config::SocketConfig;

use crate::support::{Event, Server, eventually, frame, read_exact, read_to_end, socket_config};

fn server() -> Server {
    Server::start(|_, _| false)
}

#[test]
fn messages_of_one_read_are_delivered_and_answered_in_order() {
    let server = server();
    let mut stream = server.websocket();
    let frames = [
        frame(0x81, b"one"),
        frame(0x82, b"two"),
        frame(0x81, b"three"),
    ]
    .concat();
    stream.write_all(&frames).unwrap();
    assert_eq!(
        read_exact(&mut stream, 17),
        b"\x81\x03one\x82\x03two\x81\x05three"
    );
    assert_eq!(server.log.wait(3)[1], Event::Binary(b"two".to_vec()));
}

#[test]
fn frames_sent_together_with_the_request_are_not_lost() {
    let server = server();
    let mut stream = server.connect();
    let mut bytes = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    bytes.extend(frame(0x81, b"early"));
    stream.write_all(&bytes).unwrap();
    crate::support::read_head(&mut stream);
    assert_eq!(read_exact(&mut stream, 7), b"\x81\x05early");
}

#[test]
fn a_ping_is_answered_and_told() {
    let server = server();
    let mut stream = server.websocket();
    stream.write_all(&frame(0x89, b"hi")).unwrap();
    assert_eq!(read_exact(&mut stream, 4), b"\x8a\x02hi");
    assert_eq!(server.log.wait(1), [Event::Ping(b"hi".to_vec())]);
}

#[test]
fn a_peer_that_floods_with_pings_is_read_now_and_then_and_loses_nothing() {
    let server = with(SocketConfig {
        timeout: None,
        send_timeout: 60_000 * MS,
        control_events: false,
        ..socket_config()
    });
    let mut stream = server.websocket();
    let mut writer = stream.try_clone().unwrap();
    let start = Instant::now();
    let flood = std::thread::spawn(move || {
        let pings = frame(0x89, b"").repeat(60_000);
        writer.write_all(&pings).unwrap();
        writer.write_all(&frame(0x81, b"end")).unwrap();
    });
    while read_exact(&mut stream, 2) == b"\x8a\x00" {}
    assert_eq!(read_exact(&mut stream, 3), b"end");
    flood.join().unwrap();
    // A millisecond for each two kilobytes; without a pause it is a tenth of that.
    let elapsed = start.elapsed();
    assert!(elapsed >= 100 * MS, "{elapsed:?}");
}

#[test]
fn a_close_frame_is_echoed_and_tcp_closed() {
    let server = server();
    let mut stream = server.websocket();
    stream
        .write_all(&frame(0x88, &1001u16.to_be_bytes()))
        .unwrap();
    assert_eq!(read_to_end(&mut stream), b"\x88\x02\x03\xe9");
    assert_eq!(server.log.wait(1), [Event::Close(Some(1001))]);
}

#[test]
fn a_broken_frame_is_told_after_the_messages_before_it() {
    let server = server();
    let mut stream = server.websocket();
    stream
        .write_all(&[frame(0x81, b"ok"), frame(0x83, b"")].concat())
        .unwrap();
    assert_eq!(read_to_end(&mut stream), b"\x81\x02ok\x88\x02\x03\xea");
    let events = server.log.wait(2);
    assert_eq!(events[1], Event::Error(1002, "reserved_opcode"));
}

#[test]
fn silence_ends_with_1001_after_the_timeout() {
    let server = server();
    let start = Instant::now();
    let mut stream = server.websocket();
    // The peer does not answer our close frame: TCP ends all the same.
    assert_eq!(read_to_end(&mut stream), b"\x88\x02\x03\xe9");
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(500), "{elapsed:?}");
    assert_eq!(server.log.wait(1), [Event::Timeout]);
}

#[test]
fn a_vanished_peer_is_told_once() {
    let server = server();
    drop(server.websocket());
    assert_eq!(server.log.wait(1), [Event::Closed]);
    eventually(|| server.listener.info().connections == 0);
    assert_eq!(server.log.wait(1).len(), 1);
}

#[test]
fn a_task_that_panics_tells_its_owner_and_frees_the_connection() {
    let server = server();
    let mut stream = server.websocket();
    stream.write_all(&frame(0x81, b"panic")).unwrap();
    assert_eq!(server.log.wait(1), [Event::Closed]);
    assert_eq!(read_to_end(&mut stream), b"");
    eventually(|| server.listener.info().connections == 0);

    let mut other = server.websocket();
    other.write_all(&frame(0x81, b"fine")).unwrap();
    assert_eq!(read_exact(&mut other, 6), b"\x81\x04fine");
}

const MS: Duration = Duration::from_millis(1);

fn with(config: SocketConfig) -> Server {
    Server::start_with(config, |_, _| false)
}

#[test]
fn a_peer_that_does_not_answer_our_ping_times_out() {
    let server = with(SocketConfig {
        ping_interval: Some(50 * MS),
        ping_timeout: 100 * MS,
        timeout: None,
        ..socket_config()
    });
    let mut stream = server.websocket();
    assert_eq!(read_to_end(&mut stream), b"\x89\x00\x88\x02\x03\xe9");
    assert_eq!(server.log.wait(1), [Event::Timeout]);
}

#[test]
fn a_lifetime_ends_with_1012_whatever_the_peer_sends() {
    let max_lifetime = Some(200 * MS);
    let server = with(SocketConfig {
        max_lifetime,
        ..socket_config()
    });
    let start = Instant::now();
    let mut stream = server.websocket();
    stream.write_all(&frame(0x81, b"hi")).unwrap();
    assert_eq!(read_to_end(&mut stream), b"\x81\x02hi\x88\x02\x03\xf4");
    assert!(start.elapsed() >= 200 * MS, "{:?}", start.elapsed());
    assert_eq!(server.log.wait(2)[1], Event::Lifetime);
}

#[test]
fn an_owner_is_told_once_that_nothing_happens() {
    let hibernate_after = Some(50 * MS);
    let server = with(SocketConfig {
        hibernate_after,
        timeout: None,
        ..socket_config()
    });
    let mut stream = server.websocket();
    assert_eq!(server.log.wait(1), [Event::Idle]);
    stream.write_all(&frame(0x81, b"hi")).unwrap();
    let events = server.log.wait(3);
    assert_eq!(
        events,
        [Event::Idle, Event::Text(b"hi".to_vec()), Event::Idle]
    );
}

/// Writes it again and again, and reads nothing, until the server ends the connection or for too long.
fn flood(stream: &mut std::net::TcpStream, bytes: &[u8]) -> Duration {
    let start = Instant::now();
    stream.set_write_timeout(Some(50 * MS)).unwrap();
    let mut written = 0;
    while start.elapsed() < Duration::from_secs(30) {
        match stream.write(&bytes[written % bytes.len()..]) {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => break,
            Ok(n) => written += n,
        }
    }
    start.elapsed()
}

#[test]
fn a_peer_that_pings_and_reads_nothing_is_ended_and_leaves_little_behind() {
    let server = with(SocketConfig {
        control_events: false,
        ..socket_config()
    });
    let mut stream = server.websocket();
    let most = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&mut stream, &frame(0x89, &[b'p'; 100]).repeat(1000)));
        let mut most = 0;
        while !flooding.is_finished() {
            most = most.max(server.listener.info().queued_bytes);
            std::thread::sleep(5 * MS);
        }
        assert!(flooding.join().unwrap() < Duration::from_secs(30));
        most
    });
    assert!(most < 4096, "{most} bytes of pongs wait");
    assert_eq!(server.log.wait(1), [Event::Error(1013, "slow_client")]);
    eventually(|| server.listener.info().connections == 0);
    assert_eq!(server.listener.info().queued_bytes, 0);
}

#[test]
fn many_pings_of_one_read_are_answered_one_by_one_where_the_peer_reads() {
    let server = server();
    let mut stream = server.websocket();
    let pings: Vec<u8> = (0..100u8).flat_map(|n| frame(0x89, &[n])).collect();
    stream.write_all(&pings).unwrap();
    let pongs: Vec<u8> = (0..100u8).flat_map(|n| [0x8a, 1, n]).collect();
    assert_eq!(read_exact(&mut stream, pongs.len()), pongs);
}
