use std::cell::Cell;

use ferrosock_engine::buffer::{Buffer, ReadBuf, VecBuffer};
use ferrosock_engine::config::DeflateConfig;
use ferrosock_engine::owner::{Payload, Sink};
use ferrosock_engine::ws::deflate::Deflater;
use ferrosock_engine::ws::extension::{Agreed, negotiate};
use ferrosock_engine::ws::frame::{Error, apply_mask};
use ferrosock_engine::ws::message::{Limits, Reader};

use crate::cut;

pub const NO_LIMITS: Limits = Limits {
    max_frame_size: u64::MAX,
    max_fragments: u32::MAX,
    validate_utf8: true,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, Vec<u8>),
}

pub fn text(text: &str) -> Event {
    Event::Text(text.into())
}

/// Gathers events, and counts the messages that were lent, not copied.
#[derive(Debug, Default)]
pub struct Events {
    pub all: Vec<Event>,
    pub lent: usize,
}

impl Events {
    fn bytes<B: Buffer>(&mut self, payload: Payload<'_, B>) -> Vec<u8> {
        match payload {
            Payload::Slice(slice) => {
                self.lent += 1;
                slice.to_vec()
            }
            Payload::Buffer(mut buffer) => buffer.filled().to_vec(),
        }
    }
}

impl<B: Buffer> Sink<B> for Events {
    fn text(&mut self, payload: Payload<'_, B>) {
        let bytes = self.bytes(payload);
        self.all.push(Event::Text(bytes));
    }

    fn binary(&mut self, payload: Payload<'_, B>) {
        let bytes = self.bytes(payload);
        self.all.push(Event::Binary(bytes));
    }

    fn ping(&mut self, payload: &[u8]) {
        self.all.push(Event::Ping(payload.to_vec()));
    }

    fn pong(&mut self, payload: &[u8]) {
        self.all.push(Event::Pong(payload.to_vec()));
    }

    fn close(&mut self, code: Option<u16>, reason: &[u8]) {
        self.all.push(Event::Close(code, reason.to_vec()));
    }
}

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;
pub const FIN: u8 = 0x80;
pub const RSV1: u8 = 0x40;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's header: `first` is the FIN and RSV bits and the opcode.
pub fn header(first: u8, len: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match len {
        0..=125 => bytes.push(0x80 | len as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(len.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

pub fn masked(payload: &[u8]) -> Vec<u8> {
    let mut bytes = payload.to_vec();
    apply_mask(&mut bytes, MASK, 0);
    bytes
}

pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [header(first, payload.len() as u64), masked(payload)].concat()
}

pub fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

pub type Outcome = (Vec<Event>, Option<Error>);

pub fn reader<B: Buffer>(limits: Limits, deflate: Option<Agreed>) -> Reader<B> {
    let reader = Reader::new(limits);
    match deflate {
        Some(agreed) => reader.with_deflate(&agreed),
        None => reader,
    }
}

pub fn read_whole(limits: Limits, bytes: &[u8]) -> Outcome {
    feed_whole(reader(limits, None), bytes)
}

pub fn feed_whole(mut reader: Reader<VecBuffer>, bytes: &[u8]) -> Outcome {
    let mut events = Events::default();
    let error = reader.feed(&mut bytes.to_vec(), &mut events).err();
    (events.all, error)
}

pub fn read_cut(limits: Limits, bytes: &[u8], sizes: &[usize], use_tail: bool) -> Outcome {
    feed_cut::<VecBuffer>(reader(limits, None), bytes, sizes, use_tail)
}

pub fn feed_cut<B: Buffer>(
    mut reader: Reader<B>,
    bytes: &[u8],
    sizes: &[usize],
    use_tail: bool,
) -> Outcome {
    let mut events = Events::default();
    let error = cut::feed_cut(&mut reader, bytes, sizes, use_tail, &mut events).err();
    (events.all, error)
}

/// How much the socket may read to the reader's tail, if it has one.
pub fn tail_len<B: Buffer>(reader: &mut Reader<B>) -> Option<usize> {
    let len = reader.fill_tail(usize::MAX, |tail| tail.remaining());
    len.map(|(_, len)| len)
}

/// What is agreed on a parameter list, such as `"; server_max_window_bits=10"`.
pub fn agree(parameters: &str, config: DeflateConfig) -> Agreed {
    let offer = format!("permessage-deflate{parameters}");
    negotiate([offer.as_str()].into_iter(), &config).unwrap()
}

/// A client's compressor: ours, at the other end.
pub struct Client(pub Deflater);

impl Client {
    pub fn new(window_bits: u8, context_takeover: bool) -> Client {
        let config = DeflateConfig {
            window_bits,
            server_context_takeover: context_takeover,
            level: 6,
            ..DeflateConfig::default()
        };
        Client(Deflater::new(&agree("", config)))
    }

    pub fn payload(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = vec![];
        let mut stream = self.0.start();
        stream.push(message, &mut out);
        self.0.finish(stream, &mut out);
        out
    }

    /// An unfragmented message.
    pub fn frame(&mut self, opcode: u8, message: &[u8]) -> Vec<u8> {
        frame(FIN | RSV1 | opcode, &self.payload(message))
    }
}

/// What the buffers of a thread, which is a test's own, have allocated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub allocations: usize,
    /// All capacities asked for, added up: what was allocated, and copied at most.
    pub total: usize,
    /// Buffers not dropped yet.
    pub live: usize,
}

thread_local! {
    static USAGE: Cell<Usage> = Cell::default();
}

/// A buffer that counts what it allocates.
#[derive(Debug)]
pub struct Metered(VecBuffer);

impl Metered {
    pub fn usage() -> Usage {
        USAGE.get()
    }

    fn count(change: impl FnOnce(&mut Usage)) {
        let mut usage = USAGE.get();
        change(&mut usage);
        USAGE.set(usage);
    }

    fn count_allocation(capacity: usize) {
        Metered::count(|usage| {
            usage.allocations += 1;
            usage.total += capacity;
        });
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        Metered::count(|usage| usage.live -= 1);
    }
}

impl Buffer for Metered {
    fn with_capacity(capacity: usize) -> Metered {
        Metered::count(|usage| usage.live += 1);
        Metered::count_allocation(capacity);
        Metered(VecBuffer::with_capacity(capacity))
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }

    fn reserve(&mut self, capacity: usize) {
        Metered::count_allocation(capacity);
        self.0.reserve(capacity);
    }

    fn filled(&mut self) -> &mut [u8] {
        self.0.filled()
    }

    fn fill<R>(&mut self, limit: usize, fill: impl FnOnce(&mut ReadBuf<'_>) -> R) -> R {
        self.0.fill(limit, fill)
    }
}
