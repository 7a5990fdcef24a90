//! What a kind of run is: its ordered phases, and how each is done.
//!
//! A phase may be begun again by another attempt on another machine, so it must be idempotent: look,
//! then act. What it returns is its checkpoint, and what later phases can ask for.

use super::held::{Holding, Stop};
use super::kept;
use crate::clients::Fence;
use crate::runs::record::{self, Level, NewArtifact, Resource, ResourceName};
use crate::runs::{Claimed, RunsError};
use serde_json::{Map, Value};
use sqlx::postgres::PgPool;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;

/// A phase at work; what it yields is its checkpoint.
pub type Work<'a> = Pin<Box<dyn Future<Output = Result<Value, PhaseError>> + Send + 'a>>;

pub trait Kind: Send + Sync {
    /// The phases of this run, in order; none: there is nothing to do, which is a success. `Err`: the
    /// run cannot be understood, and no attempt will change that.
    fn phases(&self, run: &Claimed) -> Result<Vec<Phase>, String>;

    /// Does one phase. Dropped at its deadline, and some seconds after it was told to stop.
    fn work<'a>(&'a self, context: &'a Context) -> Work<'a>;

    /// What the whole run yields, from what its phases did.
    fn output(&self, phases: &Map<String, Value>) -> Option<Value> {
        (!phases.is_empty()).then(|| serde_json::json!({ "phases_completed": phases.keys().collect::<Vec<_>>() }))
    }
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    pub name: String,
    /// For each try.
    pub timeout: Duration,
    /// Tries after the first, within one attempt of the run.
    pub retries: u32,
    /// Begins together with the one before it.
    pub beside_previous: bool,
}

impl Phase {
    pub fn new(name: impl Into<String>, timeout: Duration) -> Phase {
        Phase { name: name.into(), timeout, retries: 0, beside_previous: false }
    }
}

/// Why a phase did not get done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PhaseError {
    /// Another attempt would not help.
    #[error("{0}")]
    Failed(String),
    /// Another attempt may help.
    #[error("{0}")]
    Transient(String),
    /// The run is another's by now: nothing more may be said of it.
    #[error("the lease was lost")]
    Lost,
}

impl PhaseError {
    pub fn failed(message: impl Into<String>) -> PhaseError {
        PhaseError::Failed(message.into())
    }

    pub fn transient(message: impl Into<String>) -> PhaseError {
        PhaseError::Transient(message.into())
    }

    /// The same, and what it is about.
    pub fn about(self, what: &str) -> PhaseError {
        self.reworded(|why| format!("{what}: {why}"))
    }

    /// The same in other words.
    pub fn reworded(self, words: impl FnOnce(String) -> String) -> PhaseError {
        match self {
            PhaseError::Failed(why) => PhaseError::Failed(words(why)),
            PhaseError::Transient(why) => PhaseError::Transient(words(why)),
            PhaseError::Lost => PhaseError::Lost,
        }
    }
}

impl From<RunsError> for PhaseError {
    fn from(error: RunsError) -> PhaseError {
        match error.is_transient() {
            true => PhaseError::Transient(error.to_string()),
            false => PhaseError::Failed(error.to_string()),
        }
    }
}

impl From<sqlx::Error> for PhaseError {
    fn from(error: sqlx::Error) -> PhaseError {
        RunsError::from(error).into()
    }
}

/// What a phase works with.
#[derive(Clone)]
pub struct Context {
    pub run: Arc<Claimed>,
    pub phase: Phase,
    /// Its place among the run's phases, from 0.
    pub index: usize,
    pub(super) holding: Arc<Holding>,
    pub(super) pool: PgPool,
    pub(super) outputs: Outputs,
}

/// What the completed phases left behind.
pub(super) type Outputs = Arc<Mutex<Map<String, Value>>>;

impl Context {
    /// What an earlier phase left behind; null when it has not completed.
    pub fn output_of(&self, phase: &str) -> Value {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner).get(phase).cloned().unwrap_or_default()
    }

    /// The run's right to change the world: ends with its lease.
    pub fn fence(&self) -> Fence {
        Fence::granted(vec![self.holding.grant.clone()])
    }

    /// Comes when the work is to end: cancelled, stopping, or the lease is lost.
    pub async fn told_to_stop(&self) -> Stop {
        self.holding.told_to_stop().await
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Says something in the run's own log.
    pub async fn note(&self, level: Level, message: &str, payload: Value) -> Result<(), PhaseError> {
        let mut c = self.pool.acquire().await?;
        let (message, payload) = (kept::text(message), kept::value(payload));
        ours(record::event(&mut c, &self.holding.hold, level, &message, &payload, Some(&self.phase.name)).await?)
    }

    /// Records what was stored.
    pub async fn artifact(&self, artifact: &NewArtifact) -> Result<(), PhaseError> {
        let mut c = self.pool.acquire().await?;
        ours(record::artifact(&mut c, &self.holding.hold, artifact).await?)
    }

    /// Before a call that makes something outside.
    pub async fn intend(&self, name: ResourceName<'_>, desired: &Value) -> Result<Resource, PhaseError> {
        let mut c = self.pool.acquire().await?;
        record::intend(&mut c, &self.holding.hold, name, desired).await?.ok_or(PhaseError::Lost)
    }

    /// After it: `live` or `failed`.
    pub async fn settle(
        &self,
        resource: &Resource,
        status: &str,
        external_id: Option<&str>,
        observed: &Value,
    ) -> Result<(), PhaseError> {
        let mut c = self.pool.acquire().await?;
        let (external_id, observed) = (external_id.map(kept::text), kept::value(observed.clone()));
        let id = external_id.as_deref();
        ours(record::settle(&mut c, &self.holding.hold, resource.resource_id, status, id, &observed).await?)
    }
}

fn ours(is_ours: bool) -> Result<(), PhaseError> {
    if is_ours { Ok(()) } else { Err(PhaseError::Lost) }
}
