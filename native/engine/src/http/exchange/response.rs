//! The response, as the handler gives it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, Version};

use super::{Exchange, Sending, State};
use crate::error::{FileError, SendError};
use crate::flow::Waiter;
use crate::http::response::{self, response};
use crate::http::response_body::{ResponseBody, streamed};
use crate::http::status::Status;
use crate::owner::Owner;
use crate::rt::{self, lock};

impl<O: Owner> Exchange<O> {
    /// Sends a whole response.
    pub fn respond(
        self: &Arc<Self>,
        status: impl Into<Status>,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(), SendError> {
        let line = status.into().of_final()?;
        let response = response::whole(line, headers, body, self.is_head)?;
        self.reply(response, Sending::No)
    }

    /// Sends the head; the body follows by [`Self::chunk`].
    pub fn start(
        self: &Arc<Self>,
        status: impl Into<Status>,
        mut headers: HeaderMap,
    ) -> Result<(), SendError> {
        let line = status.into().of_final()?;
        if let Some(body) = response::no_streamed_body(line.status, self.is_head) {
            return self.reply(response(line, headers, body)?, Sending::Discarding);
        }
        let length = response::streamed_length(&mut headers, self.version)?;
        let (high_water_mark, _) = self.send_limits();
        let budget = self.connection.server.budget.clone();
        let (sender, body) = streamed(high_water_mark, length.unwrap_or(0), budget);
        let response = response(line, headers, ResponseBody::Streamed(body))?;
        self.reply(response, Sending::Streaming(sender, length))
    }

    /// The high-water mark and the `send_timeout` of what the request came by.
    pub(super) fn send_limits(&self) -> (usize, Duration) {
        let config = &self.connection.server.config;
        match &config.http2 {
            Some(http2) if self.version == Version::HTTP_2 => {
                (http2.high_water_mark, http2.send_timeout)
            }
            _ => (config.high_water_mark, config.send_timeout),
        }
    }

    /// `true`: taken, and the caller should wait ([`Self::wait`]) before it sends more.
    pub fn chunk(&self, data: Bytes) -> Result<bool, SendError> {
        let mut state = lock(&self.state);
        let given = data.len() as u64;
        let is_full = match &state.sending {
            Sending::Streaming(sender, _) => sender.send(data)?,
            Sending::Discarding => return Ok(false),
            Sending::No => return Err(SendError::Closed),
        };
        state.was_given(given);
        Ok(is_full)
    }

    /// Keeps the waiter when there is no room now, and says so.
    pub fn wait(&self, waiter: Waiter) -> bool {
        match &lock(&self.state).sending {
            Sending::Streaming(sender, _) => sender.wait(waiter),
            Sending::Discarding | Sending::No => false,
        }
    }

    /// Ends a streamed body.
    pub fn finish(&self) {
        let mut state = lock(&self.state);
        match &state.sending {
            Sending::No => return,
            Sending::Streaming(sender, _) => sender.finish(),
            Sending::Discarding => {}
        }
        state.sending = Sending::Discarding;
        state.is_served();
    }

    /// Sends a range of a file. Answers when the head is on its way.
    pub fn send_file(
        self: &Arc<Self>,
        status: impl Into<Status>,
        headers: HeaderMap,
        path: PathBuf,
        range: (u64, u64),
        answer: impl FnOnce(Result<(), FileError>) + Send + 'static,
    ) {
        let exchange = self.clone();
        let status = status.into();
        rt::spawn_blocking(move || {
            answer(exchange.open_and_send(status, headers, &path, range));
        });
    }

    fn open_and_send(
        self: &Arc<Self>,
        status: Status,
        headers: HeaderMap,
        path: &Path,
        range: (u64, u64),
    ) -> Result<(), FileError> {
        let line = status.of_final()?;
        let (offset, length) = range;
        let file = File::open(path)?;
        if file.metadata()?.len() < offset.saturating_add(length) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        }
        let body = || ResponseBody::file(file, range, self.wire());
        let response = response::of_file(line, headers, body)?;
        Ok(self.reply(response, Sending::No)?)
    }

    /// Sends an informational response before the final one.
    pub fn inform(&self, status: impl Into<Status>, headers: &HeaderMap) -> Result<(), SendError> {
        let line = status.into().of_interim()?;
        let mut state = lock(&self.state);
        let reply = state.reply.as_mut().ok_or(SendError::AlreadySent)?;
        if self.version < Version::HTTP_11 {
            return Err(SendError::NotSupported);
        }
        reply.inform(self.wire().as_deref(), &line, headers)?;
        self.connection.wake.notify_one();
        Ok(())
    }

    fn reply(
        self: &Arc<Self>,
        response: Response<ResponseBody>,
        sending: Sending,
    ) -> Result<(), SendError> {
        let mut state = lock(&self.state);
        let reply = state.reply.take().ok_or(SendError::AlreadySent)?;
        state.serving = None;
        if let Sending::No = sending {
            state.is_served();
        }
        state.sending = sending;
        state.was_given(0);
        drop(state);
        reply.send(response, || self.clone())
    }
}

impl State {
    /// So much more of a streamed body. With HTTP/1 a body that has its whole length is over before the handler
    /// says so, which is no leaving of the client's.
    fn was_given(&mut self, bytes: u64) {
        if let Sending::Streaming(_, Some(missing)) = &mut self.sending {
            *missing = missing.saturating_sub(bytes);
            if *missing == 0 {
                self.is_served();
            }
        }
    }
}
