//! Twenty thousand runs through three runners that are killed or frozen in turn: what was lost, and what
//! happened twice.

use super::contender::EFFECT;
use super::worker::Worker;
use super::{Error, Place, effect};
use crate::figure::{Answer, Measured};
use ops_controller::runs::RunsError;
use ops_controller::runs::schema::Address;
use sqlx::{Executor, Row};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::time::sleep;

const RUNS: u32 = 20_000;
const LEASE: Duration = Duration::from_secs(2);
/// Something happens to one of them this often.
const EVERY: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(300);

pub fn measure(runtime: &Runtime) -> Result<Vec<Answer>, crate::figure::Error> {
    runtime.block_on(async {
        let killed = story("nothing_lost", false).await?;
        let restarted = story("nothing_lost_restart", true).await?;
        Ok(vec![Answer::Measured(killed), Answer::Measured(restarted)])
    })
}

async fn story(name: &'static str, restarts: bool) -> Result<Measured, Error> {
    let place = Place::new().await?;
    place.afresh().await?;
    for statement in effect::TABLES.split_inclusive(';').map(str::trim).filter(|s| !s.is_empty()) {
        place.execute(statement).await?;
    }
    // Attempts without end: here they are spent by violence, not by the work.
    place
        .execute(&format!(
            "insert into ops.runs (kind, max_attempts, backoff_seconds) select '{EFFECT}', 100, 0 from generate_series(1, {RUNS})"
        ))
        .await?;
    let began = Instant::now();
    let mut runners = Vec::new();
    for _ in 0..3 {
        runners.push(runner(&place)?);
    }
    let watch = tokio::spawn(longest_overdue(place.address.clone()));
    let (mut kills, mut freezes) = (0_u32, 0_u32);
    for turn in 0_usize.. {
        sleep(EVERY).await;
        let left = place.number("select count(*) from ops.runs where status in ('queued', 'claimed', 'running')").await;
        // While it restarts, nobody can say.
        if matches!(left, Ok(left) if left < 1.0) {
            break;
        }
        if began.elapsed() > LIMIT {
            return Err(format!("{left:?} runs were left after {LIMIT:?}").into());
        }
        let at = turn % runners.len();
        if turn % 2 == 0 {
            let fresh = runner(&place)?;
            std::mem::replace(&mut runners[at], fresh).killed().await?;
            kills += 1;
        } else {
            runners[at].signal(libc::SIGSTOP);
            sleep(LEASE + LEASE / 2).await;
            runners[at].signal(libc::SIGCONT);
            freezes += 1;
        }
        if restarts && turn == 2 {
            place.cluster.restart().await?;
        }
    }
    let took = began.elapsed();
    let overdue = watch.await??;
    for runner in runners {
        runner.stopped().await?;
    }
    let wrong = place
        .number(&format!(
            "select ({RUNS} - (select count(*) from effects))
                  + (select count(*) from ops.runs where status <> 'success')
                  + (select count(*) from ops.runs r
                     where 1 <> (select count(*) from ops.run_events e
                                 where e.run_id = r.run_id and e.message = 'Run finished: success'))
                  + (select count(*) from ops.runs r
                     where r.lease_token <> 1 + (select count(*) from ops.earlier_attempts a where a.run_id = r.run_id))"
        ))
        .await?;
    let again = place.number("select count(*) - count(distinct run_id) from tries").await?;
    let lost = place.number("select count(*) from ops.earlier_attempts where outcome = 'lost'").await?;
    Ok(Measured::exactly(name, wrong, 1)
        .detail("seconds", took.as_secs_f64())
        .detail("kills", kills)
        .detail("freezes", freezes)
        .detail("attempts_lost", lost)
        .detail("effects_tried_again", again)
        .detail("longest_overdue_s", overdue)
        .detail("lease_s", LEASE.as_secs_f64())
        .detail("sweep_s", LEASE.as_secs_f64() / 3.0))
}

/// The longest that a run was left after its lease had run out, in seconds; until nothing is left.
async fn longest_overdue(address: Address) -> Result<f64, RunsError> {
    let mut longest = 0.0_f64;
    let mut c = address.connect().await?;
    let look = "select coalesce(max(extract(epoch from now() - lease_expires_at)), 0)::float8,
                       count(*) = 0 and not exists (select from ops.runs where status = 'queued')
                from ops.runs where status in ('claimed', 'running')";
    loop {
        match c.fetch_one(look).await {
            Ok(row) => {
                longest = longest.max(row.try_get(0)?);
                if row.try_get(1)? {
                    return Ok(longest);
                }
            }
            // It restarts.
            Err(_) => {
                if let Ok(fresh) = address.connect().await {
                    c = fresh;
                }
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn runner(place: &Place) -> Result<Worker, Error> {
    Worker::start(place, &[("LEASE_MS", LEASE.as_millis().to_string()), ("CONCURRENCY", "10".to_owned())])
}
