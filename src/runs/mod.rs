//! All SQL of durable runs: queueing, claiming, keeping, ending, rescuing, and what is told of them.
//!
//! The rules live in the database (`migrations/`), so that callers in any language obey the same ones;
//! here are their calls, with types. What this module refuses: to decide anything by its own clock, and
//! to change a run without the lease token of the claim.

pub mod approvals;
pub mod control;
pub mod follow;
pub mod line;
pub mod lines;
pub mod look;
pub mod metadata;
pub mod names;
pub mod placeholders;
pub mod queue;
pub mod record;
pub mod request;
pub mod retention;
pub mod runners;
pub mod schema;
pub mod tokens;
pub mod troubles;
pub mod work;

use serde::Serialize;
use serde_json::Value;
use std::time::Duration;
use thiserror::Error;

/// What is wanted of a new run. Everything but the kind has a default.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    pub kind: String,
    pub input: Value,
    pub project_id: Option<String>,
    pub env_id: Option<String>,
    pub git_sha: Option<String>,
    pub git_ref: Option<String>,
    pub metadata: Value,
    /// 1 is the most urgent, 9 the least.
    pub priority: i16,
    /// Not before then; `None`: now.
    pub run_at: Option<jiff::Timestamp>,
    pub max_attempts: i32,
    /// Of all runs with the same key, one is under way.
    pub concurrency_key: Option<String>,
    /// Queued once, however often it is asked for.
    pub idempotency_key: Option<String>,
}

impl NewRun {
    pub fn of_kind(kind: impl Into<String>) -> NewRun {
        NewRun {
            kind: kind.into(),
            input: Value::Object(serde_json::Map::new()),
            project_id: None,
            env_id: None,
            git_sha: None,
            git_ref: None,
            metadata: Value::Object(serde_json::Map::new()),
            priority: 5,
            run_at: None,
            max_attempts: 3,
            concurrency_key: None,
            idempotency_key: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Queued {
    pub run_id: String,
    pub status: String,
    pub queued_at: jiff::Timestamp,
    /// False: the idempotency key was there already, and this is its run.
    pub is_new: bool,
}

/// A run that is ours until its lease runs out.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    pub run_id: String,
    pub kind: String,
    pub project_id: Option<String>,
    pub env_id: Option<String>,
    pub git_sha: Option<String>,
    pub git_ref: Option<String>,
    pub attempt: i32,
    pub max_attempts: i32,
    /// What every later word about this run must carry.
    pub lease_token: i64,
    pub input: Value,
    pub metadata: Value,
    /// From when it was due to the claim.
    pub waited: Duration,
    /// An earlier attempt left checkpoints.
    pub has_phases: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Success(Option<Value>),
    /// For good: another attempt would not help.
    Failed(String),
    /// Another attempt follows, while one is left.
    Retry(String),
    Cancelled(Option<String>),
}

impl Outcome {
    pub fn name(&self) -> &'static str {
        match self {
            Outcome::Success(_) => "success",
            Outcome::Failed(_) => "failed",
            Outcome::Retry(_) => "retry",
            Outcome::Cancelled(_) => "cancelled",
        }
    }
}

/// One attempt's end, as it is told to the database.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    pub run_id: String,
    pub lease_token: i64,
    pub outcome: Outcome,
}

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RunsError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Invalid(String),
    /// It is not in a state in which that is possible.
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Denied(String),
    /// Nothing is known of what came of it.
    #[error("the ops database: {0}")]
    Unavailable(String),
}

impl RunsError {
    /// Whether asking again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, RunsError::Unavailable(_))
    }

    /// The field of a request that is refused, by the sentences of `ops.environment_for`.
    pub fn field(&self) -> Option<&'static str> {
        let RunsError::Invalid(why) = self else { return None };
        let says = |begins: &str, then: &str| why.starts_with(begins) && why.contains(then);
        match () {
            () if says("Project ", " does not exist") => Some("project_id"),
            () if says("Environment ", " not found for project ") => Some("env"),
            () => None,
        }
    }
}

impl From<sqlx::Error> for RunsError {
    fn from(error: sqlx::Error) -> RunsError {
        let sqlx::Error::Database(error) = &error else {
            return RunsError::Unavailable(told(&error));
        };
        let code = error.code().unwrap_or_default();
        let message = match error.constraint() {
            // They are named as sentences.
            Some(name) => format!("{} ({})", name.replace('_', " "), error.message()),
            None => error.message().to_owned(),
        };
        match &*code {
            "P0002" => RunsError::NotFound(message),
            "23505" | "55000" => RunsError::Conflict(message),
            "42501" => RunsError::Denied(message),
            // Lost, shutting down, out of something, timed out, or a deadlock: not the caller's fault.
            code if ["08", "53", "57", "58", "40", "28", "XX", "3D"].iter().any(|class| code.starts_with(class)) => {
                RunsError::Unavailable(message)
            }
            // A server that follows another one since, or not yet.
            "25006" => RunsError::Unavailable(message),
            // Somebody holds the row for longer than we wait.
            "55P03" => RunsError::Unavailable(message),
            // No such table or function: the migrations have not been applied.
            "42P01" | "42883" | "3F000" => RunsError::Unavailable(format!("{message} (run `ops-controller migrate`)")),
            _ => RunsError::Invalid(message),
        }
    }
}

/// Without address and password.
pub fn told(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(e) if e.code().as_deref().is_some_and(|c| c.starts_with("28")) => {
            "it refused the user or password".to_owned()
        }
        sqlx::Error::Database(e) => e.message().to_owned(),
        sqlx::Error::Io(e) => e.to_string(),
        sqlx::Error::Tls(_) => "TLS could not be agreed on (sslmode)".to_owned(),
        sqlx::Error::PoolTimedOut => {
            "no connection to it in time: it does not answer, or all of ours are busy".to_owned()
        }
        // Shapes and protocol states; they hold no values of ours.
        other => {
            let mut text = other.to_string();
            if let Some((end, _)) = text.char_indices().nth(300) {
                text.truncate(end);
            }
            text
        }
    }
}
