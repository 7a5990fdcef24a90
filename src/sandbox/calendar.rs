//! The wall clock, told from the runtime's clock: in a test whose time is compressed, both pass alike.

use jiff::Timestamp;
use tokio::time::Instant;

#[derive(Debug, Clone, Copy)]
pub struct Calendar {
    begun: Instant,
    begun_at: Timestamp,
}

impl Calendar {
    /// Begins now, at this moment of the world's own time.
    pub fn starting(begun_at: Timestamp) -> Calendar {
        Calendar { begun: Instant::now(), begun_at }
    }

    pub fn at(&self, instant: Instant) -> Timestamp {
        let passed = instant.saturating_duration_since(self.begun);
        jiff::SignedDuration::try_from(passed).map_or(Timestamp::MAX, |passed| self.begun_at + passed)
    }

    pub fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }
}
