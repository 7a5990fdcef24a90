//! One attempt of one run: its phases in order, each from its checkpoint on, until the end or a stop.

use super::Shared;
use super::finish::{Word, Work};
use super::held::{Holding, Stop};
use super::kept;
use super::kind::{Context, Kind, Outputs, Phase, PhaseError};
use crate::runs::line::Asked;
use crate::runs::record::{self, PhaseEnd};
use crate::runs::{Claimed, Outcome, RunsError};
use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::{Map, Value};
use sqlx::postgres::PgConnection;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// Between tries of a phase: this, doubled each time.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Between questions to a database that does not answer.
const ASKS_AGAIN: Duration = Duration::from_millis(200);

/// Why the phases did not come to their end.
enum Broken {
    Failed(String),
    Transient(String),
    Stopped(Stop),
}

impl Broken {
    /// Of several, the heaviest counts: what is final is not tried again.
    fn weight(&self) -> u8 {
        match self {
            Broken::Transient(_) => 0,
            Broken::Failed(_) => 1,
            Broken::Stopped(_) => 2,
        }
    }
}

pub async fn execute(shared: &Shared, run: Claimed, holding: Arc<Holding>, words: &mpsc::Sender<Word>) {
    let began = Instant::now();
    let run = Arc::new(run);
    let attempt = Attempt { shared, run: &run, holding: &holding };
    // A slot and a lease hang on this: a fault of one kind must not take them along.
    let ended = AssertUnwindSafe(attempt.perform()).catch_unwind().await;
    let (ended, had_phases) = ended.unwrap_or_else(|_| {
        (Err(Broken::Failed("the program failed here, which is a defect of it; see its log".to_owned())), true)
    });
    holding.is_ending.store(true, Ordering::Relaxed);
    let outcome = match ended {
        Ok(output) => Outcome::Success(output),
        Err(Broken::Failed(error)) => Outcome::Failed(kept::text(&error)),
        Err(Broken::Transient(error)) => Outcome::Retry(kept::text(&error)),
        Err(Broken::Stopped(Stop::Cancelled)) => Outcome::Cancelled(None),
        Err(Broken::Stopped(Stop::Shutdown)) => {
            let _ = words.send(Word::HandBack(holding)).await;
            return;
        }
        Err(Broken::Stopped(Stop::Lost)) => {
            shared.held.remove(&holding.hold);
            return;
        }
    };
    let work = Work { kind: run.kind.clone(), took: began.elapsed(), had_phases };
    let _ = words.send(Word::Ended(holding, outcome, work)).await;
}

struct Attempt<'a> {
    shared: &'a Shared,
    run: &'a Arc<Claimed>,
    holding: &'a Arc<Holding>,
}

impl Attempt<'_> {
    /// What the run yields, and whether it had phases.
    async fn perform(&self) -> (Result<Option<Value>, Broken>, bool) {
        let Some(kind) = self.shared.kinds.get(&self.run.kind) else {
            return (Err(Broken::Failed(format!("this runner does not know the kind {}", self.run.kind))), true);
        };
        let phases = match kind.phases(self.run) {
            Ok(phases) => phases,
            Err(why) => return (Err(Broken::Failed(why)), true),
        };
        let has_phases = !phases.is_empty();
        (self.phases(&**kind, phases).await, has_phases)
    }

    async fn phases(&self, kind: &dyn Kind, phases: Vec<Phase>) -> Result<Option<Value>, Broken> {
        let mut done = Map::new();
        if self.run.has_phases {
            let run = self.run.clone();
            let checkpoints = self.insist(|c| {
                let run = run.clone();
                Box::pin(async move { record::checkpoints(c, &run.run_id).await })
            });
            done.extend(checkpoints.await?);
        }
        let outputs: Outputs = Arc::new(Mutex::new(done));
        for group in groups(phases) {
            let todo = group.into_iter().filter(|(_, phase)| !locked(&outputs).contains_key(&phase.name));
            let ended = join_all(todo.map(|(index, phase)| self.phase(kind, index, phase, &outputs))).await;
            // All of them were let come to their end: their checkpoints count in the next attempt.
            if let Some(worst) = ended.into_iter().filter_map(Result::err).max_by_key(Broken::weight) {
                return Err(worst);
            }
        }
        let outputs = locked(&outputs);
        Ok(kind.output(&outputs))
    }

    async fn phase(&self, kind: &dyn Kind, index: usize, phase: Phase, outputs: &Outputs) -> Result<(), Broken> {
        let context = Context {
            run: self.run.clone(),
            phase,
            index,
            holding: self.holding.clone(),
            pool: self.shared.pool.clone(),
            outputs: outputs.clone(),
        };
        let name = &context.phase.name;
        let mut pause = SHORTEST_PAUSE;
        for tries_left in (0..=context.phase.retries).rev() {
            self.begin(&context).await?;
            let error = match self.once(kind, &context).await {
                Ok(output) => {
                    self.end(name, PhaseEnd::Success(output.clone())).await?;
                    locked(outputs).insert(name.clone(), output);
                    return Ok(());
                }
                Err(Broken::Stopped(Stop::Cancelled)) => {
                    let why = self.why_cancelled().await?;
                    self.end(name, PhaseEnd::Cancelled(why)).await?;
                    return Err(Broken::Stopped(Stop::Cancelled));
                }
                Err(error) => error,
            };
            let (Broken::Failed(message) | Broken::Transient(message)) = &error else { return Err(error) };
            self.end(name, PhaseEnd::Failed(message.clone())).await?;
            let message = format!("Phase {name} failed: {message}");
            match error {
                Broken::Transient(_) if tries_left > 0 => {}
                Broken::Transient(_) => return Err(Broken::Transient(message)),
                _ => return Err(Broken::Failed(message)),
            }
            tokio::select! {
                why = self.holding.told_to_stop() => return Err(Broken::Stopped(why)),
                () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
        Ok(())
    }

    /// Who asked for it, and why.
    async fn why_cancelled(&self) -> Result<String, Broken> {
        let run = self.run.clone();
        let asked = self.insist(|c| {
            let run = run.clone();
            Box::pin(async move { record::cancel_asked(c, &run.run_id).await })
        });
        Ok(match asked.await? {
            (Some(actor), Some(reason)) => format!("{reason} (asked for by {actor})"),
            (Some(actor), None) => format!("asked for by {actor}"),
            (None, reason) => reason.unwrap_or_else(|| "asked for".to_owned()),
        })
    }

    async fn begin(&self, context: &Context) -> Result<(), Broken> {
        let ordinal = i32::try_from(context.index).unwrap_or(i32::MAX - 1) + 1;
        self.ours(|c| {
            let (holding, name) = (self.holding.clone(), context.phase.name.clone());
            Box::pin(async move { record::begin_phase(c, &holding.hold, &name, ordinal).await })
        })
        .await
    }

    async fn end(&self, name: &str, end: PhaseEnd) -> Result<(), Broken> {
        self.ours(|c| {
            let (holding, name, end) = (self.holding.clone(), name.to_owned(), end.clone());
            Box::pin(async move { record::end_phase(c, &holding.hold, &name, &end).await })
        })
        .await
    }

    /// One try, until its deadline, or until shortly after it was told to stop.
    async fn once(&self, kind: &dyn Kind, context: &Context) -> Result<Value, Broken> {
        if let Some(why) = self.holding.stopped() {
            return Err(Broken::Stopped(why));
        }
        let stopped = async {
            let why = self.holding.told_to_stop().await;
            if why != Stop::Lost {
                sleep(super::WRAP_UP).await;
            }
            why
        };
        let limit = context.phase.timeout;
        let worked = tokio::select! {
            worked = timeout(limit, kind.work(context)) => worked,
            why = stopped => return Err(Broken::Stopped(why)),
        };
        let worked = worked
            .unwrap_or_else(|_| Err(PhaseError::Transient(format!("it took longer than {} s", limit.as_secs_f64()))));
        match (worked, self.holding.stopped()) {
            // Before the next phase has it, so that each attempt sees the same.
            (Ok(output), _) => Ok(kept::value(output)),
            // What it says then is that it was interrupted.
            (Err(_), Some(why)) => Err(Broken::Stopped(why)),
            (Err(PhaseError::Failed(message)), None) => Err(Broken::Failed(kept::text(&message))),
            (Err(PhaseError::Transient(message)), None) => Err(Broken::Transient(kept::text(&message))),
            (Err(PhaseError::Lost), None) => {
                self.holding.stop(Stop::Lost);
                Err(Broken::Stopped(Stop::Lost))
            }
        }
    }

    /// A word that only the run's holder may say.
    async fn ours(&self, ask: impl for<'c> Fn(&'c mut PgConnection) -> Asked<'c, bool>) -> Result<(), Broken> {
        match self.insist(ask).await? {
            true => Ok(()),
            false => {
                self.holding.stop(Stop::Lost);
                Err(Broken::Stopped(Stop::Lost))
            }
        }
    }

    /// While the database does not answer, for as long as the run is surely ours.
    async fn insist<T>(&self, ask: impl for<'c> Fn(&'c mut PgConnection) -> Asked<'c, T>) -> Result<T, Broken> {
        loop {
            let asked = async {
                let mut c = self.shared.pool.acquire().await?;
                ask(&mut c).await
            };
            let left = self.holding.grant.left();
            let error = match timeout(left, asked).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => RunsError::from(error),
                Err(_) => return Err(Broken::Stopped(Stop::Lost)),
            };
            if !error.is_transient() {
                return Err(Broken::Failed(error.to_string()));
            }
            sleep(ASKS_AGAIN).await;
        }
    }
}

fn locked(outputs: &Outputs) -> std::sync::MutexGuard<'_, Map<String, Value>> {
    outputs.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Phases that begin together, each with its place.
fn groups(phases: Vec<Phase>) -> Vec<Vec<(usize, Phase)>> {
    let mut groups: Vec<Vec<(usize, Phase)>> = Vec::new();
    for (index, phase) in phases.into_iter().enumerate() {
        match groups.last_mut() {
            Some(group) if phase.beside_previous => group.push((index, phase)),
            _ => groups.push(vec![(index, phase)]),
        }
    }
    groups
}
