//! What kinds of runs ask of the database: the environment they are for, what was built before, and
//! how a backup or a restore begins and ends.

use super::record::Hold;
use serde_json::Value;
use sqlx::Row;
use sqlx::postgres::PgConnection;

/// Where a project runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Environment {
    pub project_id: String,
    pub env_id: String,
    /// dev, staging, prod
    pub env_type: String,
    pub repo_slug: Option<String>,
    pub db_name: Option<String>,
    pub config: Value,
}

/// `None`: there is no such environment.
pub async fn environment(c: &mut PgConnection, env_id: &str) -> Result<Option<Environment>, sqlx::Error> {
    let row = sqlx::query(
        "select e.project_id, e.env_id, e.env_type, p.repo_slug, e.db_name, e.config
         from ops.environments e join ops.projects p using (project_id) where e.env_id = $1",
    )
    .bind(env_id)
    .fetch_optional(c)
    .await?;
    row.map(|row| {
        Ok(Environment {
            project_id: row.try_get(0)?,
            env_id: row.try_get(1)?,
            env_type: row.try_get(2)?,
            repo_slug: row.try_get(3)?,
            db_name: row.try_get(4)?,
            config: row.try_get(5)?,
        })
    })
    .transpose()
}

/// Whether this run is a build of this environment.
pub async fn is_build_of(c: &mut PgConnection, run_id: &str, env_id: &str) -> Result<bool, sqlx::Error> {
    let sql = "select exists (select from ops.runs where run_id = $1 and kind = 'build' and env_id = $2)";
    sqlx::query(sql).bind(run_id).bind(env_id).fetch_one(c).await?.try_get(0)
}

/// The newest build of the same environment that was queued before this run, succeeded and brought the
/// very image into service that it had made, with what its image phase yielded.
pub async fn success_before(
    c: &mut PgConnection,
    run_id: &str,
    [built, deployed]: [&str; 2],
) -> Result<Option<(String, Value)>, sqlx::Error> {
    let row = sqlx::query(
        "select r.run_id::text, p.output::jsonb
         from ops.runs later
         join ops.runs r on r.project_id = later.project_id and r.env_id = later.env_id and r.kind = later.kind
         join ops.run_phases p on p.run_id = r.run_id and p.name = $2 and p.status = 'success'
         join ops.run_phases d on d.run_id = r.run_id and d.name = $3 and d.status = 'success'
                              and d.output ->> 'deployed_image' = p.output ->> 'image'
         where later.run_id = $1 and r.status = 'success' and r.seq < later.seq
         order by r.seq desc limit 1",
    )
    .bind(run_id)
    .bind(built)
    .bind(deployed)
    .fetch_optional(c)
    .await?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

/// The build, queued after this one, that has come into service already; unless somebody asked for this
/// one again since.
pub async fn superseded_by(c: &mut PgConnection, run_id: &str) -> Result<Option<String>, sqlx::Error> {
    sqlx::query("select ops.superseded_by($1)").bind(run_id).fetch_one(c).await?.try_get(0)
}

/// A dump as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    pub env_id: String,
    /// The run that makes it.
    pub run_id: Option<String>,
    /// pending, running, success, failed, cancelled
    pub status: String,
    pub path: String,
    pub digest: Option<String>,
    /// Until when it is kept, in days from now; `None`: for good.
    pub kept_days: Option<i32>,
}

pub async fn backup(c: &mut PgConnection, backup_id: &str) -> Result<Option<Backup>, sqlx::Error> {
    let row = sqlx::query(
        "select env_id, run_id::text, status, db_dump_path, digest,
                greatest(0, ceil(extract(epoch from expires_at - now()) / 86400))::int4
         from ops.backups where backup_id = $1",
    )
    .bind(backup_id)
    .fetch_optional(c)
    .await?;
    row.map(|row| {
        Ok(Backup {
            env_id: row.try_get(0)?,
            run_id: row.try_get(1)?,
            status: row.try_get(2)?,
            path: row.try_get(3)?,
            digest: row.try_get(4)?,
            kept_days: row.try_get(5)?,
        })
    })
    .transpose()
}

/// What is put back where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    pub backup_id: String,
    /// The environment that it goes to.
    pub env_id: String,
    /// The run that does it.
    pub run_id: Option<String>,
}

pub async fn restore(c: &mut PgConnection, restore_id: &str) -> Result<Option<Restore>, sqlx::Error> {
    let sql = "select backup_id, target_env_id, run_id::text from ops.restores where restore_id = $1";
    let row = sqlx::query(sql).bind(restore_id).fetch_optional(c).await?;
    row.map(|row| Ok(Restore { backup_id: row.try_get(0)?, env_id: row.try_get(1)?, run_id: row.try_get(2)? }))
        .transpose()
}

/// False: the run is another's by now, and so in all that follow.
pub async fn begin_backup(c: &mut PgConnection, hold: &Hold, backup_id: &str) -> Result<bool, sqlx::Error> {
    let begun = sqlx::query("select ops.begin_backup($1, $2)").bind(backup_id).bind(hold.lease_token);
    begun.fetch_one(c).await?.try_get(0)
}

/// The dump lies at `path`, whole.
pub async fn end_backup(
    c: &mut PgConnection,
    hold: &Hold,
    backup_id: &str,
    path: &str,
    size_bytes: i64,
    digest: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query("select ops.end_backup($1, $2, $3, $4, $5)")
        .bind(backup_id)
        .bind(hold.lease_token)
        .bind(path)
        .bind(size_bytes)
        .bind(digest)
        .fetch_one(c)
        .await?
        .try_get(0)
}

/// Refused when what it needs is not there: a whole dump, and for production an approval that stands.
pub async fn begin_restore(c: &mut PgConnection, hold: &Hold, restore_id: &str) -> Result<bool, sqlx::Error> {
    let begun = sqlx::query("select ops.begin_restore($1, $2)").bind(restore_id).bind(hold.lease_token);
    begun.fetch_one(c).await?.try_get(0)
}

pub async fn end_restore(c: &mut PgConnection, hold: &Hold, restore_id: &str) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query("select ops.end_restore($1, $2)").bind(restore_id).bind(hold.lease_token);
    ended.fetch_one(c).await?.try_get(0)
}
