//! The real sandbox with a canary in every secret, droplets as processes, and the program's variables.

use crate::binary::{Environment, PROGRAM};
use crate::canaries::{self, Canary};
use ops_controller::sandbox::digitalocean::{DigitalOcean, DigitalOceanOptions, DropletBackend};
use ops_controller::sandbox::{Options, Sandbox};
use sqlx::{AssertSqlSafe, Connection};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const ROLE: &str = "canary_role";
const OPS_ROLE: &str = "canary_ops";

pub struct World {
    pub sandbox: Sandbox,
    pub env: Environment,
    /// All secrets of this world; those of the variables first.
    pub canaries: Vec<Canary>,
    folder: TempDir,
}

impl World {
    pub async fn start() -> World {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let delays = Options::short_delays();
        let (boot, supervisor_boot) = (delays.droplet_boot, delays.supervisor_boot);
        let mut sandbox = Sandbox::start(delays).await.expect("a sandbox");
        sandbox.digitalocean.stop().await;
        let account = DigitalOceanOptions {
            token: canaries::value("DIGITALOCEAN_TOKEN"),
            boot,
            supervisor_boot,
            heartbeat_interval: Duration::from_millis(500),
            backend: DropletBackend::Process { exe: PROGRAM.into() },
            ..DigitalOceanOptions::default()
        };
        sandbox.digitalocean = DigitalOcean::start(account, sandbox.faults.clone()).await.expect("an account");
        sandbox.webapp.ready().await.expect("a booted webapp");
        let folder = tempfile::tempdir().expect("a folder");
        let mut world = World { sandbox, env: Environment::default(), canaries: Vec::new(), folder };
        world.plant().await;
        world
    }

    /// Every secret gets its canary, on both sides.
    async fn plant(&mut self) {
        let printed = self.sandbox.webapp.token();
        let rejected = self.sandbox.webapp.poison_log();
        let token = self.sandbox.webapp.rotate_token_by_hand().await.expect("another token");
        let managed = canaries::value("MANAGED_WORKER_SECRET");
        self.sandbox.webapp.set_managed_secret(&managed);
        self.sandbox.railway.set_variable("trigger.dev", "MANAGED_WORKER_SECRET", &managed);
        let password = canaries::value("DATABASE_URL");
        self.sandbox.postgres.create_role(ROLE, &password).await.expect("a role");
        self.sql(&format!("alter role {ROLE} superuser")).await;
        let url = self.sandbox.postgres.url_as(ROLE, &password);
        self.sandbox.railway.set_variable("Postgres", "DATABASE_URL", &url);
        let ops = canaries::value("OPS_DATABASE_URL");
        self.sandbox.postgres.create_role(OPS_ROLE, &ops).await.expect("a role");
        self.sql(&format!("create database ops owner {OPS_ROLE}")).await;
        let host = format!("127.0.0.1:{}/ops", self.sandbox.postgres.port());
        let ops = canaries::database_url("OPS_DATABASE_URL", OPS_ROLE, &host);
        for Canary { name, value } in canaries::of_railway() {
            for service in ["trigger.dev", "Postgres", "registry"] {
                assert!(self.sandbox.railway.set_variable(service, &name, &value), "{service}");
            }
        }

        let mut env = Environment::new(self.sandbox.environment());
        for mut canary in canaries::of_variables() {
            let name = canary.name.clone();
            match name.as_str() {
                "RAILWAY_API_TOKEN" => canary.value.clone_from(&self.sandbox.railway.options().account_token),
                "RAILWAY_TOKEN" => canary.value.clone_from(&self.sandbox.railway.options().project_token),
                "TRIGGER_WORKER_TOKEN" => canary.value.clone_from(&token),
                _ => {}
            }
            env = match name.as_str() {
                "DATABASE_URL" => env.with(&name, &url),
                "OPS_DATABASE_URL" => env.with(&name, &ops),
                "TARGET_DATABASE_URL" => env.with(&name, canaries::database_url(&name, ROLE, &host)),
                "TRIGGER_WORKER_TOKEN" => env,
                "API_TOKEN" | "DOCKER_REGISTRY_PASSWORD" => {
                    env.with(&format!("{name}_FILE"), self.file(&name, &canary.value))
                }
                _ => env.with(&name, &canary.value),
            };
            self.canaries.push(canary);
        }
        self.canaries.extend(canaries::of_railway());
        self.canaries.push(Canary::new("the token that was printed", printed));
        self.canaries.push(Canary::new("a token that was rejected", rejected));
        let paces =
            [("CHECK_INTERVAL", "1s"), ("PROGRESS_INTERVAL", "200ms"), ("CREATE_SETTLE", "1s"), ("LEASE_TIME", "10s")];
        for (name, value) in paces {
            env = env.with(name, value);
        }
        let settings = format!("TRIGGER_WORKER_TOKEN={token}\n");
        self.env = env
            .with("ENV_FILE", self.file("settings", &settings))
            .with("ARTIFACT_STORE", self.beside("artifacts").display().to_string())
            .with("DOCKER_REGISTRY_USERNAME", "somebody")
            .with("STATE_FILE", self.state_file().display().to_string());
    }

    /// A file with this content; its path.
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    }

    /// The program makes the folder itself.
    pub fn state_file(&self) -> PathBuf {
        self.beside("state/state.json")
    }

    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(Path::new(name))
    }

    pub async fn sql(&self, statements: &str) {
        let mut connection = self.sandbox.postgres.connect().await.expect("a connection");
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.expect("done");
        connection.close().await.expect("closed");
    }
}
