//! Who may prune: whoever works for the queue, and nobody further than to a month ago.

use crate::world::World;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};

const CALLS: &[&str] = &[
    "ops.run_kept_for('run-1')",
    "ops.has_image('run-1')",
    "ops.runs_past(1)",
    "ops.prune_runs('{run-1}', 1)",
    "ops.artifact_kept_for('art-1', 1)",
    "ops.artifacts_past(1)",
    "ops.hold_artifacts('{art-1}', 1)",
    "ops.prune_artifacts('{art-1}')",
    "ops.backup_kept_for('bak-1', 1)",
    "ops.backups_past(1)",
    "ops.hold_backup('bak-1', 1)",
    "ops.prune_backup('bak-1')",
    "ops.history_past(30)",
    "ops.prune_history(30)",
];

#[tokio::test]
async fn runners_may_and_nobody_else() {
    let world = World::new().await;
    for role in ["worker", "gateway", "stranger"] {
        let options = world.address.options().clone().username(role);
        let mut c = options.connect().await.expect("a connection");
        c.execute("select set_config('ops.user_id', 'olga', false)").await.expect("set");
        for call in CALLS {
            let done = c.execute(AssertSqlSafe(format!("select {call}"))).await;
            match role {
                "worker" => drop(done.unwrap_or_else(|error| panic!("{call}: {error}"))),
                _ => assert!(done.expect_err(call).to_string().contains("permission denied"), "{role}: {call}"),
            }
        }
    }
}

#[tokio::test]
async fn a_runner_cannot_remove_the_traces_of_the_last_month() {
    let world = World::new().await;
    world
        .execute(
            "insert into ops.audit_log (at, actor, action) values (now() - interval '29 days', 'x', 'young'),
                 (now() - interval '31 days', 'x', 'old')",
        )
        .await;
    let options = world.address.options().clone().username("worker");
    let mut c = options.connect().await.expect("a connection");
    for days in [1, 29, -1] {
        let sql = format!("select ops.prune_history({days})");
        let refused = c.execute(AssertSqlSafe(sql)).await.expect_err("too few").to_string();
        assert!(refused.contains("at least 30 days") || refused.contains("must not be negative"), "{refused}");
    }
    let refused = c.execute("delete from ops.audit_log").await.expect_err("refused").to_string();
    assert!(refused.contains("permission denied"), "{refused}");
    let row = c.fetch_one("select gone from ops.prune_history(30)").await.expect("an answer");
    assert_eq!(row.get::<i64, _>(0), 1);
    assert_eq!(world.ask("select string_agg(action, ' ') from ops.audit_log").await, "young");
}
