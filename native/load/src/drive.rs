//! Drives many connections from one thread: each sends its request, awaits the whole answer, and
//! sends the next one, until the time is over and everything is answered.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::answer::Answer;
use crate::args::Timing;
use crate::meter::{Figures, Meter};
use crate::stream::Stream;

const READ_BUFFER: usize = 1 << 20;
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// Who asks, and when again.
#[derive(Clone, Copy, PartialEq)]
pub enum Pace {
    /// Every connection by itself, as soon as it has its answer.
    Each,
    /// The first connection for all of them, as soon as all have the answer.
    Together(Until),
}

/// What the latency of a common answer is, from the moment when it was asked for.
#[derive(Clone, Copy, PartialEq)]
pub enum Until {
    /// One latency for each connection, when it has the answer.
    Each,
    /// One for all of them, when the last one has it.
    Last,
}

/// The load of one run.
pub struct Load {
    /// The bytes that ask, masked and all.
    pub request: Rc<[u8]>,
    /// Messages in one answer.
    pub messages: u64,
    pub pace: Pace,
}

/// Runs the load on `streams`. `answer` makes what judges one connection.
pub fn run<A: Answer>(
    streams: Vec<Stream>,
    load: &Load,
    answer: impl Fn() -> A,
    pid: Option<u32>,
    timing: &Timing,
) -> Result<Figures> {
    let mut poll = Poll::new()?;
    let links = streams
        .into_iter()
        .enumerate()
        .map(|(index, stream)| Link::new(stream, &poll, Token(index), answer()))
        .collect::<Result<Vec<_>>>()?;
    let mut run = Run::new(links, load, Meter::new(pid, timing));
    let mut events = Events::with_capacity(1024);
    run.ask()?;
    while run.awaiting > 0 {
        poll.poll(&mut events, Some(POLL_TIMEOUT))
            .or_else(ignore_interrupt)?;
        for event in &events {
            run.ready(event)?;
        }
        run.tick(timing.patience)?;
    }
    run.figures.context("the load ended before its time")
}

struct Run<'a, A> {
    links: Vec<Link<A>>,
    load: &'a Load,
    meter: Meter,
    /// Once the time is over. Then nothing more is asked for, and what was is awaited.
    figures: Option<Figures>,
    /// Connections that have not got their answer.
    awaiting: usize,
    last_answer: Instant,
    buffer: Vec<u8>,
}

impl<'a, A: Answer> Run<'a, A> {
    fn new(links: Vec<Link<A>>, load: &'a Load, meter: Meter) -> Self {
        Self {
            links,
            load,
            meter,
            figures: None,
            awaiting: 0,
            last_answer: Instant::now(),
            buffer: vec![0; READ_BUFFER],
        }
    }

    fn ask(&mut self) -> Result<()> {
        for (index, link) in self.links.iter_mut().enumerate() {
            if self.load.pace == Pace::Each || index == 0 {
                link.ask(&self.load.request)?;
            } else {
                link.await_unasked(&self.load.request);
            }
        }
        self.awaiting = self.links.len();
        Ok(())
    }

    fn ready(&mut self, event: &Event) -> Result<()> {
        let index = event.token().0;
        let link = &mut self.links[index];
        if event.is_writable() {
            link.flush(&self.load.request)?;
        }
        if !event.is_readable() || !link.read(&mut self.buffer, event.is_read_closed())? {
            return Ok(());
        }
        ensure!(
            link.sent >= self.load.request.len(),
            "the answer came before all was sent"
        );
        self.meter.count(self.load.messages);
        self.last_answer = Instant::now();
        self.awaiting -= 1;
        self.answered(index)
    }

    fn answered(&mut self, index: usize) -> Result<()> {
        let is_over = self.figures.is_some();
        match self.load.pace {
            Pace::Each => {
                let link = &mut self.links[index];
                self.meter.latency(self.last_answer - link.asked_at);
                if !is_over {
                    link.ask(&self.load.request)?;
                    self.awaiting += 1;
                }
            }
            Pace::Together(until) => {
                let is_last = self.awaiting == 0;
                if is_last || until == Until::Each {
                    let asked_at = self.links[0].asked_at;
                    self.meter.latency(self.last_answer - asked_at);
                }
                if is_last && !is_over {
                    self.ask()?;
                }
            }
        }
        Ok(())
    }

    fn tick(&mut self, patience: Duration) -> Result<()> {
        let now = Instant::now();
        if self.figures.is_none() {
            self.figures = self.meter.tick(now)?;
        }
        ensure!(
            now.saturating_duration_since(self.last_answer) <= patience,
            "{} of {} connections got no answer",
            self.awaiting,
            self.links.len()
        );
        Ok(())
    }
}

fn ignore_interrupt(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == ErrorKind::Interrupted {
        Ok(())
    } else {
        Err(error)
    }
}

struct Link<A> {
    stream: Stream,
    /// How much of the request has been sent.
    sent: usize,
    asked_at: Instant,
    awaits: bool,
    answer: A,
}

impl<A: Answer> Link<A> {
    fn new(stream: Stream, poll: &Poll, token: Token, answer: A) -> Result<Self> {
        stream.socket().set_nonblocking(true)?;
        let descriptor = stream.socket().as_raw_fd();
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut SourceFd(&descriptor), token, interest)?;
        Ok(Self {
            stream,
            sent: usize::MAX,
            asked_at: Instant::now(),
            awaits: false,
            answer,
        })
    }

    fn ask(&mut self, request: &[u8]) -> Result<()> {
        self.sent = 0;
        self.awaits = true;
        self.asked_at = Instant::now();
        self.flush(request)
    }

    fn await_unasked(&mut self, request: &[u8]) {
        self.sent = request.len();
        self.awaits = true;
    }

    fn flush(&mut self, request: &[u8]) -> Result<()> {
        match self.send(request) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error).context("sending"),
            _ => Ok(()),
        }
    }

    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        while let Some(rest) = request.get(self.sent..)
            && !rest.is_empty()
        {
            self.sent += self.stream.write(rest)?;
        }
        self.stream.flush()
    }

    /// True when the answer is complete.
    ///
    /// A read that does not fill the buffer emptied the socket, which saves asking it again. Not so
    /// when the server has closed: no event would tell of that once more.
    fn read(&mut self, buffer: &mut [u8], closed: bool) -> Result<bool> {
        let mut complete = false;
        loop {
            match self.stream.receive(buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(count) => {
                    self.stream.decrypt(&mut buffer[..count], |bytes| {
                        ensure!(
                            self.awaits,
                            "the server sent {} bytes that nobody asked for",
                            bytes.len()
                        );
                        if self.answer.take(bytes)? {
                            self.awaits = false;
                            complete = true;
                        }
                        Ok(())
                    })?;
                    if count < buffer.len() && !closed {
                        return Ok(complete);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(complete),
                Err(error) => return Err(error).context("reading"),
            }
        }
    }
}
