//! What a provider still grants: read from its headers, and a pause that is kept before asking again.

use serde::Serialize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A pause that a server asks for is believed up to this; then it is asked again.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);
/// A 429 without a hint (an edge proxy) is left alone for this long.
pub const DEFAULT_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Budget {
    requests: AtomicU64,
    granted: Mutex<Granted>,
}

#[derive(Debug, Default, Clone)]
struct Granted {
    remaining: Option<u64>,
    limit: Option<u64>,
    blocked_until: Option<Instant>,
}

/// One provider's budget, for /status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Remaining {
    /// Requests sent by this process.
    pub requests: u64,
    pub remaining: Option<u64>,
    pub limit: Option<u64>,
    /// Seconds until the provider is asked again after a refusal.
    pub paused_seconds: Option<u64>,
}

impl Budget {
    /// Counts a request, or says how long the provider is to be left alone.
    pub fn spend(&self) -> Result<(), Duration> {
        let now = Instant::now();
        let granted = self.lock();
        if let Some(left) = granted.blocked_until.and_then(|until| until.checked_duration_since(now))
            && !left.is_zero()
        {
            return Err(left);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub fn note(&self, remaining: Option<u64>, limit: Option<u64>) {
        let mut granted = self.lock();
        granted.remaining = remaining.or(granted.remaining);
        granted.limit = limit.or(granted.limit);
    }

    /// Keeps everybody off for the pause; returns the pause really kept.
    pub fn block(&self, pause: Duration) -> Duration {
        let pause = pause.clamp(Duration::from_secs(1), LONGEST_PAUSE);
        self.lock().blocked_until = Some(Instant::now() + pause);
        pause
    }

    pub fn show(&self) -> Remaining {
        let granted = self.lock().clone();
        let paused = granted.blocked_until.and_then(|until| until.checked_duration_since(Instant::now()));
        Remaining {
            requests: self.requests.load(Ordering::Relaxed),
            remaining: granted.remaining,
            limit: granted.limit,
            paused_seconds: paused.map(|d| d.as_secs()).filter(|s| *s > 0),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Granted> {
        self.granted.lock().unwrap_or_else(|e| e.into_inner())
    }
}
