//! When the head of a request of HTTP/1 has to be there. hyper's own timer does not run before the first
//! byte.

use std::time::Duration;

use tokio::time::Instant;

/// How long what nobody has read of a body may take. A client that needs longer is still sending it when the
/// connection ends, so no request of its is lost.
const DRAIN: Duration = Duration::from_secs(3);

pub(crate) struct Reading {
    /// While a request is served there is no deadline.
    in_request: bool,
    /// The response is out, and what nobody has read of the request's body is read.
    draining: bool,
    /// Whether some of the next head has been read.
    partial: bool,
    first: bool,
    since: Instant,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    Response,
    /// The rest of a request's head.
    Rest,
    FirstRequest {
        since: Instant,
    },
    NextRequest,
    /// The rest of a body that nobody reads, after the response.
    RestOfBody,
}

/// What is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Or what follows it.
    Body,
    Head,
    /// The first of it has been read.
    RestOfHead,
}

impl Reading {
    /// Of a connection that was just accepted.
    pub(crate) fn new(accepted: Instant) -> Self {
        Self {
            in_request: false,
            draining: false,
            partial: false,
            first: true,
            since: accepted,
        }
    }

    pub(crate) fn request_started(&mut self) {
        self.in_request = true;
        self.draining = false;
        self.first = false;
    }

    pub(crate) fn request_ended(&mut self) {
        self.in_request = false;
        self.partial = false;
        self.since = Instant::now();
    }

    pub(crate) fn drain_started(&mut self) {
        self.request_ended();
        self.draining = true;
    }

    pub(crate) fn drain_ended(&mut self) {
        // Not where the next request is being served already.
        if std::mem::take(&mut self.draining) {
            self.since = Instant::now();
        }
    }

    /// A part of a head, or of a body.
    pub(crate) fn read_some(&mut self) {
        if !self.in_body() && !self.partial {
            self.partial = true;
            if !self.first {
                self.since = Instant::now();
            }
        }
    }

    /// Whether what is read may be of a body.
    pub(crate) fn in_body(&self) -> bool {
        self.in_request || self.draining
    }

    pub(crate) fn expected(&self) -> Expected {
        match self.partial {
            _ if self.in_body() => Expected::Body,
            true => Expected::RestOfHead,
            false => Expected::Head,
        }
    }

    pub(crate) fn has_partial_head(&self) -> bool {
        self.partial
    }

    /// `None` while a request is served.
    pub(crate) fn deadline(&self, header: Duration, idle: Duration) -> Option<Instant> {
        let wait = if self.draining {
            DRAIN
        } else if self.first || self.partial {
            header
        } else {
            idle
        };
        (!self.in_request).then(|| self.since + wait)
    }

    /// `has_arrivals` tells whether there is something that was not read yet.
    pub(crate) fn awaited(&self, has_arrivals: impl FnOnce() -> bool) -> Awaited {
        if self.in_request {
            Awaited::Response
        } else if self.draining {
            Awaited::RestOfBody
        } else if self.partial || has_arrivals() {
            Awaited::Rest
        } else if self.first {
            Awaited::FirstRequest { since: self.since }
        } else {
            Awaited::NextRequest
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const HEADER: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(60);

    #[test]
    fn the_first_head_has_its_time_from_the_accept_on() {
        let mut reading = Reading::new(Instant::now());
        let due = reading.since + HEADER;
        assert_eq!(reading.deadline(HEADER, IDLE), Some(due));
        reading.read_some();
        assert_eq!(reading.deadline(HEADER, IDLE), Some(due));
        assert_eq!(reading.awaited(|| false), Awaited::Rest);
    }

    #[test]
    fn what_is_left_of_a_body_has_a_deadline_of_its_own() {
        let mut reading = Reading::new(Instant::now());
        reading.request_started();
        reading.drain_started();
        reading.read_some();
        let due = reading.since + DRAIN;
        assert_eq!(reading.deadline(HEADER, IDLE), Some(due));
        assert!(!reading.has_partial_head());
        assert_eq!(reading.awaited(|| true), Awaited::RestOfBody);
        reading.drain_ended();
        let due = reading.since + IDLE;
        assert_eq!(reading.deadline(HEADER, IDLE), Some(due));

        reading.request_started();
        reading.drain_started();
        // hyper may have read the next request together with the rest.
        reading.request_started();
        reading.drain_ended();
        assert_eq!(reading.deadline(HEADER, IDLE), None);
    }

    #[test]
    fn a_later_head_has_its_time_from_its_first_byte_on() {
        let mut reading = Reading::new(Instant::now());
        reading.read_some();
        reading.request_started();
        assert_eq!(reading.deadline(HEADER, IDLE), None);
        // Of the body.
        reading.read_some();
        reading.request_ended();
        let ended = reading.since;
        assert_eq!(reading.deadline(HEADER, IDLE), Some(ended + IDLE));
        assert_eq!(reading.awaited(|| false), Awaited::NextRequest);
        thread::sleep(Duration::from_millis(1));
        reading.read_some();
        let begun = reading.since;
        assert!(begun > ended);
        // It gets no more by coming byte by byte.
        thread::sleep(Duration::from_millis(1));
        reading.read_some();
        assert_eq!(reading.deadline(HEADER, IDLE), Some(begun + HEADER));
    }
}
