use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ferrosock_engine::buffer::Buffer;
use ferrosock_engine::error::{HttpError, SendError};
use ferrosock_engine::http::exchange::Exchange;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};

use crate::support::{
    Event, Server, TestOwner, WAIT, eventually, read_exact, read_head, read_to_end,
};

const GET: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: example:81\r\n\r\n";

fn ok_server() -> Server {
    Server::start(|exchange, _| {
        exchange
            .respond(200, Default::default(), Bytes::from_static(b"hello"))
            .is_ok()
    })
}

#[test]
fn requests_of_one_connection_are_served_in_order() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let server = Server::start(move |exchange, request| {
        log.lock().unwrap().push((
            request.host.to_owned(),
            request.port,
            request.path.to_owned(),
        ));
        let body = Bytes::copy_from_slice(request.query.as_bytes());
        exchange.respond(200, Default::default(), body).is_ok()
    });
    let mut stream = server.connect();
    stream.write_all(&[GET, GET].concat()).unwrap();
    for _ in 0..2 {
        assert!(read_head(&mut stream).contains("content-length: 1\r\n"));
        assert_eq!(read_exact(&mut stream, 1), b"b");
    }
    let expected = ("example".to_owned(), Some(81), "/a".to_owned());
    assert_eq!(*seen.lock().unwrap(), [expected.clone(), expected]);
}

#[test]
fn an_exchange_that_is_let_go_is_answered_with_500() {
    let server = Server::start(|exchange, _| {
        exchange.abandon();
        true
    });
    let mut stream = server.connect();
    stream.write_all(GET).unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 500 "));
    assert_eq!(read_to_end(&mut stream), b"");
}

#[test]
fn a_listener_that_is_drained_tells_when_its_address_is_free_and_serves_what_has_arrived() {
    let (hand_over, exchanges) = channel();
    let server = Server::start(move |exchange, _| hand_over.send(exchange.clone()).is_ok());
    let mut stream = server.connect();
    stream.write_all(GET).unwrap();
    let exchange = exchanges.recv_timeout(WAIT).unwrap();
    let (tell, told) = channel();
    server.listener.drain(move || tell.send(()).unwrap());
    told.recv_timeout(WAIT).unwrap();
    assert!(TcpStream::connect(server.addr()).is_err());

    assert_eq!(server.listener.info().connections, 1);
    let body = Bytes::from_static(b"hello");
    exchange.respond(200, Default::default(), body).unwrap();
    assert!(read_head(&mut stream).contains("connection: close\r\n"));
    assert_eq!(read_to_end(&mut stream), b"hello");
    // Although the client has not closed.
    eventually(|| server.listener.info().connections == 0);
}

#[test]
fn nobody_to_serve_is_503() {
    let server = Server::start(|_, _| false);
    let mut stream = server.connect();
    stream.write_all(GET).unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 503 "));
}

#[test]
fn a_head_that_is_late_is_408_and_silence_is_closed_silently() {
    let server = ok_server();
    let start = Instant::now();
    let mut partial = server.connect();
    partial.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
    let mut silent = server.connect();
    assert!(
        String::from_utf8(read_to_end(&mut partial))
            .unwrap()
            .starts_with("HTTP/1.1 408 ")
    );
    assert_eq!(read_to_end(&mut silent), b"");
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert!(
        server
            .log
            .wait(1)
            .contains(&Event::HttpError(HttpError::HeaderTimeout))
    );
}

#[test]
fn an_idle_connection_is_closed_after_its_own_time() {
    let server = ok_server();
    let mut stream = server.connect();
    let start = Instant::now();
    stream.write_all(GET).unwrap();
    read_head(&mut stream);
    read_exact(&mut stream, 5);
    assert_eq!(read_to_end(&mut stream), b"");
    assert!(
        start.elapsed() >= Duration::from_millis(400),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(server.log.wait(1), [Event::HttpClosed]);
}

#[test]
fn a_streamed_body_that_is_aborted_has_no_last_chunk() {
    let server = Server::start(|exchange, _| {
        exchange.start(200, Default::default()).unwrap();
        exchange.chunk(Bytes::from_static(b"part")).unwrap();
        exchange.abort();
        true
    });
    let mut stream = server.connect();
    stream.write_all(GET).unwrap();
    assert!(read_head(&mut stream).contains("transfer-encoding: chunked\r\n"));
    assert_eq!(read_to_end(&mut stream), b"4\r\npart\r\n");
}

#[test]
fn a_sender_that_runs_ahead_is_told_to_wait_and_then_that_there_is_room() {
    let exchanges = Arc::new(Mutex::new(Vec::<Arc<Exchange<TestOwner>>>::new()));
    let kept = exchanges.clone();
    let server = Server::start(move |exchange, _| {
        kept.lock().unwrap().push(exchange.clone());
        true
    });
    let mut stream = server.connect();
    stream.write_all(GET).unwrap();
    eventually(|| !exchanges.lock().unwrap().is_empty());
    let exchange = exchanges.lock().unwrap().pop().unwrap();

    exchange.start(200, Default::default()).unwrap();
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    let (sent, told) = send_until_told_to_wait(&exchange, &piece).unwrap();
    read_exact(&mut stream, sent * piece.len());
    assert_eq!(told.recv_timeout(WAIT), Ok(true));

    let (_sent, told) = send_until_told_to_wait(&exchange, &piece).unwrap();
    drop(stream);
    let mut has_room = told.recv_timeout(WAIT);
    // The peer's kernel may have made more room before that.
    while has_room == Ok(true)
        && let Ok((_sent, told)) = send_until_told_to_wait(&exchange, &piece)
    {
        has_room = told.recv_timeout(WAIT);
    }
    assert!(has_room.is_ok(), "a sender waits for a peer that is gone");
    assert_eq!(exchange.chunk(piece), Err(SendError::Closed));
}

/// How much was sent, and what tells the end of the wait.
fn send_until_told_to_wait(
    exchange: &Exchange<TestOwner>,
    piece: &Bytes,
) -> Result<(usize, Receiver<bool>), SendError> {
    for sent in 1..1000 {
        // The peer's kernel takes some megabytes before there is anything to wait for.
        if exchange.chunk(piece.clone())? {
            let (tell, told) = channel();
            if exchange.wait(Box::new(move |drained| tell.send(drained).unwrap())) {
                return Ok((sent, told));
            }
        }
    }
    panic!("no backpressure");
}

#[test]
fn a_body_is_read_in_the_pieces_that_are_asked_for() {
    let pieces = Arc::new(Mutex::new(Vec::new()));
    let kept = pieces.clone();
    let server = Server::start(move |exchange, _| {
        read_on(exchange.clone(), kept.clone());
        true
    });
    let mut stream = server.connect();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nabc")
        .unwrap();
    std::thread::sleep(Duration::from_millis(20));
    stream.write_all(b"defgh").unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 200 "));
    assert_eq!(
        *pieces.lock().unwrap(),
        [b"abc".to_vec(), b"def".to_vec(), b"gh".to_vec()]
    );
}

fn read_on(exchange: Arc<Exchange<TestOwner>>, pieces: Arc<Mutex<Vec<Vec<u8>>>>) {
    let next = exchange.clone();
    exchange.read(3, Some(Duration::from_secs(1)), move |piece| {
        let mut piece = piece.expect("a body");
        pieces.lock().unwrap().push(piece.data.filled().to_vec());
        if piece.more {
            read_on(next, pieces);
        } else {
            next.respond(200, Default::default(), Bytes::new()).unwrap();
        }
    });
}

#[test]
fn a_client_that_has_closed_its_half_is_answered() {
    let server = ok_server();
    let mut stream = server.connect();
    stream.write_all(&[GET, GET].concat()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    for _ in 0..2 {
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 200 "));
        assert_eq!(read_exact(&mut stream, 5), b"hello");
    }
    assert_eq!(read_to_end(&mut stream), b"");
}

/// An exchange whose client is told of, and what tells it.
fn watched(server: &Server, exchanges: &Receiver<Arc<Exchange<TestOwner>>>) -> Watched {
    let mut stream = server.connect();
    stream.write_all(&[GET, GET].concat()).unwrap();
    let exchange = exchanges.recv_timeout(WAIT).unwrap();
    let (tell, told) = channel();
    exchange.notify_disconnect(Box::new(move || tell.send(()).unwrap()));
    assert!(!exchange.is_disconnected());
    (stream, exchange, told)
}

type Watched = (TcpStream, Arc<Exchange<TestOwner>>, Receiver<()>);

#[test]
fn a_client_that_leaves_is_told_although_it_has_sent_more_before() {
    let (hand_over, exchanges) = channel();
    let server = Server::start(move |exchange, _| hand_over.send(exchange.clone()).is_ok());
    let (stream, exchange, told) = watched(&server, &exchanges);
    drop(stream);
    told.recv_timeout(WAIT).unwrap();
    assert!(exchange.is_disconnected());
    // Who asks now is told in the call.
    let (tell, told) = channel();
    exchange.notify_disconnect(Box::new(move || tell.send(()).unwrap()));
    told.try_recv().unwrap();
}

#[test]
fn a_client_that_leaves_with_its_response_is_not_told() {
    let (hand_over, exchanges) = channel();
    let server = Server::start(move |exchange, _| hand_over.send(exchange.clone()).is_ok());
    let (stream, exchange, told) = watched(&server, &exchanges);
    let body = Bytes::from_static(b"hello");
    exchange.respond(200, Default::default(), body).unwrap();
    // What would tell is gone when the call returns.
    assert_eq!(told.try_recv(), Err(TryRecvError::Disconnected));
    drop(stream);
    eventually(|| server.listener.info().connections == 0);
    assert!(!exchange.is_disconnected());
}

#[test]
fn a_body_that_has_its_whole_length_is_no_leaving_of_the_clients() {
    let (hand_over, exchanges) = channel();
    let server = Server::start(move |exchange, _| hand_over.send(exchange.clone()).is_ok());
    let (mut stream, exchange, told) = watched(&server, &exchanges);
    let headers = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(10))]);
    exchange.start(200, headers).unwrap();
    exchange.chunk(Bytes::from_static(b"hello")).unwrap();
    assert_eq!(told.try_recv(), Err(TryRecvError::Empty));
    exchange.chunk(Bytes::from_static(b"world")).unwrap();
    assert_eq!(told.try_recv(), Err(TryRecvError::Disconnected));
    read_head(&mut stream);
    assert_eq!(read_exact(&mut stream, 10), b"helloworld");
    // The next request comes when this response is over, although nobody has finished it.
    exchanges.recv_timeout(WAIT).unwrap();
    assert!(!exchange.is_disconnected());
}

#[test]
fn a_body_that_nobody_reads_comes_before_the_next_request() {
    let server = ok_server();
    let mut stream = server.connect();
    for _ in 0..2 {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 10\r\n\r\n0123";
        stream.write_all(head).unwrap();
        assert!(!read_head(&mut stream).contains("connection: close"));
        assert_eq!(read_exact(&mut stream, 5), b"hello");
        stream.write_all(&[b"456789", GET].concat()).unwrap();
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 200 "));
        assert_eq!(read_exact(&mut stream, 5), b"hello");
    }
}

#[test]
fn a_body_that_is_too_long_to_be_skipped_ends_the_connection_in_words() {
    let server = ok_server();
    let mut stream = server.connect();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 1048577\r\n\r\n";
    stream.write_all(head).unwrap();
    assert!(read_head(&mut stream).contains("connection: close"));
    assert_eq!(read_exact(&mut stream, 5), b"hello");
    assert_eq!(read_to_end(&mut stream), b"");
}
