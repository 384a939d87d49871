//! Frames put together to messages. Bytes go in as they were read, wherever they were cut; messages
//! and control frames come out in order. Answering them is not done here, nor is any I/O.

use tungstenite::protocol::frame::coding::CloseCode;

use super::deflate::{Inflater, borrow_scratch, return_scratch};
use super::extension::Agreed;
use super::frame::{Error, Header, MAX_CONTROL_LEN, Opcode, apply_mask};
use super::partial::{AGREED, Frame, Message, PartialHeader, take};
use super::utf8::{Invalid, Utf8};
use crate::buffer::{Buffer, ReadBuf};
use crate::owner::{Payload, Sink};

pub use super::partial::Limits;

/// What is allocated on the word of a header alone. Past it a buffer only doubles what has arrived,
/// so that a header that lies costs its sender as much as us.
const TRUSTED_LEN: u64 = 1 << 20;

/// From how many missing bytes on a read of their own into the final buffer pays: below it, one read
/// that also brings the next frames saves more than the copy costs.
const MIN_TAIL: u64 = 4096;

/// The receiving half of a server's WebSocket. Between messages it owns no memory but what
/// permessage-deflate has to remember of earlier ones.
#[derive(Debug)]
pub struct Reader<B: Buffer> {
    limits: Limits,
    state: State,
    /// The message under way, unless it fits into one piece of input: from its first frame to the
    /// last, with control frames in between.
    message: Option<Message<B>>,
    /// If permessage-deflate was agreed. Boxed: an idle reader should be small.
    inflater: Option<Box<Inflater>>,
}

impl<B: Buffer> Reader<B> {
    pub fn new(limits: Limits) -> Reader<B> {
        Reader {
            limits,
            state: State::Header(PartialHeader::default()),
            message: None,
            inflater: None,
        }
    }

    /// Lets messages be compressed as it was agreed in the handshake.
    pub fn with_deflate(self, agreed: &Agreed) -> Reader<B> {
        Reader {
            inflater: Some(Box::new(Inflater::new(agreed))),
            ..self
        }
    }

    pub(super) fn inflates(&self) -> bool {
        self.inflater.is_some()
    }

    /// Takes all of `input`, which it unmasks in place, and calls the sink for each message and
    /// control frame that becomes complete. After an error or a close frame, input is ignored.
    pub fn feed(&mut self, input: &mut [u8], sink: &mut impl Sink<B>) -> Result<(), Error> {
        self.read(input, sink).inspect_err(|_| self.end())
    }

    /// Lends where the socket may read the next bytes to, instead of to [`Reader::feed`]'s input: the
    /// missing part of a large data frame, in its final place, and never more than that frame or `limit`
    /// bytes. There is none in a compressed message. Says how much was filled, which
    /// [`Reader::tail_filled`] is to be told.
    #[inline]
    pub fn fill_tail<R>(
        &mut self,
        limit: usize,
        fill: impl FnOnce(&mut ReadBuf<'_>) -> R,
    ) -> Option<(usize, R)> {
        let (State::Data(frame), Some(message)) = (&self.state, &mut self.message) else {
            return None;
        };
        if message.is_compressed || frame.missing() < MIN_TAIL {
            return None;
        }
        message.make_room(MIN_TAIL as usize, frame);
        let before = message.buffer.len();
        let result = message.buffer.fill(frame.missing_in(limit), fill);
        Some((message.buffer.len() - before, result))
    }

    /// Takes the `n` bytes that [`Reader::fill_tail`] has filled. Panics when they are more than the frame's.
    pub fn tail_filled(&mut self, n: usize, sink: &mut impl Sink<B>) -> Result<(), Error> {
        self.filled(n, sink).inspect_err(|_| self.end())
    }

    fn read(&mut self, mut input: &mut [u8], sink: &mut impl Sink<B>) -> Result<(), Error> {
        let deflate = self.inflater.is_some();
        loop {
            match &mut self.state {
                State::Header(partial) => {
                    let Some(header) = partial.complete(&mut input, deflate)? else {
                        return Ok(());
                    };
                    self.check(&header)?;
                    self.begin_frame(header, &mut input, sink)?;
                }
                State::Control(frame, _) => {
                    let len = frame.missing_in(input.len());
                    let part = take(&mut input, len);
                    self.control_part(part, sink)?;
                    if matches!(self.state, State::Control(..)) {
                        return Ok(());
                    }
                }
                State::Data(frame) => {
                    let len = frame.missing_in(input.len());
                    let part = take(&mut input, len);
                    self.data_part(part, sink)?;
                    if matches!(self.state, State::Data(_)) {
                        return Ok(());
                    }
                }
                State::Ended => return Ok(()),
            }
        }
    }

    /// Takes in the next part of a control frame that did not come in one piece.
    fn control_part(&mut self, part: &[u8], sink: &mut impl Sink<B>) -> Result<(), Error> {
        let State::Control(frame, kept) = &mut self.state else {
            return Ok(());
        };
        let at = frame.read as usize;
        kept[at..at + part.len()].copy_from_slice(part);
        frame.read += part.len() as u64;
        if frame.missing() > 0 {
            return Ok(());
        }
        if let State::Control(frame, mut kept) = std::mem::take(&mut self.state) {
            let payload = &mut kept[..frame.header.payload_len as usize];
            self.control_frame(&frame.header, payload, sink)?;
        }
        Ok(())
    }

    /// Takes in the next part of a data frame.
    fn data_part(&mut self, part: &mut [u8], sink: &mut impl Sink<B>) -> Result<(), Error> {
        let (State::Data(frame), Some(message)) = (&self.state, &mut self.message) else {
            unreachable!("a data frame has a message");
        };
        if message.is_compressed {
            return self.compressed(part, sink);
        }
        message.make_room(part.len(), frame);
        message.buffer.extend(part);
        self.filled(part.len(), sink)
    }

    /// What a header alone can be refused for, beyond its own form.
    #[inline]
    fn check(&self, header: &Header) -> Result<(), Error> {
        let joined = match (&self.message, header.opcode) {
            (Some(message), Opcode::Continuation) => {
                if message.fragments >= self.limits.max_fragments {
                    return Err(Error::TooManyFragments);
                }
                if message.is_compressed {
                    0
                } else {
                    message.buffer.len() as u64
                }
            }
            (None, Opcode::Continuation) => return Err(Error::UnexpectedContinuation),
            (Some(_), Opcode::Text | Opcode::Binary) => return Err(Error::ExpectedContinuation),
            _ => 0,
        };
        if joined.saturating_add(header.payload_len) > self.limits.max_frame_size {
            return Err(Error::TooBig);
        }
        Ok(())
    }

    /// Delivers a frame that needs no keeping: a control frame or an unfragmented message, whole in
    /// `input`. Makes room for any other.
    #[inline]
    fn begin_frame(
        &mut self,
        header: Header,
        input: &mut &mut [u8],
        sink: &mut impl Sink<B>,
    ) -> Result<(), Error> {
        let is_whole = header.payload_len <= input.len() as u64;
        match header.opcode {
            Opcode::Text | Opcode::Binary if is_whole && header.fin => {
                let payload = take(input, header.payload_len as usize);
                self.unfragmented(&header, payload, sink)
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong if is_whole => {
                let payload = take(input, header.payload_len as usize);
                self.control_frame(&header, payload, sink)
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                let kept = Box::new([0; MAX_CONTROL_LEN]);
                self.state = State::Control(Frame::new(header), kept);
                Ok(())
            }
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                self.begin_data_frame(header);
                Ok(())
            }
        }
    }

    fn begin_data_frame(&mut self, header: Header) {
        let frame = Frame::new(header);
        let trusted = header.payload_len.min(TRUSTED_LEN) as usize;
        match &mut self.message {
            Some(message) => {
                message.fragments += 1;
                message.make_room(trusted, &frame);
            }
            None => {
                self.message = Some(Message {
                    is_text: header.opcode == Opcode::Text,
                    is_compressed: header.compressed,
                    fragments: 1,
                    utf8: Utf8::default(),
                    buffer: B::with_capacity(trusted),
                });
            }
        }
        self.state = State::Data(frame);
    }

    #[inline]
    fn unfragmented(
        &mut self,
        header: &Header,
        payload: &mut [u8],
        sink: &mut impl Sink<B>,
    ) -> Result<(), Error> {
        apply_mask(payload, header.mask, 0);
        let is_text = header.opcode == Opcode::Text;
        if header.compressed {
            return self.unfragmented_compressed(is_text, payload, sink);
        }
        if is_text {
            self.check_utf8(payload)?;
        }
        deliver(sink, is_text, Payload::Slice(payload));
        Ok(())
    }

    fn unfragmented_compressed(
        &mut self,
        is_text: bool,
        payload: &[u8],
        sink: &mut impl Sink<B>,
    ) -> Result<(), Error> {
        let mut message = Message {
            is_text,
            is_compressed: true,
            fragments: 1,
            utf8: Utf8::default(),
            buffer: borrow_scratch(),
        };
        let inflater = self.inflater.as_mut().expect(AGREED);
        message.inflate(payload, inflater, &self.limits)?;
        message.finish(Some(inflater))?;
        deliver(sink, is_text, Payload::Slice(message.buffer.filled()));
        return_scratch(message.buffer);
        Ok(())
    }

    fn control_frame(
        &mut self,
        header: &Header,
        payload: &mut [u8],
        sink: &mut impl Sink<B>,
    ) -> Result<(), Error> {
        apply_mask(payload, header.mask, 0);
        match header.opcode {
            Opcode::Ping => sink.ping(payload),
            Opcode::Pong => sink.pong(payload),
            _ => self.close_frame(payload, sink)?,
        }
        Ok(())
    }

    fn close_frame(&mut self, payload: &[u8], sink: &mut impl Sink<B>) -> Result<(), Error> {
        let (code, reason) = match payload.split_first_chunk() {
            Some((code, reason)) => (Some(u16::from_be_bytes(*code)), reason),
            None if payload.is_empty() => (None, payload),
            None => return Err(Error::InvalidCloseFrame),
        };
        if code.is_some_and(|code| !may_be_sent(code)) {
            return Err(Error::InvalidCloseCode);
        }
        self.check_utf8(reason)?;
        self.end();
        sink.close(code, reason);
        Ok(())
    }

    /// Takes in the next part of a frame of a compressed message.
    fn compressed(&mut self, part: &mut [u8], sink: &mut impl Sink<B>) -> Result<(), Error> {
        let (State::Data(frame), Some(message)) = (&mut self.state, &mut self.message) else {
            return Ok(());
        };
        apply_mask(part, frame.header.mask, frame.read as usize);
        let inflater = self.inflater.as_mut().expect(AGREED);
        message.inflate(part, inflater, &self.limits)?;
        self.advance(part.len(), sink)
    }

    /// Takes in the last `n` bytes of the message's buffer, still masked.
    fn filled(&mut self, n: usize, sink: &mut impl Sink<B>) -> Result<(), Error> {
        let (State::Data(frame), Some(message)) = (&mut self.state, &mut self.message) else {
            return Ok(());
        };
        let is_room = n as u64 <= frame.missing() && (n == 0 || !message.is_compressed);
        assert!(is_room, "filled past the frame's end");
        let filled = message.buffer.filled();
        let start = filled.len() - n;
        let part = &mut filled[start..];
        apply_mask(part, frame.header.mask, frame.read as usize);
        if message.is_text && self.limits.validate_utf8 {
            message.utf8.feed(part)?;
        }
        self.advance(n, sink)
    }

    /// Ends the frame, and the message, when these were its last `n` bytes.
    fn advance(&mut self, n: usize, sink: &mut impl Sink<B>) -> Result<(), Error> {
        let State::Data(frame) = &mut self.state else {
            return Ok(());
        };
        frame.read += n as u64;
        if frame.missing() > 0 {
            return Ok(());
        }

        let is_last = frame.header.fin;
        self.state = State::default();
        if let Some(mut message) = self.message.take_if(|_| is_last) {
            message.finish(self.inflater.as_deref_mut())?;
            deliver(sink, message.is_text, Payload::Buffer(message.buffer));
        }
        Ok(())
    }

    #[inline]
    fn check_utf8(&self, text: &[u8]) -> Result<(), Error> {
        if self.limits.validate_utf8 && simdutf8::basic::from_utf8(text).is_err() {
            return Err(Error::InvalidUtf8);
        }
        Ok(())
    }

    fn end(&mut self) {
        self.state = State::Ended;
        self.message = None;
        self.inflater = None;
    }
}

#[derive(Debug)]
enum State {
    /// Between frames or inside a header.
    Header(PartialHeader),
    /// Inside a control frame. Boxed: it is rare, and an idle reader should be small.
    Control(Frame, Box<[u8; MAX_CONTROL_LEN]>),
    /// Inside a data frame of `Reader::message`.
    Data(Frame),
    /// After a close frame or an error.
    Ended,
}

impl Default for State {
    fn default() -> State {
        State::Header(PartialHeader::default())
    }
}

#[inline]
fn deliver<B: Buffer>(sink: &mut impl Sink<B>, is_text: bool, payload: Payload<'_, B>) {
    if is_text {
        sink.text(payload);
    } else {
        sink.binary(payload);
    }
}

/// Whether a close frame may carry the code: RFC6455§7.4, and 1014 from IANA's registry, which
/// tungstenite does not know.
fn may_be_sent(code: u16) -> bool {
    code == 1014 || CloseCode::from(code).is_allowed()
}

impl From<Invalid> for Error {
    fn from(Invalid: Invalid) -> Error {
        Error::InvalidUtf8
    }
}
