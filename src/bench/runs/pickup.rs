//! How soon an idle runner begins what is queued, beside the least that it takes: an insert, a notice,
//! and a claim on another connection.

use super::contender::{KIND, WORD};
use super::worker::Worker;
use super::{Error, Place};
use crate::figure::{Answer, Measured, percentile};
use ops_controller::runs::{NewRun, queue};
use sqlx::postgres::PgListener;
use sqlx::{Executor, Row};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const RUNS: usize = 300;
const LIMIT: Duration = Duration::from_secs(60);
const UNHEARD: usize = 10;

pub fn measure(runtime: &Runtime) -> Result<Vec<Answer>, crate::figure::Error> {
    runtime.block_on(all())
}

async fn all() -> Result<Vec<Answer>, Error> {
    let place = Place::new().await?;
    place.afresh().await?;
    // In turns: the disk may be another one in the next minute.
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        floor.extend(least(&place).await?);
        ours.extend(heard(&place).await?);
    }
    let with = "insert, notify and claim of a plain table";
    let figure = |name, part: f64| {
        let (ours_at, floor_at) = (percentile(&ours, part), percentile(&floor, part));
        Answer::Measured(Measured::of(name, ours_at, &ours).beside(with, &[ours_at], &[floor_at]))
    };
    let unheard = unheard(&place).await?;
    let slowest = percentile(&unheard, 1.0);
    Ok(vec![
        figure("pickup_p50", 0.5),
        figure("pickup_p99", 0.99),
        Answer::Measured(Measured::of("pickup_unheard", slowest, &unheard).detail("poll_ms", 1000)),
    ])
}

async fn heard(place: &Place) -> Result<Vec<f64>, Error> {
    place.afresh().await?;
    let mut worker = Worker::start(place, &[("TARGET", (RUNS / 3).to_string())])?;
    worker.says("READY", LIMIT).await?;
    while place.number("select count(*) from ops.idle_runners").await? < 1.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args([WORD, "paced"]).env("PG_URL", place.cluster.url()).env("N", (RUNS / 3).to_string());
    let added = tokio::task::spawn_blocking(move || command.output());
    let delays: Vec<f64> = serde_json::from_str(&worker.says("LAT", LIMIT).await?)?;
    added.await??;
    worker.stopped().await?;
    Ok(delays)
}

async fn least(place: &Place) -> Result<Vec<f64>, Error> {
    let (mut adds, mut claims) = (place.c().await?, place.c().await?);
    adds.execute("drop table if exists nf").await?;
    adds.execute("create table nf (id bigserial primary key, state text default 'ready', payload jsonb, lease_until timestamptz)")
        .await?;
    adds.execute("create index on nf (id) where state = 'ready'").await?;
    let mut listener = PgListener::connect_with(&place.address.pool(1)).await?;
    listener.listen("nf").await?;
    let mut took = Vec::new();
    for _ in 0..RUNS / 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let began = Instant::now();
        let add = sqlx::query(
            "with i as (insert into nf (payload) values ('{\"i\": 1}') returning id) select pg_notify('nf', '') from i",
        );
        let claim = async {
            listener.recv().await?;
            let sql =
                "update nf set state = 'running', lease_until = now() + interval '30 s' where id = (select id from nf
                       where state = 'ready' order by id limit 1 for update skip locked) returning id";
            let row = sqlx::query(sql).fetch_one(&mut claims).await?;
            Ok::<_, sqlx::Error>((row.try_get::<i64, _>(0)?, began.elapsed()))
        };
        let (added, claimed) = tokio::join!(add.execute(&mut adds), claim);
        added?;
        took.push(claimed?.1.as_secs_f64() * 1000.0);
    }
    adds.execute("drop table nf").await?;
    Ok(took)
}

/// As if every notice were lost: the trigger that sends them is off.
async fn unheard(place: &Place) -> Result<Vec<f64>, Error> {
    place.afresh().await?;
    let worker = Worker::start(place, &[])?;
    while place.number("select count(*) from ops.idle_runners").await? < 1.0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    place.execute("alter table ops.runs disable trigger runs_are_queued").await?;
    let mut c = place.c().await?;
    let mut took = Vec::new();
    for i in 0..UNHEARD {
        // At another point of its second each time.
        tokio::time::sleep(Duration::from_millis(1000 + 97 * u64::try_from(i)?)).await;
        let began = Instant::now();
        queue::enqueue(&mut c, &NewRun::of_kind(KIND)).await?;
        place.until_done(LIMIT).await?;
        took.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    worker.stopped().await?;
    Ok(took)
}
