//! One run and no more: claimed, kept, executed and finished by the same means as in the loop.

use super::execute::execute;
use super::held::Stop;
use super::{Crew, LINE_LIMIT, Runner, Shared, report};
use crate::clients::fence::uptime;
use crate::runs::line::Line;
use crate::runs::{Claimed, RunsError, queue};
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// A run that this process has dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    pub run_id: String,
    /// success, failed or cancelled; queued when another attempt follows.
    pub status: String,
    /// As the run's events name it.
    pub worker_id: String,
}

/// Why there is no such run to tell of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnceError {
    /// Nothing was begun.
    #[error("{0}")]
    NotClaimed(RunsError),
    /// The run is another's by now, or will be.
    #[error("the lease of {0} was lost: another runner goes on with it")]
    Lost(String),
}

impl Runner {
    /// Claims one run of its kinds and brings the attempt to an end; `None`: there was none. When it is
    /// stopped, the run may go on for the grace and is then handed back.
    pub async fn once(self, stop: CancellationToken) -> Result<Option<Once>, OnceError> {
        let shared = self.shared(stop);
        // Before the question: no lease of ours ends later than the database's.
        let until = uptime() + shared.options.lease / 10 * 9;
        let Some(run) = claim(&shared).await.map_err(OnceError::NotClaimed)? else { return Ok(None) };
        report::claimed(std::slice::from_ref(&run));
        let run_id = run.run_id.clone();
        let holding = shared.held.add(&run, until);
        let crew = Crew::of(&shared);
        tokio::select! {
            () = execute(&shared, run, holding.clone(), &crew.words) => {}
            () = stop_late(&shared) => {}
        }
        crew.go().await;
        let worker_id = shared.id.0.clone();
        match holding.became.get() {
            Some(status) => Ok(Some(Once { run_id, status: status.clone(), worker_id })),
            None => Err(OnceError::Lost(run_id)),
        }
    }
}

async fn claim(shared: &Shared) -> Result<Option<Claimed>, RunsError> {
    let kinds: Vec<String> = shared.kinds.keys().cloned().collect();
    let (id, lease) = (shared.id.clone(), shared.options.lease);
    let mut line = shared.line();
    let claimed = line.with(|c| Box::pin(async move { queue::claim(c, &id, &kinds, 1, lease).await })).await;
    if claimed.as_ref().is_err_and(RunsError::is_transient) {
        hand_back_unseen(shared).await;
    }
    Ok(claimed?.pop())
}

/// A claim whose answer was lost: no attempt is lost with it.
async fn hand_back_unseen(shared: &Shared) {
    let id = shared.id.clone();
    let mut line = Line::new(shared.address.clone(), LINE_LIMIT / 5);
    let done = line.with(|c| {
        Box::pin(async move {
            let ours = queue::claimed_by(c, &id).await?;
            queue::hand_back(c, &ours).await
        })
    });
    if let Ok(back) = done.await
        && !back.is_empty()
    {
        tracing::info!(runs = back.len(), "a claim whose answer was lost is handed back");
    }
}

/// Ends only when what was told to stop did not.
async fn stop_late(shared: &Shared) {
    shared.stop.cancelled().await;
    sleep(shared.options.grace).await;
    shared.held.stop_all(Stop::Shutdown);
    // It has some seconds to hear that, as any phase has.
    sleep(super::WRAP_UP + Duration::from_secs(1)).await;
    tracing::warn!("a run did not stop in time, its lease runs out");
}
