//! The end of a connection, in the order that lets the peer read our last bytes.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use h2::RecvStream;
use tokio::time::Instant;

use super::stream::WriteHalf;
use super::writer::Writer;
use crate::rt;
use crate::rt::timer::{timeout, timeout_at};

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
    let mut now = Instant::now();
    let mut patience = Patience::new(now, at_most);
    // A peer that sends as fast as it can always has more, and the timeout alone would never see its end.
    while now < patience.end() {
        let Ok(Ok(())) = timeout_at(patience.end(), stream.readable()).await else {
            return;
        };
        let read = discard(stream);
        now = Instant::now();
        match read {
            Ok(0) => return,
            Ok(_) => patience.has_read(now),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        if rt::is_late(now) {
            rt::yield_now().await;
        }
    }
}

/// How long a peer is read on that gets no more from us.
struct Patience {
    last_read: Instant,
    at_most: Instant,
}

impl Patience {
    fn new(now: Instant, at_most: Duration) -> Self {
        Self {
            last_read: now,
            at_most: now + at_most,
        }
    }

    fn has_read(&mut self, now: Instant) {
        self.last_read = now;
    }

    fn end(&self) -> Instant {
        self.at_most.min(self.last_read + LINGER)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_silent_peer_is_waited_for_a_second() {
        let start = Instant::now();
        assert_eq!(Patience::new(start, LINGER_SENDING).end(), start + SECOND);
        assert_eq!(Patience::new(start, LINGER).end(), start + SECOND);
    }

    #[test]
    fn a_peer_that_sends_is_read_on_as_long_as_it_may_take_and_no_longer() {
        let start = Instant::now();
        let mut patience = Patience::new(start, LINGER_SENDING);
        for n in 1..=30 {
            let now = start + n * Duration::from_millis(999);
            assert!(now < patience.end());
            patience.has_read(now);
        }
        assert_eq!(patience.end(), start + 30 * SECOND);

        let mut patience = Patience::new(start, LINGER);
        patience.has_read(start + SECOND / 2);
        assert_eq!(patience.end(), start + SECOND);
    }
}
