//! How many runs to claim at once. Pure.
//!
//! Work that takes longer than a claim is claimed as slots become free: what waits here could run
//! elsewhere. Work that is over in no time is claimed in batches, or the claims would take longer than
//! the work.

use std::time::Duration;

/// More would wait here for longer than it saves.
const LARGEST: usize = 500;
/// A batch that was begun within this time was too small.
const QUICK: Duration = Duration::from_millis(40);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    size: usize,
    concurrency: usize,
}

impl Pace {
    pub fn new(concurrency: usize) -> Pace {
        Pace { size: concurrency.max(1), concurrency: concurrency.max(1) }
    }

    /// How many to ask for, with so many slots free.
    pub fn limit(&self, free: usize) -> usize {
        if self.is_quick() { self.size } else { free.max(1) }
    }

    /// More than fits in the slots is asked for.
    pub fn is_quick(&self) -> bool {
        self.size > self.concurrency
    }

    /// After a claim of `got` of `asked`, all of which were begun after this time.
    pub fn learn(&mut self, asked: usize, got: usize, begun_after: Duration) {
        if got == asked && begun_after < QUICK {
            self.size = (self.size * 2).min(LARGEST.max(self.concurrency));
        } else if begun_after >= QUICK * 2 {
            self.size = (self.size / 2).max(self.concurrency);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_work_is_claimed_as_slots_become_free() {
        let mut pace = Pace::new(10);
        for _ in 0..5 {
            pace.learn(10, 10, Duration::from_secs(3));
            assert_eq!(pace.limit(2), 2);
        }
    }

    #[test]
    fn work_that_is_over_in_no_time_is_claimed_in_growing_batches_up_to_a_bound() {
        let mut pace = Pace::new(10);
        for _ in 0..20 {
            let asked = pace.limit(10);
            pace.learn(asked, asked, Duration::from_millis(1));
        }
        assert_eq!(pace.limit(10), LARGEST);
    }

    #[test]
    fn a_batch_that_waited_halves_the_next_down_to_the_slots() {
        let mut pace = Pace { size: 400, concurrency: 10 };
        pace.learn(400, 400, Duration::from_secs(1));
        assert_eq!(pace.limit(0), 200);
        for _ in 0..9 {
            pace.learn(200, 200, Duration::from_secs(1));
        }
        assert!(!pace.is_quick());
    }

    #[test]
    fn a_queue_that_runs_dry_says_nothing_about_the_work() {
        let mut pace = Pace::new(10);
        pace.learn(10, 3, Duration::from_millis(1));
        assert_eq!(pace.limit(7), 7);
    }
}
