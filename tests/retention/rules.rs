//! Which runs go, which stay, and what becomes of the history.

use crate::world::{World, gone, kept};
use ops_controller::config::Retention;

/// Of each sort of thing, one that is old.
async fn old_things(world: &World, days: u32) {
    world.ended("run-old", days).await;
    world
        .execute(&format!(
            "insert into ops.audit_log (at, actor, action) values (now() - interval '{days} days', 'olga', 'x');
             insert into ops.approvals (approval_id, approval_type, resource_id, requested_by, status, requested_at,
                                        reviewed_by, reviewed_at, expires_at)
             select 'appr-old', 'deploy_prod', 'run-x', 'olga', 'approved', at, 'oleg', at, at + interval '1 hour'
             from (select now() - interval '{days} days' as at) as t;
             insert into ops.api_tokens (token_id, name, token_hash, scopes, created_at, created_by, revoked_at)
             values ('tok-revoked', 'a', sha256('a'), '{{runner}}', '2020-01-01', 'olga', now() - interval '{days} days');
             insert into ops.api_tokens (token_id, name, token_hash, scopes, created_at, created_by, expires_at)
             values ('tok-expired', 'b', sha256('b'), '{{runner}}', '2020-01-01', 'olga', now() - interval '{days} days')"
        ))
        .await;
}

#[tokio::test]
async fn nothing_goes_while_nothing_is_past_its_time() {
    let mut world = World::new().await;
    old_things(&world, 364).await;
    world.stored("run-old", "log", "now() + interval '1 hour'").await;
    world.stored("run-old", "for-good", "null").await;
    // However old: it waits, it runs, it lives.
    world
        .execute(
            "insert into ops.runs (run_id, kind, queued_at) values ('run-waits', 'custom', now() - interval '9 years');
             insert into ops.runs (run_id, kind, status, claimed_by, attempt, lease_token, lease_expires_at, started_at)
             values ('run-runs', 'custom', 'running', 'w1', 1, 1, now() + interval '1 hour', now() - interval '9 years');
             insert into ops.api_tokens (token_id, name, token_hash, scopes, created_at, created_by)
             values ('tok-lives', 'c', sha256('c'), '{runner}', '2020-01-01', 'olga');
             insert into ops.approvals (approval_type, resource_id, requested_by) values ('deploy_prod', 'run-y', 'olga');
             insert into ops.runners (runner_id, worker_id, hostname, pid, kinds, concurrency, version, last_seen, stopped_at)
             values ('w-29', 'w', 'h', 1, '{}', 1, '1', now() - interval '29 days', now() - interval '29 days')",
        )
        .await;
    world.stored("run-waits", "log", "now() - interval '1 day'").await;
    let before = world.sum().await;
    let report = world.prune().await;
    assert_eq!((gone(&report), report.trouble.clone()), (String::new(), None));
    assert_eq!(kept(&report), "artifacts 1: its run is not finished");
    assert_eq!(world.sum().await, before);
    for path in ["shop/shop-dev/run-old/log", "shop/shop-dev/run-old/for-good", "shop/shop-dev/run-waits/log"] {
        assert!(world.has(path), "{path}");
    }

    // For ever is for ever.
    world.days = Retention { run_days: 0, audit_days: 0, ..world.days };
    world.execute("update ops.runs set finished_at = '2001-01-01' where run_id = 'run-old'").await;
    world.execute("update ops.audit_log set at = '2001-01-01'").await;
    world
        .execute(
            "update ops.approvals set reviewed_at = '2001-01-01', expires_at = '2001-01-01' where status = 'approved'",
        )
        .await;
    world.execute("update ops.api_tokens set revoked_at = '2021-01-01' where revoked_at is not null").await;
    let before = world.sum().await;
    assert_eq!(gone(&world.prune().await), "");
    assert_eq!(world.sum().await, before);
}

#[tokio::test]
async fn a_run_goes_with_all_that_belongs_to_it_and_its_key_is_free_again() {
    let world = World::new().await;
    for (id, days) in [("run-old", 366), ("run-young", 364)] {
        world.built(id, days).await;
        // So that it is no build that could be gone back to.
        world.execute(&format!("update ops.run_phases set output = '{{}}' where run_id = '{id}'")).await;
        world
            .execute(&format!(
                "insert into ops.run_events (run_id, level, message) values ('{id}', 'info', 'a'), ('{id}', 'info', 'b');
                 insert into ops.earlier_attempts (run_id, attempt, runner_id, lease_token, started_at, finished_at, outcome)
                 values ('{id}', 1, 'w0', 1, now(), now(), 'retry');
                 insert into ops.resources (provider, type, name, external_id, run_id, status)
                 values ('hook', 'deployment', '{id}', '{id}/1', '{id}', 'live'),
                        ('github', 'workflow_run', 'x', null, '{id}', 'failed');
                 update ops.runs set idempotency_key = 'push {id}' where run_id = '{id}'"
            ))
            .await;
        world.stored(id, "manifest.json", "null").await;
    }
    let report = world.prune().await;
    assert_eq!(gone(&report), "artifacts 1, events 2, runs 1");
    assert_eq!(kept(&report), "");
    assert_eq!(world.runs().await, ["run-young"]);
    for table in ["earlier_attempts", "run_phases", "artifacts"] {
        assert_eq!(world.count(table).await, 1, "{table}");
    }
    assert_eq!((world.count("run_events").await, world.count("resources").await), (2, 2));
    assert!(!world.has("shop/shop-dev/run-old"), "nor is an empty folder left");
    assert!(world.has("shop/shop-dev/run-young/manifest.json"));
    let queue = |key: &str| {
        format!(
            "select is_new from ops.enqueue('build', '{{}}', 'shop', 'shop-dev', 'abc', 'main', p_idempotency_key => '{key}')"
        )
    };
    assert_eq!(world.ask(&queue("push run-old")).await, "true");
    assert_eq!(world.ask(&queue("push run-young")).await, "false");
}

#[tokio::test]
async fn how_a_run_ended_does_not_matter_for_how_long_it_is_kept() {
    let world = World::new().await;
    for (days, word) in [(366, "old"), (364, "young")] {
        for status in ["success", "failed", "cancelled"] {
            world.ended_as(&format!("run-{status}-{word}"), "custom", status, days).await;
        }
    }
    assert_eq!(gone(&world.prune().await), "runs 3");
    assert_eq!(world.runs().await, ["run-cancelled-young", "run-failed-young", "run-success-young"]);
}

#[tokio::test]
async fn a_run_stays_as_long_as_something_needs_it() {
    let world = World::new().await;
    let all = ["run-made", "run-intended", "run-child", "run-dump", "run-put-back", "run-free"];
    for id in all {
        world.ended(id, 1000).await;
    }
    world
        .execute(
            "insert into ops.resources (provider, type, name, external_id, run_id, status) values
                 ('railway', 'service', 'env/shop', 'srv-1', 'run-made', 'live'),
                 ('github', 'workflow_run', 'run-intended', null, 'run-intended', 'intended');
             insert into ops.runs (run_id, kind) values ('run-parent', 'custom');
             update ops.runs set idempotency_key = 'run-parent:ship' where run_id = 'run-child';
             insert into ops.backups (backup_id, project_id, env_id, run_id) values ('bak-1', 'shop', 'shop-dev', 'run-dump');
             insert into ops.restores (restore_id, backup_id, target_env_id, requested_by, run_id)
             values ('rst-1', 'bak-1', 'shop-dev', 'olga', 'run-put-back')",
        )
        .await;
    let report = world.prune().await;
    assert_eq!(gone(&report), "runs 1");
    assert_eq!(
        kept(&report),
        "runs 1: a backup names it\nruns 1: a restore names it\nruns 1: a run that is not finished waits for it\n\
         runs 2: a resource names it"
    );
    // One after the other nobody needs them any more.
    world
        .execute(
            "delete from ops.restores; delete from ops.backups; delete from ops.runs where run_id = 'run-parent';
             update ops.resources set status = 'failed'",
        )
        .await;
    assert_eq!(gone(&world.prune().await), "runs 5");
    assert_eq!(world.count("resources").await, 0);
}

#[tokio::test]
async fn the_ten_newest_builds_of_an_environment_that_have_an_image_stay_to_be_gone_back_to() {
    let world = World::new().await;
    for n in 0..12 {
        world.built(&format!("run-{n:02}"), 1000 - n).await;
    }
    // Newer, and none of those: without an image, failed, of another environment.
    world.ended_as("run-no-image", "build", "success", 900).await;
    world.ended_as("run-broken", "build", "failed", 900).await;
    world.built("run-elsewhere", 900).await;
    world.execute("update ops.runs set env_id = 'shop-prod' where run_id = 'run-elsewhere'").await;
    let report = world.prune().await;
    assert_eq!(gone(&report), "runs 4");
    assert_eq!(kept(&report), "runs 11: its image can be gone back to");
    let left = world.runs().await;
    assert_eq!((left.len(), left[0].as_str(), left[9].as_str()), (11, "run-02", "run-11"));
    // A new one takes the place of the oldest.
    world.built("run-12", 0).await;
    assert_eq!(gone(&world.prune().await), "runs 1");
    assert_eq!(world.runs().await[0], "run-03");
}

#[tokio::test]
async fn the_history_of_what_people_did_goes_when_its_time_is_over_and_nobody_waits_for_it() {
    let world = World::new().await;
    old_things(&world, 366).await;
    world.execute("delete from ops.runs").await;
    world
        .execute(
            "insert into ops.audit_log (actor, action) values ('olga', 'young');
             insert into ops.runners (runner_id, worker_id, hostname, pid, kinds, concurrency, version, last_seen)
             values ('w-31', 'w', 'h', 1, '{}', 1, '1', now() - interval '31 days'), ('w-1', 'w', 'h', 1, '{}', 1, '1', now());
             insert into ops.runs (run_id, kind) values ('run-again', 'restore');
             insert into ops.backups (backup_id, project_id, env_id) values ('bak-1', 'shop', 'shop-dev');
             insert into ops.restores (restore_id, backup_id, target_env_id, requested_by, status, error, run_id, started_at,
                                       finished_at) values
                 ('rst-old', 'bak-1', 'shop-prod', 'olga', 'success', null, null, '2020-01-01', '2020-01-01'),
                 ('rst-again', 'bak-1', 'shop-prod', 'olga', 'failed', 'broken', 'run-again', '2020-01-01', '2020-01-01'),
                 ('rst-young', 'bak-1', 'shop-prod', 'olga', 'success', null, null, now(), now()),
                 ('rst-open', 'bak-1', 'shop-prod', 'olga', 'approved', null, null, null, null);
             insert into ops.approvals (approval_id, approval_type, resource_id, requested_by, status, requested_at,
                                        reviewed_by, reviewed_at, expires_at) values
                 ('appr-denied', 'deploy_prod', 'run-x', 'olga', 'denied', '2020-01-01', 'oleg', '2020-01-01', '2020-01-02'),
                 ('appr-expired', 'deploy_prod', 'run-x', 'olga', 'expired', '2020-01-01', null, null, '2020-01-02'),
                 ('appr-open', 'restore_prod', 'rst-open', 'olga', 'approved', '2020-01-01', 'oleg', '2020-01-01', '2020-01-02')",
        )
        .await;
    let report = world.prune().await;
    assert_eq!(gone(&report), "approvals 3, audit 1, restores 1, runners 1, tokens 2");
    assert_eq!(world.ask("select string_agg(approval_id, ' ') from ops.approvals").await, "appr-open");
    assert_eq!(world.ask("select string_agg(action, ' ') from ops.audit_log").await, "young");
    assert_eq!(world.ask("select string_agg(runner_id, ' ') from ops.runners").await, "w-1");
    let restores = "select string_agg(restore_id, ' ' order by restore_id) from ops.restores";
    assert_eq!(world.ask(restores).await, "rst-again rst-open rst-young");
    assert_eq!(gone(&world.prune().await), "");
}

#[tokio::test]
async fn events_of_finished_runs_go_earlier_than_their_runs_and_undecided_approvals_expire() {
    let world = World::new().await;
    world.ended("run-1", 91).await;
    world
        .execute(
            "insert into ops.run_events (run_id, level, message, created_at) values
                 ('run-1', 'info', 'old', now() - interval '91 days'), ('run-1', 'info', 'young', now() - interval '89 days');
             insert into ops.approvals (approval_type, resource_id, requested_by, expires_at)
             values ('deploy_prod', 'run-y', 'olga', now())",
        )
        .await;
    assert_eq!(gone(&world.prune().await), "events 1");
    assert_eq!(world.ask("select message from ops.run_events").await, "young");
    assert_eq!(world.ask("select status from ops.approvals").await, "expired");
}
