//! Every variable: its name, its default, its meaning; all errors reported at once, never a value.
//!
//! Values come from the environment, from `NAME_FILE` (secrets), and from `ENV_FILE`, which wins
//! because it is what a person edits before a SIGHUP. An empty value counts as unset, because that
//! is how compose passes a variable that is not set.

mod parse;
mod runner;
mod source;
mod strangers;
mod variables;

use crate::plan::desired::{Desired, Limits, Times};
use crate::plan::secret::Secret;
use parse::Parser;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

pub use parse::{parse_duration, percent_decode};
pub use runner::{OpsConfig, Retention, RunnerConfig, S3, is_runner_alone};
pub use source::{Origin, Source};
use strangers::Stranger;
pub use variables::{VARIABLES, Variable};

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub desired: Desired,
    pub digitalocean_token: Option<Secret>,
    /// An account or workspace token, sent as bearer.
    pub railway_api_token: Option<Secret>,
    /// A project token, sent in its own header; wins over the other.
    pub railway_project_token: Option<Secret>,
    pub database_url: Option<Secret>,
    /// Our own database. Never taken from DATABASE_URL: that one is watched, and is restarted.
    pub ops_database_url: Option<Secret>,
    pub db_service_name: String,
    pub webapp_service_name: String,
    pub registry_service_name: String,
    pub railway_api_url: String,
    pub digitalocean_api_url: String,
    pub runner: RunnerConfig,
    pub state_file: PathBuf,
    /// How long a holder may act without having renewed its lease.
    pub lease_time: Duration,
    pub listen_addr: SocketAddr,
    pub api_token: Option<Secret>,
    pub log_format: Option<LogFormat>,
    pub log_level: String,
    /// What was set where, for `config`.
    pub effective: Vec<Effective>,
    /// What is set and probably a mistake; each begins with the name that it is about.
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Text,
}

/// One variable as it took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    pub name: &'static str,
    /// What is shown: the value, or `set` / `unset` for a secret.
    pub shown: String,
    pub origin: Origin,
}

/// Everything that is wrong, one line each, by variable name.
#[derive(Debug, Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

impl Config {
    /// From the process's environment.
    pub fn from_env() -> Result<Config, ConfigError> {
        Config::from_source(Source::from_process())
    }

    /// From given pairs: tests and the sandbox.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigError> {
        Config::from_source(Source::from_pairs(pairs))
    }

    fn from_source(mut source: Source) -> Result<Config, ConfigError> {
        let mut errors = Vec::new();
        source.read_env_file(&mut errors);
        source.read_secret_files(&mut errors);
        let strangers = strangers::strangers(&source);
        let raw = source.raw().map_err(|e| ConfigError(vec![e]))?;
        let mut p = Parser::new(errors);
        let desired = desired(&raw, &mut p);
        let mut config = Config {
            digitalocean_token: p.required_secret("DIGITALOCEAN_TOKEN", &raw.digitalocean_token),
            railway_api_token: p.secret("RAILWAY_API_TOKEN", &raw.railway_api_token),
            railway_project_token: p.secret("RAILWAY_TOKEN", &raw.railway_token),
            database_url: p.database_url("DATABASE_URL", &raw.database_url),
            ops_database_url: p.optional_database_url("OPS_DATABASE_URL", &raw.ops_database_url),
            db_service_name: p.text("DB_SERVICE_NAME", &raw.db_service_name),
            webapp_service_name: p.text("WEBAPP_SERVICE_NAME", &raw.webapp_service_name),
            registry_service_name: p.text("REGISTRY_SERVICE_NAME", &raw.registry_service_name),
            railway_api_url: p.url("RAILWAY_API_URL", &raw.railway_api_url),
            digitalocean_api_url: p.url("DIGITALOCEAN_API_URL", &raw.digitalocean_api_url),
            runner: RunnerConfig::parse(&raw, &mut p),
            state_file: PathBuf::from(p.text("STATE_FILE", &raw.state_file)),
            lease_time: p.duration("LEASE_TIME", &raw.lease_time, "1s", "10m"),
            listen_addr: p.listen_addr("LISTEN_ADDR", &raw.listen_addr),
            api_token: p.secret("API_TOKEN", &raw.api_token),
            log_format: p.log_format("LOG_FORMAT", &raw.log_format),
            log_level: p.log_level("LOG_LEVEL", &raw.log_level),
            desired,
            effective: source.effective(),
            warnings: Vec::new(),
        };
        let mut warnings: Vec<String> =
            strangers.iter().map(Stranger::warning).chain(pooled(&raw.database_url)).collect();
        warnings.extend(config.shared_database());
        config.warnings = warnings;
        if config.railway_api_token.is_none() && config.railway_project_token.is_none() {
            p.error("RAILWAY_API_TOKEN", &variables::required("RAILWAY_API_TOKEN"));
        }
        match p.errors {
            errors if errors.is_empty() => Ok(config),
            errors => Err(ConfigError(with_strangers(errors, &strangers))),
        }
    }

    /// Every secret value that this configuration holds, for the redacting log writer.
    pub fn secrets(&self) -> Vec<Secret> {
        let mut secrets: Vec<Secret> = [
            &self.digitalocean_token,
            &self.railway_api_token,
            &self.railway_project_token,
            &self.database_url,
            &self.ops_database_url,
            &self.api_token,
            &self.desired.manual_token,
            &self.desired.managed_secret,
        ]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
        secrets.extend(self.desired.registry_login.as_ref().map(|login| login.password.clone()));
        secrets.extend(self.runner.secrets().cloned());
        with_passwords(secrets)
    }

    /// One database for both works, so it is no error: but each restart that this program asks for
    /// takes its own lease away for that time, and a fault of the one stops the healing of it.
    fn shared_database(&self) -> Option<String> {
        let place = |url: &Option<Secret>| {
            let url = url::Url::parse(url.as_ref()?.expose()).ok()?;
            Some((url.host_str()?.to_lowercase(), url.port().unwrap_or(5432), url.path().to_owned()))
        };
        (place(&self.ops_database_url)? == place(&self.database_url)?).then(|| {
            "OPS_DATABASE_URL names the watched database: while that one restarts or is down, nothing can be healed; \
             a database of its own is better"
                .to_owned()
        })
    }
}

/// With the passwords inside URLs, in both spellings; without what is too short to be looked for.
fn with_passwords(mut secrets: Vec<Secret>) -> Vec<Secret> {
    let urls = secrets.iter().filter_map(|s| url::Url::parse(s.expose()).ok());
    let passwords: Vec<String> = urls.filter_map(|url| url.password().map(str::to_owned)).collect();
    for password in passwords {
        secrets.push(Secret::new(percent_decode(&password)));
        secrets.push(Secret::new(password));
    }
    secrets.retain(|s| s.expose().len() >= 4);
    secrets
}

/// A missing variable and its misspelt name are one mistake, and one line.
fn with_strangers(mut errors: Vec<String>, strangers: &[Stranger]) -> Vec<String> {
    for stranger in strangers {
        let missing = stranger.nearest.map(|ours| format!("{ours} is required"));
        match missing.and_then(|missing| errors.iter_mut().find(|e| e.starts_with(&missing))) {
            Some(error) => error.push_str(&format!("; {} is set, which nobody reads: rename it", stranger.name)),
            None => errors.push(stranger.warning()),
        }
    }
    errors
}

/// An address that looks like a connection pooler's. What a session tells is seen later.
fn pooled(url: &Option<String>) -> Option<String> {
    let url = url::Url::parse(url.as_deref()?).ok()?;
    let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
    let sign = match url.port() {
        Some(port @ (6432 | 6543)) => format!("port {port}"),
        _ if host.contains("pgbouncer") || host.contains("pooler") => format!("host {host}"),
        _ if url.query_pairs().any(|(name, _)| name == "pgbouncer") => "its pgbouncer=".to_owned(),
        _ => return None,
    };
    let fix = "use the direct address, such as DATABASE_PUBLIC_URL of the Postgres service";
    Some(format!("DATABASE_URL leads to a connection pooler, by {sign}, which hides sessions and settings: {fix}"))
}

fn desired(raw: &source::Raw, p: &mut Parser) -> Desired {
    Desired {
        project_id: p.id("RAILWAY_PROJECT_ID", &raw.railway_project_id),
        environment_id: p.id("RAILWAY_ENVIRONMENT_ID", &raw.railway_environment_id),
        region: p.slug("SUPERVISOR_REGION", &raw.supervisor_region),
        size: p.slug("SUPERVISOR_SIZE", &raw.supervisor_size),
        image: p.slug("SUPERVISOR_IMAGE", &raw.supervisor_image),
        ssh_keys: p.ssh_keys("SUPERVISOR_SSH_KEYS", &raw.supervisor_ssh_keys),
        health_sources: p.addresses("SUPERVISOR_HEALTH_SOURCES", &raw.supervisor_health_sources),
        trigger_version: p.image_tag("TRIGGER_VERSION", &raw.trigger_version),
        registry_login: p.login(
            "DOCKER_REGISTRY_USERNAME",
            &raw.docker_registry_username,
            "DOCKER_REGISTRY_PASSWORD",
            &raw.docker_registry_password,
        ),
        manual_token: p.worker_token("TRIGGER_WORKER_TOKEN", &raw.trigger_worker_token),
        managed_secret: p.secret("MANAGED_WORKER_SECRET", &raw.managed_worker_secret),
        rotate_lost_token: p.boolean("ROTATE_LOST_TOKEN", &raw.rotate_lost_token),
        allow_local_origin: p.boolean("ALLOW_LOCAL_ORIGIN", &raw.allow_local_origin),
        is_active: p.boolean("IS_ACTIVE", &raw.is_active),
        auto_disable: p.boolean("AUTO_DISABLE", &raw.auto_disable),
        healthy_cycles_before_disable: p.number(
            "HEALTHY_CYCLES_BEFORE_DISABLE",
            &raw.healthy_cycles_before_disable,
            1..=100,
        ),
        pg_volume_gb: p.optional_number("PG_VOLUME_GB", &raw.pg_volume_gb, 1..=1_000_000),
        limits: Limits {
            max_droplets: p.number("MAX_DROPLETS", &raw.max_droplets, 1..=10),
            max_creates_per_hour: p.number("MAX_CREATES_PER_HOUR", &raw.max_creates_per_hour, 0..=60),
            max_deletes_per_cycle: p.number("MAX_DELETES_PER_CYCLE", &raw.max_deletes_per_cycle, 0..=10),
            max_monthly_usd: p.dollars("MAX_MONTHLY_USD", &raw.max_monthly_usd),
        },
        times: Times {
            check_interval: p.check_interval("CHECK_INTERVAL", &raw.check_interval),
            progress_interval: p.duration("PROGRESS_INTERVAL", &raw.progress_interval, "100ms", "10m"),
            disabled_check_interval: p.optional_duration(
                "DISABLED_CHECK_INTERVAL",
                &raw.disabled_check_interval,
                "1s",
                "7d",
            ),
            boot_deadline: p.duration("SUPERVISOR_BOOT_DEADLINE", &raw.supervisor_boot_deadline, "1s", "6h"),
            unhealthy_after: p.number("SUPERVISOR_UNHEALTHY_AFTER", &raw.supervisor_unhealthy_after, 1..=1000),
            heartbeat_stale_after: p.duration("HEARTBEAT_STALE_AFTER", &raw.heartbeat_stale_after, "1s", "1h"),
            create_settle: p.duration("CREATE_SETTLE", &raw.create_settle, "1s", "1h"),
            restart_deadline: p.duration("RESTART_DEADLINE", &raw.restart_deadline, "1s", "6h"),
        },
    }
}

/// Only LISTEN_ADDR, wherever it is set: for the health check, which must not fail because of
/// another variable. `None` when it is no address.
pub fn listen_addr() -> Option<SocketAddr> {
    let mut source = Source::from_process();
    source.read_env_file(&mut Vec::new());
    source.raw().ok()?.listen_addr?.trim().parse().ok()
}

/// Whether a URL points to this machine: then no proxy is used for it.
pub fn is_loopback_url(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    })
}
