//! Who claims, as it is shown, and which kinds somebody knows.

use super::control::GONE_AFTER_SECONDS;
use super::look::{at, maybe_at};
use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use utoipa::ToSchema;

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Runner {
    pub runner_id: String,
    /// What people call it; its id has a word more for each start.
    pub worker_id: String,
    pub hostname: String,
    pub pid: i32,
    pub kinds: Vec<String>,
    /// Runs at once.
    pub concurrency: i32,
    pub version: String,
    pub started_at: jiff::Timestamp,
    pub last_seen: jiff::Timestamp,
    /// Null: it works, or it went without a word.
    pub stopped_at: Option<jiff::Timestamp>,
    /// It has not said that it stops, and was heard of within two minutes.
    pub is_alive: bool,
    /// Attempts that it brought to an end.
    pub processed: i64,
}

/// Of the last day, who was heard of last first.
pub async fn list(c: &mut PgConnection) -> Result<Vec<Runner>, sqlx::Error> {
    let rows = sqlx::query(
        "select runner_id, worker_id, hostname, pid, kinds, concurrency, version, started_at, last_seen, stopped_at,
                processed, stopped_at is null and last_seen > now() - make_interval(secs => $1)
         from ops.runners where last_seen > now() - interval '1 day' order by last_seen desc, runner_id limit 500",
    )
    .bind(GONE_AFTER_SECONDS)
    .fetch_all(c)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Runner {
                runner_id: row.try_get(0)?,
                worker_id: row.try_get(1)?,
                hostname: row.try_get(2)?,
                pid: row.try_get(3)?,
                kinds: row.try_get(4)?,
                concurrency: row.try_get(5)?,
                version: row.try_get(6)?,
                started_at: at(row, 7)?,
                last_seen: at(row, 8)?,
                stopped_at: maybe_at(row, 9)?,
                processed: row.try_get(10)?,
                is_alive: row.try_get(11)?,
            })
        })
        .collect()
}

/// Kinds that runners of the last day know, and those that are paused.
pub async fn kinds(c: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    let sql = "select unnest(kinds) from ops.runners where last_seen > now() - interval '1 day'
               union select kind from ops.paused_kinds order by 1";
    let rows = sqlx::query(sql).fetch_all(c).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// What is said of a kind when no living runner works on it; `None`: one does. Workers that claim by
/// `ops.claim_next_run` do not say that they are there.
pub async fn nobody_on(c: &mut PgConnection, kind: &str) -> Result<Option<String>, sqlx::Error> {
    let sql = "select exists (select from ops.runners where stopped_at is null and $1 = any (kinds)
                                and last_seen > now() - make_interval(secs => $2))";
    let row = sqlx::query(sql).bind(kind).bind(GONE_AFTER_SECONDS).fetch_one(c).await?;
    let somebody: bool = row.try_get(0)?;
    Ok((!somebody).then(|| nobody(kind)))
}

pub fn nobody(kind: &str) -> String {
    format!("no living runner works on {kind}")
}
