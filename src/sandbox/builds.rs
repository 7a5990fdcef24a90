//! A team that pushes a commit a minute: each is queued as a build by the documented SQL, as any other
//! program would do it, and its end is told.

use super::Sandbox;
use serde_json::json;
use sqlx::{Connection, PgConnection, Row};
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(60);
/// Until the tables are made, and between looks at a build.
const LOOK: Duration = Duration::from_millis(300);

/// The project that is built, and how: see the kind `build`.
fn environment(sandbox: &Sandbox) -> serde_json::Value {
    json!({
        "build": { "github": { "workflow": sandbox.github.options().workflow, "ref": "main" } },
        "deploy": { "railway": {
            "project_id": sandbox.railway.project_id(), "environment_id": sandbox.railway.environment_id(),
            "service": "shop", "variables": { "GIT_SHA": "${git_sha}" }
        } },
        "smoke": { "checks": [ { "name": "health_check", "path": "/health", "expect": { "status": 200 } } ] }
    })
}

/// Queues builds and tells of each, for ever. Ends at once in a world without a database for runs.
pub async fn every_minute(sandbox: &Sandbox, tell: impl Fn(String)) {
    let Some(cluster) = &sandbox.ops_postgres else { return };
    let url = cluster.url();
    let mut connection = loop {
        match begin(sandbox, &url).await {
            Ok(connection) => break connection,
            // The runner makes the tables when it starts.
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    };
    for commit in 1_u64.. {
        let began = tokio::time::Instant::now();
        match one(&mut connection, commit, &tell).await {
            Ok(()) => {}
            Err(error) => {
                tell(format!("the build of commit {commit} cannot be followed: {error}"));
                if let Ok(fresh) = PgConnection::connect(&url).await {
                    connection = fresh;
                }
            }
        }
        tokio::time::sleep_until(began + EVERY).await;
    }
}

async fn begin(sandbox: &Sandbox, url: &str) -> sqlx::Result<PgConnection> {
    let mut c = PgConnection::connect(url).await?;
    // What is granted last is there when everything is.
    sqlx::query("select ops.apply_access()").execute(&mut c).await?;
    sqlx::query(
        "insert into ops.projects (project_id, name, repo_slug) values ('shop', 'Shop', $1) on conflict do nothing",
    )
    .bind(&sandbox.github.options().repository)
    .execute(&mut c)
    .await?;
    sqlx::query(
        "insert into ops.environments (env_id, project_id, env_type, config) values ('shop-dev', 'shop', 'dev', $1)
         on conflict do nothing",
    )
    .bind(environment(sandbox))
    .execute(&mut c)
    .await?;
    Ok(c)
}

async fn one(c: &mut PgConnection, commit: u64, tell: &impl Fn(String)) -> sqlx::Result<()> {
    let sha = format!("{commit:040x}");
    let queue = "select run_id from ops.queue_run(
                     p_project_id := 'shop', p_env := 'dev', p_git_sha := $1, p_git_ref := 'refs/heads/main')";
    let run: String = sqlx::query(queue).bind(&sha).fetch_one(&mut *c).await?.try_get(0)?;
    tell(format!("build of commit {commit} is queued: {run}"));
    let look = "select r.status, coalesce(r.error, ''), extract(epoch from r.finished_at - r.queued_at)::float8,
                       coalesce(p.output ->> 'deployment_url', '')
                from ops.runs r
                left join ops.run_phases p on p.run_id = r.run_id and p.name = 'deploy_runtime'
                where r.run_id = $1 and r.finished_at is not null";
    loop {
        if let Some(row) = sqlx::query(look).bind(&run).fetch_optional(&mut *c).await? {
            let (status, error): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let (seconds, place): (f64, String) = (row.try_get(2)?, row.try_get(3)?);
            let what = if error.is_empty() { place } else { error };
            tell(format!("build of commit {commit}: {status} after {seconds:.1} s {what}"));
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}
