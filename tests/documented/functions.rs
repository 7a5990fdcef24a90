//! The documented functions: names, named arguments, results, exact errors, side effects.

use crate::server::Db;

#[tokio::test]
async fn named_arguments_of_the_document_work_and_there_is_one_function_of_each_name() {
    let mut db = Db::new().await;
    let twice = "select proname from pg_proc where pronamespace = 'ops'::regnamespace group by 1 having count(*) > 1";
    assert_eq!(db.ask(twice).await, "", "calls by name are ambiguous");
    let queue = "p_project_id := 'shop', p_env := 'dev', p_git_sha := 'abc', p_git_ref := 'main'";
    let run = db.ask(&format!("select run_id from ops.queue_run({queue})")).await;
    assert!(run.starts_with("run-"), "{run}");
    db.ask(&format!("select * from ops.queue_run({queue}, p_metadata := '{{\"a\": 1}}')")).await;
    let claim =
        "select run_id, project_id, env_id, git_sha, git_ref, metadata from ops.claim_next_run(p_worker_id := 'w1')";
    assert_eq!(db.ask(claim).await, format!("{run}|shop|shop-dev|abc|main|{{}}"));
    let event = format!(
        "select ops.append_event(p_run_id := '{run}', p_level := 'info', p_message := 'hello', p_payload := '{{\"n\": 1}}')"
    );
    assert!(db.ask(&event).await.starts_with("evt-"));
    let finish = format!(
        "select ops.finish_run(p_run_id := '{run}', p_status := 'success', p_metadata := '{{\"worker_id\": \"w1\"}}')"
    );
    assert_eq!(db.ask(&finish).await, "t");
    let told = format!("select level, message, payload from ops.run_events where run_id = '{run}' order by seq");
    assert_eq!(
        db.ask(&told).await,
        "info|Run queued|{\"env\": \"dev\", \"git_ref\": \"main\", \"git_sha\": \"abc\"}\n\
         info|Run claimed by worker|{\"worker_id\": \"w1\"}\n\
         info|hello|{\"n\": 1}\n\
         info|Run finished: success|{\"worker_id\": \"w1\"}"
    );
}

#[tokio::test]
async fn errors_have_the_documented_words_and_the_state_of_a_plain_raise() {
    let mut db = Db::new().await;
    let run = db.queued().await;
    for (call, words) in [
        ("ops.queue_run('nowhere', 'dev', 'a', 'b')", "Project nowhere does not exist"),
        ("ops.queue_run('bank', 'prod', 'a', 'b')", "Environment prod not found for project bank"),
        ("ops.append_event('run-x', 'info', 'hello')", "Run run-x does not exist"),
        (&format!("ops.append_event('{run}', 'fatal', 'hello')"), "Invalid log level: fatal"),
        ("ops.finish_run('run-x', 'success')", "Run run-x does not exist"),
        (&format!("ops.finish_run('{run}', 'done')"), "Invalid final status: done"),
        (&format!("ops.finish_run('{run}', 'running')"), "Invalid final status: running"),
        ("ops.create_backup('nowhere', 'dev')", "Project nowhere does not exist"),
        ("ops.create_backup('bank', 'prod')", "Environment prod not found for project bank"),
        ("ops.create_backup('bank', 'dev', 'hourly')", "Invalid backup type: hourly"),
        ("ops.restore_backup('bak-x', 'shop-dev', 'me')", "Backup bak-x does not exist"),
    ] {
        assert_eq!(db.refused(&format!("select {call}")).await, format!("P0001: {words}"), "{call}");
    }
    let backup = db.ask("select backup_id from ops.create_backup('bank', 'dev')").await;
    let restore = format!("select ops.restore_backup('{backup}', 'nowhere', 'me')");
    assert_eq!(db.refused(&restore).await, "P0001: Target environment nowhere does not exist");
    assert_eq!(db.ask(&format!("select status, claimed_by from ops.runs where run_id = '{run}'")).await, "queued|");
}

#[tokio::test]
async fn the_same_key_queues_one_run_and_for_something_else_is_refused() {
    let mut db = Db::new().await;
    let queue = |env: &str, key: &str| {
        format!("select run_id from ops.queue_run('shop', '{env}', 'abc', 'main', p_idempotency_key := {key})")
    };
    let first = db.ask(&queue("dev", "'k1'")).await;
    assert_eq!(db.ask(&queue("dev", "'k1'")).await, first);
    assert!(db.refused(&queue("prod", "'k1'")).await.contains("idempotency key k1 was used for another run"));
    assert_ne!(db.ask(&queue("dev", "'k2'")).await, first);
    assert_ne!(db.ask(&queue("dev", "null")).await, db.ask(&queue("dev", "null")).await);
    db.ask(&format!("select ops.finish_run('{first}', 'cancelled')")).await;
    assert_eq!(db.ask(&queue("dev", "'k1'")).await, first, "also when it has ended");
}

#[tokio::test]
async fn many_workers_at_once_get_each_run_once_in_order_and_builds_alone() {
    let mut db = Db::new().await;
    db.ask("select ops.enqueue('deploy', p_priority => 1)").await;
    let mut queued = Vec::new();
    for _ in 0..24 {
        queued.push(db.queued().await);
    }
    let drain = async |name: &'static str| {
        let mut worker = db.login("worker").await;
        let mut taken = Vec::new();
        loop {
            match worker.ask(&format!("select run_id from ops.claim_next_run('{name}')")).await {
                none if none.is_empty() => return taken,
                run => taken.push(run),
            }
        }
    };
    let (a, b, c, d) = tokio::join!(drain("a"), drain("b"), drain("c"), drain("d"));
    for taken in [&a, &b, &c, &d] {
        let place = |run: &String| queued.iter().position(|queued| queued == run);
        assert!(taken.is_sorted_by_key(place), "the oldest first: {taken:?}");
    }
    let mut all = [a, b, c, d].concat();
    all.sort();
    queued.sort();
    assert_eq!(all, queued);
    assert_eq!(db.ask("select kind, status from ops.runs where claimed_by is null").await, "deploy|queued");
}

#[tokio::test]
async fn builds_of_one_environment_take_turns_and_those_of_others_do_not_wait() {
    let mut db = Db::new().await;
    let build = |env: &str| format!("select run_id from ops.queue_run('shop', '{env}', 'abc123', 'refs/heads/main')");
    let (first, second) = (db.ask(&build("dev")).await, db.ask(&build("dev")).await);
    let other = db.ask(&build("prod")).await;
    let claim = "select run_id from ops.claim_next_run('w1')";
    assert_eq!((db.ask(claim).await, db.ask(claim).await, db.ask(claim).await), (first.clone(), other, String::new()));
    db.ask(&format!("select ops.finish_run('{first}', 'failed')")).await;
    assert_eq!(db.ask(claim).await, second);
}

/// What the document's own end-to-end script goes through.
#[tokio::test]
async fn the_whole_way_from_a_project_to_a_finished_run() {
    let mut db = Db::new().await;
    db.ask("insert into ops.projects (project_id, name, repo_slug) values ('e2e', 'End to end', 'org/e2e')").await;
    db.ask("insert into ops.environments (env_id, project_id, env_type) values ('e2e-dev', 'e2e', 'dev')").await;
    // As the script makes it: a row with an id of its own.
    db.ask(
        "insert into ops.runs (run_id, project_id, env_id, git_sha, git_ref, status)
            values ('run-20260214-101500-abc1234', 'e2e', 'e2e-dev', 'abc1234', 'main', 'queued')",
    )
    .await;
    let run = "run-20260214-101500-abc1234";
    let state = format!("select status from ops.runs where run_id = '{run}'");
    assert_eq!(db.ask(&state).await, "queued");
    assert_eq!(db.ask("select run_id from ops.claim_next_run('e2e-worker')").await, run);
    assert_eq!(db.ask(&state).await, "claimed");
    db.ask(&format!("select ops.append_event('{run}', 'info', 'Starting phase: build_image')")).await;
    assert_eq!(db.ask(&state).await, "running");
    db.ask(&format!("select ops.append_event('{run}', 'debug', 'layer 1'), ops.append_event('{run}', 'warn', 'slow')"))
        .await;
    let sum = "ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef0123456789";
    let artifact = format!(
        "select ops.add_run_artifact('{run}', 'image', 'ghcr.io/org/e2e:abc1234', p_checksum := '{sum}',
                            p_size_bytes := 12, p_artifact_type := 'image')"
    );
    let id = db.ask(&artifact).await;
    assert_eq!(db.ask(&artifact).await, id, "captured again, it replaces what was");
    let stored = format!("select artifact_type, storage_path, digest from ops.artifacts where run_id = '{run}'");
    assert_eq!(db.ask(&stored).await, format!("image|ghcr.io/org/e2e:abc1234|sha256:{}", sum.to_lowercase()));
    assert_eq!(
        db.ask("select artifact_key, s3_url, checksum from ops.run_artifacts").await,
        format!("image|ghcr.io/org/e2e:abc1234|{}", sum.to_lowercase())
    );
    db.ask(&format!("select ops.finish_run('{run}', 'success')")).await;
    assert_eq!(db.ask(&state).await, "success");
    assert_eq!(
        db.ask("select level, message from ops.run_logs where level in ('debug', 'warn') order by seq").await,
        "debug|layer 1\nwarn|slow"
    );

    let unwanted = db.queued().await;
    db.ask(&format!("update ops.runs set status = 'cancelled' where run_id = '{unwanted}'")).await;
    let failing = db.claimed().await;
    db.ask(&format!("select ops.finish_run('{failing}', 'failed', '{{\"error\": \"no disk\"}}')")).await;
    assert_eq!(
        db.ask("select status, error from ops.runs where project_id = 'shop' order by seq").await,
        "cancelled|\nfailed|no disk"
    );
    assert_eq!(db.ask("select run_id, status from public.list_runs('e2e')").await, format!("{run}|success"));
    assert_eq!(db.ask("select count(*) from public.list_runs()").await, "3");
    assert_eq!(db.ask("select status from public.list_runs(p_limit := 1)").await, "failed", "the newest first");
    assert_eq!(db.ask("select project_id from public.list_projects() order by 1").await, "bank\ne2e\nshop");
    assert_eq!(db.ask("select env_id from public.list_environments('e2e')").await, "e2e-dev");
}

#[tokio::test]
async fn the_words_of_the_later_specification_do_the_same() {
    let mut db = Db::new().await;
    let run = db.queued().await;
    let listed = "select run_id, kind, attempt, is_paused from ops.list_queued_runs()";
    assert_eq!(db.ask(listed).await, format!("{run}|build|0|f"));
    let start = format!("select ops.start_workflow_run('{run}', 'w1')");
    assert!(db.refused(&start).await.ends_with(&format!("Run {run} is queued: it must be claimed first")));
    db.ask("select ops.claim_next_run('w1')").await;
    assert_eq!(db.ask(listed).await, "");
    let other = format!("select ops.start_workflow_run('{run}', 'w2')");
    assert!(db.refused(&other).await.ends_with(&format!("Run {run} is claimed by w1")));
    let state = format!("select status from ops.runs where run_id = '{run}'");
    assert_eq!(db.ask(&state).await, "claimed");
    assert_eq!(db.ask(&start).await, "t");
    assert_eq!(db.ask(&start).await, "t");
    assert_eq!(db.ask(&state).await, "running");
    let log = format!("select ops.append_run_log('{run}', 'warn', 'careful', '{{\"a\": 1}}')");
    assert!(db.ask(&log).await.starts_with("evt-"));
    assert_eq!(db.ask(&format!("select ops.complete_workflow_run('{run}', 3, 'no disk')")).await, "t");
    assert_eq!(
        db.ask("select status, error, metadata from ops.runs").await,
        "failed|no disk|{\"error\": \"no disk\", \"exit_code\": 3}"
    );
    let begun = "select count(*) from ops.run_events where message = 'Run started'";
    assert_eq!(db.ask(begun).await, "1", "started twice is once");
    let next = db.claimed().await;
    db.ask(&format!("select ops.complete_workflow_run('{next}', 0)")).await;
    let third = db.claimed().await;
    db.ask(&format!("select ops.complete_workflow_run('{third}', null)")).await;
    assert_eq!(
        db.ask("select status, error from ops.runs order by seq offset 1").await,
        "success|\nfailed|no exit code"
    );
}

#[tokio::test]
async fn old_events_go_and_those_of_unfinished_runs_stay() {
    let mut db = Db::new().await;
    let (ended, open) = (db.claimed().await, db.claimed().await);
    db.ask(&format!("select ops.finish_run('{ended}', 'success')")).await;
    assert_eq!(db.ask("select ops.cleanup_old_events()").await, "0");
    db.ask("update ops.run_events set created_at = now() - interval '91 days'").await;
    assert_eq!(db.ask("select ops.cleanup_old_events(92)").await, "0");
    assert_eq!(db.ask("select ops.cleanup_old_events(retention_days := 90)").await, "3");
    assert_eq!(db.ask("select distinct run_id from ops.run_events").await, open);
    assert!(db.refused("select ops.cleanup_old_events(-1)").await.contains("must not be negative"));
}
