//! The queue's verbs: each is one call of one function of the database.

use super::request::{BuildRequest, KindRequest};
use super::{Claimed, Ended, NewRun, Outcome, Queued};
use serde_json::Value;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use std::time::Duration;

/// Somebody who claims, as every claim names it.
#[derive(Debug, Clone)]
pub struct RunnerId(pub String);

pub async fn enqueue(c: &mut PgConnection, run: &NewRun) -> Result<Queued, sqlx::Error> {
    let row = sqlx::query(
        "select run_id, status, queued_at, is_new
         from ops.enqueue($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(&run.kind)
    .bind(&run.input)
    .bind(&run.project_id)
    .bind(&run.env_id)
    .bind(&run.git_sha)
    .bind(&run.git_ref)
    .bind(&run.metadata)
    .bind(i32::from(run.priority))
    .bind(run.run_at.map(jiff_sqlx::Timestamp::from))
    .bind(run.max_attempts)
    .bind(&run.concurrency_key)
    .bind(&run.idempotency_key)
    .fetch_one(c)
    .await?;
    queued(&row)
}

/// Queues a build in the project's environment of this type, as the documented `ops.queue_run` does; it
/// says besides whether the run is new.
pub async fn enqueue_build(c: &mut PgConnection, run: &BuildRequest, key: Option<&str>) -> Result<Queued, sqlx::Error> {
    let row = sqlx::query(
        "select q.run_id, q.status, q.queued_at, q.is_new
         from ops.environment_for($1, $2, 'run:create') as e,
              ops.enqueue('build', '{}', $1, e.env_id, $3, $4, $5, p_idempotency_key => $6,
                          p_event => jsonb_build_object('git_sha', $3, 'git_ref', $4, 'env', $2)) as q",
    )
    .bind(&run.project_id)
    .bind(&run.env)
    .bind(&run.git_sha)
    .bind(&run.git_ref)
    .bind(Value::Object(run.metadata.clone()))
    .bind(key)
    .fetch_one(c)
    .await?;
    queued(&row)
}

/// Queues a run of a kind, in the project's environment of this type when one is named.
pub async fn enqueue_kind(
    c: &mut PgConnection,
    request: KindRequest,
    key: Option<String>,
) -> Result<Queued, sqlx::Error> {
    let env = request.env.clone();
    let mut run = request.new_run(key);
    if let Some(project_id) = &run.project_id {
        // Should it go between the two statements, the second one is refused.
        let find = sqlx::query("select env_id from ops.environment_for($1, $2, 'run:create')");
        run.env_id = find.bind(project_id).bind(env).fetch_one(&mut *c).await?.try_get(0)?;
    }
    enqueue(c, &run).await
}

pub(super) fn queued(row: &PgRow) -> Result<Queued, sqlx::Error> {
    Ok(Queued {
        run_id: row.try_get("run_id")?,
        status: row.try_get("status")?,
        queued_at: row.try_get::<jiff_sqlx::Timestamp, _>("queued_at")?.to_jiff(),
        is_new: row.try_get("is_new")?,
    })
}

/// Up to `limit` runs of these kinds, the most urgent and oldest first.
pub async fn claim(
    c: &mut PgConnection,
    runner: &RunnerId,
    kinds: &[String],
    limit: usize,
    lease: Duration,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let rows = sqlx::query(
        "select run_id, kind, project_id, env_id, git_sha, git_ref, attempt, max_attempts, lease_token, input,
                metadata, waited_seconds, has_phases
         from ops.claim_runs($1, $2, $3, make_interval(secs => $4))",
    )
    .bind(&runner.0)
    .bind(kinds)
    .bind(i32::try_from(limit).unwrap_or(i32::MAX))
    .bind(lease.as_secs_f64())
    .fetch_all(c)
    .await?;
    rows.iter().map(claimed).collect()
}

fn claimed(row: &PgRow) -> Result<Claimed, sqlx::Error> {
    let waited: f64 = row.try_get(11)?;
    Ok(Claimed {
        run_id: row.try_get(0)?,
        kind: row.try_get(1)?,
        project_id: row.try_get(2)?,
        env_id: row.try_get(3)?,
        git_sha: row.try_get(4)?,
        git_ref: row.try_get(5)?,
        attempt: row.try_get(6)?,
        max_attempts: row.try_get(7)?,
        lease_token: row.try_get(8)?,
        input: row.try_get(9)?,
        metadata: row.try_get(10)?,
        waited: Duration::try_from_secs_f64(waited.max(0.0)).unwrap_or_default(),
        has_phases: row.try_get(12)?,
    })
}

/// Ends these attempts. Returns, of those that were still the caller's, the status that each has now.
pub async fn finish(c: &mut PgConnection, ended: &[Ended]) -> Result<Vec<(String, String)>, sqlx::Error> {
    let ids: Vec<&str> = ended.iter().map(|e| e.run_id.as_str()).collect();
    let tokens: Vec<i64> = ended.iter().map(|e| e.lease_token).collect();
    let outcomes: Vec<&str> = ended.iter().map(|e| e.outcome.name()).collect();
    let outputs: Vec<Option<&Value>> = ended
        .iter()
        .map(|e| match &e.outcome {
            Outcome::Success(output) => output.as_ref(),
            _ => None,
        })
        .collect();
    let errors: Vec<Option<&str>> = ended
        .iter()
        .map(|e| match &e.outcome {
            Outcome::Failed(error) | Outcome::Retry(error) => Some(error.as_str()),
            Outcome::Cancelled(reason) => reason.as_deref(),
            Outcome::Success(_) => None,
        })
        .collect();
    let rows = sqlx::query("select run_id, status from ops.finish_runs($1, $2, $3, $4, $5)")
        .bind(&ids)
        .bind(&tokens)
        .bind(&outcomes)
        .bind(&outputs)
        .bind(&errors)
        .fetch_all(c)
        .await?;
    pairs(&rows)
}

/// Keeps these leases. Returns those that are still the caller's, and whether each is to be cancelled.
pub async fn renew(
    c: &mut PgConnection,
    held: &[(String, i64)],
    lease: Duration,
) -> Result<Vec<(String, bool)>, sqlx::Error> {
    let (ids, tokens) = split(held);
    let rows = sqlx::query("select run_id, cancel_requested from ops.renew_runs($1, $2, make_interval(secs => $3))")
        .bind(&ids)
        .bind(&tokens)
        .bind(lease.as_secs_f64())
        .fetch_all(c)
        .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Gives them back without spending an attempt. Returns those that were still the caller's.
pub async fn hand_back(c: &mut PgConnection, held: &[(String, i64)]) -> Result<Vec<(String, String)>, sqlx::Error> {
    let (ids, tokens) = split(held);
    let rows = sqlx::query("select run_id, status from ops.hand_back_runs($1, $2)")
        .bind(&ids)
        .bind(&tokens)
        .fetch_all(c)
        .await?;
    pairs(&rows)
}

/// Frees runs whose holders were not heard of in time. Returns each with the status that it has now.
pub async fn rescue(c: &mut PgConnection, limit: i32) -> Result<Vec<(String, String)>, sqlx::Error> {
    let rows = sqlx::query("select run_id, status from ops.rescue_runs($1)").bind(limit).fetch_all(c).await?;
    pairs(&rows)
}

fn split(held: &[(String, i64)]) -> (Vec<&str>, Vec<i64>) {
    held.iter().map(|(id, token)| (id.as_str(), *token)).unzip()
}

fn pairs(rows: &[PgRow]) -> Result<Vec<(String, String)>, sqlx::Error> {
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// What the database says that this runner has.
pub async fn claimed_by(c: &mut PgConnection, runner: &RunnerId) -> Result<Vec<(String, i64)>, sqlx::Error> {
    let sql =
        "select run_id::text, lease_token from ops.runs where status in ('claimed', 'running') and claimed_by = $1";
    let rows = sqlx::query(sql).bind(&runner.0).fetch_all(c).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
