//! Opens connections: TCP, TLS, and the client's side of the WebSocket handshake (RFC6455§4.1).
//!
//! It blocks, up to a deadline: connections are opened one after the other, before the load.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::args::Server;
use crate::stream::Stream;
use crate::tls::SMALL_BUFFER;
use crate::tls::Tls;

/// How long opening all connections of a run may take.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

const MAX_HEAD: usize = 16 * 1024;
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// No context takeover on either side: every message is compressed anew, by every server.
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; \
                     client_no_context_takeover\r\n";

/// Opens `count` connections with `open`, all of them before [`OPEN_TIMEOUT`] is over.
pub fn open_all(
    server: &Server,
    count: u32,
    open: impl Fn(&Server, Instant) -> Result<Stream>,
) -> Result<Vec<Stream>> {
    let deadline = Instant::now() + OPEN_TIMEOUT;
    (1..=count)
        .map(|nth| {
            open(server, deadline).with_context(|| format!("opening connection {nth} of {count}"))
        })
        .collect()
}

/// TCP, and TLS where the server speaks it.
pub fn connect(server: &Server, deadline: Instant) -> Result<Stream> {
    let socket = TcpStream::connect_timeout(&server.addr, time_left(deadline)?)?;
    socket.set_nodelay(true)?;
    let Some(config) = &server.tls else {
        return Ok(Stream::Tcp(socket));
    };
    socket.set_read_timeout(Some(time_left(deadline)?))?;
    let tls =
        Tls::connect(socket, config.clone(), server.addr.ip()).context("the TLS handshake")?;
    Ok(Stream::Tls(Box::new(tls)))
}

pub fn websocket(server: &Server, deadline: Instant) -> Result<Stream> {
    let (stream, _head) = upgrade(server, deadline, "")?;
    Ok(stream)
}

/// A WebSocket with permessage-deflate (RFC7692§7.1).
pub fn deflated(server: &Server, deadline: Instant) -> Result<Stream> {
    let (stream, head) = upgrade(server, deadline, OFFER)?;
    check_extension(&head)?;
    Ok(stream)
}

/// The WebSocket, and the head of the response that agreed to it. `headers` are whole lines.
fn upgrade(server: &Server, deadline: Instant, headers: &str) -> Result<(Stream, String)> {
    let mut stream = connect(server, deadline)?;
    let left = time_left(deadline)?;
    stream.socket().set_write_timeout(Some(left))?;
    stream.write_all(request(&server.path, server.addr, headers).as_bytes())?;
    let (head, extra) = read_head(&mut stream, deadline)?;
    check_response(&head)?;
    ensure!(
        extra == 0,
        "the server spoke first: {extra} bytes after its handshake"
    );
    Ok((stream, head))
}

fn request(path: &str, host: SocketAddr, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{headers}\r\n"
    )
}

/// The head of a response, and how many bytes came after it.
fn read_head(stream: &mut Stream, deadline: Instant) -> Result<(String, usize)> {
    let mut buffer = vec![0; SMALL_BUFFER];
    let mut head = Vec::new();
    loop {
        let left = time_left(deadline)?;
        stream.socket().set_read_timeout(Some(left))?;
        let count = stream
            .receive(&mut buffer)
            .context("reading the handshake's response")?;
        ensure!(
            count > 0 && head.len() < MAX_HEAD,
            "the handshake's response did not end"
        );
        stream.decrypt(&mut buffer[..count], |bytes| {
            head.extend_from_slice(bytes);
            Ok(())
        })?;
        if let Some(end) = head_len(&head) {
            let extra = head.len() - end;
            head.truncate(end);
            let head = String::from_utf8(head).context("the handshake's response is not text")?;
            return Ok((head, extra));
        }
    }
}

/// The length of an HTTP head with the empty line that ends it.
pub fn head_len(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// The value of a header of a head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn check_response(head: &str) -> Result<()> {
    if !head.starts_with("HTTP/1.1 101 ") {
        bail!(
            "the handshake was refused: {}",
            head.lines().next().unwrap_or_default()
        );
    }
    let accept = header(head, "sec-websocket-accept").unwrap_or_default();
    ensure!(
        accept == derive_accept_key(KEY.as_bytes()),
        "the handshake's sec-websocket-accept is wrong: {accept:?}"
    );
    Ok(())
}

fn check_extension(head: &str) -> Result<()> {
    let agreed = header(head, "sec-websocket-extensions").unwrap_or_default();
    let mut parts = agreed.split(';').map(str::trim);
    ensure!(
        parts.next() == Some("permessage-deflate")
            && parts.any(|part| part == "server_no_context_takeover"),
        "permessage-deflate without context takeover was not accepted: {agreed:?}"
    );
    Ok(())
}

fn time_left(deadline: Instant) -> Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    // Zero would mean "for ever" to a socket.
    ensure!(!left.is_zero(), "it took too long");
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_101_with_the_right_key_is_a_handshake() {
        // The key and its answer are those of RFC6455§1.3.
        let right = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                     SEC-WebSocket-Accept:s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        check_response(right).unwrap();
        check_response(&right.replace("s3p", "S3p")).unwrap_err();
        check_response(&right.replace("101", "200")).unwrap_err();
        check_response("HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap_err();
    }

    #[test]
    fn only_an_extension_without_context_takeover_is_accepted() {
        let head =
            |agreed: &str| format!("HTTP/1.1 101 Sw\r\nsec-websocket-extensions: {agreed}\r\n\r\n");
        check_extension(&head("permessage-deflate;server_no_context_takeover")).unwrap();
        check_extension(&head(
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        ))
        .unwrap();
        check_extension(&head("permessage-deflate")).unwrap_err();
        check_extension("HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap_err();
    }
}
