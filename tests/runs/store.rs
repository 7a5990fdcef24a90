//! A private database with our schema, runners on it, and kinds that do what a test wants.

use crate::postgres;
use ops_controller::runner::kind::{Context, Kind, Phase, PhaseError, Work};
use ops_controller::runner::{Kinds, Options, Runner};
use ops_controller::runs::look::{self, Run};
use ops_controller::runs::schema::Address;
use ops_controller::runs::{Claimed, NewRun, Queued, queue};
use ops_controller::sandbox::postgres::Cluster;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Nothing here takes nearly that long; a loaded machine may.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub struct Store {
    pub cluster: Arc<Cluster>,
    pub url: String,
    pub address: Address,
}

impl Store {
    pub async fn new() -> Store {
        let cluster = postgres::server("").await;
        let name = postgres::database(&cluster, postgres::MIGRATED).await;
        let url = postgres::url(&cluster, &name);
        let address = Address::from_url(&url, "test").expect("an address");
        Store { cluster, url, address }
    }

    /// On a server of its own, which can be stopped.
    pub async fn alone() -> Store {
        let cluster = Arc::new(Cluster::create(postgres::options()).await.expect("a cluster"));
        let address = Address::from_url(&cluster.url(), "test").expect("an address");
        address.migrate().await.expect("migrated");
        Store { url: cluster.url(), cluster, address }
    }

    pub async fn c(&self) -> PgConnection {
        self.address.connect().await.expect("a connection")
    }

    pub async fn enqueue(&self, run: &NewRun) -> Queued {
        queue::enqueue(&mut self.c().await, run).await.expect("queued")
    }

    pub async fn queue_kind(&self, kind: &str) -> String {
        self.enqueue(&NewRun::of_kind(kind)).await.run_id
    }

    pub async fn run(&self, run_id: &str) -> Run {
        look::get(&mut self.c().await, run_id).await.expect("an answer").expect("a run")
    }

    pub async fn messages(&self, run_id: &str) -> Vec<String> {
        let events = look::events(&mut self.c().await, run_id, 0, 1000).await.expect("events").events;
        events.into_iter().map(|e| e.message).collect()
    }

    pub async fn outcomes(&self, run_id: &str) -> Vec<Option<String>> {
        let attempts = look::attempts(&mut self.c().await, run_id).await.expect("attempts");
        attempts.into_iter().map(|a| a.outcome).collect()
    }

    pub async fn execute(&self, sql: &str) {
        self.c().await.execute(AssertSqlSafe(sql.to_owned())).await.expect(sql);
    }

    pub async fn count(&self, sql: &str) -> i64 {
        self.c().await.fetch_one(AssertSqlSafe(sql.to_owned())).await.expect(sql).get(0)
    }

    /// Polled, because the database changes by itself.
    pub async fn until(&self, what: &str, sql: &str) {
        let deadline = Instant::now() + DEADLINE;
        let mut c = self.c().await;
        loop {
            let row = c.fetch_one(AssertSqlSafe(format!("select ({sql})::bool"))).await.expect(sql);
            if row.get::<Option<bool>, _>(0) == Some(true) {
                return;
            }
            assert!(Instant::now() < deadline, "in {DEADLINE:?} not: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn until_status(&self, run_id: &str, status: &str) -> Run {
        let sql = format!("select status = '{status}' from ops.runs where run_id = '{run_id}'");
        self.until(&format!("{run_id} is {status}"), &sql).await;
        self.run(run_id).await
    }

    pub fn runner(&self, options: Options, kinds: Vec<(&str, Arc<dyn Kind>)>) -> Working {
        self.runner_at(self.address.clone(), options, kinds)
    }

    pub fn doomed(&self, options: Options, kinds: Vec<(&str, Arc<dyn Kind>)>) -> Doomed {
        let kinds: Kinds = kinds.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("built");
        runtime.spawn(Runner::new(self.address.clone(), options, kinds).run(CancellationToken::new()));
        Doomed(Some(runtime))
    }

    /// At an address of its own: a road that can be cut.
    pub fn runner_at(&self, address: Address, options: Options, kinds: Vec<(&str, Arc<dyn Kind>)>) -> Working {
        let kinds: Kinds = kinds.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect();
        let runner = Runner::new(address, options, kinds);
        let id = runner.id().to_owned();
        let stop = CancellationToken::new();
        let task = tokio::spawn(runner.run(stop.clone()));
        Working { id, stop, task }
    }
}

/// Looks often, and keeps its leases on a loaded machine.
pub fn quick(worker_id: &str) -> Options {
    Options {
        lease: Duration::from_secs(30),
        poll: Duration::from_millis(200),
        grace: Duration::from_secs(5),
        ..Options::named(worker_id)
    }
}

/// Leases that run out while a test waits.
pub fn forgetful(worker_id: &str) -> Options {
    Options { lease: Duration::from_millis(1200), ..quick(worker_id) }
}

pub struct Working {
    pub id: String,
    pub stop: CancellationToken,
    task: JoinHandle<Result<(), ops_controller::runs::RunsError>>,
}

impl Working {
    pub async fn end(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(DEADLINE, self.task).await.expect("it ends in time");
        ended.expect("no panic").expect("a good end");
    }
}

/// A runner in a runtime of its own, which can be cut off.
pub struct Doomed(Option<tokio::runtime::Runtime>);

impl Doomed {
    /// Gone without a word, as by a power cut.
    pub fn vanishes(mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

type Doing = Arc<dyn for<'a> Fn(&'a Context) -> Work<'a> + Send + Sync>;

/// Phases by name, each with what it does.
#[derive(Default, Clone)]
pub struct Steps {
    phases: Vec<Phase>,
    doing: HashMap<String, Doing>,
}

impl Steps {
    pub fn phase(self, name: &str, doing: impl for<'a> Fn(&'a Context) -> Work<'a> + Send + Sync + 'static) -> Steps {
        self.with(Phase::new(name, DEADLINE), doing)
    }

    pub fn with(
        mut self,
        phase: Phase,
        doing: impl for<'a> Fn(&'a Context) -> Work<'a> + Send + Sync + 'static,
    ) -> Steps {
        self.doing.insert(phase.name.clone(), Arc::new(doing));
        self.phases.push(phase);
        self
    }

    pub fn kind(self) -> Arc<dyn Kind> {
        Arc::new(self)
    }
}

impl Kind for Steps {
    fn phases(&self, _: &Claimed) -> Result<Vec<Phase>, String> {
        Ok(self.phases.clone())
    }

    fn work<'a>(&'a self, context: &'a Context) -> Work<'a> {
        self.doing[&context.phase.name](context)
    }
}

pub fn done(value: Value) -> Work<'static> {
    Box::pin(async move { Ok(value) })
}

pub fn broken(error: PhaseError) -> Work<'static> {
    Box::pin(async move { Err(error) })
}
