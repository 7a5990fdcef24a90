//! What a runner offers to do, and what it says when something that it needs is missing.

use crate::binary::{Environment, Running};
use crate::processes::{signal, until_said};
use crate::store::{DEADLINE, Store};
use axum::Router;
use axum::routing::get;
use ops_controller::runs::NewRun;
use serde_json::json;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// A runner's variables, its folder, and where its lines go.
struct Place {
    env: Environment,
    folder: TempDir,
}

impl Place {
    /// Where the database is, and nothing more.
    fn bare(store: &Store) -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let env = Environment::default()
            .with("OPS_DATABASE_URL", &store.url)
            .with("LISTEN_ADDR", "127.0.0.1:0")
            .with("LOG_FORMAT", "text")
            .with("RUNNER_POLL_INTERVAL", "100ms");
        Place { env, folder }
    }

    fn with(self, name: &str, value: impl Into<String>) -> Place {
        Place { env: self.env.with(name, value), ..self }
    }

    fn below(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn out(&self) -> PathBuf {
        self.below("out")
    }

    fn start(&self) -> Running {
        self.env.start_printing_to(&["runner"], std::fs::File::create(self.out()).expect("a file"))
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.out()).unwrap_or_default()
    }

    async fn metrics(&self) -> String {
        const LISTENS: &str = "the runner listens on ";
        let said = until_said(&self.out(), LISTENS).await;
        let url = said.split(LISTENS).nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an address");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        client.get(format!("{url}/metrics")).send().await.expect("an answer").text().await.expect("a text")
    }

    async fn until_metrics(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let metrics = self.metrics().await;
            if holds(&metrics) {
                return metrics;
            }
            assert!(Instant::now() < deadline, "never {what}:\n{metrics}\n{}", self.said());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

async fn stop(runner: Running) {
    runner.end_with(libc::SIGTERM).await.expect_code(0);
}

/// As it is really queued.
async fn queue_build(store: &Store) -> String {
    store
        .execute(
            "insert into ops.projects (project_id, name) values ('shop', 'Shop');
             insert into ops.environments (env_id, project_id, env_type) values ('shop-dev', 'shop', 'dev')",
        )
        .await;
    let sql = "select run_id from ops.queue_run('shop', 'dev', 'abc123def456', 'refs/heads/main')";
    sqlx::query_scalar(sql).fetch_one(&mut store.c().await).await.expect("queued")
}

/// A run that needs no settings of its runner: it asks somebody who answers.
async fn needs_nothing() -> NewRun {
    let answers = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", answers.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(answers, Router::new().route("/", get(|| async {}))).await });
    let phases = json!([{ "name": "ask", "uses": "http", "with": { "url": url } }]);
    NewRun { metadata: json!({ "phases": phases }), ..NewRun::of_kind("custom") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_lacks_nothing_works_on_everything_and_warns_of_nothing() {
    let store = Store::new().await;
    let place = Place::bare(&store);
    let kept = place.below("kept").display().to_string();
    let place = place
        .with("GITHUB_TOKEN", "a-token-that-nobody-asks")
        .with("TARGET_DATABASE_URL", &store.url)
        .with("RUNNER_COMMANDS", "true=/bin/true")
        .with("ARTIFACT_STORE", &kept);
    let runner = place.start();
    let said = until_said(&place.out(), "works on backup, build, custom, restore").await;
    assert!(!said.contains("WARN") && !said.contains("not on"), "{said}");
    place.until_metrics("the store works", |text| text.contains("ops_controller_artifact_store_up 1")).await;
    assert_eq!(std::fs::read_dir(kept).expect("the store").count(), 0, "nothing is left of the probe");
    stop(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_a_runner_lacks_the_settings_for_is_left_to_others() {
    let store = Store::new().await;
    let place = Place::bare(&store);
    let mut left = vec![queue_build(&store).await];
    for kind in ["backup", "restore"] {
        left.push(store.queue_kind(kind).await);
    }
    let done = store.enqueue(&needs_nothing().await).await.run_id;
    let runner = place.start();
    store.until_status(&done, "success").await;
    let said = until_said(&place.out(), " works on custom; ").await;
    for text in ["not on build: GITHUB_TOKEN is not set", "not on backup, restore: TARGET_DATABASE_URL is not set"] {
        assert!(said.contains(text), "{said}");
    }
    let known = store.count("select count(*) from ops.runners where kinds = '{custom}'").await;
    assert_eq!(known, 1, "others see what it works on");
    stop(runner).await;
    for run in left {
        let run = store.run(&run).await;
        assert_eq!((run.status.as_str(), run.attempt), ("queued", 0), "{}", run.kind);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_is_asked_for_and_lacks_a_setting_is_refused_by_both_names() {
    let env = Environment::default()
        .with("OPS_DATABASE_URL", "postgresql://ops@127.0.0.1:1/ops")
        .with("LISTEN_ADDR", "127.0.0.1:0");
    for (kind, variable) in [("build", "GITHUB_TOKEN"), ("backup", "TARGET_DATABASE_URL")] {
        let refused = env.clone().with("RUNNER_KINDS", kind).run(&["runner"]).await.expect_code(78);
        refused.expect_text(&format!("RUNNER_KINDS names {kind}, but {variable} is not set"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_store_something_are_not_claimed_before_the_store_works() {
    let store = Store::new().await;
    let place = Place::bare(&store).with("RUNNER_COMMANDS", "image=/bin/true");
    // A file where a folder must be.
    let in_the_way = place.below("in-the-way");
    std::fs::write(&in_the_way, "").expect("written");
    let kept = in_the_way.join("kept").display().to_string();
    let place = place.with("ARTIFACT_STORE", &kept);
    let build = queue_build(&store).await;
    let runner = place.start();
    let said = until_said(&place.out(), " works on custom; ").await;
    assert!(
        said.contains(&format!("ARTIFACT_STORE {kept} cannot be used: ")) && said.contains("let it be a folder"),
        "{said}"
    );
    place.until_metrics("the store is away", |text| text.contains("ops_controller_artifact_store_up 0")).await;
    let done = store.enqueue(&needs_nothing().await).await.run_id;
    store.until_status(&done, "success").await;
    assert_eq!(store.run(&build).await.status, "queued");

    std::fs::remove_file(&in_the_way).expect("removed");
    until_said(&place.out(), "the artifact store works again: runs of build are claimed").await;
    store.until("it is claimed", &format!("select status <> 'queued' from ops.runs where run_id = '{build}'")).await;
    store.until("others see it", "select exists (select from ops.runners where kinds = '{build,custom}')").await;
    stop(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_will_not_do_what_they_are_there_for_are_warned_of_at_the_start() {
    let store = Store::new().await;
    let place = Place::bare(&store);
    let plain = place.below("plain");
    std::fs::write(&plain, "no program").expect("written");
    let empty = place.below("empty");
    std::fs::create_dir(&empty).expect("made");
    let place = place
        .with("RUNNER_COMMANDS", format!("gone=/no/such/program,plain={}", plain.display()))
        .with("OPS_PG_BIN", empty.display().to_string())
        .with("RUNNER_CONCURENCY", "3");
    let runner = place.start();
    let said = until_said(&place.out(), " works on ").await;
    stop(runner).await;
    for text in [
        "RUNNER_COMMANDS has gone=/no/such/program, which does not exist".to_owned(),
        format!("RUNNER_COMMANDS has plain={}, which is not executable", plain.display()),
        format!("OPS_PG_BIN names {}, which has no pg_dump", empty.display()),
        "RUNNER_CONCURENCY is not a variable of ops-controller; did you mean RUNNER_CONCURRENCY?".to_owned(),
    ] {
        assert!(said.lines().any(|line| line.contains("WARN") && line.contains(&text)), "{text}:\n{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_database_is_away_the_metrics_say_so_and_tell_no_old_depths() {
    let store = Store::alone().await;
    queue_build(&store).await;
    let place = Place::bare(&store);
    let runner = place.start();
    let is_there = |text: &str| {
        text.contains("ops_controller_ops_database_up 1") && text.contains("ops_controller_queue_due{kind=\"build\"} 1")
    };
    place.until_metrics("it is there", is_there).await;
    store.cluster.stop().await.expect("stopped");
    let away = place.until_metrics("it is away", |text| text.contains("ops_controller_ops_database_up 0")).await;
    for name in ["due", "later", "held", "oldest_seconds"] {
        assert!(!away.contains(&format!("ops_controller_queue_{name}{{")), "{away}");
    }
    let where_it_is = format!("127.0.0.1:{}", store.address.options().get_port());
    let said = until_said(&place.out(), "no runs can be claimed for now").await;
    assert!(said.contains("OPS_DATABASE_URL") && said.contains(&where_it_is), "{said}");
    assert!(!said.contains("sqlx"), "no library speaks for us: {said}");
    store.cluster.start().await.expect("started");
    place.until_metrics("it is there again", |text| text.contains("ops_controller_ops_database_up 1")).await;
    stop(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_is_answered_with_what_has_changed_and_needs_a_restart() {
    let store = Store::new().await;
    let place = Place::bare(&store);
    let file = place.below("settings");
    let write = |path: &Path, text: &str| std::fs::write(path, text).expect("written");
    write(&file, "RUNNER_CONCURRENCY=3\n");
    let place = place.with("ENV_FILE", file.display().to_string());
    let runner = place.start();
    until_said(&place.out(), " works on ").await;
    signal(&runner, libc::SIGHUP);
    until_said(&place.out(), "at the start only, and they have not changed").await;
    write(&file, "RUNNER_CONCURRENCY=4\nRUNNER_GRACE=1s\n");
    signal(&runner, libc::SIGHUP);
    until_said(&place.out(), "restart it, because of RUNNER_CONCURRENCY, RUNNER_GRACE").await;
    stop(runner).await;
}
