//! `runs prune`, as a person or a script meets it.

use crate::world::{World, gone, kept};
use ops_controller::config::OpsConfig;
use ops_controller::runner::prune;
use serde_json::Value;
use sqlx::Executor;

/// Something of everything, old and young, kept and not.
async fn full() -> World {
    let world = World::new().await;
    for id in ["run-1", "run-2", "run-3", "run-4"] {
        world.ended(id, 1000).await;
        world
            .execute(&format!("insert into ops.run_events (run_id, level, message) values ('{id}', 'info', 'x')"))
            .await;
    }
    world.ended("run-5", 100).await;
    world.stored("run-1", "log", "now() - interval '1 day'").await;
    world.stored("run-1", "manifest", "null").await;
    world.stored("run-5", "log", "now() - interval '1 day'").await;
    world.recorded("run-2", "image", "ghcr.io/x", None, "null").await;
    let own = "shop/shop-dev/run-3/log";
    world.recorded("run-3", "log", own, Some("folder-elsewhere"), "now() - interval '1 day'").await;
    world.recorded("run-3", "a", "ghcr.io/x", None, "null").await;
    world
        .execute(
            "insert into ops.resources (provider, type, name, external_id, run_id, status)
             values ('railway', 'service', 's', 's', 'run-4', 'live');
             insert into ops.run_events (run_id, level, message, created_at)
             values ('run-5', 'info', 'old', now() - interval '91 days');
             insert into ops.audit_log (at, actor, action) values ('2001-01-01', 'x', 'x');
             insert into ops.backups (project_id, env_id, status, error, finished_at) values
                 ('shop', 'shop-dev', 'failed', 'x', '2001-01-01'), ('shop', 'shop-dev', 'failed', 'x', now())",
        )
        .await;
    world
}

#[tokio::test]
async fn the_dry_run_changes_nothing_and_says_exactly_what_then_goes() {
    let world = full().await;
    let before = world.sum().await;
    let dry = world.environment().run(&["runs", "prune", "--dry-run"]).await.expect_code(0);
    assert_eq!(world.sum().await, before);
    assert!(world.has("shop/shop-dev/run-1/log") && world.has("shop/shop-dev/run-5/log"));
    let lines: Vec<_> = dry.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "WHAT WOULD GO",
            "artifacts 5",
            "audit 1",
            "backups 1",
            "events 3",
            "runs 2",
            "",
            "WHAT KEPT BECAUSE FOR EXAMPLE",
            lines[8].as_str(),
            "runs 1 a resource names it run-4",
            "runs 1 its artifacts are not gone run-3",
        ]
    );
    assert!(lines[8].starts_with("artifacts 1 it lies in another store, folder-elsewhere art-"), "{}", lines[8]);

    let json = world.environment().run(&["runs", "prune", "--dry-run", "--json"]).await.expect_code(0).out;
    let dry: Value = serde_json::from_str(&json).expect("JSON");
    let done = world.environment().run(&["runs", "prune", "--json"]).await.expect_code(0).out;
    let done: Value = serde_json::from_str(&done).expect("JSON");
    assert_eq!(dry, done);
    assert_eq!((&done["gone"]["runs"], &done["trouble"]), (&2.into(), &Value::Null));
    assert_eq!(world.runs().await, ["run-3", "run-4", "run-5"]);
    let noted = world.ask("select action || ' ' || (details ->> 'runs') from ops.audit_log").await;
    assert_eq!(noted, "runs.pruned 2");
    let again = world.environment().run(&["runs", "prune"]).await.expect_code(0).out;
    assert!(again.starts_with("WHAT  GONE\n\nWHAT"), "{again}");
    assert_eq!(world.count("audit_log").await, 1, "nothing went, nothing is noted");
}

#[tokio::test]
async fn the_dry_runs_session_cannot_write_at_all() {
    let world = full().await;
    let mut c = world.c().await;
    let store = world.store().identity();
    let config = OpsConfig::from_pairs(world.variables()).expect("a configuration");
    let report = prune::look(&mut c, config.runner.retention, store.as_deref()).await.expect("a look");
    let refused = c.execute("delete from ops.audit_log").await.expect_err("read-only").to_string();
    assert!(refused.contains("read-only transaction"), "{refused}");
    let done = world.prune().await;
    assert_eq!((gone(&report), kept(&report)), (gone(&done), kept(&done)));
}

#[tokio::test]
async fn it_says_when_somebody_else_is_at_it_and_when_the_store_did_not_do_it() {
    let world = World::new().await;
    world.ended("run-1", 1000).await;
    let stuck = world.stored("run-1", "log", "null").await;
    let mut other = world.c().await;
    other.execute("select pg_advisory_lock(hashtextextended('ops.retention', 0))").await.expect("held");
    let busy = world.environment().run(&["runs", "prune"]).await.expect_code(75);
    assert!(busy.out.is_empty() && busy.err.contains("try again later"), "{}", busy.all());
    sqlx::Connection::close(other).await.expect("closed");
    std::fs::remove_file(world.files().join(&stuck)).expect("removed");
    std::fs::create_dir_all(world.files().join(&stuck).join("x")).expect("made");
    let ended = world.environment().run(&["runs", "prune"]).await.expect_code(1);
    assert!(ended.err.contains("what has expired stays for now") && ended.err.contains(&stuck), "{}", ended.err);
    assert!(ended.out.contains("its store did not say that it is gone"), "{}", ended.out);
}

#[tokio::test]
async fn settings_that_would_keep_too_little_are_refused_by_name() {
    let world = World::new().await;
    world.ended("run-1", 1000).await;
    for (name, value) in
        [("AUDIT_RETENTION_DAYS", "29"), ("RUN_RETENTION_DAYS", "-1"), ("RUN_RETENTION_DAYS", "a year")]
    {
        let refused = world.environment().with(name, value).run(&["runs", "prune"]).await.expect_code(78);
        assert!(
            refused.err.contains(&format!("{name} must be 0, for ever, or a whole number of days")),
            "{}",
            refused.err
        );
    }
    assert_eq!(world.count("runs").await, 1);
}
