//! Simulated clouds on loopback, speaking the providers' wire formats, and a private PostgreSQL.
//!
//! It shares no type with the clients: if it did, both would be wrong together. The only seam is
//! the base URL, so the sandbox, the tests and production run the same client code.

pub mod builds;
pub mod calendar;
mod connection;
pub mod control;
pub mod digitalocean;
pub mod droplet;
pub mod faults;
pub mod github;
pub mod postgres;
pub mod railway;
pub mod webapp;

use digitalocean::{DigitalOcean, DigitalOceanOptions, DropletBackend};
use faults::{Break, Faults};
use github::{GitHub, GitHubOptions};
use postgres::{Cluster, ClusterOptions};
use railway::{Railway, RailwayOptions};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use webapp::{Webapp, WebappOptions};

/// What a sandbox is like; the defaults are those of `ops-controller sandbox`.
pub struct Options {
    pub seed: u64,
    pub droplets: DropletBackend,
    /// From the create to an active droplet, and from there to an answering supervisor.
    pub droplet_boot: Duration,
    pub supervisor_boot: Duration,
    pub heartbeat_interval: Duration,
    pub webapp_boot: Duration,
    pub postgres_restart: Duration,
    /// How far DigitalOcean's reads are behind under `Break::ListLag`.
    pub list_lag: Duration,
    pub missing_scopes: Vec<String>,
    pub extra_postgres_arguments: Vec<String>,
    pub project_token: bool,
    /// How long the image of somebody's service is BUILDING, and then DEPLOYING.
    pub app_build: Duration,
    pub app_start: Duration,
    /// From a workflow's dispatch to its first step, and from there to its end.
    pub workflow_queue: Duration,
    pub workflow_time: Duration,
    /// A second PostgreSQL for durable runs; it costs most of a second to start.
    pub ops_database: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seed: 1,
            droplets: DropletBackend::Task,
            droplet_boot: Duration::from_millis(1500),
            supervisor_boot: Duration::from_millis(1500),
            heartbeat_interval: Duration::from_millis(500),
            webapp_boot: Duration::from_secs(1),
            postgres_restart: Duration::from_millis(1500),
            list_lag: TROUBLE,
            missing_scopes: Vec::new(),
            extra_postgres_arguments: Vec::new(),
            project_token: false,
            app_build: Duration::from_secs(1),
            app_start: Duration::from_secs(1),
            workflow_queue: Duration::from_secs(1),
            workflow_time: Duration::from_secs(2),
            ops_database: false,
        }
    }
}

impl Options {
    /// Delays that can be told apart in a log and are not felt.
    pub fn short_delays() -> Options {
        Options {
            droplet_boot: Duration::from_millis(200),
            supervisor_boot: Duration::from_millis(200),
            webapp_boot: Duration::from_millis(50),
            postgres_restart: Duration::from_millis(100),
            app_build: Duration::from_millis(50),
            app_start: Duration::from_millis(50),
            workflow_queue: Duration::from_millis(50),
            workflow_time: Duration::from_millis(100),
            ..Options::default()
        }
    }

    /// Droplets as processes of this program: real processes, real signals.
    pub fn with_processes(mut self, exe: PathBuf) -> Options {
        self.droplets = DropletBackend::Process { exe };
        self
    }

    /// With a database for durable runs.
    pub fn with_ops(mut self) -> Options {
        self.ops_database = true;
        self
    }
}

/// A whole little world.
pub struct Sandbox {
    pub faults: Faults,
    pub postgres: Arc<Cluster>,
    pub webapp: Webapp,
    pub railway: Railway,
    pub digitalocean: DigitalOcean,
    pub github: GitHub,
    /// Apart from the watched database, which is stopped and restarted in the controller's stories.
    pub ops_postgres: Option<Arc<Cluster>>,
    folder: tempfile::TempDir,
    project_token: bool,
}

/// How long the timed kinds of trouble last.
const TROUBLE: Duration = Duration::from_secs(10);

impl Sandbox {
    /// Starts everything; the webapp goes on booting in the background.
    pub async fn start(options: Options) -> std::io::Result<Sandbox> {
        let faults = Faults::default();
        let watched = ClusterOptions {
            extra_command_line: options.extra_postgres_arguments.clone(),
            ..ClusterOptions::default()
        };
        let (postgres, ops_postgres) = tokio::try_join!(Cluster::create(watched), ops_database(options.ops_database))?;
        let postgres = Arc::new(postgres);
        let webapp_options =
            WebappOptions { seed: options.seed, boot_delay: options.webapp_boot, ..WebappOptions::default() };
        let webapp = Webapp::start(webapp_options, postgres.clone()).await?;
        let railway_options = RailwayOptions {
            seed: options.seed,
            postgres_restart: options.postgres_restart,
            app_build: options.app_build,
            app_start: options.app_start,
            ..RailwayOptions::default()
        };
        let railway = Railway::start(railway_options, faults.clone(), postgres.clone(), webapp.clone()).await?;
        let digitalocean_options = DigitalOceanOptions {
            seed: options.seed,
            boot: options.droplet_boot,
            supervisor_boot: options.supervisor_boot,
            heartbeat_interval: options.heartbeat_interval,
            missing_scopes: options.missing_scopes,
            list_lag: options.list_lag,
            backend: options.droplets,
            ..DigitalOceanOptions::default()
        };
        let digitalocean = DigitalOcean::start(digitalocean_options, faults.clone()).await?;
        let github_options = GitHubOptions {
            seed: options.seed,
            queued: options.workflow_queue,
            building: options.workflow_time,
            ..GitHubOptions::default()
        };
        let github = GitHub::start(github_options).await?;
        let folder = tempfile::Builder::new().prefix("ops-sandbox-").tempdir()?;
        Ok(Sandbox {
            faults,
            postgres,
            webapp,
            railway,
            digitalocean,
            github,
            ops_postgres,
            folder,
            project_token: options.project_token,
        })
    }

    /// The variables that point a controller at this world, with waiting times to match it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let railway_token = match self.project_token {
            true => ("RAILWAY_TOKEN", self.railway.options().project_token.clone()),
            false => ("RAILWAY_API_TOKEN", self.railway.options().account_token.clone()),
        };
        let state = self.folder.path().join("state.json");
        [
            ("DIGITALOCEAN_TOKEN", self.digitalocean_token()),
            railway_token,
            ("RAILWAY_PROJECT_ID", self.railway.project_id().to_owned()),
            ("RAILWAY_ENVIRONMENT_ID", self.railway.environment_id().to_owned()),
            ("DATABASE_URL", self.postgres.url()),
            ("RAILWAY_API_URL", self.railway.url()),
            ("DIGITALOCEAN_API_URL", self.digitalocean.base_url()),
            ("ALLOW_LOCAL_ORIGIN", "true".to_owned()),
            ("STATE_FILE", state.display().to_string()),
            ("LISTEN_ADDR", "127.0.0.1:0".to_owned()),
            ("CHECK_INTERVAL", "5s".to_owned()),
            ("PROGRESS_INTERVAL", "500ms".to_owned()),
            ("SUPERVISOR_BOOT_DEADLINE", "20s".to_owned()),
            ("HEARTBEAT_STALE_AFTER", "3s".to_owned()),
            ("CREATE_SETTLE", "15s".to_owned()),
            ("RESTART_DEADLINE", "2m".to_owned()),
            ("DISABLED_CHECK_INTERVAL", "5s".to_owned()),
            // A person who breaks things in a row should see them healed, not the fuse.
            ("MAX_CREATES_PER_HOUR", "60".to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// The same and what a runner needs besides: GitHub, and the database of durable runs if there is one.
    pub fn runner_environment(&self) -> Vec<(String, String)> {
        let mut pairs = self.environment();
        let token = self.github.options().token.clone();
        pairs.extend([("GITHUB_API_URL".to_owned(), self.github.url()), ("GITHUB_TOKEN".to_owned(), token)]);
        let url = self.ops_postgres.as_ref().map(|cluster| cluster.url());
        // The environments' own databases are made there, beside that of the runs.
        pairs
            .extend(url.iter().flat_map(|url| {
                ["OPS_DATABASE_URL", "TARGET_DATABASE_URL"].map(|name| (name.to_owned(), url.clone()))
            }));
        let artifacts = self.folder.path().join("artifacts").display().to_string();
        pairs.extend([("ARTIFACT_STORE".to_owned(), artifacts), ("WORKER_ID".to_owned(), "sandbox".to_owned())]);
        pairs
    }

    /// Where its own files are, gone with it.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    fn digitalocean_token(&self) -> String {
        DigitalOceanOptions::default().token
    }

    /// Causes trouble. Trouble with creates needs a create: the droplet is deleted or resized by hand
    /// as well, so that something happens. An error says why it cannot be caused now.
    pub fn cause(&self, trouble: Break) -> Result<(), String> {
        match trouble {
            Break::SupervisorKilled | Break::DropletDeleted | Break::SizeChanged => {
                self.digitalocean.apply_break(trouble)
            }
            Break::CreateResponseLost | Break::Create504 => {
                self.faults.next_requests(trouble, 1);
                self.digitalocean.apply_break(Break::DropletDeleted)
            }
            Break::ListLag => {
                self.faults.during(trouble, TROUBLE * 2);
                self.digitalocean.apply_break(Break::DropletDeleted)
            }
            Break::NewDropletNeverHealthy => {
                self.faults.during(trouble, TROUBLE);
                self.digitalocean.apply_break(Break::SizeChanged)
            }
            Break::SlowRestart | Break::PoisonedToken => {
                self.faults.next_requests(trouble, 1);
                Ok(())
            }
            Break::RateLimited | Break::Html502 => {
                self.faults.next_requests(trouble, 3);
                Ok(())
            }
            Break::DropletListFailing | Break::DatabaseDown => {
                self.faults.during(trouble, TROUBLE);
                Ok(())
            }
        }
    }

    /// Ends every process and listener that was started.
    pub async fn stop(self) {
        self.halt().await;
    }

    /// The same for a shared sandbox.
    pub async fn halt(&self) {
        self.digitalocean.stop().await;
        self.railway.stop().await;
        self.webapp.stop().await;
        self.github.stop().await;
        for cluster in std::iter::once(&self.postgres).chain(&self.ops_postgres) {
            if let Err(error) = cluster.stop().await {
                tracing::warn!(%error, "a private PostgreSQL did not stop cleanly");
            }
        }
    }
}

async fn ops_database(wanted: bool) -> std::io::Result<Option<Arc<Cluster>>> {
    if !wanted {
        return Ok(None);
    }
    let options = ClusterOptions { database: "ops".to_owned(), ..ClusterOptions::default() };
    Cluster::create(options).await.map(|cluster| Some(Arc::new(cluster)))
}
