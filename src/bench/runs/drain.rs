//! A backlog through one runner process.

use super::contender::{KIND, WORD};
use super::worker::Worker;
use super::{Error, Place, ROUNDS, pgbench};
use crate::figure::{Answer, Measured};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const RUNS: u32 = 20_000;
const LIMIT: Duration = Duration::from_secs(120);

/// The same rows by the same functions, without a runner: what the server can do of it at most.
fn limit_script() -> String {
    format!(
        "select coalesce(array_agg(run_id), '{{}}') as ids, coalesce(array_agg(lease_token), '{{}}') as tokens \
         from ops.claim_runs('w', '{{{KIND}}}', 100, '60 s') \\gset\n\
         select count(*) from ops.finish_runs(:ids::text[], :tokens::bigint[], array_fill('success'::text, array[100]), \
         array_fill(null::jsonb, array[100]), array_fill(null::text, array[100]));\n"
    )
}

pub fn measure(runtime: &Runtime) -> Result<Vec<Answer>, crate::figure::Error> {
    if pgbench::program().is_none() {
        let why = "pgbench is not installed (Debian: postgresql)".to_owned();
        return Ok(vec![Answer::Skipped("drain", why.clone()), Answer::Skipped("drain_memory", why)]);
    }
    runtime.block_on(rounds())
}

async fn rounds() -> Result<Vec<Answer>, Error> {
    let place = Place::new().await?;
    let (mut ours, mut inserts, mut limits, mut peaks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        place.afresh().await?;
        pgbench::prepare(&place).await?;
        inserts.push(pgbench::rate(&place, pgbench::INSERT, 8, 1)?);
        enqueue(&place, RUNS)?;
        let (rate, peak) = drain(&place).await?;
        ours.push(rate);
        peaks.push(peak);
        enqueue(&place, RUNS * 3)?;
        limits.push(pgbench::rate(&place, &limit_script(), 2, 1)? * 100.0);
    }
    let limit = crate::figure::median(&limits);
    let drain = Measured::median("drain", &ours)
        .beside("pgbench, one-row inserts/s, 8 clients", &ours, &inserts)
        .detail("same_rows_by_pgbench", limit)
        .detail("of_that", crate::figure::median(&ours) / limit);
    let most = peaks.iter().copied().fold(0.0, f64::max);
    Ok(vec![Answer::Measured(drain), Answer::Measured(Measured::of("drain_memory", most, &peaks))])
}

/// By the contender's own bulk add.
pub(super) fn enqueue(place: &Place, runs: u32) -> Result<(), Error> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([WORD, "enqueue"]).env("PG_URL", place.cluster.url()).env("N", runs.to_string());
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}

async fn drain(place: &Place) -> Result<(f64, f64), Error> {
    let mut worker = Worker::start(place, &[("TARGET", RUNS.to_string())])?;
    worker.says("READY", LIMIT).await?;
    let began = Instant::now();
    worker.says("DONE", LIMIT).await?;
    place.until_done(LIMIT).await?;
    let rate = f64::from(RUNS) / began.elapsed().as_secs_f64();
    let peak = worker.peak()?;
    worker.stopped().await?;
    let sound = place
        .number(&format!(
            "select count(*) from ops.runs r where status = 'success'
             and (select count(*) from ops.run_events e where e.run_id = r.run_id) = 3
             and exists (select from ops.run_attempts a where a.run_id = r.run_id and a.outcome = 'success')
             having count(*) = {RUNS}"
        ))
        .await?;
    match sound > 0.0 {
        true => Ok((rate, peak)),
        false => Err("a run has no end, no events or no attempt".into()),
    }
}
