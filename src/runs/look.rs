//! Reading: lists and single runs with everything that belongs to them. Shapes are those of the API.

use serde::Serialize;
use serde_json::Value;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use utoipa::ToSchema;

/// A run as lists show it: without the documents that it carries, which may be a megabyte each.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RunSummary {
    pub run_id: String,
    pub kind: String,
    pub project_id: Option<String>,
    pub env_id: Option<String>,
    pub git_sha: Option<String>,
    pub git_ref: Option<String>,
    /// queued, claimed, running, success, failed, cancelled
    pub status: String,
    pub priority: i16,
    pub run_at: jiff::Timestamp,
    pub claimed_by: Option<String>,
    pub lease_expires_at: Option<jiff::Timestamp>,
    pub attempt: i32,
    pub max_attempts: i32,
    pub concurrency_key: Option<String>,
    pub idempotency_key: Option<String>,
    /// The phase that was begun last.
    pub last_phase: Option<String>,
    /// Of a failed run, the phase that failed.
    pub failed_phase: Option<String>,
    pub cancel_requested_at: Option<jiff::Timestamp>,
    /// In a list its beginning alone.
    pub error: Option<String>,
    pub queued_at: jiff::Timestamp,
    pub started_at: Option<jiff::Timestamp>,
    pub finished_at: Option<jiff::Timestamp>,
}

/// A run with everything in it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Run {
    #[serde(flatten)]
    pub summary: RunSummary,
    pub input: Value,
    pub output: Option<Value>,
    pub metadata: Value,
}

/// A run is its summary and more.
impl std::ops::Deref for Run {
    type Target = RunSummary;

    fn deref(&self) -> &RunSummary {
        &self.summary
    }
}

impl RunSummary {
    pub fn is_finished(&self) -> bool {
        self.finished_at.is_some()
    }
}

const SUMMARY: &str = "run_id::text, kind::text, project_id, env_id, git_sha, git_ref, status, priority, run_at,
    claimed_by, lease_expires_at, attempt, max_attempts, concurrency_key, idempotency_key, last_phase,
    cancel_requested_at, queued_at, started_at, finished_at,
    case when status = 'failed' then
        (select p.name from ops.run_phases p
         where p.run_id = runs.run_id and p.status = 'failed' order by p.ordinal limit 1)
    end";
/// Of an error, in a list.
const LIST_ERROR: i32 = 2000;

pub(super) fn at(row: &PgRow, index: usize) -> Result<jiff::Timestamp, sqlx::Error> {
    Ok(row.try_get::<jiff_sqlx::Timestamp, _>(index)?.to_jiff())
}

pub(super) fn maybe_at(row: &PgRow, index: usize) -> Result<Option<jiff::Timestamp>, sqlx::Error> {
    Ok(row.try_get::<Option<jiff_sqlx::Timestamp>, _>(index)?.map(jiff_sqlx::Timestamp::to_jiff))
}

fn summary(row: &PgRow) -> Result<RunSummary, sqlx::Error> {
    Ok(RunSummary {
        run_id: row.try_get(0)?,
        kind: row.try_get(1)?,
        project_id: row.try_get(2)?,
        env_id: row.try_get(3)?,
        git_sha: row.try_get(4)?,
        git_ref: row.try_get(5)?,
        status: row.try_get(6)?,
        priority: row.try_get(7)?,
        run_at: at(row, 8)?,
        claimed_by: row.try_get(9)?,
        lease_expires_at: maybe_at(row, 10)?,
        attempt: row.try_get(11)?,
        max_attempts: row.try_get(12)?,
        concurrency_key: row.try_get(13)?,
        idempotency_key: row.try_get(14)?,
        last_phase: row.try_get(15)?,
        cancel_requested_at: maybe_at(row, 16)?,
        queued_at: at(row, 17)?,
        started_at: maybe_at(row, 18)?,
        finished_at: maybe_at(row, 19)?,
        failed_phase: row.try_get(20)?,
        error: row.try_get(21)?,
    })
}

/// Which runs; everything that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub status: Vec<String>,
    pub kind: Option<String>,
    pub project_id: Option<String>,
    pub env_id: Option<String>,
    /// Only those before this run: the `next` of the page before.
    pub before: Option<String>,
}

/// A page of runs, the newest first: ids that this database made grow with time.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Page {
    pub runs: Vec<RunSummary>,
    /// Give it as `before` for the next page; null: this was the last.
    pub next: Option<String>,
}

pub async fn list(c: &mut PgConnection, filter: &Filter, limit: i64) -> Result<Page, sqlx::Error> {
    let sql = format!(
        "select {SUMMARY}, left(error, {LIST_ERROR}) from ops.runs
         where ($1::text[] = '{{}}' or status = any($1)) and ($2::text is null or kind = $2)
           and ($3::text is null or project_id = $3) and ($4::text is null or env_id = $4)
           and ($5::text is null or run_id < $5)
         order by run_id desc
         limit $6"
    );
    let mut rows = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(&filter.status)
        .bind(&filter.kind)
        .bind(&filter.project_id)
        .bind(&filter.env_id)
        .bind(&filter.before)
        .bind(limit.saturating_add(1))
        .fetch_all(c)
        .await?;
    let is_more = i64::try_from(rows.len()).is_ok_and(|n| n > limit);
    if is_more {
        rows.pop();
    }
    let next = match rows.last() {
        Some(last) if is_more => Some(last.try_get(0)?),
        _ => None,
    };
    Ok(Page { runs: rows.iter().map(summary).collect::<Result<_, _>>()?, next })
}

/// `None`: there is no such run.
pub async fn get(c: &mut PgConnection, run_id: &str) -> Result<Option<Run>, sqlx::Error> {
    let sql = format!(
        "select {SUMMARY}, error, input::jsonb, output::jsonb, metadata::jsonb from ops.runs where run_id = $1"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(run_id).fetch_optional(c).await?;
    let whole = |row: PgRow| {
        Ok(Run {
            summary: summary(&row)?,
            input: row.try_get(22)?,
            output: row.try_get(23)?,
            metadata: row.try_get(24)?,
        })
    };
    row.map(whole).transpose()
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Event {
    pub event_id: String,
    /// Grows within a run; give it as `after` to go on from here.
    pub seq: i64,
    pub run_id: String,
    pub created_at: jiff::Timestamp,
    /// debug, info, warn, error
    pub level: String,
    pub message: String,
    pub payload: Value,
    pub phase: Option<String>,
    pub attempt: Option<i32>,
}

const EVENT: &str = "event_id, seq, run_id::text, created_at, level::text, message, payload::jsonb, phase, attempt";

fn event(row: &PgRow) -> Result<Event, sqlx::Error> {
    Ok(Event {
        event_id: row.try_get(0)?,
        seq: row.try_get(1)?,
        run_id: row.try_get(2)?,
        created_at: at(row, 3)?,
        level: row.try_get(4)?,
        message: row.try_get(5)?,
        payload: row.try_get(6)?,
        phase: row.try_get(7)?,
        attempt: row.try_get(8)?,
    })
}

/// Some events of a run, in order.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Events {
    pub events: Vec<Event>,
    /// Give it as `after` for the next page; null: there are no more for now.
    pub next: Option<i64>,
}

/// Of a page of events, whatever their number; the one that reaches it is still given.
const PAGE_BYTES: i64 = 1 << 20;

/// Events of a run after this one, the oldest first: at most so many, and fewer where they are large.
pub async fn events(c: &mut PgConnection, run_id: &str, after: i64, limit: i64) -> Result<Events, sqlx::Error> {
    // One more than asked for says whether there are more.
    let sql = format!(
        "select {EVENT}, found
         from (select e.*, count(*) over () as found, row_number() over (order by seq) as place,
                      coalesce(sum(octet_length(message) + octet_length(payload::text))
                               over (order by seq rows between unbounded preceding and 1 preceding), 0) as before
               from (select * from ops.run_events where run_id = $1 and seq > $2 order by seq limit $3 + 1) as e
              ) as page
         where place <= $3 and before < {PAGE_BYTES}
         order by seq"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(run_id).bind(after).bind(limit);
    let rows = query.fetch_all(c).await?;
    let found: i64 = rows.first().map_or(Ok(0), |row| row.try_get(9))?;
    let events = rows.iter().map(event).collect::<Result<Vec<_>, _>>()?;
    let is_more = i64::try_from(events.len()).is_ok_and(|n| n < found);
    let next = events.last().filter(|_| is_more).map(|event| event.seq);
    Ok(Events { events, next })
}

/// The last events of a run, the oldest of them first.
pub async fn last_events(c: &mut PgConnection, run_id: &str, limit: i64) -> Result<Vec<Event>, sqlx::Error> {
    let sql = format!("select {EVENT} from ops.run_events where run_id = $1 order by seq desc limit $2");
    let rows = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(run_id).bind(limit).fetch_all(c).await?;
    rows.iter().rev().map(event).collect()
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Phase {
    pub name: String,
    pub ordinal: i32,
    /// running, success, failed, cancelled, skipped
    pub status: String,
    pub attempt: i32,
    /// How often it was begun.
    pub tries: i32,
    pub output: Option<Value>,
    pub error: Option<String>,
    pub started_at: jiff::Timestamp,
    pub finished_at: Option<jiff::Timestamp>,
}

pub async fn phases(c: &mut PgConnection, run_id: &str) -> Result<Vec<Phase>, sqlx::Error> {
    let rows = sqlx::query(
        "select name, ordinal, status, attempt, tries, output::jsonb, error, started_at, finished_at
         from ops.run_phases where run_id = $1 order by ordinal, name",
    )
    .bind(run_id)
    .fetch_all(c)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Phase {
                name: row.try_get(0)?,
                ordinal: row.try_get(1)?,
                status: row.try_get(2)?,
                attempt: row.try_get(3)?,
                tries: row.try_get(4)?,
                output: row.try_get(5)?,
                error: row.try_get(6)?,
                started_at: at(row, 7)?,
                finished_at: maybe_at(row, 8)?,
            })
        })
        .collect()
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Attempt {
    pub attempt: i32,
    pub runner_id: String,
    pub started_at: jiff::Timestamp,
    /// Null: it is under way.
    pub finished_at: Option<jiff::Timestamp>,
    /// success, failed, cancelled, retry, lost, handed_back, reset; null: it is under way
    pub outcome: Option<String>,
    pub error: Option<String>,
}

pub async fn attempts(c: &mut PgConnection, run_id: &str) -> Result<Vec<Attempt>, sqlx::Error> {
    let rows = sqlx::query(
        "select attempt, runner_id, started_at, finished_at, outcome, error
         from ops.run_attempts where run_id = $1 order by lease_token",
    )
    .bind(run_id)
    .fetch_all(c)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Attempt {
                attempt: row.try_get(0)?,
                runner_id: row.try_get(1)?,
                started_at: at(row, 2)?,
                finished_at: maybe_at(row, 3)?,
                outcome: row.try_get(4)?,
                error: row.try_get(5)?,
            })
        })
        .collect()
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Artifact {
    pub artifact_id: String,
    pub artifact_key: String,
    /// image, sbom, logs, evidence, manifest, backup, other
    pub artifact_type: String,
    pub storage_path: String,
    pub digest: Option<String>,
    pub size_bytes: Option<i64>,
    pub content_type: Option<String>,
    pub expires_at: Option<jiff::Timestamp>,
    pub created_at: jiff::Timestamp,
    pub metadata: Value,
}

pub async fn artifacts(c: &mut PgConnection, run_id: &str) -> Result<Vec<Artifact>, sqlx::Error> {
    let rows = sqlx::query(
        "select artifact_id, artifact_key, artifact_type, storage_path, digest, size_bytes, content_type, expires_at,
                created_at, metadata
         from ops.artifacts where run_id = $1 order by artifact_key",
    )
    .bind(run_id)
    .fetch_all(c)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Artifact {
                artifact_id: row.try_get(0)?,
                artifact_key: row.try_get(1)?,
                artifact_type: row.try_get(2)?,
                storage_path: row.try_get(3)?,
                digest: row.try_get(4)?,
                size_bytes: row.try_get(5)?,
                content_type: row.try_get(6)?,
                expires_at: maybe_at(row, 7)?,
                created_at: at(row, 8)?,
                metadata: row.try_get(9)?,
            })
        })
        .collect()
}
