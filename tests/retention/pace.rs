//! Much at once goes in small steps, and runners see to it by themselves.

use crate::world::{DEADLINE, World, gone};
use ops_controller::runner::{Kinds, Options, Runner, report};
use sqlx::Executor;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn ten_thousand_runs_with_all_that_is_theirs_go_and_those_that_stay_stand_in_no_ones_way() {
    let world = World::new().await;
    // Every hundredth one stays: more than a page of them are the oldest.
    world
        .execute(
            "insert into ops.runs (run_id, kind, status, claimed_by, attempt, started_at, finished_at)
             select 'run-' || n, 'custom', 'success', 'w1', 1, at, at
             from generate_series(1, 10000) n, lateral (select now() - interval '500 days' + n * interval '1 minute' as at) t;
             insert into ops.run_events (run_id, level, message) select run_id, 'info', 'x' from ops.runs;
             insert into ops.artifacts (run_id, artifact_key, artifact_type, storage_path, expires_at)
             select run_id, 'image', 'image', 'ghcr.io/x', case when seq % 2 = 0 then now() - interval '1 day' end from ops.runs;
             insert into ops.resources (provider, type, name, external_id, run_id, status)
             select 'railway', 'service', 's' || n, 's' || n, 'run-' || n, 'live' from generate_series(1, 150) n;
             insert into ops.audit_log (at, actor, action) select now() - interval '2 years', 'x', 'x' from generate_series(1, 10000);
             analyze ops.runs",
        )
        .await;
    let report = world.prune().await;
    assert_eq!(gone(&report), "artifacts 9925, audit 10000, events 9850, runs 9850");
    assert_eq!((report.kept()[0].what.as_str(), report.kept()[0].count), ("runs", 150));
    assert_eq!(world.count("runs").await, 150);
    assert_eq!(world.count("run_events").await, 150);
}

#[tokio::test]
async fn no_statement_deletes_more_than_it_was_told_to() {
    let world = World::new().await;
    world.ended("run-1", 1000).await;
    world
        .execute(
            "insert into ops.run_events (run_id, level, message) select 'run-1', 'info', 'x' from generate_series(1, 2500);
             insert into ops.audit_log (at, actor, action) select '2001-01-01', 'x', 'x' from generate_series(1, 25)",
        )
        .await;
    let step = "select runs || ' ' || events from ops.prune_runs('{run-1}', 365, 1000)";
    for expected in ["0 1000", "0 1000", "1 500", "0 0"] {
        assert_eq!(world.ask(step).await, expected);
    }
    for expected in ["10", "10", "5", ""] {
        assert_eq!(world.ask("select gone from ops.prune_history(365, 10)").await, expected);
    }
    world.ended("run-2", 1).await;
    assert_eq!(world.ask("select runs from ops.prune_runs('{run-2}', 365)").await, "0", "whoever asks for it");
}

#[tokio::test]
async fn a_runner_prunes_by_itself_one_of_them_at_a_time_and_counts_what_went() {
    let world = World::new().await;
    let handle = ops_controller::telemetry::metrics::install();
    report::describe();
    world.ended("run-1", 1000).await;
    let path = world.stored("run-1", "log", "null").await;
    let mut other = world.c().await;
    other.execute("select pg_advisory_lock(hashtextextended('ops.retention', 0))").await.expect("held");
    let options =
        Options { lease: Duration::from_secs(1), prune_every: Duration::from_millis(100), ..Options::named("pruner") };
    let stop = CancellationToken::new();
    let runner = Runner::new(world.address.clone(), options, Kinds::new()).pruning(Arc::new(world.store()));
    let task = tokio::spawn(runner.run(stop.clone()));
    // It tries, and is told that somebody is at it; its connections show that.
    until(&world, "it has tried", "select count(*) >= 1 from ops.runners").await;
    tokio::time::timeout(DEADLINE, tried(&world)).await.expect("it tries");
    assert_eq!(world.count("runs").await, 1);
    drop(other);
    until(&world, "the run is gone", "select not exists (select from ops.runs)").await;
    assert!(!world.has(&path));
    let deadline = Instant::now() + DEADLINE;
    let counted = |what: &str| handle.render().contains(&format!("ops_controller_pruned_total{{what=\"{what}\"}} 1"));
    while !(counted("runs") && counted("artifacts")) {
        assert!(Instant::now() < deadline, "{}", handle.render());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    tokio::time::timeout(DEADLINE, task).await.expect("in time").expect("no panic").expect("a good end");
}

/// Some session has asked whether it may, since this began.
async fn tried(world: &World) {
    let asked =
        "select exists (select from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()
                 and query like '%pg_try_advisory_lock%ops.retention%')";
    while world.ask(asked).await != "true" {}
}

async fn until(world: &World, what: &str, sql: &str) {
    let deadline = Instant::now() + DEADLINE;
    while world.ask(sql).await != "true" {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
