//! Trouble that can be injected into the simulated clouds while they run.
//!
//! A fault is a named switch with an amount: it applies to the next N matching requests or for a
//! while. The simulators ask `take` (one request is spent) or `is_on` (nothing is spent); what each
//! fault does is told here once and obeyed there. World events that happen at once (a droplet
//! deleted by hand, a supervisor killed) are `Break`s too, but carry no amount.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// Everything `--break NAME` and `POST /sandbox/break/NAME` accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Break {
    /// The supervisor process on the newest droplet dies and stays dead until a reboot.
    SupervisorKilled,
    /// The newest droplet disappears, as if deleted in the web console.
    DropletDeleted,
    /// The newest droplet changes its size, as if resized in the web console.
    SizeChanged,
    /// Listing droplets answers 500 for a while.
    DropletListFailing,
    /// The next create is carried out, but the connection is dropped before the answer.
    CreateResponseLost,
    /// The next create is carried out, but a gateway answers 504 with an HTML page.
    Create504,
    /// Lists show new droplets only after a lag, and deleted ones for as long.
    ListLag,
    /// The next DigitalOcean requests answer 429 with Retry-After.
    RateLimited,
    /// The next DigitalOcean and Railway requests answer 502 with an HTML page.
    Html502,
    /// The webapp logs a rejected token, newer than the real one.
    PoisonedToken,
    /// The next Postgres restart takes long.
    SlowRestart,
    /// The database is stopped for a while, then comes back.
    DatabaseDown,
    /// Droplets created from now on for a while never become healthy.
    NewDropletNeverHealthy,
}

impl Break {
    pub const ALL: [Break; 13] = [
        Break::SupervisorKilled,
        Break::DropletDeleted,
        Break::SizeChanged,
        Break::DropletListFailing,
        Break::CreateResponseLost,
        Break::Create504,
        Break::ListLag,
        Break::RateLimited,
        Break::Html502,
        Break::PoisonedToken,
        Break::SlowRestart,
        Break::DatabaseDown,
        Break::NewDropletNeverHealthy,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Break::SupervisorKilled => "supervisor-killed",
            Break::DropletDeleted => "droplet-deleted",
            Break::SizeChanged => "size-changed",
            Break::DropletListFailing => "droplet-list-failing",
            Break::CreateResponseLost => "create-response-lost",
            Break::Create504 => "create-504",
            Break::ListLag => "list-lag",
            Break::RateLimited => "rate-limited",
            Break::Html502 => "html-502",
            Break::PoisonedToken => "poisoned-token",
            Break::SlowRestart => "slow-restart",
            Break::DatabaseDown => "database-down",
            Break::NewDropletNeverHealthy => "new-droplet-never-healthy",
        }
    }

    pub fn from_name(name: &str) -> Option<Break> {
        Break::ALL.into_iter().find(|b| b.name() == name)
    }
}

#[derive(Debug, Clone, Copy)]
enum Amount {
    Requests(u32),
    Until(Instant),
}

/// The switches, shared by all simulators of one sandbox.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<BTreeMap<Break, Amount>>>);

impl Faults {
    /// Applies to the next `n` matching requests.
    pub fn next_requests(&self, fault: Break, n: u32) {
        self.lock().insert(fault, Amount::Requests(n));
    }

    /// Applies from now on for this long.
    pub fn during(&self, fault: Break, time: Duration) {
        self.lock().insert(fault, Amount::Until(Instant::now() + time));
    }

    pub fn clear(&self, fault: Break) {
        self.lock().remove(&fault);
    }

    /// Whether the fault applies to this request; spends one.
    pub fn take(&self, fault: Break) -> bool {
        let mut map = self.lock();
        match map.get_mut(&fault) {
            None => false,
            Some(Amount::Until(end)) => {
                let on = Instant::now() < *end;
                if !on {
                    map.remove(&fault);
                }
                on
            }
            Some(Amount::Requests(left)) => {
                *left -= 1;
                if *left == 0 {
                    map.remove(&fault);
                }
                true
            }
        }
    }

    /// Whether the fault is switched on; spends nothing.
    pub fn is_on(&self, fault: Break) -> bool {
        match self.lock().get(&fault) {
            None => false,
            Some(Amount::Until(end)) => Instant::now() < *end,
            Some(Amount::Requests(left)) => *left > 0,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Break, Amount>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}
