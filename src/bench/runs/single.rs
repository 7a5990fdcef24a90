//! One at a time: single adds while a runner works, and the documented functions in a closed loop.

use super::contender::WORD;
use super::worker::Worker;
use super::{Error, Place, ROUNDS, pgbench};
use crate::figure::{Answer, Measured};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const LIMIT: Duration = Duration::from_secs(60);
const SECONDS: u32 = 3;

/// As the documents' other-language callers do it: no lease token, two commits a run.
const DOCUMENTED: &str = "select run_id from ops.claim_next_run('w') \\gset\n\
                          select ops.finish_run(:run_id, 'success');\n";

const BACKLOG: &str = "
    insert into ops.projects (project_id, name) values ('bench', 'bench');
    insert into ops.environments (env_id, project_id, env_type) values ('bench-dev', 'bench', 'dev');
    insert into ops.runs (kind, project_id, env_id, git_sha, git_ref)
        select 'build', 'bench', 'bench-dev', 'abc123def456', 'refs/heads/main' from generate_series(1, 100000);
    vacuum analyze ops.runs;
    checkpoint;
";

pub fn measure(runtime: &Runtime) -> Result<Vec<Answer>, crate::figure::Error> {
    if pgbench::program().is_none() {
        let why = "pgbench is not installed (Debian: postgresql)".to_owned();
        return Ok(vec![Answer::Skipped("steady", why.clone()), Answer::Skipped("one_at_a_time", why)]);
    }
    runtime.block_on(rounds())
}

async fn rounds() -> Result<Vec<Answer>, Error> {
    let place = Place::new().await?;
    let (mut steady, mut inserts, mut ours, mut least) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        place.afresh().await?;
        pgbench::prepare(&place).await?;
        inserts.push(pgbench::rate(&place, pgbench::INSERT, 8, 1)?);
        steady.push(adds(&place).await?);
        for statement in BACKLOG.split_inclusive(';').map(str::trim).filter(|s| !s.is_empty()) {
            place.execute(statement).await?;
        }
        least.push(pgbench::rate(&place, pgbench::CLAIM_FINISH, 8, SECONDS)?);
        ours.push(pgbench::rate(&place, DOCUMENTED, 8, SECONDS)?);
    }
    Ok(vec![
        Answer::Measured(Measured::median("steady", &steady).beside(
            "pgbench, one-row inserts/s, 8 clients",
            &steady,
            &inserts,
        )),
        Answer::Measured(Measured::median("one_at_a_time", &ours).beside(
            "pgbench, claim 1 and finish 1 of a plain table",
            &ours,
            &least,
        )),
    ])
}

async fn adds(place: &Place) -> Result<f64, Error> {
    let mut worker = Worker::start(place, &[])?;
    worker.says("READY", LIMIT).await?;
    let listens = "select count(*) from ops.idle_runners";
    while place.number(listens).await? < 1.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args([WORD, "produce"]).env("PG_URL", place.cluster.url()).env("SECS", SECONDS.to_string());
    let output = command.env("CONC", "4").output()?;
    let produced = Instant::now();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut words = text.split_whitespace().skip(1).map(str::parse::<f64>);
    let (Some(Ok(added)), Some(Ok(seconds))) = (words.next(), words.next()) else {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    };
    place.until_done(LIMIT).await?;
    let rate = added / (seconds + produced.elapsed().as_secs_f64());
    worker.stopped().await?;
    Ok(rate)
}
