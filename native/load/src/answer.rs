//! Whether what a server sends is the answer that a connection awaits, and all of it.

use std::cmp::Ordering;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};

use crate::deflate::inflate;
use crate::frame::{self, Header};
use crate::handshake::{head_len, header};

/// Judges the bytes of one connection as they arrive, however they are cut.
pub trait Answer {
    /// True when the answer is complete; the next bytes then begin the next one.
    fn take(&mut self, bytes: &[u8]) -> Result<bool>;
}

impl<A: Answer + ?Sized> Answer for Box<A> {
    fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        (**self).take(bytes)
    }
}

/// The echo of a burst of equal messages. The first message is compared byte for byte; of all later
/// ones only the length is, so that comparing does not cost what it is to measure.
pub struct Echo {
    message: Rc<[u8]>,
    compared: usize,
    burst_len: usize,
    arrived: usize,
}

impl Echo {
    /// `message` is one frame as the server should send it.
    pub fn new(message: Rc<[u8]>, depth: usize) -> Self {
        let burst_len = message.len() * depth;
        Self {
            message,
            compared: 0,
            burst_len,
            arrived: 0,
        }
    }

    fn compare(&mut self, bytes: &[u8]) -> Result<()> {
        let expected = &self.message[self.compared..];
        let len = expected.len().min(bytes.len());
        if let Some(at) = (0..len).find(|&at| bytes[at] != expected[at]) {
            bail!(
                "the answer is wrong at byte {} of the first frame",
                self.compared + at
            );
        }
        self.compared += len;
        Ok(())
    }
}

impl Answer for Echo {
    fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        if self.compared < self.message.len() {
            self.compare(bytes)?;
        }
        self.arrived += bytes.len();
        match self.arrived.cmp(&self.burst_len) {
            Ordering::Less => Ok(false),
            Ordering::Equal => {
                self.arrived = 0;
                Ok(true)
            }
            Ordering::Greater => bail!(
                "the answer is too long: {} bytes instead of {}",
                self.arrived,
                self.burst_len
            ),
        }
    }
}

/// The echo of a burst of equal messages that are compressed, and how is the server's affair. The
/// first frame is inflated and compared. As every message is compressed anew, all later ones must
/// have its length.
pub struct DeflatedEcho {
    payload: Rc<[u8]>,
    depth: usize,
    /// What has arrived of the first frame.
    first: Vec<u8>,
    /// Once the first frame is known.
    echo: Option<Echo>,
}

impl DeflatedEcho {
    /// `payload` is what a frame is to have in it, not compressed, as text.
    pub fn new(payload: Rc<[u8]>, depth: usize) -> Self {
        Self {
            payload,
            depth,
            first: Vec::new(),
            echo: None,
        }
    }

    fn check(&self, first: u8, deflated: &[u8]) -> Result<()> {
        ensure!(
            first == frame::FIN | frame::COMPRESSED | frame::TEXT,
            "the answer is no whole, compressed text: its first byte is {first:#04x}"
        );
        ensure!(
            inflate(deflated, self.payload.len())? == *self.payload,
            "the answer is wrong once it is inflated"
        );
        Ok(())
    }
}

impl Answer for DeflatedEcho {
    fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        if let Some(echo) = &mut self.echo {
            return echo.take(bytes);
        }
        self.first.extend_from_slice(bytes);
        let Some(header) = Header::parse(&self.first) else {
            return Ok(false);
        };
        let Some(frame) = self.first.get(..header.len + header.payload_len) else {
            return Ok(false);
        };
        self.check(frame[0], &frame[header.len..])?;
        let echo = self.echo.insert(Echo::new(frame.into(), self.depth));
        echo.take(&std::mem::take(&mut self.first))
    }
}

/// A `200` with a `content-length`, and as many bytes.
#[derive(Default)]
pub struct Page {
    head: Vec<u8>,
    body_left: Option<usize>,
}

impl Page {
    const MAX_HEAD: usize = 16 * 1024;

    /// The bytes that follow the head, once there is a whole one.
    fn take_head(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        self.head.extend_from_slice(bytes);
        let Some(len) = head_len(&self.head) else {
            ensure!(
                self.head.len() <= Self::MAX_HEAD,
                "the head of the answer does not end"
            );
            return Ok(None);
        };
        let head = str::from_utf8(&self.head[..len]).context("the head is not text")?;
        ensure!(
            head.starts_with("HTTP/1.1 200 "),
            "the answer is no 200: {}",
            head.lines().next().unwrap_or_default()
        );
        let body = header(head, "content-length").context("the answer has no content-length")?;
        self.body_left = Some(body.parse().context("the content-length is no number")?);
        let body_arrived = self.head.len() - len;
        self.head.clear();
        Ok(Some(body_arrived))
    }
}

impl Answer for Page {
    fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        let arrived = match self.body_left {
            Some(_) => bytes.len(),
            None => match self.take_head(bytes)? {
                Some(arrived) => arrived,
                None => return Ok(false),
            },
        };
        let left = self
            .body_left
            .and_then(|left| left.checked_sub(arrived))
            .context("the answer is longer than its content-length")?;
        self.body_left = (left > 0).then_some(left);
        Ok(left == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deflate::deflate;

    fn echo(depth: usize) -> Echo {
        Echo::new(Rc::from(*b"\x82\x03abc"), depth)
    }

    #[test]
    fn an_echo_is_complete_wherever_it_is_cut() {
        let burst = b"\x82\x03abc\x82\x03abc";
        for cut in 1..burst.len() {
            let mut echo = echo(2);
            assert!(!echo.take(&burst[..cut]).unwrap());
            assert!(echo.take(&burst[cut..]).unwrap());
            assert!(echo.take(burst).unwrap(), "a second burst");
        }
    }

    #[test]
    fn a_wrong_byte_in_the_first_message_is_an_error() {
        let right = b"\x82\x03abc";
        for at in 0..right.len() {
            let mut wrong = *right;
            wrong[at] ^= 1;
            echo(1).take(&wrong).unwrap_err();
            let mut echo = echo(1);
            let result = echo.take(&wrong[..2]).and_then(|_| echo.take(&wrong[2..]));
            result.unwrap_err();
        }
    }

    #[test]
    fn a_byte_too_many_is_an_error() {
        echo(1).take(b"\x82\x03abcd").unwrap_err();
    }

    fn deflated_frame(payload: &[u8]) -> Vec<u8> {
        frame::unmasked(frame::COMPRESSED | frame::TEXT, &deflate(payload))
    }

    #[test]
    fn a_deflated_echo_is_complete_wherever_it_is_cut() {
        let payload = [b'x'; 500];
        let burst = deflated_frame(&payload).repeat(2);
        for cut in 1..burst.len() {
            let mut echo = DeflatedEcho::new(Rc::from(payload), 2);
            assert!(!echo.take(&burst[..cut]).unwrap());
            assert!(echo.take(&burst[cut..]).unwrap());
            assert!(echo.take(&burst).unwrap(), "a second burst");
            echo.take(&[&burst[..], b"\x8a"].concat()).unwrap_err();
        }
    }

    #[test]
    fn another_text_or_one_that_is_not_compressed_is_an_error() {
        let echo = || DeflatedEcho::new(Rc::from(*b"Hello"), 1);
        assert!(echo().take(&deflated_frame(b"Hello")).unwrap());
        echo().take(&deflated_frame(b"Hallo")).unwrap_err();
        echo().take(&deflated_frame(b"Hello!")).unwrap_err();
        echo()
            .take(&frame::unmasked(frame::TEXT, b"Hello"))
            .unwrap_err();
    }

    #[test]
    fn a_page_is_complete_wherever_it_is_cut() {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        for cut in 1..response.len() {
            let mut page = Page::default();
            for _ in 0..2 {
                assert!(!page.take(&response[..cut]).unwrap());
                assert!(page.take(&response[cut..]).unwrap());
            }
        }
        let empty = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        assert!(Page::default().take(empty).unwrap());
    }

    #[test]
    fn what_is_no_page_is_an_error() {
        for response in [
            "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokay",
        ] {
            assert!(
                Page::default().take(response.as_bytes()).is_err(),
                "{response}"
            );
        }
    }
}
