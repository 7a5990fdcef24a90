//! A simulated Trigger.dev webapp whose store is a real database.
//!
//! It does what a controller can see: migrations at boot, the worker token printed once in a
//! lifetime, the worker actions with their authentication, run replication. It runs no tasks and
//! has no dashboard.

mod boot;
pub mod database;
pub mod deployments;
mod http;
pub mod replication;
pub(in crate::sandbox) mod seed;

use crate::sandbox::postgres::Cluster;
use deployments::Deployment;
use jiff::{SignedDuration, Timestamp};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long `ready` and `stop` wait before they report that something hangs.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
pub struct WebappOptions {
    pub seed: u64,
    /// Tag of the webapp's image, as the deployment's meta shows it.
    pub image_tag: String,
    pub boot_delay: Duration,
    /// The token was printed in a deployment that has been replaced since, as after any redeploy.
    pub token_in_old_deployment: bool,
    /// How long ago that deployment was made.
    pub old_deployment_age: Duration,
    /// The real webapp makes its publication when it is missing. Off, so that the controller must.
    pub creates_publication: bool,
    /// Since 4.5.1 a stream that failed is tried again. Off: it is given up until the next boot.
    pub replication_retries: bool,
    /// First pause before replication is tried again; it doubles up to `resubscribe_at_most`.
    pub resubscribe: Duration,
    /// 30 s in the real one; shorter here, so that nobody waits half a minute for nothing.
    pub resubscribe_at_most: Duration,
}

impl Default for WebappOptions {
    fn default() -> WebappOptions {
        WebappOptions {
            seed: 1,
            image_tag: "v4.5.6".to_string(),
            boot_delay: Duration::from_millis(50),
            token_in_old_deployment: true,
            old_deployment_age: Duration::from_secs(2 * 24 * 3600),
            creates_publication: false,
            replication_retries: true,
            resubscribe: Duration::from_secs(1),
            resubscribe_at_most: Duration::from_secs(4),
        }
    }
}

#[derive(Debug, Clone)]
pub struct WebappRequest {
    pub method: String,
    pub path: String,
    pub instance_name: Option<String>,
    pub status: u16,
    pub at: Timestamp,
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first.
    deployments: Vec<Deployment>,
    made: u64,
    /// How many worker tokens there have been; the last one is the true one.
    tokens: u64,
    poisons: u64,
    managed_secret: String,
    requests: Vec<WebappRequest>,
    dequeues: u32,
    /// Ends the replication of the deployment that runs now.
    replication: Option<CancellationToken>,
}

#[derive(Debug)]
struct Inner {
    options: WebappOptions,
    cluster: Arc<Cluster>,
    pool: PgPool,
    address: SocketAddr,
    state: Mutex<State>,
    /// Becomes true when a deployment serves.
    serving: watch::Sender<bool>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A handle; clones name the same webapp.
#[derive(Debug, Clone)]
pub struct Webapp(Arc<Inner>);

impl Webapp {
    /// Listens at once; migrations and bootstrap follow in the background (`ready` waits for them).
    pub async fn start(options: WebappOptions, cluster: Arc<Cluster>) -> io::Result<Webapp> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(2))
            .connect_lazy_with(cluster.connect_options());
        let managed_secret = seed::hex(options.seed, "managed secret", 0, 32);
        let inner = Arc::new(Inner {
            options,
            cluster,
            pool,
            address: listener.local_addr()?,
            state: Mutex::new(State { managed_secret, ..State::default() }),
            serving: watch::Sender::new(false),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let stop = inner.stop.clone().cancelled_owned();
        let server = axum::serve(listener, http::router(inner.clone())).with_graceful_shutdown(stop);
        inner.tasks.spawn(async move { server.await });
        boot::first(&inner);
        Ok(Webapp(inner))
    }

    /// Returns when a deployment serves.
    pub async fn ready(&self) -> io::Result<()> {
        let mut serving = self.0.serving.subscribe();
        let booted = serving.wait_for(|serving| *serving);
        match tokio::time::timeout(PATIENCE, booted).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::TimedOut, "the simulated webapp did not boot")),
        }
    }

    pub async fn stop(&self) {
        self.0.stop.cancel();
        if let Some(replication) = self.0.state().replication.take() {
            replication.cancel();
        }
        self.0.tasks.close();
        let _ = tokio::time::timeout(PATIENCE, self.0.tasks.wait()).await;
        self.0.pool.close().await;
    }

    /// Without a path, as API_ORIGIN has it.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// The worker token that is true now; for asserts only.
    pub fn token(&self) -> String {
        let newest = self.0.state().tokens.max(1) - 1;
        seed::worker_token(self.0.options.seed, "worker token", newest)
    }

    /// Someone changed the hash in the database; no log has ever shown the new token.
    pub async fn rotate_token_by_hand(&self) -> sqlx::Result<String> {
        let token = seed::worker_token(self.0.options.seed, "worker token", self.0.state().tokens);
        database::set_token(&self.0.pool, &token).await?;
        self.0.state().tokens += 1;
        Ok(token)
    }

    pub fn managed_secret(&self) -> String {
        self.0.state().managed_secret.clone()
    }

    /// What the running process expects from now on; Railway's variable is not touched.
    pub fn set_managed_secret(&self, secret: &str) {
        self.0.state().managed_secret = secret.to_string();
    }

    /// Some supervisor tried a token that is no longer true, and the webapp logged it in clear:
    /// once as an attribute, once within a message. Returns that token.
    pub fn poison_log(&self) -> String {
        let n = self.0.state().poisons;
        self.0.state().poisons += 1;
        let token = seed::worker_token(self.0.options.seed, "rejected token", n);
        let message = "[WorkerGroupTokenService] No matching worker group found";
        self.0.print_json_now(message, "error", &[("token", &token)]);
        self.0.print_now(&format!("Worker group not found {{ token: '{token}' }}"), "error");
        token
    }

    /// Railway keeps logs for 7 to 30 days; what was printed until now is forgotten.
    pub fn expire_logs(&self) {
        self.0.state().deployments.iter_mut().for_each(|d| d.lines.clear());
    }

    /// A new deployment; the present one serves until it has booted and is REMOVED then. Answers
    /// the new id at once.
    pub fn redeploy(&self) -> String {
        boot::redeploy(&self.0)
    }

    /// The same deployment, its process started again.
    pub fn restart(&self, deployment: &str) {
        boot::restart(&self.0, deployment);
    }

    /// Sets the status of the newest deployment, whatever it really does.
    pub fn set_deployment_status(&self, status: &str) {
        if let Some(newest) = self.0.state().deployments.last_mut() {
            let instance = newest.instance_status;
            newest.set(status, instance);
        }
    }

    /// Oldest first, with their logs.
    pub fn deployments(&self) -> Vec<Deployment> {
        self.0.state().deployments.clone()
    }

    /// How often anything called `dequeue`. A probe that does takes runs away from the workers.
    pub fn dequeues(&self) -> u32 {
        self.0.state().dequeues
    }

    pub fn requests(&self) -> Vec<WebappRequest> {
        self.0.state().requests.clone()
    }

    pub fn clear_requests(&self) {
        self.0.state().requests.clear();
    }

    pub(in crate::sandbox) fn image_tag(&self) -> &str {
        &self.0.options.image_tag
    }
}

impl Inner {
    fn is_serving(&self) -> bool {
        *self.serving.borrow()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn on(&self, id: &str, change: impl FnOnce(&mut Deployment)) {
        if let Some(deployment) = self.state().deployments.iter_mut().find(|d| d.id == id) {
            change(deployment);
        }
    }

    fn print(&self, id: &str, text: &str, severity: &'static str) {
        self.on(id, |deployment| deployment.print(text, severity));
    }

    fn print_json(&self, id: &str, message: &str, severity: &'static str, attributes: &[(&str, &str)]) {
        self.on(id, |deployment| deployment.print_json(message, severity, attributes));
    }

    /// To the log of the deployment that serves.
    fn print_now(&self, text: &str, severity: &'static str) {
        self.print(&self.serving_id(), text, severity);
    }

    fn print_json_now(&self, message: &str, severity: &'static str, attributes: &[(&str, &str)]) {
        self.print_json(&self.serving_id(), message, severity, attributes);
    }

    fn serving_id(&self) -> String {
        let state = self.state();
        let serving = state.deployments.iter().rev().find(|d| d.instance_status == "RUNNING");
        serving.or(state.deployments.last()).map(|d| d.id.clone()).unwrap_or_default()
    }

    /// Adds a deployment and names it.
    fn add_deployment(&self, age: Duration) -> String {
        let mut state = self.state();
        let seed = self.options.seed;
        let id = seed::uuid(seed, "webapp deployment", state.made);
        let instance = seed::uuid(seed, "webapp instance", state.made);
        state.made += 1;
        let image = format!("ghcr.io/triggerdotdev/trigger.dev:{}", self.options.image_tag);
        let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::ZERO);
        state.deployments.push(Deployment::new(id.clone(), instance, image, age));
        id
    }
}
