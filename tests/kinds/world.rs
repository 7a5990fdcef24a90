//! One PostgreSQL for all tests; for each a database, a GitHub, a Railway, a store, and runners that can be killed.

use crate::postgres;
use ops_controller::clients::Seam;
use ops_controller::clients::seam::Point;
use ops_controller::config::OpsConfig;
use ops_controller::runner::kinds::{self, Settings};
use ops_controller::runner::{Options, Runner};
use ops_controller::runs::look::{self, Artifact, Phase, Run};
use ops_controller::runs::schema::Address;
use ops_controller::runs::{NewRun, RunsError, queue};
use ops_controller::sandbox::faults::Faults;
use ops_controller::sandbox::github::{GitHub, GitHubOptions};
use ops_controller::sandbox::postgres::Cluster;
use ops_controller::sandbox::railway::{Railway, RailwayOptions};
use ops_controller::sandbox::webapp::{Webapp, WebappOptions};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Nothing here takes nearly that long; a loaded machine may.
pub const DEADLINE: Duration = Duration::from_secs(60);
pub const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// Databases whose tests are over: to empty one is much cheaper than to copy one.
static FREE: Mutex<Vec<String>> = Mutex::new(Vec::new());
const EMPTIED: &str = "
    set session_replication_role = replica;
    do $$ declare t text; begin
        for t in select tablename from pg_tables where schemaname = 'ops' and tablename not in ('roles', '_sqlx_migrations')
        loop execute format('delete from ops.%I', t); end loop;
    end $$";

/// An empty one, migrated.
async fn database() -> (Arc<Cluster>, String) {
    let server = postgres::server("").await;
    let free = FREE.lock().expect("no test panics here").pop();
    if let Some(name) = free {
        let mut c = connect(server.connect_options().database(&name)).await;
        execute(&mut c, EMPTIED).await;
        return (server, name);
    }
    let name = postgres::database(&server, postgres::MIGRATED).await;
    (server, name)
}

pub struct World {
    server: Arc<Cluster>,
    session: tokio::sync::Mutex<PgConnection>,
    pub name: String,
    pub address: Address,
    pub github: GitHub,
    pub railway: Railway,
    pub folder: TempDir,
    programs: Mutex<Vec<String>>,
    /// Instead of a folder.
    pub bucket: Mutex<Option<String>>,
    /// Where the environments' databases are said to be, instead of where they are.
    pub target: Mutex<Option<String>>,
    /// Instead of the one that GitHub knows.
    pub github_token: Mutex<Option<String>>,
    /// How long a slot is kept for what nobody begins.
    pub waits: Mutex<Duration>,
}

impl World {
    pub async fn new() -> World {
        World::with(GitHubOptions::default()).await
    }

    pub async fn with(options: GitHubOptions) -> World {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (server, name) = database().await;
        // It never boots: there is only Railway to be asked.
        let webapp = WebappOptions { boot_delay: Duration::from_secs(3600), ..WebappOptions::default() };
        let webapp = Webapp::start(webapp, server.clone()).await.expect("a webapp");
        let railway = Railway::start(RailwayOptions::default(), Faults::default(), server.clone(), webapp)
            .await
            .expect("Railway");
        let github = GitHub::start(options).await.expect("GitHub");
        let folder = tempfile::Builder::new().prefix("ops-kinds-").tempdir().expect("a folder");
        let url = postgres::url(&server, &name);
        let address = Address::from_url(&url, "test").expect("an address");
        let session = tokio::sync::Mutex::new(address.connect().await.expect("a connection"));
        let world = World {
            server,
            session,
            name,
            address,
            github,
            railway,
            folder,
            programs: Mutex::default(),
            bucket: Mutex::default(),
            target: Mutex::default(),
            github_token: Mutex::default(),
            waits: Mutex::new(DEADLINE),
        };
        world
            .execute(
                "insert into ops.projects (project_id, name, repo_slug) values ('shop', 'Shop', 'acme/app');
                 insert into ops.environments (env_id, project_id, env_type) values
                     ('shop-dev', 'shop', 'dev'), ('shop-staging', 'shop', 'staging'), ('shop-prod', 'shop', 'prod')",
            )
            .await;
        world.configure("shop-dev", &world.on_railway()).await;
        world
    }

    /// The usual environment: a workflow, Railway, and the image asked for by its digest.
    pub fn on_railway(&self) -> Value {
        json!({
            "build": { "github": { "workflow": "build.yml" } },
            "deploy": { "railway": {
                "project_id": self.railway.project_id(), "environment_id": self.railway.environment_id(),
                "service": "shop", "variables": { "GIT_SHA": "${git_sha}", "IMAGE": "${image_tag}" },
            } },
            "smoke": { "checks": [
                { "name": "health_check", "path": "/health", "expect": { "status": 200 }, "retries": 2, "interval": "20ms" },
                { "name": "answers", "path": "/", "expect": { "json": { "/status": "ok" } }, "retries": 0 },
            ] },
        })
    }

    pub async fn configure(&self, env_id: &str, config: &Value) {
        self.execute(&format!("update ops.environments set config = '{config}' where env_id = '{env_id}'")).await;
    }

    /// A program of the runners' list: a script.
    pub fn program(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        self.programs.lock().expect("no test panics here").push(format!("{name}={}", path.display()));
    }

    pub fn url_of(&self, database: &str) -> String {
        postgres::url(&self.server, database)
    }

    /// A database of an environment, which then has its name.
    pub async fn database(&self, env_id: &str) -> PgConnection {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}_{}", env_id.replace('-', "_"), COUNT.fetch_add(1, Ordering::SeqCst));
        let mut c = connect(self.server.connect_options().database("postgres")).await;
        execute(&mut c, &format!("create database {name}")).await;
        self.execute(&format!("update ops.environments set db_name = '{name}' where env_id = '{env_id}'")).await;
        connect(self.server.connect_options().database(&name)).await
    }

    pub fn store(&self) -> std::path::PathBuf {
        self.folder.path().join("store")
    }

    /// What a runner is told.
    pub fn variables(&self) -> Vec<(String, String)> {
        let github = self.github.options();
        let bucket = self.bucket.lock().expect("no test panics here").clone();
        let store = match bucket {
            Some(_) => "s3://kept/below".to_owned(),
            None => self.store().display().to_string(),
        };
        let target = self.target.lock().expect("no test panics here").clone();
        let pairs = [
            ("LISTEN_ADDR", "127.0.0.1:0".to_owned()),
            ("AWS_ACCESS_KEY_ID", "AKIANOTREAL".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "not-a-real-key".to_owned()),
            ("AWS_REGION", "eu-west-1".to_owned()),
            ("AWS_ENDPOINT_URL", bucket.unwrap_or_default()),
            ("OPS_DATABASE_URL", self.url_of(&self.name)),
            ("TARGET_DATABASE_URL", target.unwrap_or_else(|| self.url_of("postgres"))),
            ("GITHUB_API_URL", self.github.url()),
            (
                "GITHUB_TOKEN",
                self.github_token.lock().expect("no test panics here").clone().unwrap_or(github.token.clone()),
            ),
            ("RAILWAY_API_URL", self.railway.url()),
            ("RAILWAY_API_TOKEN", self.railway.options().account_token.clone()),
            ("ARTIFACT_STORE", store),
            ("RUNNER_COMMANDS", self.programs.lock().expect("no test panics here").join(",")),
        ];
        let given = |(name, value): (&str, String)| (!value.is_empty()).then(|| (name.to_owned(), value));
        pairs.into_iter().filter_map(given).collect()
    }

    pub fn settings(&self, seam: &Seam) -> Arc<Settings> {
        let config = OpsConfig::from_pairs(self.variables()).expect("a configuration");
        let settings = Settings::new(&config, seam).expect("settings");
        let waits = *self.waits.lock().expect("no test panics here");
        Arc::new(settings.polling(Duration::from_millis(10), Duration::from_millis(50)).waiting(waits))
    }

    pub fn runner(&self) -> Working {
        self.runner_with(&Seam::default())
    }

    /// One that stands still where it comes to this point, which it tells.
    pub fn runner_that_stops_at(&self, point: Point) -> (Working, Arc<tokio::sync::Notify>) {
        let reached = Arc::new(tokio::sync::Notify::new());
        let told = reached.clone();
        let seam = Seam::new(move |at| {
            let (told, is_it) = (told.clone(), at == point);
            async move {
                if is_it {
                    told.notify_one();
                    std::future::pending::<()>().await;
                }
            }
        });
        (self.runner_with(&seam), reached)
    }

    pub fn runner_with(&self, seam: &Seam) -> Working {
        let options = Options {
            lease: Duration::from_secs(30),
            poll: Duration::from_millis(100),
            grace: Duration::from_secs(5),
            ..Options::named("runner")
        };
        let runner = Runner::new(self.address.clone(), options, kinds::all(&self.settings(seam)));
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = threads.expect("a runtime");
        let stop = CancellationToken::new();
        let task = runtime.spawn(runner.run(stop.clone()));
        Working { stop, task: Some(task), runtime: Some(runtime) }
    }

    pub async fn c(&self) -> tokio::sync::MutexGuard<'_, PgConnection> {
        self.session.lock().await
    }

    pub async fn execute(&self, sql: &str) {
        execute(&mut *self.c().await, sql).await;
    }

    /// One text; empty for null.
    pub async fn ask(&self, sql: &str) -> String {
        let row = self.c().await.fetch_one(AssertSqlSafe(format!("select ({sql})::text"))).await.expect(sql);
        row.get::<Option<String>, _>(0).unwrap_or_default()
    }

    pub async fn refused(&self, sql: &str) -> String {
        self.c().await.execute(AssertSqlSafe(sql.to_owned())).await.expect_err(sql).to_string()
    }

    pub async fn queue_build(&self, git_ref: &str, metadata: &Value) -> String {
        let sql = format!("select run_id from ops.queue_run('shop', 'dev', '{SHA}', '{git_ref}', '{metadata}')");
        let run = self.c().await.fetch_one(AssertSqlSafe(sql)).await.expect("queued").get("run_id");
        self.at_once(run).await
    }

    pub async fn queue_custom(&self, phases: Value) -> String {
        let metadata = json!({ "phases": phases });
        let (project_id, env_id) = (Some("shop".to_owned()), Some("shop-dev".to_owned()));
        let (git_sha, git_ref) = (Some(SHA.to_owned()), Some("main".to_owned()));
        let run = NewRun { metadata, project_id, env_id, git_sha, git_ref, ..NewRun::of_kind("custom") };
        let run = queue::enqueue(&mut *self.c().await, &run).await.expect("queued").run_id;
        self.at_once(run).await
    }

    /// Its next attempts wait for nothing.
    pub async fn at_once(&self, run: String) -> String {
        self.execute(&format!("update ops.runs set backoff_seconds = 0 where run_id = '{run}'")).await;
        run
    }

    pub async fn cancel(&self, run: &str) {
        self.ask(&format!("ops.cancel_run('{run}', 'olga')")).await;
    }

    /// As if its runner had not been heard of for long.
    pub async fn rescue(&self, run: &str) {
        self.execute(&format!(
            "update ops.runs set lease_expires_at = now() - interval '1 s' where run_id = '{run}';
             select ops.rescue_runs(10)"
        ))
        .await;
    }

    pub async fn run(&self, run: &str) -> Run {
        look::get(&mut *self.c().await, run).await.expect("an answer").expect("a run")
    }

    pub async fn ended(&self, run: &str) -> Run {
        self.until(
            &format!("{run} ends"),
            &format!("select finished_at is not null from ops.runs where run_id = '{run}'"),
        )
        .await;
        self.run(run).await
    }

    #[track_caller]
    pub fn expect(run: &Run, status: &str) -> Value {
        assert_eq!(run.status, status, "{:?}", run.error);
        run.output.clone().unwrap_or_default()
    }

    pub async fn succeeded(&self, run: &str) -> Value {
        World::expect(&self.ended(run).await, "success")
    }

    pub async fn failed(&self, run: &str) -> String {
        let run = self.ended(run).await;
        World::expect(&run, "failed");
        run.summary.error.expect("a reason")
    }

    /// Polled, because the database changes by itself.
    pub async fn until(&self, what: &str, sql: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let row = self.c().await.fetch_one(AssertSqlSafe(format!("select ({sql})::bool"))).await.expect(sql);
            if row.get::<Option<bool>, _>(0) == Some(true) {
                return;
            }
            assert!(Instant::now() < deadline, "in {DEADLINE:?} not: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The same for what is not in the database.
    pub async fn until_so(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_so() {
            assert!(Instant::now() < deadline, "in {DEADLINE:?} not: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn messages(&self, run: &str) -> Vec<String> {
        let events = look::events(&mut *self.c().await, run, 0, 1000).await.expect("events").events;
        events.into_iter().map(|e| e.message).collect()
    }

    pub async fn phases(&self, run: &str) -> Vec<Phase> {
        look::phases(&mut *self.c().await, run).await.expect("phases")
    }

    /// What a phase left behind.
    pub async fn left(&self, run: &str, phase: &str) -> Value {
        let found = self.phases(run).await.into_iter().find(|p| p.name == phase).expect("a phase");
        found.output.unwrap_or_default()
    }

    pub async fn artifacts(&self, run: &str) -> Vec<Artifact> {
        look::artifacts(&mut *self.c().await, run).await.expect("artifacts")
    }

    /// How often GitHub was asked to begin a workflow, and Railway to deploy.
    pub fn dispatches(&self) -> usize {
        self.github.requests().iter().filter(|r| r.path.ends_with("/dispatches")).count()
    }

    pub fn deploys(&self) -> usize {
        self.mutations("ServiceInstanceDeploy")
    }

    pub fn mutations(&self, operation: &str) -> usize {
        self.railway.requests().iter().filter(|r| r.operation == operation).count()
    }

    pub async fn stop(self) {
        self.railway.stop().await;
        self.github.stop().await;
        FREE.lock().expect("no test panics here").push(self.name);
    }
}

async fn connect(options: PgConnectOptions) -> PgConnection {
    options.connect().await.expect("a connection")
}

pub async fn execute(c: &mut PgConnection, sql: &str) {
    c.execute(AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// A runner with threads of its own.
pub struct Working {
    stop: CancellationToken,
    task: Option<JoinHandle<Result<(), RunsError>>>,
    runtime: Option<Runtime>,
}

impl Working {
    pub async fn end(mut self) {
        self.stop.cancel();
        let task = self.task.take().expect("it runs");
        tokio::time::timeout(DEADLINE, task).await.expect("in time").expect("no panic").expect("a good end");
    }

    /// Gone without a word, with everything that it was about to do.
    pub fn kill(self) {}
}

impl Drop for Working {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
