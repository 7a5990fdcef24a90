//! The real program as a runner: its own process, real signals.

use crate::binary::{Environment, Running};
use crate::store::{DEADLINE, Store};
use ops_controller::runs::NewRun;
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

fn environment(store: &Store, folder: &tempfile::TempDir) -> Environment {
    Environment::default()
        .with("OPS_DATABASE_URL", &store.url)
        .with("LISTEN_ADDR", "127.0.0.1:0")
        .with("RUNNER_COMMANDS", "true=/bin/true,sleep=/bin/sleep")
        .with("RUNNER_LEASE", "1s")
        .with("RUNNER_POLL_INTERVAL", "100ms")
        .with("RUNNER_GRACE", "300ms")
        .with("ARTIFACT_STORE", folder.path().display().to_string())
}

fn phases(program: &str, arguments: &[&str]) -> NewRun {
    let phase =
        |name: &str| json!({ "name": name, "uses": "command", "with": { "program": program, "arguments": arguments } });
    NewRun { metadata: json!({ "phases": [phase("one"), phase("two")] }), ..NewRun::of_kind("custom") }
}

pub async fn until_said(out: &Path, text: &str) -> String {
    let deadline = Instant::now() + DEADLINE * 2;
    loop {
        let said = std::fs::read_to_string(out).unwrap_or_default();
        if said.contains(text) {
            return said;
        }
        assert!(Instant::now() < deadline, "not said: {text}\n{said}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn signal(runner: &Running, signal: i32) {
    // SAFETY: a signal to a child of ours that has not been waited for.
    assert_eq!(unsafe { libc::kill(runner.pid(), signal) }, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_that_are_killed_and_frozen_lose_nothing_and_finish_everything_once() {
    let store = Store::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let environment = environment(&store, &folder);
    for _ in 0..100 {
        // Attempts are spent by violence here, not by the work.
        store.enqueue(&NewRun { max_attempts: 100, ..phases("true", &[]) }).await;
    }
    store.execute("update ops.runs set backoff_seconds = 0").await;
    let mut runners: Vec<Running> = (0..3).map(|_| environment.start(&["runner"])).collect();
    let held = "select count(*) > 3 from ops.runs where status in ('claimed', 'running')";
    let done = "select count(*) = 0 from ops.runs where status in ('queued', 'claimed', 'running')";
    for turn in 0..4 {
        store.until("they work, or are done", &format!("({held}) or ({done})")).await;
        let at = turn % 3;
        if turn % 2 == 0 {
            let fresh = environment.start(&["runner"]);
            std::mem::replace(&mut runners[at], fresh).end_with(libc::SIGKILL).await;
        } else {
            signal(&runners[at], libc::SIGSTOP);
            let taken = format!(
                "select not exists (select from ops.runs r join ops.runners w on w.runner_id = r.claimed_by
                 where w.pid = {} and r.status in ('claimed', 'running'))",
                runners[at].pid()
            );
            store.until("what it had is another's", &taken).await;
            signal(&runners[at], libc::SIGCONT);
        }
    }
    store.until("all are done", done).await;
    for runner in runners {
        runner.end_with(libc::SIGTERM).await.expect_code(0);
    }
    let failed = "select count(*) from ops.runs where status <> 'success'";
    assert_eq!(store.count(failed).await, 0);
    let ends = "select count(*) from ops.run_events where message like 'Run finished%'";
    assert_eq!(store.count(ends).await, 100, "each ended once");
    let phases = "select count(*) from ops.run_phases where status = 'success'";
    assert_eq!(store.count(phases).await, 200);
    let claims = "select count(*) from ops.runs r
                  where r.lease_token <> 1 + (select count(*) from ops.earlier_attempts a where a.run_id = r.run_id)";
    assert_eq!(store.count(claims).await, 0, "every claim is accounted for");
    let lost = store.count("select count(*) from ops.earlier_attempts where outcome = 'lost'").await;
    assert!(lost > 0, "nobody was killed at work");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_is_asked_to_stop_hands_back_what_it_cannot_end_and_leaves_no_process_behind() {
    let store = Store::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let environment = environment(&store, &folder).with("RUNNER_LEASE", "30s");
    let run = store.enqueue(&phases("sleep", &["3999"])).await.run_id;
    let runner = environment.start(&["runner"]);
    store.until_status(&run, "running").await;
    store.until("it sleeps", &format!("select count(*) = 1 from ops.run_phases where run_id = '{run}'")).await;
    let ended = runner.end_with(libc::SIGTERM).await.expect_code(0);
    assert!(ended.all().contains("waiting up to 0.3 s for 1 run"), "{}", ended.all());
    assert!(ended.all().contains("handed back 1 runs"), "{}", ended.all());
    let back = store.run(&run).await;
    assert_eq!((back.status.as_str(), back.attempt), ("queued", 0), "the attempt is not spent");
    let sleeping = std::fs::read_dir("/proc").expect("processes").flatten().filter(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == b"/bin/sleep\x003999\x00")
    });
    assert_eq!(sleeping.count(), 0, "its command has ended, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_waits_for_its_database_and_makes_the_tables_itself() {
    let store = Store::alone().await;
    store.execute("drop schema ops cascade").await;
    let folder = tempfile::tempdir().expect("a folder");
    store.cluster.stop().await.expect("stopped");
    let out = folder.path().join("out");
    let file = std::fs::File::create(&out).expect("a file");
    let runner = environment(&store, &folder).start_printing_to(&["runner"], file);
    until_said(&out, "no runs are executed for now").await;
    store.cluster.start().await.expect("started");
    store.until("the tables are made", "select to_regclass('ops.runners') is not null").await;
    store.until("it says that it is there", "select exists (select from ops.runners)").await;
    let run = store.enqueue(&phases("true", &[])).await.run_id;
    store.until_status(&run, "success").await;
    runner.end_with(libc::SIGTERM).await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_alone_asks_for_nothing_of_the_controllers() {
    let refused = Environment::default().run(&["runner"]).await.expect_code(78);
    let errors: Vec<&str> = refused.err.lines().filter(|line| line.starts_with("  ")).collect();
    assert_eq!(errors.len(), 1, "{}", refused.err);
    assert!(errors[0].contains("OPS_DATABASE_URL is required"), "{}", refused.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_nobody_executes_is_refused_at_the_start() {
    let environment = Environment::default()
        .with("OPS_DATABASE_URL", "postgresql://ops@127.0.0.1:1/ops")
        .with("LISTEN_ADDR", "127.0.0.1:0")
        .with("RUNNER_KINDS", "build,buidl");
    let refused = environment.run(&["runner"]).await.expect_code(78);
    refused.expect_text("RUNNER_KINDS names buidl; there are build, custom, backup, restore");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sandbox_builds_and_deploys_a_commit_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out");
    let environment =
        Environment::default().with("LOG_FORMAT", "text").with("PATH", std::env::var("PATH").expect("a path"));
    let file = std::fs::File::create(&out).expect("a file");
    let running = environment.start_printing_to(&["sandbox"], file);
    let said = until_said(&out, "build of commit 1: ").await;
    assert!(said.contains("build of commit 1: success after"), "{said}");
    let beside = said.lines().find_map(|line| line.strip_prefix("cli:     ENV_FILE=")).expect("how to look");
    let (settings, command) = beside.split_once(" ops-controller ").expect("a command");
    assert!(command.starts_with("runs list "), "{command}");
    let beside = Environment::default().with("ENV_FILE", settings);
    beside.run(&["runs", "list"]).await.expect_code(0).expect_text("shop-dev");
    beside.run(&["config"]).await.expect_code(0).expect_text("TARGET_DATABASE_URL");
    running.end_with(libc::SIGTERM).await.expect_code(0);
    assert!(!std::path::Path::new(settings).exists(), "it leaves nothing behind");
}
