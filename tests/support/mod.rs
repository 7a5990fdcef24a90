//! A whole little world for one test: the sandbox, a configuration with short times, and the truth.
//!
//! The controller under test is the real one, talking HTTP and SQL; only its waiting times are
//! short. Nothing here sleeps to let something happen: what is waited for is polled with a deadline.

// Each test binary uses a part of this.
#![allow(dead_code)]

pub mod crash;
pub mod program;

use jiff::{SignedDuration, Timestamp};
use ops_controller::clients::{Fence, Seam};
use ops_controller::config::Config;
use ops_controller::controller::lease::{FolderLease, LeaseError};
use ops_controller::controller::status::Status;
use ops_controller::controller::store::{Store, StoreError};
use ops_controller::controller::{Controller, Next, OpenError};
use ops_controller::plan::condition::{Condition, ConditionType, Reason, Status as Truth};
use ops_controller::plan::mode::Shown;
use ops_controller::plan::replication::PUBLICATION;
use ops_controller::plan::state::State;
use ops_controller::sandbox::digitalocean::{DigitalOcean, DigitalOceanOptions, DropletView, Recorded};
use ops_controller::sandbox::faults::Break;
use ops_controller::sandbox::{Options, Sandbox};
use sqlx::AssertSqlSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Nothing here takes nearly that long; a loaded machine may.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Everything as fast as it still behaves like the real thing.
pub fn quick() -> Options {
    Options {
        droplet_boot: Duration::from_millis(40),
        supervisor_boot: Duration::from_millis(10),
        heartbeat_interval: Duration::from_millis(100),
        webapp_boot: Duration::from_millis(20),
        postgres_restart: Duration::ZERO,
        ..Options::default()
    }
}

pub struct World {
    pub sandbox: Sandbox,
    /// The variables of the controller; tests change them before `config`.
    pub pairs: Vec<(String, String)>,
    fresh_pairs: Vec<(String, String)>,
    /// What the present story did not cause: restarts asked for, and restarts.
    before: (usize, u32),
    identity_tag: String,
    folder: tempfile::TempDir,
    /// Somebody else's droplets, which must stay as they are.
    foreign: Vec<u64>,
}

impl World {
    pub async fn start() -> World {
        World::with(quick()).await
    }

    pub async fn with(options: Options) -> World {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let sandbox = Sandbox::start(options).await.expect("a sandbox");
        let folder = tempfile::tempdir().expect("a folder");
        let pairs = sandbox.environment();
        let (fresh_pairs, identity_tag) = (Vec::new(), String::new());
        let mut world =
            World { sandbox, pairs, fresh_pairs, before: (0, 0), identity_tag, folder, foreign: Vec::new() };
        world.set("STATE_FILE", &world.state_file().display().to_string());
        world.fresh_pairs.clone_from(&world.pairs);
        world.identity_tag = world.config().desired.identity_tag();
        world.add_foreign_droplets();
        world
    }

    fn add_foreign_droplets(&mut self) {
        let almost = format!("{}0", self.identity_tag);
        for (name, tags) in [("db-1", vec![]), ("trigger-supervisor-x-1", vec!["ops-controller", almost.as_str()])] {
            self.foreign.push(self.sandbox.digitalocean.add_droplet(name, &tags).expect("a foreign droplet"));
        }
    }

    /// As empty as in the beginning: another DigitalOcean account, the database as it was, no state.
    /// Takes a fraction of the time that a new world takes. Worker tokens stay as they are.
    pub async fn begin_again(&mut self) {
        self.sandbox.digitalocean.stop().await;
        let quick = quick();
        let options = DigitalOceanOptions {
            boot: quick.droplet_boot,
            supervisor_boot: quick.supervisor_boot,
            heartbeat_interval: quick.heartbeat_interval,
            ..DigitalOceanOptions::default()
        };
        Break::ALL.into_iter().for_each(|trouble| self.sandbox.faults.clear(trouble));
        let cloud = DigitalOcean::start(options, self.sandbox.faults.clone()).await;
        self.sandbox.digitalocean = cloud.expect("another account");
        self.foreign.clear();
        self.add_foreign_droplets();
        self.pairs.clone_from(&self.fresh_pairs);
        self.set("DIGITALOCEAN_API_URL", &self.sandbox.digitalocean.base_url());

        // Without its publication, the webapp makes no slot; with a slot, the server would not start.
        self.execute(&format!("drop publication if exists {PUBLICATION}")).await;
        let deadline = Instant::now() + DEADLINE;
        let slots = "select count(*)::text from pg_replication_slots";
        while self.sql(slots).await.as_deref() != Some("0") {
            assert!(Instant::now() < deadline, "the slot cannot be dropped");
            self.execute("select pg_terminate_backend(active_pid) from pg_replication_slots where active").await;
            self.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots where not active").await;
        }
        self.execute("alter table \"TaskRun\" replica identity default").await;
        self.execute("delete from \"WorkerInstance\"").await;
        self.execute("alter system reset wal_level").await;
        self.sandbox.postgres.restart().await.expect("a restart");
        self.before = (self.sandbox.railway.restart_requests().len(), self.sandbox.railway.postgres_restarts());
        std::fs::remove_dir_all(self.folder()).expect("removed");
    }

    /// Restarts that were asked of Railway.
    pub fn restart_requests(&self) -> usize {
        self.sandbox.railway.restart_requests().len() - self.before.0
    }

    /// Restarts that came.
    pub fn restarts(&self) -> u32 {
        self.sandbox.railway.postgres_restarts() - self.before.1
    }

    /// Boots the webapp first, so that nothing in the test depends on how far it has come.
    pub async fn booted() -> World {
        World::booted_with(quick()).await
    }

    pub async fn booted_with(options: Options) -> World {
        let world = World::with(options).await;
        world.sandbox.webapp.ready().await.expect("a booted webapp");
        world
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.pairs.retain(|(n, _)| n != name);
        self.pairs.push((name.to_owned(), value.to_owned()));
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn state_file(&self) -> PathBuf {
        self.folder().join("state.json")
    }

    /// A file beside the state's folder.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The predecessor's file is looked for here instead of in /tmp.
    pub fn predecessor_file(&self) -> PathBuf {
        self.folder.path().join("predecessor.json")
    }

    /// With waiting times below what users may set.
    pub fn config(&self) -> Config {
        let mut config = Config::from_pairs(self.pairs.clone()).expect("a configuration");
        let times = &mut config.desired.times;
        times.check_interval = Duration::from_millis(300);
        times.progress_interval = Duration::from_millis(30);
        times.heartbeat_stale_after = Duration::from_millis(1500);
        times.boot_deadline = Duration::from_secs(600);
        times.create_settle = Duration::from_secs(1);
        times.restart_deadline = Duration::from_secs(4);
        times.disabled_check_interval = times.disabled_check_interval.map(|_| Duration::from_millis(50));
        config
    }

    pub fn store(&self, seam: Seam) -> Store {
        Store::new(self.state_file(), seam).with_predecessor(self.predecessor_file())
    }

    pub fn open(&self) -> Driver {
        self.open_with(self.config(), Seam::default())
    }

    pub fn open_with(&self, config: Config, seam: Seam) -> Driver {
        self.try_open(config, seam).expect("a controller")
    }

    pub fn try_open(&self, config: Config, seam: Seam) -> Result<Driver, OpenError> {
        self.try_open_on(self.store(seam.clone()), config, seam)
    }

    pub fn try_open_on(&self, store: Store, config: Config, seam: Seam) -> Result<Driver, OpenError> {
        let lease = lease(&store)?;
        self.driver(store.fenced(lease.fence()), config, seam, lease)
    }

    fn driver(&self, store: Store, config: Config, seam: Seam, lease: FolderLease) -> Result<Driver, OpenError> {
        let (sender, status) = watch::channel(Arc::new(Status::starting(Shown::Active)));
        let stop = CancellationToken::new();
        let controller = Controller::open(config, store, seam, sender, stop)?;
        Ok(Driver { controller, status, ahead: SignedDuration::ZERO, _lease: lease })
    }

    /// With this fence instead of the folder's.
    pub fn open_fenced(&self, fence: Fence, seam: Seam) -> Driver {
        let store = self.store(seam.clone());
        let lease = lease(&store).expect("a lease");
        self.driver(store.fenced(fence), self.config(), seam, lease).expect("a controller")
    }

    /// A controller that has made everything healthy.
    pub async fn healthy(&self) -> Driver {
        let mut driver = self.open();
        driver.until_healthy(self).await;
        driver
    }

    pub fn identity_tag(&self) -> &str {
        &self.identity_tag
    }

    /// Droplets of ours that exist and are not being deleted, oldest first.
    pub fn ours(&self) -> Vec<DropletView> {
        let ours = |d: &DropletView| !d.deleting && d.tags.contains(&self.identity_tag);
        self.sandbox.digitalocean.droplets().into_iter().filter(ours).collect()
    }

    pub fn our_only(&self) -> DropletView {
        let mut ours = self.ours();
        assert_eq!(ours.len(), 1, "{ours:?}");
        ours.remove(0)
    }

    /// `None` while there is none, or more than one.
    pub fn our_only_id(&self) -> Option<u64> {
        match self.ours().as_slice() {
            [one] => Some(one.id),
            _ => None,
        }
    }

    pub fn most_alive(&self) -> usize {
        self.sandbox.digitalocean.most_alive(&self.identity_tag)
    }

    pub fn creates(&self) -> usize {
        self.requests("POST", "/v2/droplets").iter().filter(|r| r.path == "/v2/droplets").count()
    }

    /// Requests at DigitalOcean with this method to this path, or to one below it.
    pub fn requests(&self, method: &str, path: &str) -> Vec<Recorded> {
        let below = format!("{path}/");
        let is = |r: &Recorded| r.method == method && (r.path == path || r.path.starts_with(&below));
        self.sandbox.digitalocean.requests().into_iter().filter(is).collect()
    }

    /// Everything at DigitalOcean that was not a read.
    pub fn writes(&self) -> Vec<String> {
        let requests = self.sandbox.digitalocean.requests();
        requests.iter().filter(|r| r.method != "GET").map(|r| format!("{} {}", r.method, r.path)).collect()
    }

    pub fn forget_requests(&self) {
        self.sandbox.digitalocean.clear_requests();
        self.sandbox.railway.clear_requests();
        self.sandbox.webapp.clear_requests();
    }

    /// Waits for a server that is being restarted.
    async fn connection(&self) -> sqlx::PgConnection {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.sandbox.postgres.connect().await {
                Ok(connection) => return connection,
                Err(error) => assert!(Instant::now() < deadline, "no connection: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn sql(&self, query: &str) -> Option<String> {
        let mut connection = self.connection().await;
        let row = sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_optional(&mut connection).await;
        row.expect("an answer").flatten()
    }

    pub async fn execute(&self, statement: &str) {
        let mut connection = self.connection().await;
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.expect("done");
    }

    /// What holds in every world at every end.
    pub fn assert_sound(&self) {
        let droplets = self.sandbox.digitalocean.droplets();
        for id in &self.foreign {
            let foreign = droplets.iter().find(|d| d.id == *id).expect("a foreign droplet still exists");
            assert!(foreign.foreign && !foreign.deleting && foreign.status == "active", "{foreign:?}");
        }
        let limit = self.config().desired.limits.max_droplets as usize;
        assert!(self.most_alive() <= limit, "{} droplets of ours at once", self.most_alive());
        assert!(self.restarts() <= 1, "one confirmed change, one restart");
        assert_eq!(self.sandbox.webapp.dequeues(), 0, "a probe took runs away");
        assert_eq!(self.sandbox.digitalocean.violations(), Vec::<String>::new());
    }

    /// One droplet of ours, no open intent, and everything that was ever promised.
    pub fn assert_settled(&self, state: &State) {
        self.assert_sound();
        let droplet = self.our_only();
        assert!(droplet.alive, "{droplet:?}");
        assert_eq!(state.intents, vec![], "every intent is resolved");
    }

    pub async fn stop(self) {
        self.sandbox.stop().await;
    }
}

/// A world that is being started beside this one forks, and for a moment its child has the lease's
/// file open, too.
fn lease(store: &Store) -> Result<FolderLease, LeaseError> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match store.lease_for("test", Duration::from_secs(3600)) {
            Err(LeaseError::Held { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            outcome => return outcome,
        }
    }
}

/// A controller and a clock that may be put forward.
pub struct Driver {
    pub controller: Controller,
    pub status: watch::Receiver<Arc<Status>>,
    /// How far the controller's clock is ahead: waits of half an hour pass at once.
    pub ahead: SignedDuration,
    _lease: FolderLease,
}

impl Driver {
    pub async fn cycle(&mut self) -> Arc<Status> {
        self.try_cycle().await.expect("a saved cycle");
        self.now()
    }

    pub async fn try_cycle(&mut self) -> Result<Next, StoreError> {
        // On the heap: without optimisation, a cycle's future is too large for a test thread's stack.
        Box::pin(self.controller.cycle(Timestamp::now() + self.ahead)).await
    }

    pub fn now(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    pub fn skip(&mut self, time: SignedDuration) {
        self.ahead += time;
    }

    /// One cycle that much later, then back to the present: a droplet made from now on must not look
    /// as old as what was skipped.
    pub async fn cycle_after(&mut self, time: SignedDuration) -> Arc<Status> {
        self.skip(time);
        let status = self.cycle().await;
        self.ahead = SignedDuration::ZERO;
        status
    }

    /// Cycles at the controller's own pace until it holds; every healthy cycle is held against the truth.
    pub async fn until(&mut self, world: &World, what: &str, mut holds: impl FnMut(&Status) -> bool) -> Arc<Status> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let next = self.try_cycle().await.expect("a saved cycle");
            let status = self.now();
            if status.healthy && status.mode == Shown::Active {
                assert_really_serves(world, &status);
            }
            if holds(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "never {what}:\n{}", explain(&status));
            match next {
                Next::After(pause) => tokio::time::sleep(pause).await,
                Next::WhenAsked => panic!("never {what}: it waits to be asked"),
            }
        }
    }

    pub async fn until_healthy(&mut self, world: &World) -> Arc<Status> {
        self.until(world, "healthy", |status| status.healthy).await
    }

    /// Healthy, one droplet, no open intent, nothing left to do.
    pub async fn until_settled(&mut self, world: &World) -> Arc<Status> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let status = self.until_healthy(world).await;
            if world.ours().len() == 1 && self.controller.state().intents.is_empty() {
                world.assert_settled(self.controller.state());
                return status;
            }
            let state = self.controller.state();
            assert!(Instant::now() < deadline, "never settled: {:?}\n{:?}", world.ours(), state.intents);
        }
    }
}

/// The worth of the word healthy: the process runs, and it is the one that is named.
fn assert_really_serves(world: &World, status: &Status) {
    let named = status.droplet.as_ref().expect("a healthy status names its droplet");
    let droplet = world.sandbox.digitalocean.droplet(named.id).expect("the named droplet exists");
    assert!(droplet.alive && !droplet.deleting, "healthy, but {droplet:?}");
    assert!(world.sandbox.postgres.is_running(), "healthy, but the database is down");
}

pub fn explain(status: &Status) -> String {
    ops_controller::controller::why::why(&status.conditions, &status.held)
}

pub fn condition(status: &Status, kind: ConditionType) -> &Condition {
    status.conditions.iter().find(|c| c.kind == kind).expect("every condition is reported")
}

pub fn stands(status: &Status, kind: ConditionType, truth: Truth, reason: Reason) -> bool {
    status.conditions.iter().any(|c| c.kind == kind && c.status == truth && c.reason == reason)
}

/// Polls until it holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
