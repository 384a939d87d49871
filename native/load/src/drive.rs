//! Drives many connections from one thread: each sends its request, awaits the whole answer, and
//! sends the next one, until the time is over and everything is answered.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
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
    let mut links = streams
        .into_iter()
        .enumerate()
        .map(|(index, stream)| Link::new(stream, &poll, Token(index), answer()))
        .collect::<Result<Vec<_>>>()?;

    let mut meter = Meter::new(pid, timing);
    let mut figures = None;
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; READ_BUFFER];
    let mut last_answer = Instant::now();
    // Connections that have not got their answer.
    let mut awaiting = links.len();
    ask(&mut links, load)?;

    while awaiting > 0 {
        poll.poll(&mut events, Some(POLL_TIMEOUT))
            .or_else(ignore_interrupt)?;
        for event in &events {
            let index = event.token().0;
            let link = &mut links[index];
            if event.is_writable() {
                link.flush(&load.request)?;
            }
            if !event.is_readable() || !link.read(&mut buffer, event.is_read_closed())? {
                continue;
            }
            ensure!(
                link.sent >= load.request.len(),
                "the answer came before all was sent"
            );
            meter.count(load.messages);
            last_answer = Instant::now();
            awaiting -= 1;
            match load.pace {
                Pace::Each => {
                    meter.latency(last_answer - link.asked_at);
                    if figures.is_none() {
                        link.ask(&load.request)?;
                        awaiting += 1;
                    }
                }
                Pace::Together(until) => {
                    if awaiting == 0 || until == Until::Each {
                        meter.latency(last_answer - links[0].asked_at);
                    }
                    if awaiting == 0 && figures.is_none() {
                        ask(&mut links, load)?;
                        awaiting = links.len();
                    }
                }
            }
        }
        let now = Instant::now();
        if figures.is_none() {
            figures = meter.tick(now)?;
        }
        if now.saturating_duration_since(last_answer) > timing.patience {
            bail!("{awaiting} of {} connections got no answer", links.len());
        }
    }
    figures.context("the load ended before its time")
}

fn ask<A: Answer>(links: &mut [Link<A>], load: &Load) -> Result<()> {
    for (index, link) in links.iter_mut().enumerate() {
        if load.pace == Pace::Each || index == 0 {
            link.ask(&load.request)?;
        } else {
            link.await_unasked(&load.request);
        }
    }
    Ok(())
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
