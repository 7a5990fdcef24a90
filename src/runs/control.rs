//! What people and runners do around the runs: cancel, queue again, pause a kind; say who is there,
//! and who listens; look how deep the queue is.

use serde::Serialize;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use std::time::Duration;

/// Somebody who does something that others may ask about.
#[derive(Debug, Clone, Copy)]
pub struct Actor<'a>(pub &'a str);

/// Returns the status that the run has now: `cancelled`, or what it was when it has only been told.
pub async fn cancel(
    c: &mut PgConnection,
    run_id: &str,
    actor: Actor<'_>,
    reason: Option<&str>,
) -> Result<String, sqlx::Error> {
    let query = sqlx::query("select ops.cancel_run($1, $2, $3)").bind(run_id).bind(actor.0).bind(reason);
    query.fetch_one(c).await?.try_get(0)
}

/// Queues a failed or cancelled run again, after the phases that it has completed.
pub async fn requeue(c: &mut PgConnection, run_id: &str, actor: Actor<'_>) -> Result<String, sqlx::Error> {
    sqlx::query("select ops.requeue_run($1, $2)").bind(run_id).bind(actor.0).fetch_one(c).await?.try_get(0)
}

/// False: it was paused already.
pub async fn pause_kind(
    c: &mut PgConnection,
    kind: &str,
    actor: Actor<'_>,
    reason: Option<&str>,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query("select ops.pause_kind($1, $2, $3)").bind(kind).bind(actor.0).bind(reason);
    query.fetch_one(c).await?.try_get(0)
}

/// False: it was not paused.
pub async fn resume_kind(c: &mut PgConnection, kind: &str, actor: Actor<'_>) -> Result<bool, sqlx::Error> {
    sqlx::query("select ops.resume_kind($1, $2)").bind(kind).bind(actor.0).fetch_one(c).await?.try_get(0)
}

/// Who claims, as people ask for it.
#[derive(Debug, Clone)]
pub struct Presence {
    pub runner_id: String,
    pub worker_id: String,
    pub hostname: String,
    pub pid: i32,
    pub kinds: Vec<String>,
    pub concurrency: i32,
}

pub async fn hello(c: &mut PgConnection, who: &Presence) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into ops.runners (runner_id, worker_id, hostname, pid, kinds, concurrency, version)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (runner_id) do update set last_seen = now(), stopped_at = null",
    )
    .bind(&who.runner_id)
    .bind(&who.worker_id)
    .bind(&who.hostname)
    .bind(who.pid)
    .bind(&who.kinds)
    .bind(who.concurrency)
    .bind(env!("CARGO_PKG_VERSION"))
    .execute(c)
    .await?;
    Ok(())
}

/// What it claims has changed.
pub async fn works_on(c: &mut PgConnection, runner_id: &str, kinds: &[String]) -> Result<(), sqlx::Error> {
    sqlx::query("update ops.runners set kinds = $2 where runner_id = $1")
        .bind(runner_id)
        .bind(kinds)
        .execute(c)
        .await?;
    Ok(())
}

/// Who listens and was not heard of for that long is gone: to notify nobody costs every enqueue. Runners
/// say that they are there every [`SAYS_EVERY`].
pub(super) const GONE_AFTER_SECONDS: f64 = 120.0;
/// At least that often a runner says that it is there.
pub const SAYS_EVERY: Duration = Duration::from_secs(30);

/// `processed`: attempts brought to an end since the last word.
pub async fn seen(c: &mut PgConnection, runner_id: &str, processed: i64, stopped: bool) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update ops.runners
         set last_seen = now(), processed = processed + $2, stopped_at = case when $3 then now() end
         where runner_id = $1",
    )
    .bind(runner_id)
    .bind(processed)
    .bind(stopped)
    .execute(&mut *c)
    .await?;
    sqlx::query(
        "delete from ops.idle_runners i
         where not exists (select from ops.runners w
                           where w.runner_id = i.runner_id and w.last_seen > now() - make_interval(secs => $1))",
    )
    .bind(GONE_AFTER_SECONDS)
    .execute(c)
    .await?;
    Ok(())
}

/// From now on a queued run is told of.
pub async fn listens(c: &mut PgConnection, runner_id: &str) -> Result<(), sqlx::Error> {
    let sql =
        "insert into ops.idle_runners (runner_id) values ($1) on conflict (runner_id) do update set since = now()";
    sqlx::query(sql).bind(runner_id).execute(c).await?;
    Ok(())
}

/// It looks by itself again.
pub async fn listens_no_more(c: &mut PgConnection, runner_id: &str) -> Result<(), sqlx::Error> {
    sqlx::query("delete from ops.idle_runners where runner_id = $1").bind(runner_id).execute(c).await?;
    Ok(())
}

/// How much waits, of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Depth {
    pub kind: String,
    /// Queued and due.
    pub due: i64,
    /// Queued for later.
    pub later: i64,
    /// Claimed or running.
    pub held: i64,
    /// Of those that are due, since when the oldest is.
    pub oldest_seconds: f64,
    pub paused: bool,
    /// Living runners that work on it.
    pub runners: i64,
}

pub async fn depths(c: &mut PgConnection) -> Result<Vec<Depth>, sqlx::Error> {
    let rows = sqlx::query(
        "with waiting as (
             select r.kind::text as kind,
                    count(*) filter (where r.status = 'queued' and r.run_at <= now()) as due,
                    count(*) filter (where r.status = 'queued' and r.run_at > now()) as later,
                    count(*) filter (where r.status <> 'queued') as held,
                    extract(epoch from now() - min(r.run_at) filter (where r.status = 'queued' and r.run_at <= now()))
                        as oldest
             -- Each by its own index: what has ended is never looked at.
             from (
                 select kind, status, run_at from ops.runs where status = 'queued'
                 union all
                 select kind, status, run_at from ops.runs where status in ('claimed', 'running')
             ) as r
             group by r.kind
         )
         select coalesce(w.kind, p.kind), coalesce(w.due, 0), coalesce(w.later, 0), coalesce(w.held, 0),
                coalesce(w.oldest, 0)::float8, p.kind is not null,
                (select count(*) from ops.runners r
                 where r.stopped_at is null and r.last_seen > now() - make_interval(secs => $1)
                   and coalesce(w.kind, p.kind) = any (r.kinds))
         from waiting w full join ops.paused_kinds p on p.kind = w.kind
         order by 1",
    )
    .bind(GONE_AFTER_SECONDS)
    .fetch_all(c)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Depth {
                kind: row.try_get(0)?,
                due: row.try_get(1)?,
                later: row.try_get(2)?,
                held: row.try_get(3)?,
                oldest_seconds: row.try_get(4)?,
                paused: row.try_get(5)?,
                runners: row.try_get(6)?,
            })
        })
        .collect()
}
