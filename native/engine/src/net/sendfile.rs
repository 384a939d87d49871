//! Files that the kernel sends by itself, from its page cache to a socket: sendfile(2).
//!
//! hyper orders and counts what it writes as slices of memory. A piece of a file is in its queue as a
//! slice of a block that is nothing but long enough; [`crate::io`] knows such a slice by its address and
//! sends the file in its place. hyper must not copy it, which it does not where writes are vectored.
//!
//! What waits in the socket are the file's own pages: what is written into the file meanwhile goes to the
//! peer, and so do zeros when it is cut within a page.

use std::fs::File;
use std::io::ErrorKind::{Interrupted, InvalidInput, UnexpectedEof, Unsupported};
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use bytes::Buf;
use once_cell::sync::Lazy;

use crate::net::stream::WriteHalf;

/// What a thread sends before it looks for other work, and hyper counts as one piece.
const PIECE: usize = 512 * 1024;

/// What is copied at a time where the kernel cannot send.
const COPIED: usize = 64 * 1024;

/// Nobody reads it. Not a constant, which would be a part of the library's file.
static BLOCK: Lazy<Box<[u8]>> = Lazy::new(|| vec![0; PIECE].into());

/// Stands for that many bytes of a file.
pub(crate) struct Placeholder(usize);

impl Placeholder {
    /// For the front of what is left of a file.
    pub(crate) fn of(remaining: u64) -> Self {
        Self(remaining.min(PIECE as u64) as usize)
    }
}

impl Buf for Placeholder {
    fn remaining(&self) -> usize {
        self.0
    }

    fn chunk(&self) -> &[u8] {
        &BLOCK[..self.0]
    }

    fn advance(&mut self, count: usize) {
        self.0 -= count;
    }
}

/// What is first among the slices that are to be written.
pub(crate) enum Front<'a, 'b> {
    Bytes(&'a [IoSlice<'b>]),
    /// That many bytes of the file.
    File(usize),
}

pub(crate) fn front<'a, 'b>(slices: &'a [IoSlice<'b>]) -> Front<'a, 'b> {
    match slices.iter().position(|slice| is_placeholder(slice)) {
        Some(0) => Front::File(slices[0].len()),
        Some(at) => Front::Bytes(&slices[..at]),
        None => Front::Bytes(slices),
    }
}

fn is_placeholder(slice: &[u8]) -> bool {
    Lazy::get(&BLOCK).is_some_and(|block| block.as_ptr_range().contains(&slice.as_ptr()))
}

/// A range of a file that is to be sent.
pub(crate) struct FileRange {
    file: File,
    offset: u64,
    remaining: u64,
}

impl FileRange {
    pub(crate) fn new(file: File, offset: u64, length: u64) -> Self {
        Self {
            file,
            offset,
            remaining: length,
        }
    }

    pub(crate) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Sends up to `length` bytes. Waits for the disk, but not for the peer.
    pub(crate) fn send(&mut self, stream: &WriteHalf, length: usize) -> io::Result<usize> {
        let mut sent = 0;
        // Until the socket is full and tokio knows it, or the next call would only find that out.
        while sent < length {
            match self.send_some(stream, length - sent) {
                Ok(0) if sent == 0 => return Err(UnexpectedEof.into()),
                Ok(n) if n > 0 => {
                    sent += n;
                    self.offset += n as u64;
                    self.remaining -= n as u64;
                }
                Err(e) if e.kind() == Interrupted => {}
                Err(e) if sent == 0 => return Err(e),
                // The next call meets it again.
                _ => break,
            }
        }
        Ok(sent)
    }

    fn send_some(&self, stream: &WriteHalf, length: usize) -> io::Result<usize> {
        // There are file systems that have no such call.
        let is_unable = |e: &io::Error| matches!(e.kind(), InvalidInput | Unsupported);
        match stream.try_io(|socket| sendfile(socket, &self.file, self.offset, length)) {
            Err(e) if is_unable(&e) => self.copy_some(stream, length),
            result => result,
        }
    }

    fn copy_some(&self, stream: &WriteHalf, length: usize) -> io::Result<usize> {
        let mut copy = vec![0; length.min(COPIED)];
        let n = self.file.read_at(&mut copy, self.offset)?;
        stream.try_write(&copy[..n])
    }
}

#[cfg(target_os = "linux")]
fn sendfile(to: BorrowedFd<'_>, from: &File, mut offset: u64, length: usize) -> io::Result<usize> {
    let sent = rustix::fs::sendfile(to, from, Some(&mut offset), length)?;
    Ok(sent)
}

#[cfg(not(target_os = "linux"))]
fn sendfile(_: BorrowedFd<'_>, _: &File, _: u64, _: usize) -> io::Result<usize> {
    Err(Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::{env, fs, process, thread};

    use crate::net::stream::Unwatched;

    fn pair() -> (WriteHalf, UnixStream) {
        let (stream, peer) = UnixStream::pair().unwrap();
        let (_, half) = Unwatched::Unix(stream)
            .watch()
            .unwrap()
            .into_split(Default::default());
        (half, peer)
    }

    /// A file that is gone with the test.
    fn file(content: &[u8]) -> File {
        let name = format!("ferrosock_{}_{:?}", process::id(), thread::current().id());
        let path = env::temp_dir().join(name);
        fs::write(&path, content).unwrap();
        let file = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        file
    }

    async fn send_all(stream: &WriteHalf, range: &mut FileRange) -> io::Result<()> {
        while range.remaining() > 0 {
            poll_fn(|cx| stream.poll_write_ready(cx)).await?;
            match range.send(stream, Placeholder::of(range.remaining()).0) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                result => assert_ne!(result?, 0),
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_range_is_sent_whole_to_a_peer_that_is_slow() {
        let content: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
        let (stream, mut peer) = pair();
        let mut range = FileRange::new(file(&content), 5, 10_000_001);
        let reader = thread::spawn(move || {
            let mut received = Vec::new();
            let mut piece = [0; 10_000];
            while received.len() < 10_000_001 {
                let n = peer.read(&mut piece).unwrap();
                received.extend_from_slice(&piece[..n]);
            }
            received
        });
        send_all(&stream, &mut range).await.unwrap();
        assert!(reader.join().unwrap() == content[5..10_000_006]);
    }

    #[tokio::test]
    async fn a_file_that_ends_too_early_is_an_error_after_its_last_byte() {
        let (stream, mut peer) = pair();
        let mut range = FileRange::new(file(b"hello"), 1, 5);
        let error = send_all(&stream, &mut range).await.unwrap_err();
        assert_eq!(error.kind(), UnexpectedEof);
        drop(stream);
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        assert_eq!(received, b"ello");
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_file_that_the_kernel_cannot_send_is_copied() {
        let path = "/proc/self/cmdline";
        let content = fs::read(path).unwrap();
        let (stream, mut peer) = pair();
        poll_fn(|cx| stream.poll_write_ready(cx)).await.unwrap();
        let cannot = stream.try_io(|socket| sendfile(socket, &File::open(path)?, 0, 1));
        assert_eq!(cannot.unwrap_err().kind(), InvalidInput);

        let length = content.len() as u64 - 1;
        let mut range = FileRange::new(File::open(path).unwrap(), 1, length);
        send_all(&stream, &mut range).await.unwrap();
        let mut received = vec![0; content.len() - 1];
        peer.read_exact(&mut received).unwrap();
        assert_eq!(received, content[1..]);
    }

    #[test]
    fn a_placeholder_is_known_from_its_first_byte_to_its_last() {
        let mut placeholder = Placeholder::of(u64::MAX);
        assert_eq!(placeholder.remaining(), PIECE);
        let zeros = [0; 8];
        for left in [PIECE, PIECE - 1, 1] {
            placeholder.advance(placeholder.remaining() - left);
            let slices = [placeholder.chunk(), &zeros].map(IoSlice::new);
            assert!(matches!(front(&slices), Front::File(n) if n == left));
            let slices = [&zeros, &zeros, placeholder.chunk(), &zeros].map(IoSlice::new);
            assert!(matches!(front(&slices), Front::Bytes(bytes) if bytes.len() == 2));
        }
        let slices = [&zeros, &zeros].map(|zeros| IoSlice::new(zeros));
        assert!(matches!(front(&slices), Front::Bytes(bytes) if bytes.len() == 2));
    }
}
