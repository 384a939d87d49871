//! The payloads of permessage-deflate (RFC7692§7.2): a message compressed, or inflated as it arrives.
//! Which messages these are, and what was agreed, is decided elsewhere.
//!
//! An idle socket keeps as little as the agreement allows. Compressors and inflaters belong to
//! threads; a message borrows one. What a client's next message may refer to is kept as plain bytes
//! and shown to whichever inflater comes next, which takes 0.05 µs for the 4 KiB of the default
//! window, where an inflater of the socket's own would hold 47 kB. A compressor is not so easily
//! shown old text (5 µs for 4 KiB, 25 µs for 32 KiB): where our context is taken over, the socket
//! owns one.
//!
//! This names zlib-rs and not flate2 on top of it, as flate2 has no way to set the memory level.

use std::cell::RefCell;
use std::fmt;
use std::thread::LocalKey;

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Inflate, InflateFlush, Status};

use super::extension::Agreed;
use super::frame::Error;
use crate::buffer::{Buffer, VecBuffer};

/// What a flush ends with, and a message leaves out (RFC7692§7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// An empty message: the start of the empty block that [`TAIL`] completes (RFC7692§7.2.3.6).
const EMPTY: u8 = 0x00;
/// [`TAIL`], and a last empty block. They end the stream, without a byte of output, only where a
/// message ends as it should.
const END: [u8; 9] = [0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff];

/// DEFLATE's window, in bytes and as zlib counts it.
const MAX_WINDOW: usize = 1 << MAX_WINDOW_BITS;
const MAX_WINDOW_BITS: u8 = 15;
/// zlib made windows of 512 bytes where 256 were asked for, and peers may use such a zlib.
const MIN_HISTORY_BITS: u8 = 9;

/// Bytes of a buffer that are lent at once. zlib has them zeroed first, and of a large buffer most would be for
/// nothing.
const STEP: usize = 64 * 1024;

/// Idle compressors, inflaters and buffers that a thread keeps, of each kind.
const MAX_POOLED: usize = 4;
/// A scratch buffer that grew past this is not kept. It is the capacity of a new one, too: most
/// messages need no growth.
const SCRATCH_CAPACITY: usize = 64 * 1024;
const SCRATCH_KEPT: usize = 256 * 1024;

thread_local! {
    static COMPRESSORS: Pool<Compressor> = const { RefCell::new(Vec::new()) };
    static INFLATERS: Pool<Box<Inflate>> = const { RefCell::new(Vec::new()) };
    static SCRATCHES: Pool<VecBuffer> = const { RefCell::new(Vec::new()) };
}
type Pool<T> = RefCell<Vec<T>>;

/// Takes what fits from the thread's pool.
fn take<T>(pool: &'static LocalKey<Pool<T>>, fits: impl Fn(&T) -> bool) -> Option<T> {
    pool.with_borrow_mut(|pool| {
        let at = pool.iter().rposition(fits)?;
        Some(pool.remove(at))
    })
}

/// Gives to the pool of the thread that this is by now, in place of what was not used for longest.
fn give<T>(pool: &'static LocalKey<Pool<T>>, item: T) {
    pool.with_borrow_mut(|pool| {
        if pool.len() == MAX_POOLED {
            pool.remove(0);
        }
        pool.push(item);
    });
}

/// The compressing half of a socket. Without context takeover it owns no memory.
#[derive(Debug)]
pub struct Deflater {
    settings: Settings,
    context_takeover: bool,
    caches: bool,
    /// Ours from message to message, if the context is taken over, after the first one.
    context: Option<Compressor>,
}

impl Deflater {
    pub fn new(agreed: &Agreed) -> Deflater {
        Deflater {
            settings: Settings {
                level: agreed.level,
                window_bits: agreed.server_window_bits,
                mem_level: agreed.mem_level,
            },
            context_takeover: agreed.server_context_takeover,
            caches: agreed.cache,
            context: None,
        }
    }

    /// What the output depends on besides the payload, where it may be used again for an equal one. `None`:
    /// it depends on earlier messages, too, or is not to be kept.
    pub(super) fn reusable(&self) -> Option<Settings> {
        (self.caches && !self.context_takeover).then_some(self.settings)
    }

    /// Appends the compressed payload of a message and returns true; or leaves `out` as it was and
    /// returns false, when the message is better sent as it is because it does not get smaller.
    ///
    /// Takes some 2 µs, and 1 to 2 µs per KiB at level 1: see [`Deflater::start`] for messages that
    /// are too long to be compressed where the caller stands.
    pub fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let mut message = self.start();
        message.push(payload, out);
        self.finish(message, out);
        // With a context, what follows refers to this message, so that the peer has to inflate it.
        let is_smaller = self.context_takeover || out.len() - start < payload.len();
        if !is_smaller {
            out.truncate(start);
        }
        is_smaller
    }

    /// Begins a message that is compressed in pieces, maybe on other threads. Until it is
    /// [`finish`](Deflater::finish)ed no other message may be begun.
    pub fn start(&mut self) -> CompressedMessage {
        let compressor = self
            .context
            .take()
            .unwrap_or_else(|| Compressor::borrow(self.settings));
        CompressedMessage {
            compressor,
            is_empty: true,
        }
    }

    /// Appends the end of the message's payload. A message that is dropped instead must not have been
    /// sent in part; the context, if there was one, begins anew.
    pub fn finish(&mut self, message: CompressedMessage, out: &mut Vec<u8>) {
        let CompressedMessage {
            mut compressor,
            is_empty,
        } = message;
        if is_empty {
            // zlib makes no second empty block of two flushes in a row.
            out.push(EMPTY);
        } else {
            compressor.run(&[], out, DeflateFlush::SyncFlush);
            debug_assert!(out.ends_with(&TAIL));
            out.truncate(out.len() - TAIL.len());
        }
        if self.context_takeover {
            self.context = Some(compressor);
        } else {
            give(&COMPRESSORS, compressor);
        }
    }
}

/// A message while it is compressed.
#[derive(Debug)]
pub struct CompressedMessage {
    compressor: Compressor,
    is_empty: bool,
}

impl CompressedMessage {
    /// Compresses the next part of the message, and appends what comes out, which may lag behind. The
    /// time it takes is bounded by the part's length.
    pub fn push(&mut self, part: &[u8], out: &mut Vec<u8>) {
        if !part.is_empty() {
            self.is_empty = false;
            self.compressor.run(part, out, DeflateFlush::NoFlush);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings {
    level: u8,
    window_bits: u8,
    mem_level: u8,
}

struct Compressor {
    settings: Settings,
    /// Boxed, as it is moved for each message.
    zlib: Box<Deflate>,
}

impl Compressor {
    /// The thread's, or a new one, without a context.
    fn borrow(settings: Settings) -> Compressor {
        match take(&COMPRESSORS, |pooled| pooled.settings == settings) {
            Some(mut pooled) => {
                pooled.zlib.reset();
                pooled
            }
            None => Compressor {
                settings,
                zlib: Box::new(Deflate::new_with_config(DeflateConfig {
                    level: settings.level.into(),
                    // Negative is raw: neither header nor checksum.
                    window_bits: -i32::from(settings.window_bits),
                    mem_level: settings.mem_level.into(),
                    ..DeflateConfig::default()
                })),
            },
        }
    }

    fn run(&mut self, mut input: &[u8], out: &mut Vec<u8>, flush: DeflateFlush) {
        // For most text one step is enough.
        let step = (input.len() / 2).max(1024);
        loop {
            let len = out.len();
            out.resize(len + step, 0);
            let (read, written) = (self.zlib.total_in(), self.zlib.total_out());
            self.zlib
                .compress(input, &mut out[len..], flush)
                .expect("only a compressor of invalid settings fails");
            let written = (self.zlib.total_out() - written) as usize;
            input = &input[(self.zlib.total_in() - read) as usize..];
            out.truncate(len + written);
            if written < step {
                // zlib stops for nothing but a full output.
                debug_assert!(input.is_empty());
                return;
            }
        }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Compressor").field(&self.settings).finish()
    }
}

/// The inflating half of a socket. Between messages it owns the plain bytes that the next one may
/// refer to, if the client's context is taken over. An error is final.
pub struct Inflater {
    max_history: usize,
    history: Vec<u8>,
    /// While a message is under way.
    zlib: Option<Box<Inflate>>,
    /// The input so far ends with a final block, or there was none.
    is_at_end: bool,
}

impl Inflater {
    pub fn new(agreed: &Agreed) -> Inflater {
        let bits = agreed.client_window_bits.max(MIN_HISTORY_BITS);
        Inflater {
            max_history: if agreed.client_context_takeover {
                1 << bits
            } else {
                0
            },
            history: Vec::new(),
            zlib: None,
            is_at_end: true,
        }
    }

    /// Inflates the next piece of a message, behind what `out` has of it already. `out` grows by
    /// doubling, up to `limit` bytes; for any more the message is too big. `check` sees each
    /// inflated byte once, in order.
    pub fn push<B: Buffer>(
        &mut self,
        mut input: &[u8],
        out: &mut B,
        limit: usize,
        mut check: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        while !(self.is_at_end && input.is_empty()) {
            if self.is_at_end {
                // Also after a final block, which ends nothing here (RFC7692§7.2.3.4).
                self.begin_stream(out.filled());
            }
            make_room(out, limit);
            let room = (out.capacity() - out.len())
                .min(limit - out.len())
                .min(STEP);
            if room == 0 {
                // Whether more comes can only be told by asking for it.
                match self.step(&mut input, &mut [0]) {
                    (0, result) => result?,
                    _ => return Err(Error::TooBig),
                }
                if input.is_empty() {
                    return Ok(());
                }
                continue;
            }
            let (written, result) = out.fill(room, |spare| {
                let (written, result) = self.step(&mut input, spare.initialize_unfilled());
                spare.advance(written);
                (written, result)
            });
            // What came before a mistake in the data is read before it.
            let start = out.len() - written;
            check(&out.filled()[start..])?;
            result?;
            if written < room && input.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Ends the message, whose inflated bytes these are.
    pub fn finish(&mut self, message: &[u8]) -> Result<(), Error> {
        // A message may be of no bytes at all, or end with a final block and without the empty one
        // that ought to follow it: that is understood as well as it is by zlib in other servers.
        if !self.is_at_end {
            let mut end = &END[..];
            let (_, result) = self.step(&mut end, &mut []);
            result?;
            if !self.is_at_end || !end.is_empty() {
                return Err(Error::InvalidDeflate);
            }
        }
        if let Some(zlib) = self.zlib.take() {
            give(&INFLATERS, zlib);
        }
        self.remember(message);
        Ok(())
    }

    /// Starts to read a stream that may refer to earlier messages and to this one so far.
    fn begin_stream(&mut self, message: &[u8]) {
        let zlib = self.zlib.get_or_insert_with(|| {
            take(&INFLATERS, |_| true)
                .unwrap_or_else(|| Box::new(Inflate::new(false, MAX_WINDOW_BITS)))
        });
        zlib.reset(false);
        for part in [&self.history[..], last(message, MAX_WINDOW)] {
            if !part.is_empty() {
                zlib.set_dictionary(part)
                    .expect("a raw stream takes any dictionary");
            }
        }
        self.is_at_end = false;
    }

    /// Inflates until the input is used up, the output is full or the stream ends, and says how much
    /// it wrote, before a mistake too.
    fn step(&mut self, input: &mut &[u8], output: &mut [u8]) -> (usize, Result<(), Error>) {
        let zlib = self.zlib.as_mut().expect("a stream was begun");
        let (read, written) = (zlib.total_in(), zlib.total_out());
        let status = zlib.decompress(input, output, InflateFlush::SyncFlush);
        *input = &input[(zlib.total_in() - read) as usize..];
        self.is_at_end = status == Ok(Status::StreamEnd);
        let written = (zlib.total_out() - written) as usize;
        (written, status.map(drop).map_err(|_| Error::InvalidDeflate))
    }

    /// Keeps the last bytes of all messages, in memory for hardly more than there are.
    fn remember(&mut self, message: &[u8]) {
        let message = last(message, self.max_history);
        let len = self.history.len() + message.len();
        self.history.drain(..len.saturating_sub(self.max_history));
        let len = self.history.len() + message.len();
        if len > self.history.capacity() {
            let capacity = len.next_power_of_two().min(self.max_history);
            self.history.reserve_exact(capacity - self.history.len());
        }
        self.history.extend_from_slice(message);
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater")
            .field("max_history", &self.max_history)
            .field("history", &self.history.len())
            .field("is_under_way", &self.zlib.is_some())
            .finish()
    }
}

fn last(bytes: &[u8], n: usize) -> &[u8] {
    &bytes[bytes.len().saturating_sub(n)..]
}

fn make_room<B: Buffer>(out: &mut B, limit: usize) {
    const MIN_CAPACITY: usize = 256;
    let capacity = out.capacity();
    if out.len() == capacity && capacity < limit {
        out.reserve(capacity.saturating_mul(2).max(MIN_CAPACITY).min(limit));
    }
}

/// An empty buffer of the thread's, for a message that is passed on at once.
pub(super) fn borrow_scratch() -> VecBuffer {
    take(&SCRATCHES, |_| true).unwrap_or_else(|| VecBuffer::with_capacity(SCRATCH_CAPACITY))
}

pub(super) fn return_scratch(mut buffer: VecBuffer) {
    if buffer.capacity() <= SCRATCH_KEPT {
        buffer.clear();
        give(&SCRATCHES, buffer);
    }
}
