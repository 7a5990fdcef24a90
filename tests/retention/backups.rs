//! Backups: the dump first, then the row, and never the last one.

use crate::world::{World, gone, kept};

/// A backup of shop's dev, made so many days ago, with its dump and the dump's artifact.
async fn made(world: &World, n: u32, days: u32, expires: &str) -> String {
    let run = format!("run-{n}");
    world.ended_as(&run, "backup", "success", days).await;
    let path = world.stored(&run, "database.dump", expires).await;
    let digest = "0".repeat(64);
    world
        .execute(&format!(
            "insert into ops.backups (backup_id, project_id, env_id, status, db_dump_path, size_bytes, digest, run_id,
                                      started_at, finished_at, expires_at)
             values ('bak-{n}', 'shop', 'shop-dev', 'success', '{path}', 4, 'sha256:{digest}', '{run}',
                     now() - interval '{days} days', now() - interval '{days} days', {expires})"
        ))
        .await;
    path
}

const PAST: &str = "now() - interval '1 hour'";

async fn left(world: &World) -> String {
    world.ask("select string_agg(backup_id, ' ' order by backup_id) from ops.backups").await
}

#[tokio::test]
async fn an_expired_backup_goes_with_its_dump_but_for_the_newest_of_its_environment() {
    let world = World::new().await;
    let old = made(&world, 1, 30, PAST).await;
    let newest = made(&world, 2, 20, PAST).await;
    // Newer, and not made.
    world.ended_as("run-3", "backup", "failed", 10).await;
    world
        .execute(
            "insert into ops.backups (backup_id, project_id, env_id, status, run_id, error, finished_at, expires_at)
             values ('bak-3', 'shop', 'shop-dev', 'failed', 'run-3', 'no disk', now(), now() + interval '1 day')",
        )
        .await;
    let report = world.prune().await;
    assert_eq!(gone(&report), "backups 1");
    assert_eq!(kept(&report), "artifacts 2: a backup is made of it\nbackups 1: it is the newest of its environment");
    assert!(!world.has(&old) && world.has(&newest));
    assert_eq!(left(&world).await, "bak-2 bak-3");
    assert_eq!(world.ask("select string_agg(run_id, ' ') from ops.artifacts").await, "run-2");
    // The next one takes its place.
    let next = made(&world, 4, 0, "null").await;
    assert_eq!(gone(&world.prune().await), "backups 1");
    assert!(!world.has(&newest) && world.has(&next));
}

#[tokio::test]
async fn a_backup_without_an_end_or_with_one_to_come_is_kept() {
    let world = World::new().await;
    for (n, expires) in [(1, "null"), (2, "now() + interval '1 day'"), (3, "null")] {
        made(&world, n, 1000 - n, expires).await;
    }
    let before = world.sum().await;
    assert_eq!(gone(&world.prune().await), "");
    assert_eq!(world.sum().await, before);
}

#[tokio::test]
async fn a_backup_that_is_asked_for_stays_until_that_has_ended_and_then_who_restored_it_is_still_known() {
    let mut world = World::new().await;
    let path = made(&world, 1, 400, PAST).await;
    made(&world, 2, 1, "null").await;
    world
        .execute(
            "insert into ops.restores (restore_id, backup_id, target_env_id, requested_by)
             values ('rst-1', 'bak-1', 'shop-prod', 'olga')",
        )
        .await;
    for status in ["pending", "approved", "running"] {
        world.execute(&format!("update ops.restores set status = '{status}', started_at = now()")).await;
        let report = world.prune().await;
        assert_eq!(gone(&report), "", "{status}");
        assert!(kept(&report).contains("backups 1: it is being restored"), "{}", kept(&report));
    }
    assert!(world.has(&path));
    world.execute("update ops.restores set status = 'success', approved_by = 'oleg', finished_at = now()").await;
    assert_eq!(gone(&world.prune().await), "backups 1");
    assert!(!world.has(&path));
    let history = "select s.requested_by || s.approved_by || b.db_dump_path || b.digest || b.run_id
                   from ops.restores s join ops.backups b using (backup_id) where b.dump_deleted_at is not null";
    assert!(world.ask(history).await.starts_with("olgaoleg"), "the row is left, and its run");
    let report = world.prune().await;
    assert_eq!(gone(&report), "");
    assert!(kept(&report).contains("backups 1: a restore names it; its dump is deleted"), "{}", kept(&report));
    // It cannot be made one that can be restored.
    let mut c = world.c().await;
    for sql in [
        "update ops.backups set expires_at = null where backup_id = 'bak-1'",
        "update ops.backups set expires_at = now() + interval '1 day' where backup_id = 'bak-1'",
        "select ops.restore_backup('bak-1', 'shop-dev', 'olga')",
    ] {
        let refused = sqlx::Executor::execute(&mut c, sql).await.expect_err(sql).to_string();
        assert!(refused.contains("backups_deleted_has_expired") || refused.contains("has expired"), "{refused}");
    }
    // As long as what people did is remembered.
    world.days.audit_days = 30;
    world.execute("update ops.restores set finished_at = now() - interval '31 days'").await;
    assert_eq!(gone(&world.prune().await), "restores 1");
    assert_eq!(gone(&world.prune().await), "backups 1");
    assert_eq!(gone(&world.prune().await), "runs 1", "which its backup needed");
    assert_eq!(left(&world).await, "bak-2");
}

#[tokio::test]
async fn what_was_never_made_goes_as_runs_do_with_what_it_may_have_stored() {
    let world = World::new().await;
    for (n, days) in [(1, 366), (2, 364)] {
        world.ended_as(&format!("run-{n}"), "backup", "failed", days).await;
        world
            .execute(&format!(
                "insert into ops.backups (backup_id, project_id, env_id, status, run_id, error, finished_at)
                 values ('bak-{n}', 'shop', 'shop-dev', 'failed', 'run-{n}', 'no disk', now() - interval '{days} days')"
            ))
            .await;
        // Killed between the store and the books.
        world.store().put(&format!("shop/shop-dev/run-{n}/database.dump"), b"PGDMP".to_vec()).await.expect("stored");
    }
    assert_eq!(gone(&world.prune().await), "backups 1");
    assert_eq!(left(&world).await, "bak-2");
    assert!(!world.has("shop/shop-dev/run-1/database.dump") && world.has("shop/shop-dev/run-2/database.dump"));
    assert_eq!(gone(&world.prune().await), "runs 1");
    // Queued again, it is not over.
    world.execute("update ops.backups set finished_at = '2001-01-01'; select ops.requeue_run('run-2', 'olga')").await;
    let report = world.prune().await;
    assert_eq!((gone(&report), kept(&report)), (String::new(), "backups 1: it is being made".to_owned()));
}
