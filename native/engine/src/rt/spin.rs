//! Whether an idle reactor spins on its epoll or sleeps. A peer that answers at once is answered sooner, and at
//! less cost, by a reactor that spins than by one that has to be woken.

use std::time::Duration;

use tokio::time::Instant;

use super::turn::Turned;

/// After this many short idle spells in a row, spin on the epoll instead of sleeping.
const SHORT_SPELLS: u32 = 8;
/// With the time that it takes to be woken.
const SHORT_SPELL: Duration = Duration::from_micros(100);
/// How long a reactor spins.
const SPIN_TIME: Duration = Duration::from_micros(50);

#[derive(Default)]
pub(super) struct Spin {
    idle_since: Option<Instant>,
    /// Short spells in a row, up to the last one.
    short_spells: u32,
}

impl Spin {
    /// There is something to do.
    pub(super) fn end_spell(&mut self, now: Instant) {
        if let Some(since) = self.idle_since.take() {
            self.short_spells = match now - since < SHORT_SPELL {
                true => self.short_spells.saturating_add(1),
                false => 0,
            };
        }
    }

    /// There is nothing to do.
    pub(super) fn idle(&mut self, now: Instant) -> Turned {
        let since = *self.idle_since.get_or_insert(now);
        if self.short_spells < SHORT_SPELLS {
            return Turned::Idle;
        }
        if now - since < SPIN_TIME {
            return Turned::Soon;
        }
        self.short_spells = 0;
        Turned::Idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Clock(Spin, Instant);

    impl Clock {
        fn new() -> Self {
            Self(Spin::default(), Instant::now())
        }

        fn idle(&mut self) -> Turned {
            self.0.idle(self.1)
        }

        fn advance(&mut self, time: Duration) {
            self.1 += time;
        }

        fn spell(&mut self, time: Duration) -> Turned {
            let turned = self.idle();
            self.advance(time);
            self.0.end_spell(self.1);
            turned
        }
    }

    #[test]
    fn after_short_spells_the_next_one_is_spun_through() {
        let mut clock = Clock::new();
        for _ in 0..SHORT_SPELLS {
            assert_eq!(clock.spell(SHORT_SPELL / 2), Turned::Idle);
        }
        assert_eq!(clock.spell(SPIN_TIME / 2), Turned::Soon);
        assert_eq!(clock.idle(), Turned::Soon);
    }

    #[test]
    fn a_long_spell_ends_the_spinning() {
        let mut clock = Clock::new();
        for _ in 0..SHORT_SPELLS {
            clock.spell(Duration::ZERO);
        }
        assert_eq!(clock.idle(), Turned::Soon);
        clock.advance(SPIN_TIME / 2);
        assert_eq!(clock.idle(), Turned::Soon);
        clock.advance(SPIN_TIME);
        assert_eq!(clock.idle(), Turned::Idle);
        assert_eq!(clock.spell(Duration::ZERO), Turned::Idle);
        assert_eq!(clock.idle(), Turned::Idle);
    }

    #[test]
    fn spells_are_short_in_a_row_or_not_at_all() {
        let mut clock = Clock::new();
        for _ in 0..SHORT_SPELLS * 2 {
            assert_eq!(clock.spell(Duration::ZERO), Turned::Idle);
            assert_eq!(clock.spell(SHORT_SPELL), Turned::Idle);
        }
    }
}
