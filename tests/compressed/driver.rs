//! Lives of the controller in a compressed world: how one begins, ends at a chosen point, and what
//! must be true at each moment.

use super::platform::Platform;
use super::{World, railway};
use jiff::SignedDuration;
use ops_controller::clients::seam::Point;
use ops_controller::clients::{Fence, Seam};
use ops_controller::config::Config;
use ops_controller::controller::status::Status;
use ops_controller::controller::store::Store;
use ops_controller::controller::{Controller, Next};
use ops_controller::plan::desired::hex_sha256;
use ops_controller::plan::mode::Shown;
use ops_controller::plan::state::State;
use ops_controller::sandbox::digitalocean::{DigitalOceanOptions, DropletView, Recorded};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub const TOKEN: &str = "tr_wgt_A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0";

/// What went wrong, in one sentence.
pub type Broken = String;

/// One deployment in its world: configuration, state file, and the truth about what it made.
pub struct Deployment {
    pub world: World,
    pairs: Vec<(String, String)>,
    config: Config,
    folder: tempfile::TempDir,
    foreign: Vec<DropletView>,
    /// The hash that nobody had the token of, if there was one.
    pub lost_hash: Option<String>,
}

/// A deployment that is healthy: what made it so, to be repeated at once in another world.
pub struct Beginning {
    requests: Vec<Recorded>,
    platform: Platform,
    state: Vec<u8>,
    backup: Vec<u8>,
    took: SignedDuration,
}

impl Beginning {
    /// Lives through it once.
    pub fn healthy() -> Beginning {
        compressed(async {
            let deployment = Deployment::new(1, Duration::from_secs(60));
            let begun = deployment.world.now();
            let patience = SignedDuration::from_hours(1);
            let end = live(&deployment, Seam::default(), Arc::default(), patience, is_settled).await;
            assert_eq!(end, Ok(End::Enough), "without trouble it becomes healthy");
            let mut requests = deployment.world.cloud().requests();
            requests.retain(|r| r.method != "GET");
            Beginning {
                requests,
                platform: deployment.world.platform(|p, _| p.clone()),
                state: std::fs::read(deployment.state_file()).expect("a state"),
                backup: std::fs::read(deployment.state_file().with_file_name("state.json.bak")).expect("a backup"),
                took: deployment.world.now().duration_since(begun),
            }
        })
    }
}

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Enough,
    Killed,
}

impl Deployment {
    pub fn new(seed: u64, list_lag: Duration) -> Deployment {
        Deployment::within(World::new(seed, list_lag, TOKEN), &DigitalOceanOptions::default().token)
    }

    /// In a world whose account has this token.
    pub fn within(world: World, digitalocean_token: &str) -> Deployment {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = in_memory_folder();
        let pairs = [
            ("DIGITALOCEAN_TOKEN", digitalocean_token),
            ("RAILWAY_API_TOKEN", "f0000000-0000-4000-8000-000000000003"),
            ("RAILWAY_PROJECT_ID", railway::PROJECT),
            ("RAILWAY_ENVIRONMENT_ID", railway::ENVIRONMENT),
            ("DATABASE_URL", "postgresql://postgres:a-password@db.example.org:5432/railway"),
            ("RAILWAY_API_URL", super::RAILWAY),
            ("DIGITALOCEAN_API_URL", super::DIGITALOCEAN),
            ("STATE_FILE", &folder.path().join("state/state.json").display().to_string()),
        ];
        let pairs = pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
        let config = configured(&pairs);
        let mut deployment = Deployment { world, pairs, config, folder, foreign: Vec::new(), lost_hash: None };
        let almost = format!("{}0", deployment.tag());
        for (name, tags) in [("db-1", vec![]), ("trigger-supervisor-x-1", vec!["ops-controller", almost.as_str()])] {
            deployment.world.cloud().add_droplet(name, &tags).expect("a foreign droplet");
        }
        deployment.foreign = deployment.world.cloud().droplets();
        deployment
    }

    /// The same requests at the same times make the same world, down to the ids.
    pub async fn go_on_from(&mut self, healthy: &Beginning) {
        let end = self.world.now() + healthy.took;
        for request in &healthy.requests {
            self.world.sleep_until(request.at).await;
            self.world.repeat(request).await;
        }
        self.world.sleep_until(end).await;
        self.world.platform(|platform, _| platform.clone_from(&healthy.platform));
        let folder = self.state_file().parent().expect("a folder").to_owned();
        std::fs::create_dir_all(folder).expect("a folder");
        std::fs::write(self.state_file(), &healthy.state).expect("written");
        std::fs::write(self.state_file().with_file_name("state.json.bak"), &healthy.backup).expect("written");
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.set_all(&[(name, value)]);
    }

    /// Those that are right only together.
    pub fn set_all(&mut self, pairs: &[(&str, &str)]) {
        for (name, value) in pairs {
            self.pairs.retain(|(n, _)| n != name);
            self.pairs.push(((*name).to_owned(), (*value).to_owned()));
        }
        self.config = configured(&self.pairs);
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn tag(&self) -> String {
        self.config.desired.identity_tag()
    }

    pub fn state_file(&self) -> PathBuf {
        self.folder.path().join("state/state.json")
    }

    pub fn store(&self, seam: Seam) -> Store {
        let predecessor = self.folder.path().join("predecessor.json");
        Store::new(self.state_file(), seam).with_predecessor(predecessor).fenced(Fence::unguarded())
    }

    /// What a fresh controller would remember.
    pub fn state(&self) -> State {
        let store = self.store(Seam::default());
        store.load(&self.tag(), self.world.now()).expect("a readable state").0
    }

    pub fn open(&self, seam: Seam) -> Life {
        let seam = seam.with_outside(Arc::new(self.world.clone()));
        let (sender, status) = watch::channel(Arc::new(Status::starting(Shown::Active)));
        let store = self.store(seam.clone());
        let controller = Controller::open(self.config.clone(), store, seam, sender, CancellationToken::new());
        Life { controller: controller.expect("a controller"), status }
    }

    pub fn ours(&self) -> Vec<DropletView> {
        let tag = self.tag();
        let all = self.world.cloud().droplets();
        all.into_iter().filter(|d| d.tags.contains(&tag) && !d.foreign).collect()
    }

    pub fn our_only_id(&self) -> u64 {
        let ours = self.ours();
        assert_eq!(ours.len(), 1, "{ours:?}");
        ours[0].id
    }

    /// What may never be otherwise, not even for a moment.
    pub fn check(&self) -> Result<(), Broken> {
        let droplets = self.world.cloud().droplets();
        for before in &self.foreign {
            if droplets.iter().find(|d| d.id == before.id) != Some(before) {
                return Err(format!("foreign droplet {} was touched", before.name));
            }
        }
        let (most, limit) = (self.world.cloud().most_alive(&self.tag()), self.config().desired.limits.max_droplets);
        if most > limit as usize {
            return Err(format!("{most} droplets of ours at once"));
        }
        let needless = self.world.counts().needless_creates;
        if needless > 0 {
            return Err(format!("{needless} creates while one that is the same served or booted"));
        }
        let violations = self.world.cloud().violations();
        if !violations.is_empty() {
            return Err(format!("requests that the provider would have ignored: {violations:?}"));
        }
        let (restarts, asked) = self.world.platform(|p, _| (p.restarts, p.restart_requests));
        if restarts > 1 || asked > 1 {
            return Err(format!("Postgres was restarted {restarts} times for one change ({asked} requests)"));
        }
        Ok(())
    }

    /// Somebody knows the token whose hash stands in the database, or nobody ever did.
    pub fn check_token(&self) -> Result<(), Broken> {
        let hash = self.world.platform(|p, _| p.token_hash.clone());
        let state = self.state();
        let known = [state.token.map(|t| t.value), state.pending_token.map(|t| t.value)];
        let is_known = known.into_iter().flatten().any(|t| hex_sha256(t.expose().as_bytes()) == hash);
        let printed = self.world.platform(|p, _| p.printed_token.as_ref().map(|t| hex_sha256(t.as_bytes())));
        if is_known || printed.as_ref() == Some(&hash) || self.lost_hash.as_ref() == Some(&hash) {
            return Ok(());
        }
        Err("the database holds the hash of a token that nobody has".to_owned())
    }

    /// The worth of the word healthy.
    pub fn really_serves(&self, status: &Status) -> Result<(), Broken> {
        let id = status.droplet.as_ref().map(|d| d.id).ok_or("healthy without a droplet")?;
        let droplet = self.world.cloud().droplet(id).filter(|d| d.alive && !d.deleting);
        let droplet = droplet.ok_or("healthy, and the droplet is dead")?;
        let told = self.world.supervisor_of(&droplet).ok_or("healthy, and no supervisor was set up")?;
        self.world.platform(|p, now| match () {
            () if !p.is_up(now) => Err("healthy, and the database is down".to_owned()),
            () if !p.accepts(&told.token, &told.managed_secret) => Err("healthy, and the token is refused".to_owned()),
            () if !p.may_replicate() => Err("healthy, and nothing can be replicated".to_owned()),
            () => Ok(()),
        })
    }

    /// Nothing is left to do, and nothing is left over.
    pub fn check_settled(&self, state: &State) -> Result<(), Broken> {
        self.check()?;
        self.check_token()?;
        match self.ours().as_slice() {
            [one] if one.alive && !one.deleting => {}
            ours => return Err(format!("not exactly one of ours in the end: {ours:?}")),
        }
        if !state.intents.is_empty() || state.pending_token.is_some() {
            return Err(format!("settled with open intents: {:?}", state.intents));
        }
        Ok(())
    }
}

pub struct Life {
    pub controller: Controller,
    pub status: watch::Receiver<Arc<Status>>,
}

impl Life {
    pub fn now(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// One cycle and its checks; the pause that follows is not kept. A save that fails is no fault:
    /// the daemon tries again.
    pub async fn cycle(&mut self, deployment: &Deployment) -> Result<Duration, Broken> {
        let before = deployment.serving();
        let done = Box::pin(self.controller.cycle(deployment.world.now())).await;
        deployment.check()?;
        let status = self.now();
        let served_before = status.droplet.as_ref().is_some_and(|d| before.contains(&d.id));
        if status.healthy && status.mode == Shown::Active && !served_before {
            deployment.really_serves(&status)?;
        }
        Ok(match done {
            Ok(Next::After(pause)) => pause,
            Ok(Next::WhenAsked) => Duration::from_secs(3600),
            Err(_) => Duration::from_secs(10),
        })
    }

    /// Cycles at the controller's own pace until `enough`.
    pub async fn until(
        &mut self,
        deployment: &Deployment,
        patience: SignedDuration,
        mut enough: impl FnMut(&Status, &State) -> bool,
    ) -> Result<(), Broken> {
        let deadline = deployment.world.now() + patience;
        loop {
            let pause = self.cycle(deployment).await?;
            let status = self.now();
            if enough(&status, self.controller.state()) {
                return Ok(());
            }
            if deployment.world.now() > deadline {
                let why = ops_controller::controller::why::why(&status.conditions, &status.held);
                let (ours, intents) = (deployment.ours(), &self.controller.state().intents);
                return Err(format!("not done after {patience:#}: {ours:?} {intents:?}\n{why}"));
            }
            tokio::time::sleep(pause).await;
        }
    }
}

impl Deployment {
    /// Ours that serve. One that serves when a cycle begins may stop in its middle; healthy is then no lie.
    fn serving(&self) -> Vec<u64> {
        let serves = |d: &DropletView| {
            let told = self.world.supervisor_of(d);
            d.alive
                && !d.deleting
                && told.is_some_and(|e| self.world.platform(|p, _| p.accepts(&e.token, &e.managed_secret)))
        };
        match self.world.platform(|p, now| p.is_up(now) && p.may_replicate()) {
            true => self.ours().iter().filter(|d| serves(d)).map(|d| d.id).collect(),
            false => Vec::new(),
        }
    }
}

fn configured(pairs: &[(String, String)]) -> Config {
    Config::from_pairs(pairs.to_vec()).expect("a configuration")
}

/// Healthy, and nothing under way.
pub fn is_settled(status: &Status, state: &State) -> bool {
    let is_idle = status.cycle.as_ref().is_some_and(|cycle| cycle.actions.is_empty());
    let going = state.supervisor.droplets.values().any(|d| d.deleted_at.is_some());
    status.healthy && is_idle && !going && state.intents.is_empty() && state.supervisor.droplets.len() == 1
}

/// Every point that was reached, in order.
pub type Trace = Arc<Mutex<Vec<Point>>>;

pub fn tracing(trace: Trace) -> Seam {
    Seam::new(move |point| {
        trace.lock().expect("the trace").push(point);
        std::future::ready(())
    })
}

/// Lives until enough, or until `killed` is told or the world says that it died in flight.
pub async fn live(
    deployment: &Deployment,
    seam: Seam,
    killed: Arc<Notify>,
    patience: SignedDuration,
    enough: impl FnMut(&Status, &State) -> bool,
) -> Result<End, Broken> {
    let mut life = deployment.open(seam);
    tokio::select! {
        biased;
        () = killed.notified() => Ok(End::Killed),
        () = deployment.world.died_in_flight() => Ok(End::Killed),
        done = life.until(deployment, patience, enough) => done.map(|()| End::Enough),
    }
}

/// A folder whose disk is memory, where there is one: what is flushed takes no time.
fn in_memory_folder() -> tempfile::TempDir {
    let shm = std::path::Path::new("/dev/shm");
    let made = tempfile::Builder::new().prefix("ops-sweep-").tempdir_in(shm);
    made.or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// Runs a story in a runtime of its own, whose clock goes forward whenever everybody waits.
pub fn compressed<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(story)
}
