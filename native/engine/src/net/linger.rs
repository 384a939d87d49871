//! The end of a connection, in the order that lets the peer read our last bytes.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use h2::RecvStream;
use tokio::time::Instant;

use super::stream::WriteHalf;
use super::writer::Writer;
use crate::rt;
use crate::rt::timer::timeout;

/// How long we go on reading after the last byte was sent, so that the kernel does not answer what
/// the peer still sends by a reset that overtakes our last words.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
/// The same for a client that is still sending a request: most read a response only after they have
/// sent the whole body that it refuses.
pub(crate) const LINGER_SENDING: Duration = Duration::from_secs(30);

/// FIN, then reads until the peer's own FIN, for a bounded time.
pub(crate) async fn linger(writer: &Writer) {
    linger_for(writer, LINGER).await;
}

/// The same, but as long as the peer is sending it may take up to `at_most`.
pub(crate) async fn linger_for(writer: &Writer, at_most: Duration) {
    let _ = writer.shut_down();
    let stream = writer.stream();
    let drain = async {
        while let Ok(Ok(())) = timeout(LINGER, stream.readable()).await {
            match discard(stream) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
            // Of a peer that sends as fast as it can, there is always more.
            if rt::is_late(Instant::now()) {
                rt::yield_now().await;
            }
        }
    };
    let _ = timeout(at_most, drain).await;
}

/// The same for a stream of HTTP/2: waits until the peer has ended its side. One that has not by then is
/// reset.
pub(crate) async fn linger_on_stream(mut body: RecvStream) {
    let end = async { while let Some(Ok(_)) = poll_fn(|cx| body.poll_data(cx)).await {} };
    let _ = timeout(LINGER, end).await;
}

/// Its own function so that the buffer is not a part of every connection's task.
fn discard(stream: &WriteHalf) -> io::Result<usize> {
    stream.try_read(&mut [0; 4096])
}
