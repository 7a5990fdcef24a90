//! Some lines that many share: each question takes one, and waits a while when all are taken.
//!
//! Unlike a pool that tries to connect until its patience ends, it says at once that the database is down.

use super::RunsError;
use super::line::{Asked, Line};
use super::schema::Address;
use sqlx::postgres::PgConnection;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// For a line to become free: questions take milliseconds.
const WAITS: Duration = Duration::from_secs(2);

pub struct Lines {
    address: Address,
    /// For each question, connecting included.
    limit: Duration,
    idle: Mutex<Vec<Line>>,
    slots: Semaphore,
}

impl Lines {
    pub fn new(address: Address, at_once: usize, limit: Duration) -> Lines {
        Lines { address, limit, idle: Mutex::default(), slots: Semaphore::new(at_once) }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Line>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn with<T>(
        &self,
        ask: impl for<'c> FnOnce(&'c mut PgConnection) -> Asked<'c, T> + Send,
    ) -> Result<T, RunsError> {
        let Ok(Ok(_slot)) = timeout(WAITS, self.slots.acquire()).await else {
            return Err(RunsError::Unavailable("all of our connections to it are busy".to_owned()));
        };
        let line = self.idle().pop();
        let mut line = line.unwrap_or_else(|| Line::new(self.address.clone(), self.limit));
        let done = line.with(ask).await;
        self.idle().push(line);
        done
    }
}
