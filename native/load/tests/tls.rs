//! The load over TLS.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ferrosock_load::frame;
use ferrosock_load::tls::{Tls, trusting};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use support::*;

#[test]
fn every_load_but_the_flood_speaks_tls() {
    let certificate = Certificate::make("every");
    let tls = certificate.option();
    let server = tls_server(&certificate, usize::MAX, echo_frames);

    // The largest take the longest, and one at least has to be back in time.
    let run = SHORT_RUN.replace("--secs 0.5", "--secs 2");
    for size in [0, 125, 65536, 300_000] {
        let options = format!("{run} {tls} --size {size} --conns 3 --depth 4");
        let report = figures(load("echo", server, &options));
        assert_eq!(report["messages"].as_u64().unwrap() % 4, 0, "{report}");
    }

    // More than the kernel takes at once.
    let options = format!("--secs 1 --warm 0 --patience 30 --json {tls} --size 8000000 --conns 1");
    figures(load("echo", server, &options));

    let options = format!("{SHORT_RUN} {tls}");
    figures(load("connect", server, &options));

    let options = format!("--rest 0 --secs 0.5 --ping-every 0.2 --conns 20 --json {tls}");
    assert_eq!(figures(load("idle", server, &options))["pings"], 50);

    let complaint = complaint(load("fair", server, &tls));
    assert!(complaint.contains("fair has no TLS"), "{complaint}");

    let server = tls_server(&certificate, usize::MAX, |mut stream| {
        while read_head(&mut stream) {
            let page = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            stream.write_all(page).unwrap();
        }
    });
    figures(load("get", server, &format!("{SHORT_RUN} {tls} --conns 4")));
}

#[test]
fn tls_records_may_come_in_pieces() {
    let certificate = Certificate::make("pieces");
    let server = tls_server(&certificate, 7, echo_frames);
    let tls = certificate.option();
    let options = format!("{SHORT_RUN} {tls} --size 20000 --conns 2 --depth 2");
    let report = figures(load("echo", server, &options));
    assert_eq!(report["messages"].as_u64().unwrap() % 2, 0, "{report}");
}

#[test]
fn a_wrong_answer_over_tls_fails_the_run() {
    let certificate = Certificate::make("wrong");
    let server = tls_server(&certificate, usize::MAX, |mut stream| {
        read_head(&mut stream);
        stream.write_all(HANDSHAKE.as_bytes()).unwrap();
        stream.read_exact(&mut [0; 2 + 4 + 8]).unwrap();
        stream.write_all(b"\x82\x08abcdefgX").unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).ok();
    });
    let options = format!("{SHORT_RUN} --size 8 {}", certificate.option());
    assert!(complaint(load("echo", server, &options)).contains("wrong at byte 9"));
}

#[test]
fn a_server_without_tls_or_with_another_certificate_fails_the_run() {
    let certificate = Certificate::make("known");
    let other = Certificate::make("other");
    let server = tls_server(&other, usize::MAX, echo_frames);
    let complaint_of = |server| {
        let options = format!("{SHORT_RUN} {}", certificate.option());
        complaint(load("echo", server, &options))
    };
    let unknown = complaint_of(server);
    assert!(unknown.contains("the TLS handshake"), "{unknown}");
    assert!(unknown.contains("invalid peer certificate"), "{unknown}");

    let plain = serve(|mut stream| {
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        wait_for_end(stream);
    });
    assert!(complaint_of(plain).contains("the TLS handshake"));
}

#[test]
fn what_the_kernel_has_not_taken_is_sent_later() {
    let certificate = Certificate::make("later");
    let (tell_len, len) = mpsc::channel();
    let (tell_read, read) = mpsc::channel();
    let len = Arc::new(Mutex::new(len));
    let server = tls_server(&certificate, usize::MAX, move |mut stream| {
        // The handshake.
        stream.conn.complete_io(&mut stream.sock).unwrap();
        let mut bytes = vec![0; len.lock().unwrap().recv().unwrap()];
        stream.read_exact(&mut bytes).unwrap();
        tell_read.send(bytes).unwrap();
    });

    let socket = TcpStream::connect(server).unwrap();
    let patience = Duration::from_secs(30);
    socket.set_read_timeout(Some(patience)).unwrap();
    let config = trusting(certificate.certfile.to_str().unwrap()).unwrap();
    let mut tls = Tls::connect(socket, config, server.ip()).unwrap();
    tls.socket().set_nonblocking(true).unwrap();
    let message: Vec<u8> = (0..=255).cycle().take(1 << 18).collect();
    let mut sent = Vec::new();
    let blocked = loop {
        match tls.write(&message) {
            Ok(count) => sent.extend_from_slice(&message[..count]),
            Err(error) => break error,
        }
    };
    assert_eq!(blocked.kind(), ErrorKind::WouldBlock);

    tell_len.send(sent.len()).unwrap();
    tls.socket().set_nonblocking(false).unwrap();
    tls.flush().unwrap();
    assert!(read.recv_timeout(patience).unwrap() == sent);
}

/// Of 127.0.0.1, and its own authority.
struct Certificate {
    certfile: PathBuf,
    keyfile: PathBuf,
}

impl Certificate {
    fn make(name: &str) -> Self {
        let file = |end| Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{end}"));
        let (certfile, keyfile) = (file("cert.pem"), file("key.pem"));
        let made = Command::new("openssl")
            .args("req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256".split(' '))
            .args("-days 2 -subj /CN=load -addext subjectAltName=IP:127.0.0.1".split(' '))
            .args(["-addext", "basicConstraints=critical,CA:false"])
            .arg("-out")
            .arg(&certfile)
            .arg("-keyout")
            .arg(&keyfile)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Self { certfile, keyfile }
    }

    fn option(&self) -> String {
        format!("--tls {}", self.certfile.display())
    }
}

type TlsStream = StreamOwned<ServerConnection, Pieces>;

/// Serves each connection on a thread that ends with the connection. The kernel gets no more than
/// `piece` bytes at once.
fn tls_server(
    certificate: &Certificate,
    piece: usize,
    handler: impl Fn(TlsStream) + Clone + Send + 'static,
) -> SocketAddr {
    let chain = vec![CertificateDer::from_pem_file(&certificate.certfile).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&certificate.keyfile).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    serve(move |stream| {
        stream.set_nodelay(true).unwrap();
        let connection = ServerConnection::new(config.clone()).unwrap();
        handler(StreamOwned::new(connection, Pieces(stream, piece)));
    })
}

struct Pieces(TcpStream, usize);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(self.1)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Sends messages back, and pongs, until the client goes or closes.
fn echo_frames(mut stream: TlsStream) {
    if !read_head(&mut stream) {
        return;
    }
    stream.write_all(HANDSHAKE.as_bytes()).unwrap();
    while let Some((opcode, payload)) = read_frame(&mut stream) {
        let opcode = if opcode == frame::PING {
            frame::PONG
        } else {
            opcode
        };
        let answer = frame::unmasked(opcode, &payload);
        if stream.write_all(&answer).is_err() || opcode == frame::CLOSE {
            break;
        }
    }
    stream.conn.send_close_notify();
    stream.flush().ok();
}

/// The opcode and the payload of a masked frame; `None` at the end of the connection.
fn read_frame(stream: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let len = match head[1] & 0x7F {
        126 => {
            let mut len = [0; 2];
            stream.read_exact(&mut len).ok()?;
            u64::from(u16::from_be_bytes(len))
        }
        127 => {
            let mut len = [0; 8];
            stream.read_exact(&mut len).ok()?;
            u64::from_be_bytes(len)
        }
        len => len.into(),
    };
    let mut key = [0; frame::MASK_LEN];
    stream.read_exact(&mut key).ok()?;
    let mut payload = vec![0; len as usize];
    stream.read_exact(&mut payload).ok()?;
    frame::apply_mask(&mut payload, key);
    Some((head[0] & 0x0F, payload))
}
