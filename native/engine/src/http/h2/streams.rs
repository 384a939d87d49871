//! What a client has done with its streams, as far as frames tell.

/// How many of the newest are known. What comes for an older one is left to h2. It is more than may be
/// open at once, unless `max_concurrent_streams` is raised, and small enough to be part of a connection.
const KNOWN: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody has opened it yet.
    Idle,
    /// It was left out, and can no longer be opened (RFC9113§5.1.1).
    Skipped,
    Open,
    /// The client has said that it sends no more: half-closed or closed.
    Ended,
    /// The client has reset it.
    Left,
    /// We have reset it, or will.
    Reset,
    /// So old that nobody knows, or none that a client may open (RFC9113§5.1.1).
    Forgotten,
}

pub(super) struct Streams {
    /// The highest that was opened.
    last: u32,
    states: [State; KNOWN],
}

impl Streams {
    pub(super) fn new() -> Self {
        Self {
            last: 0,
            states: [State::Skipped; KNOWN],
        }
    }

    pub(super) fn state(&self, id: u32) -> State {
        match self.last.checked_sub(id) {
            _ if id.is_multiple_of(2) => State::Forgotten,
            None => State::Idle,
            Some(age) if age / 2 >= KNOWN as u32 => State::Forgotten,
            Some(_) => self.states[place(id)],
        }
    }

    /// Opens a stream that is idle. Idle streams below it will never be opened (RFC9113§5.1.1).
    pub(super) fn open(&mut self, id: u32) {
        let skipped = (id - self.last - 1) / 2;
        for n in 1..=skipped.min(KNOWN as u32) {
            self.states[place(id.saturating_sub(2 * n))] = State::Skipped;
        }
        self.last = id;
        self.states[place(id)] = State::Open;
    }

    /// Changes the state of a stream, unless it is idle or was forgotten.
    pub(super) fn set(&mut self, id: u32, state: State) {
        if !matches!(self.state(id), State::Idle | State::Forgotten) {
            self.states[place(id)] = state;
        }
    }
}

fn place(id: u32) -> usize {
    (id / 2) as usize % KNOWN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_idle_then_open_then_ended() {
        let mut streams = Streams::new();
        assert_eq!(streams.state(1), State::Idle);
        streams.open(1);
        assert_eq!(
            (streams.state(1), streams.state(3)),
            (State::Open, State::Idle)
        );
        streams.set(1, State::Ended);
        assert_eq!(streams.state(1), State::Ended);
        streams.set(3, State::Ended);
        assert_eq!(streams.state(3), State::Idle);
    }

    #[test]
    fn what_is_left_out_is_skipped() {
        let mut streams = Streams::new();
        streams.open(1);
        streams.open(7);
        assert_eq!(
            [1, 3, 5, 7].map(|id| streams.state(id)),
            [State::Open, State::Skipped, State::Skipped, State::Open]
        );
        streams.open((1 << 31) - 1);
        assert_eq!(streams.state(7), State::Forgotten);
        assert_eq!(streams.state((1 << 31) - 3), State::Skipped);
    }

    #[test]
    fn those_of_even_numbers_are_no_clients() {
        let mut streams = Streams::new();
        streams.open(1);
        for id in [0, 2, 4] {
            streams.set(id, State::Ended);
            assert_eq!(streams.state(id), State::Forgotten);
        }
        assert_eq!(streams.state(1), State::Open);
    }

    #[test]
    fn the_old_are_forgotten() {
        let mut streams = Streams::new();
        for id in (1..=2 * KNOWN as u32 + 1).step_by(2) {
            streams.open(id);
        }
        assert_eq!(streams.state(1), State::Forgotten);
        assert_eq!(streams.state(3), State::Open);
        streams.set(1, State::Ended);
        assert_eq!(streams.state(2 * KNOWN as u32 + 1), State::Open);
    }
}
