//! The one place that retries: reads that failed in transit, a few times, briefly.
//!
//! The next cycle is the real retry. Calls that may have created something never come here, and a
//! rate limit is waited for by the budget, not by asking again. (`backoff` is unmaintained but not
//! vulnerable; everything that knows it is in this file.)

use super::error::ClientError;
use backoff::Clock;
use backoff::exponential::ExponentialBackoff;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const TOTAL: Duration = Duration::from_secs(2);

/// The runtime's clock, so that the bound holds in a test's compressed time as well.
#[derive(Default)]
struct RuntimeClock;

impl Clock for RuntimeClock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// Repeats a read while it fails in transit, for two seconds at most.
pub async fn read<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let policy = ExponentialBackoff::<RuntimeClock> {
        initial_interval: FIRST_PAUSE,
        current_interval: FIRST_PAUSE,
        max_interval: Duration::from_secs(1),
        max_elapsed_time: Some(TOTAL),
        // There is one controller: nobody to keep apart from.
        randomization_factor: 0.0,
        ..ExponentialBackoff::default()
    };
    backoff::future::retry(policy, || {
        let next = attempt();
        async move {
            next.await.map_err(|error| {
                if error.is_transient() { backoff::Error::transient(error) } else { backoff::Error::permanent(error) }
            })
        }
    })
    .await
}
