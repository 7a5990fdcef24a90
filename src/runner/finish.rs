//! Tells the database how attempts ended: all that wait at a time with one question.
//!
//! An end counts when the database has said so. While it does not answer, ends are kept and told
//! again; a lease that ran out meanwhile is refused there, and the run is another's.

use super::held::Holding;
use super::{Shared, report};
use crate::runs::line::Line;
use crate::runs::record::Hold;
use crate::runs::{Ended, Outcome, RunsError, queue};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

const BATCH: usize = 256;
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What is to be told of an attempt.
pub enum Word {
    Ended(Arc<Holding>, Outcome, Work),
    HandBack(Arc<Holding>),
}

/// What it was, for the log and the metrics.
pub struct Work {
    pub kind: String,
    pub took: Duration,
    /// Worth a line in the log.
    pub had_phases: bool,
}

/// Until nobody has anything left to tell.
pub async fn finish(shared: Arc<Shared>, mut heard: mpsc::Receiver<Word>) {
    let mut line = shared.line();
    let mut words = Vec::with_capacity(BATCH);
    while heard.recv_many(&mut words, BATCH).await > 0 {
        let mut ends = Vec::new();
        let mut back = Vec::new();
        for word in words.drain(..) {
            match word {
                Word::Ended(holding, outcome, work) => {
                    let Hold { run_id, lease_token } = holding.hold.clone();
                    ends.push((holding, Ended { run_id, lease_token, outcome }, work));
                }
                Word::HandBack(holding) => back.push(holding),
            }
        }
        // Everybody locks rows in the same order.
        ends.sort_unstable_by(|(_, a, _), (_, b, _)| a.run_id.cmp(&b.run_id));
        back.sort_unstable_by(|a: &Arc<Holding>, b| a.hold.run_id.cmp(&b.hold.run_id));
        if !ends.is_empty() {
            tell(&shared, &mut line, ends).await;
        }
        if !back.is_empty() {
            hand_back(&shared, &mut line, back).await;
        }
    }
}

type End = (Arc<Holding>, Ended, Work);

async fn tell(shared: &Shared, line: &mut Line, ends: Vec<End>) {
    let told: Arc<[Ended]> = ends.iter().map(|(_, ended, _)| ended.clone()).collect();
    match finished(shared, line, &told).await {
        Ok(accepted) => settle(shared, ends, accepted),
        Err(RunsError::Unavailable(_)) => settle(shared, ends, Vec::new()),
        // One of them cannot be stored. Alone, it is seen which.
        Err(_) => {
            for (holding, mut ended, work) in ends {
                let accepted = match finished(shared, line, &[ended.clone()].into()).await {
                    Err(error) if !error.is_transient() => {
                        ended.outcome = Outcome::Failed(format!("its outcome could not be stored: {error}"));
                        finished(shared, line, &[ended.clone()].into()).await
                    }
                    done => done,
                };
                settle(shared, vec![(holding, ended, work)], accepted.unwrap_or_default());
            }
        }
    }
}

fn settle(shared: &Shared, ends: Vec<End>, accepted: Vec<(String, String)>) {
    let accepted: HashMap<String, String> = accepted.into_iter().collect();
    shared.processed.fetch_add(i64::try_from(accepted.len()).unwrap_or_default(), Ordering::Relaxed);
    for (holding, ended, work) in ends {
        shared.held.remove(&holding.hold);
        match accepted.get(&ended.run_id) {
            Some(status) => {
                report::ended(&ended, status, &work);
                holding.became.get_or_init(|| status.clone());
            }
            None => report::lost(&ended.run_id, "its end came too late: another runner has it, or it was rescued"),
        }
    }
}

async fn hand_back(shared: &Shared, line: &mut Line, back: Vec<Arc<Holding>>) {
    let held: Arc<[(String, i64)]> = back.iter().map(|h| (h.hold.run_id.clone(), h.hold.lease_token)).collect();
    let mut patience = Patience::new(shared);
    let done = loop {
        let held = held.clone();
        match line.with(|c| Box::pin(async move { queue::hand_back(c, &held).await })).await {
            Err(error) if patience.lasts(&error).await => {}
            done => break done,
        }
    };
    match &done {
        Ok(done) => tracing::info!(runs = done.len(), "handed back {} runs", done.len()),
        Err(error) => tracing::warn!(%error, "runs could not be handed back, their leases run out: {error}"),
    }
    let became: HashMap<String, String> = done.unwrap_or_default().into_iter().collect();
    for holding in back {
        shared.held.remove(&holding.hold);
        if let Some(status) = became.get(&holding.hold.run_id) {
            holding.became.get_or_init(|| status.clone());
        }
    }
}

async fn finished(shared: &Shared, line: &mut Line, told: &Arc<[Ended]>) -> Result<Vec<(String, String)>, RunsError> {
    let mut patience = Patience::new(shared);
    loop {
        let told = told.clone();
        match line.with(|c| Box::pin(async move { queue::finish(c, &told).await })).await {
            Err(error) if patience.lasts(&error).await => {}
            done => return done,
        }
    }
}

/// While the database does not answer, for as long as somebody may still wait for this.
struct Patience {
    until: Instant,
    pause: Duration,
}

impl Patience {
    fn new(shared: &Shared) -> Patience {
        Patience { until: Instant::now() + shared.options.lease * 2, pause: SHORTEST_PAUSE }
    }

    /// Waits, if it is worth to ask again after this error.
    async fn lasts(&mut self, error: &RunsError) -> bool {
        if !error.is_transient() || Instant::now() >= self.until {
            return false;
        }
        tracing::warn!(%error, "ends of runs cannot be told for now: {error}");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}
