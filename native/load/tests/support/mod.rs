//! What the tests have in common: running the program, and servers that answer as a test wants.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread;

use serde_json::Value;

pub const HANDSHAKE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                         Connection: Upgrade\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// Its patience is long, so that no server counts as stuck because others are busy here.
pub const SHORT_RUN: &str = "--secs 0.5 --warm 0 --patience 30 --json";

pub fn load(mode: &str, addr: SocketAddr, options: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_load"))
        .args([mode, "--addr", &addr.to_string()])
        .args(options.split_whitespace())
        .output()
        .unwrap()
}

pub fn figures(output: Output) -> Value {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

pub fn complaint(output: Output) -> String {
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

/// Serves each connection on a thread that ends with the connection.
pub fn serve(handler: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let handler = handler.clone();
            thread::spawn(move || handler(stream.unwrap()));
        }
    });
    addr
}

/// A connection that the server closes would be another failure than the one meant.
pub fn wait_for_end(mut stream: TcpStream) {
    std::io::copy(&mut stream, &mut std::io::sink()).ok();
}

/// False at the end of the connection.
pub fn read_head(stream: &mut impl Read) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}
