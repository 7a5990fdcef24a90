//! The runs that this runner has: until when each is ours, and which were told to stop.

use crate::clients::fence::{Fenced, Grant};
use crate::runs::Claimed;
use crate::runs::record::Hold;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Why work on a run is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Somebody asked for it.
    Cancelled,
    /// The run is another's, or may be.
    Lost,
    /// This runner ends.
    Shutdown,
}

/// One claim that is ours.
pub struct Holding {
    pub hold: Hold,
    /// Ends before the database's lease does.
    pub grant: Grant,
    token: CancellationToken,
    why: Mutex<Option<Stop>>,
    /// Its end is on its way to the database: that it is gone there is no surprise.
    pub is_ending: AtomicBool,
    /// The run's status after our end of it, once the database has said so.
    pub became: OnceLock<String>,
}

impl Holding {
    fn new(run: &Claimed, until: Duration) -> Holding {
        Holding {
            hold: Hold { run_id: run.run_id.clone(), lease_token: run.lease_token },
            grant: Grant::new("the run's lease", until, || Ok(())),
            token: CancellationToken::new(),
            why: Mutex::new(None),
            is_ending: AtomicBool::new(false),
            became: OnceLock::new(),
        }
    }

    /// The first reason stays, but a lost lease outweighs it: of what is another's nothing may be said.
    pub fn stop(&self, why: Stop) {
        {
            let mut reason = self.why.lock().unwrap_or_else(PoisonError::into_inner);
            if reason.is_none() || why == Stop::Lost {
                *reason = Some(why);
            }
        }
        if why == Stop::Lost {
            self.grant.end(Fenced::new("the run's lease was lost"));
        }
        self.token.cancel();
    }

    pub async fn told_to_stop(&self) -> Stop {
        self.token.cancelled().await;
        self.stopped().unwrap_or(Stop::Shutdown)
    }

    pub fn stopped(&self) -> Option<Stop> {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub struct Held(Mutex<HashMap<Hold, Arc<Holding>>>);

impl Held {
    fn map(&self) -> MutexGuard<'_, HashMap<Hold, Arc<Holding>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, run: &Claimed, until: Duration) -> Arc<Holding> {
        let holding = Arc::new(Holding::new(run, until));
        self.map().insert(holding.hold.clone(), holding.clone());
        holding
    }

    pub fn remove(&self, hold: &Hold) {
        self.map().remove(hold);
    }

    pub fn has(&self, hold: &Hold) -> bool {
        self.map().contains_key(hold)
    }

    /// Those that still run: what is ending renews no lease.
    pub fn running(&self) -> Vec<Arc<Holding>> {
        self.map().values().filter(|h| !h.is_ending.load(Ordering::Relaxed)).cloned().collect()
    }

    pub fn cancel(&self, run_id: &str) {
        for holding in self.map().values().filter(|h| h.hold.run_id == run_id) {
            holding.stop(Stop::Cancelled);
        }
    }

    pub fn stop_all(&self, why: Stop) {
        self.map().values().for_each(|holding| holding.stop(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_reason_stays_but_a_lost_lease_outweighs_it() {
        let run = Claimed {
            run_id: "run-1".to_owned(),
            kind: "a".to_owned(),
            project_id: None,
            env_id: None,
            git_sha: None,
            git_ref: None,
            attempt: 1,
            max_attempts: 1,
            lease_token: 1,
            input: json!({}),
            metadata: json!({}),
            waited: Duration::ZERO,
            has_phases: false,
        };
        let holding = Holding::new(&run, Duration::MAX);
        assert_eq!(holding.stopped(), None);
        holding.stop(Stop::Cancelled);
        holding.stop(Stop::Shutdown);
        assert_eq!(holding.stopped(), Some(Stop::Cancelled));
        assert!(holding.grant.check().is_ok(), "who is cancelled may still tidy up");
        holding.stop(Stop::Lost);
        assert_eq!(holding.stopped(), Some(Stop::Lost));
        assert!(holding.grant.check().is_err());
    }
}
