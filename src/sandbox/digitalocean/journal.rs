//! What was asked of the simulator, and which mistakes it noticed.

use super::ids::Ids;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// A sandbox may run for days; tests look at far fewer.
const KEPT_REQUESTS: usize = 10_000;
const RATE_LIMIT: u32 = 5_000;
const RATE_WINDOW: Duration = Duration::from_secs(3_600);
/// Listing SSH keys has a limit of its own.
const KEY_LISTS: usize = 10;
const KEY_WINDOW: Duration = Duration::from_secs(60);

/// One request and the status it was answered with, even if that answer was lost on its way.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub at: Timestamp,
    pub method: String,
    pub path: String,
    pub query: String,
    pub body: Value,
    pub status: u16,
}

#[derive(Debug)]
pub struct Journal {
    /// Apart from the resources' ids, which must not depend on the number of requests.
    request_ids: Ids,
    pub requests: VecDeque<Recorded>,
    pub violations: Vec<String>,
    in_window: VecDeque<Instant>,
    key_lists: VecDeque<Instant>,
}

impl Journal {
    pub fn new(seed: u64) -> Self {
        Self {
            request_ids: Ids::new(seed.rotate_left(32)),
            requests: VecDeque::new(),
            violations: Vec::new(),
            in_window: VecDeque::new(),
            key_lists: VecDeque::new(),
        }
    }

    pub fn request_id(&mut self) -> String {
        self.request_ids.uuid()
    }

    pub fn record(&mut self, request: Recorded) {
        if self.requests.len() == KEPT_REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    /// Counts this request: limit, remaining, and when the oldest counted one expires.
    pub fn rate(&mut self, now: Instant, wall: Timestamp) -> (u32, u32, i64) {
        expire(&mut self.in_window, RATE_WINDOW, now);
        self.in_window.push_back(now);
        let used = u32::try_from(self.in_window.len()).unwrap_or(RATE_LIMIT);
        let oldest = self.in_window.front().map_or(Duration::ZERO, |at| now - *at);
        let reset = wall.as_second() + (RATE_WINDOW - oldest).as_secs().cast_signed();
        (RATE_LIMIT, RATE_LIMIT.saturating_sub(used), reset)
    }

    /// Whether keys may be listed once more; counts when they may.
    pub fn may_list_keys(&mut self, now: Instant) -> bool {
        expire(&mut self.key_lists, KEY_WINDOW, now);
        let may = self.key_lists.len() < KEY_LISTS;
        if may {
            self.key_lists.push_back(now);
        }
        may
    }
}

fn expire(times: &mut VecDeque<Instant>, window: Duration, now: Instant) {
    while times.front().is_some_and(|at| *at + window <= now) {
        times.pop_front();
    }
}
