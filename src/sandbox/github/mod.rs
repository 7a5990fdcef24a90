//! A simulated GitHub: one private repository with one workflow, whose runs pass by themselves.
//!
//! What can be done over the network is what a runner does: dispatch, look, cancel, fetch an
//! artifact. No code is built: a run's image and digest follow from its commit. It refuses every
//! other route as unknown, as GitHub does.

mod answer;
mod api;
mod objects;
mod server;
mod trouble;
mod world;
mod zip;

pub use server::Recorded;
pub use trouble::Trouble;
pub use world::{Fate, RunView};

use crate::sandbox::calendar::Calendar;
use crate::sandbox::webapp::seed;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use world::State;

/// Artifacts lie on another host, as GitHub's do: what belongs to the API must not be sent there.
const STORE_HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
pub struct GitHubOptions {
    pub seed: u64,
    /// May read and write.
    pub token: String,
    /// May only read.
    pub reading_token: String,
    /// `owner/repo`.
    pub repository: String,
    /// The file below `.github/workflows`.
    pub workflow: String,
    /// What the workflow declares; others are refused.
    pub inputs: Vec<String>,
    /// The input that the workflow's `run-name` shows; without one all runs are called alike.
    pub titled_by: Option<String>,
    /// From a dispatch to the first step, and from there to the end.
    pub queued: Duration,
    pub building: Duration,
    pub cancelling: Duration,
    /// How far the lists are behind.
    pub list_lag: Duration,
    /// Whether a dispatch tells its run's id when asked to; older servers refuse the question.
    pub tells_run_id: bool,
    /// Whether the workflow leaves the artifact `ops-result`.
    pub leaves_result: bool,
    pub rate_limit: u32,
}

impl Default for GitHubOptions {
    fn default() -> GitHubOptions {
        let seed = 1;
        let names = ["run_id", "git_sha", "git_ref", "image_name", "image_tag"];
        GitHubOptions {
            seed,
            token: format!("ghp_{}", seed::hex(seed, "github token", 0, 36)),
            reading_token: format!("ghp_{}", seed::hex(seed, "github token", 1, 36)),
            repository: "acme/app".to_owned(),
            workflow: "build.yml".to_owned(),
            inputs: names.map(str::to_owned).to_vec(),
            titled_by: Some("run_id".to_owned()),
            queued: Duration::from_millis(50),
            building: Duration::from_millis(100),
            cancelling: Duration::from_millis(20),
            list_lag: Duration::ZERO,
            tells_run_id: true,
            leaves_result: true,
            rate_limit: 5_000,
        }
    }
}

/// A running simulator. Dropping it lets the servers go on until their runtime ends; `stop` ends them.
pub struct GitHub {
    shared: Arc<Shared>,
    address: SocketAddr,
    tasks: TaskTracker,
}

struct Shared {
    options: GitHubOptions,
    state: Mutex<State>,
    store: SocketAddr,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl GitHub {
    pub async fn start(options: GitHubOptions) -> io::Result<GitHub> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let store_listener = TcpListener::bind((STORE_HOST, 0)).await?;
        let (address, store) = (listener.local_addr()?, store_listener.local_addr()?);
        let head = seed::hex(options.seed, "commit main", 0, 40);
        let state = State::new(
            Calendar::starting(jiff::Timestamp::now()),
            BTreeMap::from([("main".to_owned(), head)]),
            options.list_lag,
        );
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared { options, state: Mutex::new(state), store, address, stop });
        let tasks = TaskTracker::new();
        tasks.spawn(server::serve_api(shared.clone(), listener));
        tasks.spawn(server::serve_store(shared.clone(), store_listener));
        Ok(GitHub { shared, address, tasks })
    }

    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(PATIENCE, self.tasks.wait()).await;
    }

    /// As `https://api.github.com` is.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn options(&self) -> &GitHubOptions {
        &self.shared.options
    }

    /// The commit of a branch or tag.
    pub fn commit(&self, git_ref: &str) -> Option<String> {
        self.shared.state().refs.get(git_ref).cloned()
    }

    /// A branch or tag now names this commit.
    pub fn push(&self, git_ref: &str, sha: &str) {
        self.shared.state().refs.insert(git_ref.to_owned(), sha.to_owned());
    }

    /// What becomes of the run of the next dispatch; those after it succeed again.
    pub fn next_run(&self, fate: Fate) {
        self.shared.state().fates.push_back(fate);
    }

    /// For the next request of this call: `dispatch`, `list runs`, `run`, `jobs`, `artifacts`,
    /// `download`, `cancel`.
    pub fn inject(&self, call: &'static str, trouble: Trouble) {
        self.shared.state().troubles.push((call, trouble));
    }

    /// As if so many requests had been made in this hour.
    pub fn spend_rate_limit(&self, requests: u32) {
        self.shared.state().spent += requests;
    }

    /// The artifacts of all runs so far are deleted.
    pub fn expire_artifacts(&self) {
        self.shared.state().runs.iter_mut().for_each(|run| run.artifacts_expired = true);
    }

    /// The artifact `ops-result` of runs made from now on holds this instead.
    pub fn set_result(&self, content: &str) {
        self.shared.state().result = Some(content.to_owned());
    }

    /// How far the lists are behind from now on.
    pub fn set_list_lag(&self, lag: Duration) {
        self.shared.state().list_lag = lag;
    }

    /// Oldest first, as they are now.
    pub fn runs(&self) -> Vec<RunView> {
        let state = self.shared.state();
        state.runs.iter().map(|run| run.view(&self.shared.options)).collect()
    }

    /// Each request with its answer's status, even of answers that were lost.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.state().requests.clone()
    }

    /// What the store was asked, likewise.
    pub fn store_requests(&self) -> Vec<Recorded> {
        self.shared.state().store_requests.clone()
    }

    /// The digest of the image that a run of this commit builds.
    pub fn digest_of(sha: &str) -> String {
        format!("sha256:{}", seed::sha256_hex(&format!("image of {sha}")))
    }
}
