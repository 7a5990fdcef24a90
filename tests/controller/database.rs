//! The watched PostgreSQL: looked at before it is touched.

use crate::support::{World, condition, quick, stands};
use ops_controller::plan::condition::{ConditionType, Reason, Status as Truth};
use ops_controller::plan::replication::PUBLICATION;
use ops_controller::sandbox::Options;
use ops_controller::sandbox::faults::Break;
use std::time::Duration;

/// 18: every cycle restarted Postgres when the setting came from elsewhere.
#[tokio::test]
async fn a_wal_level_on_the_command_line_is_reported_and_never_restarted_for() {
    let extra_postgres_arguments = vec!["-c".to_owned(), "wal_level=replica".to_owned()];
    let world = World::booted_with(Options { extra_postgres_arguments, ..quick() }).await;
    let mut driver = world.open();
    // Everything else comes true beside it.
    let connected = |s: &_| condition(s, ConditionType::SupervisorConnected).status == Truth::True;
    driver.until(&world, "connected", connected).await;
    for _ in 0..5 {
        let status = driver.cycle().await;
        let wal = condition(&status, ConditionType::WalLevelLogical);
        assert_eq!((wal.status, wal.reason), (Truth::False, Reason::CommandLineOverrides));
        assert!(!status.healthy);
    }
    assert_eq!(world.sandbox.railway.restart_requests().len(), 0);
    assert_eq!(
        world.sql("select count(*)::text from pg_file_settings where sourcefile like '%auto.conf'").await.as_deref(),
        Some("0")
    );
    world.stop().await;
}

#[tokio::test]
async fn an_unprivileged_role_is_told_what_it_lacks_and_nothing_is_tried() {
    let mut world = World::booted().await;
    world.sandbox.postgres.create_role("reader", "r:e@d/er").await.expect("a role");
    world.execute("grant select on all tables in schema public to reader").await;
    world.set("DATABASE_URL", &world.sandbox.postgres.url_as("reader", "r:e@d/er"));
    let mut driver = world.open();
    for _ in 0..3 {
        let status = driver.cycle().await;
        for kind in
            [ConditionType::WalLevelLogical, ConditionType::ReplicaIdentityFull, ConditionType::PublicationReady]
        {
            let condition = condition(&status, kind);
            assert_eq!((condition.status, condition.reason), (Truth::False, Reason::PrivilegeMissing), "{kind}");
            assert!(condition.message.contains("role reader"), "{}", condition.message);
        }
        let actions = status.cycle.as_ref().map(|c| c.actions.as_slice()).unwrap_or_default();
        assert!(actions.iter().all(|a| a.resource.starts_with("firewall") || a.resource.starts_with("droplet")));
    }
    assert_eq!(world.sandbox.railway.restart_requests().len(), 0);
    world.stop().await;
}

/// 22: the publication was checked by its name only.
#[tokio::test]
async fn a_publication_without_the_table_or_an_operation_is_repaired() {
    let world = World::booted().await;
    world.execute(&format!("create publication {PUBLICATION} with (publish = 'insert')")).await;
    world.open().until_settled(&world).await;
    let tables = format!("select tablename::text from pg_publication_tables where pubname = '{PUBLICATION}'");
    assert_eq!(world.sql(&tables).await.as_deref(), Some("TaskRun"));
    let all = format!(
        "select (pubinsert and pubupdate and pubdelete)::text from pg_publication where pubname = '{PUBLICATION}'"
    );
    assert_eq!(world.sql(&all).await.as_deref(), Some("true"));
    world.stop().await;
}

/// 21, and no restart while migrations run. (20, 21)
#[tokio::test]
async fn while_the_webapp_boots_it_waits_and_then_restarts_once() {
    let webapp_boot = Duration::from_millis(700);
    let world = World::with(Options { webapp_boot, ..quick() }).await;
    let mut driver = world.open();
    let pending = |s: &_| stands(s, ConditionType::ReplicaIdentityFull, Truth::False, Reason::MigrationsPending);
    let status = driver.until(&world, "waiting for the migrations", pending).await;
    assert_eq!(condition(&status, ConditionType::PublicationReady).reason, Reason::MigrationsPending);
    assert_eq!(condition(&status, ConditionType::WorkerTokenReady).reason, Reason::MigrationsPending);
    let booting = |s: &_| stands(s, ConditionType::WalLevelLogical, Truth::False, Reason::WebappBooting);
    driver.until(&world, "held by the booting webapp", booting).await;
    assert_eq!(world.sandbox.railway.restart_requests().len(), 0);
    driver.until_settled(&world).await;
    assert_eq!(world.sandbox.railway.restart_requests().len(), 1);
    world.stop().await;
}

/// 1: cycles with a dead database counted as healthy.
#[tokio::test]
async fn a_database_that_is_away_is_unknown_and_no_reason_to_touch_the_droplet() {
    let world = World::booted().await;
    let mut driver = world.healthy().await;
    world.forget_requests();
    world.sandbox.faults.during(Break::DatabaseDown, Duration::from_secs(600));
    let down = |s: &_| stands(s, ConditionType::WalLevelLogical, Truth::Unknown, Reason::CouldNotLook);
    driver.until(&world, "unknown", down).await;
    for _ in 0..5 {
        let status = driver.cycle().await;
        assert_eq!((status.healthy, status.healthy_cycles), (false, 0));
        assert_eq!(condition(&status, ConditionType::SupervisorConnected).status, Truth::Unknown);
    }
    world.sandbox.faults.clear(Break::DatabaseDown);
    driver.until_settled(&world).await;
    assert_eq!(world.writes(), Vec::<String>::new());
    assert_eq!(world.sandbox.railway.restart_requests().len(), 1, "the first one");
    world.stop().await;
}

/// 23: the statement waited for its lock without limit.
#[tokio::test]
async fn a_locked_table_stops_no_cycle() {
    let world = World::booted().await;
    let mut other = world.sandbox.postgres.connect().await.expect("a connection");
    sqlx::raw_sql(r#"begin; lock table "TaskRun" in access share mode"#).execute(&mut other).await.expect("a lock");
    let mut driver = world.open();
    let refused = |s: &_| {
        let actions = ops_controller::controller::status::Status::clone(s).cycle.map(|c| c.actions).unwrap_or_default();
        actions.iter().any(|a| {
            a.action.starts_with("set replica identity")
                && matches!(&a.outcome, Some(ops_controller::plan::action::Outcome::Failed { error }) if error.contains("lock timeout"))
        })
    };
    driver.until(&world, "refused by the lock", refused).await;
    let status = driver.cycle().await;
    assert!(stands(&status, ConditionType::ReplicaIdentityFull, Truth::False, Reason::ChangeFailed));
    sqlx::raw_sql("rollback").execute(&mut other).await.ok();
    driver.skip(jiff::SignedDuration::from_secs(31));
    driver.until_settled(&world).await;
    world.stop().await;
}
