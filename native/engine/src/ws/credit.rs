//! How far the owner of a WebSocket is behind: the batches that it has not answered yet, and how long
//! reading has waited for its answers.

use std::time::Duration;

use tokio::time::Instant;

/// How many batches, and bytes in them, the owner may have unanswered before reading pauses.
pub(super) const MAX_UNANSWERED: usize = 8;
pub(super) const MAX_UNANSWERED_BYTES: usize = 256 * 1024;

/// How long reading waits before the owner hears of it, then twice as long, and so on. A callback that
/// empties its mailbox takes batches that nobody will answer.
const FIRST_NOTICE: Duration = Duration::from_millis(250);

/// The owner answers batches in order, so two counts tell which are unanswered. Both wrap around.
pub(super) struct Credit {
    sent: u32,
    answered: u32,
    /// Bytes in all batches that are unanswered.
    bytes: usize,
    /// Bytes in each of them.
    sizes: [u32; MAX_UNANSWERED],
    pause: Option<Pause>,
}

struct Pause {
    since: Instant,
    /// How often the owner has been told.
    notices: u32,
}

impl Credit {
    /// Owed from the start is the word that the owner is ready, as the answer to an empty batch.
    pub(super) fn new() -> Self {
        let mut credit = Self {
            sent: 0,
            answered: 0,
            bytes: 0,
            sizes: [0; MAX_UNANSWERED],
            pause: None,
        };
        credit.push(0);
        credit
    }

    /// A batch with so many bytes of messages is on its way to the owner.
    #[inline]
    pub(super) fn push(&mut self, size: usize) {
        let counted = u32::try_from(size).unwrap_or(u32::MAX);
        self.sizes[self.sent as usize % MAX_UNANSWERED] = counted;
        self.bytes += counted as usize;
        self.sent = self.sent.wrapping_add(1);
    }

    /// Whether there may be another batch, after so many answers from the start.
    #[inline]
    pub(super) fn has_room(&mut self, answered: u32) -> bool {
        while self.answered != answered && self.answered != self.sent {
            self.bytes -= self.sizes[self.answered as usize % MAX_UNANSWERED] as usize;
            self.answered = self.answered.wrapping_add(1);
        }
        let batches = self.sent.wrapping_sub(self.answered) as usize;
        batches < MAX_UNANSWERED && (batches == 0 || self.bytes < MAX_UNANSWERED_BYTES)
    }

    #[inline]
    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    pub(super) fn pause(&mut self, now: Instant) {
        self.pause.get_or_insert(Pause {
            since: now,
            notices: 0,
        });
    }

    pub(super) fn resume(&mut self) {
        self.pause = None;
    }

    /// When the owner has to hear that reading is paused.
    #[inline]
    pub(super) fn next_notice(&self) -> Option<Instant> {
        let pause = self.pause.as_ref()?;
        Some(pause.since + FIRST_NOTICE.saturating_mul(1 << pause.notices.min(16)))
    }

    /// The owner hears of it. Returns how many batches there have been.
    pub(super) fn noticed(&mut self) -> u32 {
        if let Some(pause) = &mut self.pause {
            pause.notices += 1;
        }
        self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_counted_in_batches() {
        let mut credit = Credit::new();
        for _ in 1..MAX_UNANSWERED {
            assert!(credit.has_room(0));
            credit.push(1);
        }
        assert!(!credit.has_room(0));
        assert!(credit.has_room(1));
        credit.push(1);
        assert!(!credit.has_room(1));
        assert!(credit.has_room(9));
    }

    #[test]
    fn credit_is_counted_in_bytes() {
        let mut credit = Credit::new();
        assert!(credit.has_room(1));
        credit.push(MAX_UNANSWERED_BYTES);
        assert!(!credit.has_room(1));
        assert!(
            credit.has_room(2),
            "one message of any size may be under way"
        );
        credit.push(MAX_UNANSWERED_BYTES - 1);
        assert!(credit.has_room(2));
    }

    #[test]
    fn the_counts_may_wrap_around() {
        let mut credit = Credit::new();
        (credit.sent, credit.answered) = (u32::MAX, u32::MAX);
        for answered in [u32::MAX, 0, 1] {
            assert!(credit.has_room(answered));
            credit.push(MAX_UNANSWERED_BYTES);
            assert!(!credit.has_room(answered));
        }
    }

    #[test]
    fn a_pause_is_noticed_at_intervals_that_double() {
        let mut credit = Credit::new();
        assert_eq!(credit.next_notice(), None);
        let start = Instant::now();
        credit.pause(start);
        for ms in [250, 500, 1000, 2000, 4000] {
            // It is still the same pause.
            credit.pause(start + Duration::from_millis(7));
            let due = start + Duration::from_millis(ms);
            assert_eq!(credit.next_notice(), Some(due));
            assert_eq!(credit.noticed(), 1);
        }
        credit.resume();
        assert_eq!(credit.next_notice(), None);
    }
}
