//! What is past its time: looks at it, and the deeds, each one short statement. What may go is decided by the
//! database (`migrations/0009_retention.sql`).

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use std::collections::BTreeMap;

/// The last one of the page before, in the order of its list.
#[derive(Debug, Clone)]
pub struct After {
    pub at: String,
    pub id: String,
}

impl After {
    pub fn nothing() -> After {
        After { at: "-infinity".to_owned(), id: String::new() }
    }
}

/// A run that finished longer ago than runs are kept.
#[derive(Debug, Clone)]
pub struct PastRun {
    pub run_id: String,
    pub finished_at: String,
    /// Why it stays nevertheless.
    pub kept_for: Option<String>,
}

#[derive(Debug, Clone)]
pub struct PastArtifact {
    pub artifact_id: String,
    pub run_id: String,
    pub project_id: Option<String>,
    pub env_id: Option<String>,
    pub key: String,
    pub path: String,
    /// `None`: who recorded it did not say.
    pub store: Option<String>,
    pub expires_at: Option<String>,
    pub has_expired: bool,
    pub kept_for: Option<String>,
}

/// Which artifacts are asked for.
#[derive(Debug, Clone, Copy)]
pub enum Of<'a> {
    Expired(&'a After),
    /// All of these runs, after this artifact.
    Runs(&'a [String], &'a str),
}

#[derive(Debug, Clone)]
pub struct PastBackup {
    pub backup_id: String,
    pub project_id: String,
    pub env_id: String,
    pub run_id: Option<String>,
    /// success, failed, cancelled; else it is kept.
    pub status: String,
    pub path: String,
    pub store: Option<String>,
    /// Its dump is gone; the row is left.
    pub is_deleted: bool,
    pub kept_for: Option<String>,
}

/// False: somebody else is at it. Given back with the connection.
pub async fn begin(c: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let sql = "select pg_try_advisory_lock(hashtextextended('ops.retention', 0))";
    sqlx::query(sql).fetch_one(c).await?.try_get(0)
}

/// So that who comes next need not wait for the server to notice that the connection is closed.
pub async fn end(c: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_unlock(hashtextextended('ops.retention', 0))").execute(c).await.map(drop)
}

/// What nobody decided in time is marked so, and what waited for it is cancelled.
pub async fn expire_approvals(c: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("select ops.expire_approvals()").execute(c).await.map(drop)
}

pub async fn delete_events(c: &mut PgConnection, days: i32, limit: i32) -> Result<i64, sqlx::Error> {
    let query = sqlx::query("select ops.cleanup_some_events($1, $2)::int8").bind(days).bind(limit);
    query.fetch_one(c).await?.try_get(0)
}

/// Of finished runs, and older than that.
pub async fn count_events(c: &mut PgConnection, days: i32) -> Result<i64, sqlx::Error> {
    let sql = "select count(*) from ops.run_events e join ops.runs r on r.run_id = e.run_id
               where r.finished_at is not null and e.created_at < now() - make_interval(days => $1)";
    sqlx::query(sql).bind(days).fetch_one(c).await?.try_get(0)
}

/// Of these runs, and not older than that.
pub async fn count_later_events(c: &mut PgConnection, run_ids: &[String], days: i32) -> Result<i64, sqlx::Error> {
    let sql = "select count(*) from ops.run_events
               where run_id = any($1) and created_at >= now() - make_interval(days => $2)";
    sqlx::query(sql).bind(run_ids).bind(days).fetch_one(c).await?.try_get(0)
}

pub async fn runs(c: &mut PgConnection, days: i32, after: &After, limit: i32) -> Result<Vec<PastRun>, sqlx::Error> {
    let sql = "select run_id, finished_at::text, kept_for from ops.runs_past($1, $2::timestamptz, $3, $4)";
    let rows = sqlx::query(sql).bind(days).bind(&after.at).bind(&after.id).bind(limit).fetch_all(c).await?;
    let run =
        |row: &PgRow| Ok(PastRun { run_id: row.try_get(0)?, finished_at: row.try_get(1)?, kept_for: row.try_get(2)? });
    rows.iter().map(run).collect()
}

/// Returns how many runs went, and how many events. As long as the events are all of `limit`, there is more.
pub async fn delete_runs(
    c: &mut PgConnection,
    run_ids: &[String],
    days: i32,
    limit: i32,
) -> Result<(i64, i64), sqlx::Error> {
    let query = sqlx::query("select runs, events from ops.prune_runs($1, $2, $3)").bind(run_ids).bind(days).bind(limit);
    let row = query.fetch_one(c).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

pub async fn artifacts(
    c: &mut PgConnection,
    days: i32,
    of: Of<'_>,
    limit: i32,
) -> Result<Vec<PastArtifact>, sqlx::Error> {
    let (run_ids, at, id) = match of {
        Of::Expired(after) => (None, &*after.at, &*after.id),
        Of::Runs(ids, after) => (Some(ids), "-infinity", after),
    };
    let rows = sqlx::query(
        "select artifact_id, run_id, project_id, env_id, artifact_key, storage_path, store, expires_at::text, kept_for,
                coalesce(expires_at <= now(), false)
         from ops.artifacts_past($1, $2, $3::timestamptz, $4, $5)",
    )
    .bind(days)
    .bind(run_ids)
    .bind(at)
    .bind(id)
    .bind(limit)
    .fetch_all(c)
    .await?;
    let artifact = |row: &PgRow| {
        Ok(PastArtifact {
            artifact_id: row.try_get(0)?,
            run_id: row.try_get(1)?,
            project_id: row.try_get(2)?,
            env_id: row.try_get(3)?,
            key: row.try_get(4)?,
            path: row.try_get(5)?,
            store: row.try_get(6)?,
            expires_at: row.try_get(7)?,
            kept_for: row.try_get(8)?,
            has_expired: row.try_get(9)?,
        })
    };
    rows.iter().map(artifact).collect()
}

/// Those that may still go, held until the end of the transaction.
pub async fn hold_artifacts(c: &mut PgConnection, ids: &[String], days: i32) -> Result<Vec<String>, sqlx::Error> {
    let rows = sqlx::query("select ops.hold_artifacts($1, $2)").bind(ids).bind(days).fetch_all(c).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Of those that are held.
pub async fn delete_artifacts(c: &mut PgConnection, ids: &[String]) -> Result<i64, sqlx::Error> {
    sqlx::query("select ops.prune_artifacts($1)").bind(ids).fetch_one(c).await?.try_get(0)
}

/// `days`: as runs; what was never made goes as they do.
pub async fn backups(c: &mut PgConnection, days: i32, after: &str, limit: i32) -> Result<Vec<PastBackup>, sqlx::Error> {
    let sql = "select backup_id, project_id, env_id, run_id, status, db_dump_path, store, is_deleted, kept_for
               from ops.backups_past($1, $2, $3)";
    let rows = sqlx::query(sql).bind(days).bind(after).bind(limit).fetch_all(c).await?;
    let backup = |row: &PgRow| {
        Ok(PastBackup {
            backup_id: row.try_get(0)?,
            project_id: row.try_get(1)?,
            env_id: row.try_get(2)?,
            run_id: row.try_get(3)?,
            status: row.try_get(4)?,
            path: row.try_get(5)?,
            store: row.try_get(6)?,
            is_deleted: row.try_get(7)?,
            kept_for: row.try_get(8)?,
        })
    };
    rows.iter().map(backup).collect()
}

/// False: it must stay. True: held until the end of the transaction.
pub async fn hold_backup(c: &mut PgConnection, id: &str, days: i32) -> Result<bool, sqlx::Error> {
    sqlx::query("select ops.hold_backup($1, $2)").bind(id).bind(days).fetch_one(c).await?.try_get(0)
}

/// Its dump is gone; the row stays, marked, as long as a restore names it.
pub async fn delete_backup(c: &mut PgConnection, id: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select ops.prune_backup($1)").bind(id).execute(c).await.map(drop)
}

/// How much history there is to go, by its sort.
pub async fn count_history(c: &mut PgConnection, days: i32) -> Result<Vec<(String, i64)>, sqlx::Error> {
    let sql = "select sort, count(*) from ops.history_past($1) group by sort";
    let rows = sqlx::query(sql).bind(days).fetch_all(c).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Some of it, at most `limit` of each sort. Empty: there is no more.
pub async fn delete_history(c: &mut PgConnection, days: i32, limit: i32) -> Result<Vec<(String, i64)>, sqlx::Error> {
    let sql = "select sort, gone from ops.prune_history($1, $2)";
    let rows = sqlx::query(sql).bind(days).bind(limit).fetch_all(c).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Those of these runs of which something is left in a store.
pub async fn stuck(c: &mut PgConnection, run_ids: &[String]) -> Result<Vec<String>, sqlx::Error> {
    let sql = "select distinct run_id::text from ops.artifacts where run_id = any($1) order by 1";
    let rows = sqlx::query(sql).bind(run_ids).fetch_all(c).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// A person had it done at once.
pub async fn note(c: &mut PgConnection, actor: &str, gone: &BTreeMap<String, u64>) -> Result<(), sqlx::Error> {
    let sql = "insert into ops.audit_log (actor, action, details) values ($1, 'runs.pruned', $2)";
    sqlx::query(sql).bind(actor).bind(serde_json::json!(gone)).execute(c).await.map(drop)
}
