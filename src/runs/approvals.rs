//! Approvals, and the backups that they are about: what is there, and a person's decision.

use super::look::{at, maybe_at};
use serde::Serialize;
use serde_json::Value;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

/// What must be allowed by a second person before it is done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Approval {
    pub approval_id: String,
    /// deploy_prod, restore_prod, upgrade_prod
    pub approval_type: String,
    /// What waits for it.
    pub resource_id: String,
    pub project_id: Option<String>,
    pub requested_by: String,
    /// pending, approved, denied, expired
    pub status: String,
    pub requested_at: jiff::Timestamp,
    pub reviewed_by: Option<String>,
    pub reviewed_at: Option<jiff::Timestamp>,
    pub reason: Option<String>,
    /// Until when it can be given; once given, until when it stands.
    pub expires_at: jiff::Timestamp,
    pub metadata: Value,
}

fn approval(row: &PgRow) -> Result<Approval, sqlx::Error> {
    Ok(Approval {
        approval_id: row.try_get(0)?,
        approval_type: row.try_get(1)?,
        resource_id: row.try_get(2)?,
        project_id: row.try_get(3)?,
        requested_by: row.try_get(4)?,
        status: row.try_get(5)?,
        requested_at: at(row, 6)?,
        reviewed_by: row.try_get(7)?,
        reviewed_at: maybe_at(row, 8)?,
        reason: row.try_get(9)?,
        expires_at: at(row, 10)?,
        metadata: row.try_get(11)?,
    })
}

/// The newest first; those that wait for a decision, or all. What ran out is told as `expired` before it
/// is marked so.
pub async fn list(c: &mut PgConnection, all: bool, limit: i64) -> Result<Vec<Approval>, sqlx::Error> {
    let rows = sqlx::query(
        "select approval_id, approval_type, resource_id, project_id, requested_by,
                case when status = 'pending' and expires_at <= now() then 'expired' else status end,
                requested_at, reviewed_by, reviewed_at, reason, expires_at, metadata::jsonb
         from ops.approvals where $1 or (status = 'pending' and expires_at > now())
         order by requested_at desc, approval_id limit $2",
    )
    .bind(all)
    .bind(limit)
    .fetch_all(c)
    .await?;
    rows.iter().map(approval).collect()
}

/// A person's word on an approval.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    pub approval_id: &'a str,
    pub by: &'a str,
    pub approve: bool,
    pub reason: Option<&'a str>,
}

/// Returns the status that it has now: `expired` where the decision came too late.
pub async fn decide(c: &mut PgConnection, decision: Decision<'_>) -> Result<String, sqlx::Error> {
    sqlx::query("select ops.decide_approval($1, $2, $3, $4)")
        .bind(decision.approval_id)
        .bind(decision.by)
        .bind(decision.approve)
        .bind(decision.reason)
        .fetch_one(c)
        .await?
        .try_get(0)
}

/// A dump of an environment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backup {
    pub backup_id: String,
    pub project_id: String,
    pub env_id: String,
    /// daily, weekly, monthly, manual
    pub backup_type: String,
    /// pending, running, success, failed, cancelled
    pub status: String,
    /// `pending` until it lies somewhere.
    pub db_dump_path: String,
    pub size_bytes: Option<i64>,
    pub digest: Option<String>,
    pub run_id: Option<String>,
    pub error: Option<String>,
    pub created_at: jiff::Timestamp,
    pub finished_at: Option<jiff::Timestamp>,
    /// Null: kept until somebody deletes it.
    pub expires_at: Option<jiff::Timestamp>,
    /// Since then the row alone is left, because a restore names it.
    pub dump_deleted_at: Option<jiff::Timestamp>,
}

/// The newest first; of one environment, or of all.
pub async fn backups(c: &mut PgConnection, env_id: Option<&str>, limit: i64) -> Result<Vec<Backup>, sqlx::Error> {
    let rows = sqlx::query(
        "select backup_id, project_id, env_id, backup_type, status, db_dump_path, size_bytes, digest, run_id::text,
                error, created_at, finished_at, expires_at, dump_deleted_at
         from ops.backups where $1::text is null or env_id = $1
         order by created_at desc, backup_id limit $2",
    )
    .bind(env_id)
    .bind(limit)
    .fetch_all(c)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Backup {
                backup_id: row.try_get(0)?,
                project_id: row.try_get(1)?,
                env_id: row.try_get(2)?,
                backup_type: row.try_get(3)?,
                status: row.try_get(4)?,
                db_dump_path: row.try_get(5)?,
                size_bytes: row.try_get(6)?,
                digest: row.try_get(7)?,
                run_id: row.try_get(8)?,
                error: row.try_get(9)?,
                created_at: at(row, 10)?,
                finished_at: maybe_at(row, 11)?,
                expires_at: maybe_at(row, 12)?,
                dump_deleted_at: maybe_at(row, 13)?,
            })
        })
        .collect()
}
