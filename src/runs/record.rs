//! What the holder of a run writes down: phases with their checkpoints, events, artifacts, and the
//! things outside that the run makes. Everything carries the lease token; what comes too late changes
//! nothing and says so.

use serde_json::Value;
use sqlx::Row;
use sqlx::postgres::PgConnection;

/// A claim, as every word about the run names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hold {
    pub run_id: String,
    pub lease_token: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// PostgreSQL keeps no NUL, neither in text nor in JSON: what others print may hold one.
pub fn storable_text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The document with all of its texts and names changed.
pub fn each_text(value: Value, change: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(&text)),
        Value::Array(all) => all.into_iter().map(|value| each_text(value, change)).collect(),
        Value::Object(all) => all.into_iter().map(|(name, value)| (change(&name), each_text(value, change))).collect(),
        other => other,
    }
}

/// How a phase ended.
#[derive(Debug, Clone, PartialEq)]
pub enum PhaseEnd {
    Success(Value),
    Failed(String),
    Cancelled(String),
}

/// False: the run is another's by now, and so in all that follow.
pub async fn begin_phase(c: &mut PgConnection, hold: &Hold, name: &str, ordinal: i32) -> Result<bool, sqlx::Error> {
    sqlx::query("select ops.begin_phase($1, $2, $3, $4)")
        .bind(&hold.run_id)
        .bind(hold.lease_token)
        .bind(name)
        .bind(ordinal)
        .fetch_one(c)
        .await?
        .try_get(0)
}

pub async fn end_phase(c: &mut PgConnection, hold: &Hold, name: &str, end: &PhaseEnd) -> Result<bool, sqlx::Error> {
    let (status, output, error) = match end {
        PhaseEnd::Success(output) => ("success", Some(output), None),
        PhaseEnd::Failed(error) => ("failed", None, Some(error)),
        PhaseEnd::Cancelled(reason) => ("cancelled", None, Some(reason)),
    };
    sqlx::query("select ops.end_phase($1, $2, $3, $4, $5, $6)")
        .bind(&hold.run_id)
        .bind(hold.lease_token)
        .bind(name)
        .bind(status)
        .bind(output)
        .bind(error)
        .fetch_one(c)
        .await?
        .try_get(0)
}

/// Who asked for the cancellation, and why, as far as they said.
pub async fn cancel_asked(c: &mut PgConnection, run_id: &str) -> Result<(Option<String>, Option<String>), sqlx::Error> {
    let sql = "select e.payload ->> 'actor', e.payload ->> 'reason'
               from ops.runs r join ops.run_events e on e.run_id = r.run_id and e.created_at >= r.cancel_requested_at
               where r.run_id = $1 and e.payload ? 'actor' order by e.seq limit 1";
    let Some(row) = sqlx::query(sql).bind(run_id).fetch_optional(c).await? else { return Ok((None, None)) };
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Phases that earlier attempts completed, with what each left behind.
pub async fn checkpoints(c: &mut PgConnection, run_id: &str) -> Result<Vec<(String, Value)>, sqlx::Error> {
    let sql = "select name, coalesce(output, 'null') from ops.run_phases where run_id = $1 and status = 'success'
               order by ordinal";
    let rows = sqlx::query(sql).bind(run_id).fetch_all(c).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

pub async fn event(
    c: &mut PgConnection,
    hold: &Hold,
    level: Level,
    message: &str,
    payload: &Value,
    phase: Option<&str>,
) -> Result<bool, sqlx::Error> {
    let id: Option<String> = sqlx::query("select ops.note_event($1, $2, $3, $4, $5, $6)")
        .bind(&hold.run_id)
        .bind(hold.lease_token)
        .bind(level.name())
        .bind(message)
        .bind(payload)
        .bind(phase)
        .fetch_one(c)
        .await?
        .try_get(0)?;
    Ok(id.is_some())
}

/// Something that a run leaves behind, after it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewArtifact {
    /// One of a run has one key: what is captured again replaces what was.
    pub key: String,
    /// image, sbom, logs, evidence, manifest, backup, other
    pub artifact_type: &'static str,
    pub storage_path: String,
    /// In which store, as that names itself.
    pub store: Option<String>,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
    pub size_bytes: Option<i64>,
    pub content_type: Option<String>,
    pub expires_in_days: Option<i32>,
}

pub async fn artifact(c: &mut PgConnection, hold: &Hold, artifact: &NewArtifact) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "insert into ops.artifacts as a (run_id, artifact_key, artifact_type, storage_path, digest, size_bytes,
                                         content_type, expires_at, store)
         select r.run_id, $3, $4, $5, $6, $7, $8, now() + make_interval(days => $9), $10
         from ops.runs r
         where r.run_id = $1 and r.lease_token = $2 and r.status in ('claimed', 'running')
         on conflict (run_id, artifact_key) do update
         set artifact_type = excluded.artifact_type, storage_path = excluded.storage_path, digest = excluded.digest,
             size_bytes = excluded.size_bytes, content_type = excluded.content_type, expires_at = excluded.expires_at,
             store = excluded.store",
    )
    .bind(&hold.run_id)
    .bind(hold.lease_token)
    .bind(&artifact.key)
    .bind(artifact.artifact_type)
    .bind(&artifact.storage_path)
    .bind(&artifact.digest)
    .bind(artifact.size_bytes)
    .bind(&artifact.content_type)
    .bind(artifact.expires_in_days)
    .bind(&artifact.store)
    .execute(c)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A thing outside, by the name under which it is found again.
#[derive(Debug, Clone, Copy)]
pub struct ResourceName<'a> {
    pub provider: &'a str,
    pub kind: &'a str,
    pub name: &'a str,
}

/// What is known of a thing outside.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    pub resource_id: i64,
    /// intended, live, failed, deleting
    pub status: String,
    pub external_id: Option<String>,
    /// What was written down when it was first meant.
    pub desired: Value,
    /// False: somebody meant to make it before, so look for it first.
    pub is_new: bool,
}

/// Written before the call that makes the thing. `None`: the run is another's by now.
pub async fn intend(
    c: &mut PgConnection,
    hold: &Hold,
    name: ResourceName<'_>,
    desired: &Value,
) -> Result<Option<Resource>, sqlx::Error> {
    let row = sqlx::query(
        "with held as (
             select r.run_id from ops.runs r
             where r.run_id = $1 and r.lease_token = $2 and r.status in ('claimed', 'running')
         ), made as (
             insert into ops.resources (provider, type, name, run_id, desired)
             select $3, $4, $5, held.run_id, $6 from held
             on conflict (provider, type, name) where status in ('intended', 'live', 'deleting') do nothing
             returning resource_id, status, external_id, desired
         )
         select resource_id, status, external_id, desired, true from made
         union all
         select s.resource_id, s.status, s.external_id, s.desired, false
         from ops.resources s, held
         where s.provider = $3 and s.type = $4 and s.name = $5 and s.status in ('intended', 'live', 'deleting')
           and not exists (select from made)",
    )
    .bind(&hold.run_id)
    .bind(hold.lease_token)
    .bind(name.provider)
    .bind(name.kind)
    .bind(name.name)
    .bind(desired)
    .fetch_optional(c)
    .await?;
    row.map(|row| {
        Ok(Resource {
            resource_id: row.try_get(0)?,
            status: row.try_get(1)?,
            external_id: row.try_get(2)?,
            desired: row.try_get(3)?,
            is_new: row.try_get(4)?,
        })
    })
    .transpose()
}

/// What came of it. `status`: live (needs an external id) or failed.
pub async fn settle(
    c: &mut PgConnection,
    hold: &Hold,
    resource_id: i64,
    status: &str,
    external_id: Option<&str>,
    observed: &Value,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "update ops.resources
         set status = $2, external_id = coalesce($3, external_id), observed = observed || $4, updated_at = now()
         where resource_id = $1 and status <> 'deleted'
           and exists (select from ops.runs r
                       where r.run_id = $5 and r.lease_token = $6 and r.lease_expires_at is not null)",
    )
    .bind(resource_id)
    .bind(status)
    .bind(external_id)
    .bind(observed)
    .bind(&hold.run_id)
    .bind(hold.lease_token)
    .execute(c)
    .await?;
    Ok(done.rows_affected() == 1)
}
