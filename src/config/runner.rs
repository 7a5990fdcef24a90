//! The variables of the runner, which needs none of the controller's.

use super::parse::Parser;
use super::source::{Raw, Source};
use super::strangers::{Stranger, strangers};
use super::{ConfigError, Effective, LogFormat};
use crate::plan::secret::Secret;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What a runner needs to know; checked.
#[derive(Debug, Clone)]
pub struct RunnerConfig {
    /// `None`: the machine's name.
    pub worker_id: Option<String>,
    /// Runs at once; 0: the daemon has no runner inside.
    pub concurrency: usize,
    /// Only these kinds; empty: all.
    pub kinds: Vec<String>,
    pub lease: Duration,
    pub poll: Duration,
    pub grace: Duration,
    pub retention: Retention,
    /// What phases may start: names, each with its program.
    pub commands: BTreeMap<String, PathBuf>,
    /// A folder, or `s3://bucket/prefix`.
    pub artifact_store: String,
    pub s3: S3,
    pub github_token: Option<Secret>,
    pub github_api_url: String,
    /// The server on which the environments' own databases are.
    pub target_database_url: Option<Secret>,
}

/// Who may work for the queue may not thereby remove its own traces: the database refuses less, too.
const AUDIT_AT_LEAST: i32 = 30;

/// How many days what has ended is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Events of finished runs.
    pub event_days: i32,
    /// Finished runs, with all that belongs to them; 0: for ever.
    pub run_days: i32,
    /// What people did; 0: for ever.
    pub audit_days: i32,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { event_days: 90, run_days: 365, audit_days: 365 }
    }
}

/// How a store that speaks S3 is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct S3 {
    pub access_key_id: Option<Secret>,
    pub secret_access_key: Option<Secret>,
    pub region: Option<String>,
    pub endpoint: Option<String>,
}

impl RunnerConfig {
    pub(super) fn parse(raw: &Raw, p: &mut Parser) -> RunnerConfig {
        if raw.artifact_store.as_deref().is_some_and(|store| store.trim().starts_with("s3://")) {
            let keys =
                [("AWS_ACCESS_KEY_ID", &raw.aws_access_key_id), ("AWS_SECRET_ACCESS_KEY", &raw.aws_secret_access_key)];
            for (name, _) in keys.into_iter().filter(|(_, key)| key.is_none()) {
                p.error(name, "is required when ARTIFACT_STORE is s3://");
            }
        }
        RunnerConfig {
            worker_id: p.optional_text("WORKER_ID", &raw.worker_id),
            concurrency: p.number("RUNNER_CONCURRENCY", &raw.runner_concurrency, 0..=1000),
            kinds: p.names("RUNNER_KINDS", &raw.runner_kinds),
            lease: p.duration("RUNNER_LEASE", &raw.runner_lease, "1s", "1h"),
            poll: p.duration("RUNNER_POLL_INTERVAL", &raw.runner_poll_interval, "50ms", "1m"),
            grace: p.duration("RUNNER_GRACE", &raw.runner_grace, "0s", "1h"),
            retention: Retention {
                event_days: p.number("EVENT_RETENTION_DAYS", &raw.event_retention_days, 1..=36_500),
                run_days: p.days("RUN_RETENTION_DAYS", &raw.run_retention_days, 1),
                audit_days: p.days("AUDIT_RETENTION_DAYS", &raw.audit_retention_days, AUDIT_AT_LEAST),
            },
            commands: p.programs("RUNNER_COMMANDS", &raw.runner_commands),
            artifact_store: p.store("ARTIFACT_STORE", &raw.artifact_store),
            s3: S3 {
                access_key_id: p.secret("AWS_ACCESS_KEY_ID", &raw.aws_access_key_id),
                secret_access_key: p.secret("AWS_SECRET_ACCESS_KEY", &raw.aws_secret_access_key),
                region: p.optional_text("AWS_REGION", &raw.aws_region),
                endpoint: raw.aws_endpoint_url.as_ref().map(|_| p.url("AWS_ENDPOINT_URL", &raw.aws_endpoint_url)),
            },
            github_token: p.secret("GITHUB_TOKEN", &raw.github_token),
            github_api_url: p.url("GITHUB_API_URL", &raw.github_api_url),
            target_database_url: p.optional_database_url("TARGET_DATABASE_URL", &raw.target_database_url),
        }
    }

    /// The variables whose values differ from another's.
    fn changed(&self, other: &RunnerConfig) -> Vec<&'static str> {
        // Taken apart: a variable that is forgotten here would change without a word.
        let RunnerConfig {
            worker_id,
            concurrency,
            kinds,
            lease,
            poll,
            grace,
            retention,
            commands,
            artifact_store,
            s3,
            github_token,
            github_api_url,
            target_database_url,
        } = self;
        let S3 { access_key_id, secret_access_key, region, endpoint } = s3;
        let Retention { event_days, run_days, audit_days } = retention;
        let all = [
            ("WORKER_ID", *worker_id != other.worker_id),
            ("RUNNER_CONCURRENCY", *concurrency != other.concurrency),
            ("RUNNER_KINDS", *kinds != other.kinds),
            ("RUNNER_LEASE", *lease != other.lease),
            ("RUNNER_POLL_INTERVAL", *poll != other.poll),
            ("RUNNER_GRACE", *grace != other.grace),
            ("EVENT_RETENTION_DAYS", *event_days != other.retention.event_days),
            ("RUN_RETENTION_DAYS", *run_days != other.retention.run_days),
            ("AUDIT_RETENTION_DAYS", *audit_days != other.retention.audit_days),
            ("RUNNER_COMMANDS", *commands != other.commands),
            ("ARTIFACT_STORE", *artifact_store != other.artifact_store),
            ("AWS_ACCESS_KEY_ID", *access_key_id != other.s3.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", *secret_access_key != other.s3.secret_access_key),
            ("AWS_REGION", *region != other.s3.region),
            ("AWS_ENDPOINT_URL", *endpoint != other.s3.endpoint),
            ("GITHUB_TOKEN", *github_token != other.github_token),
            ("GITHUB_API_URL", *github_api_url != other.github_api_url),
            ("TARGET_DATABASE_URL", *target_database_url != other.target_database_url),
        ];
        all.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let all = [&self.github_token, &self.target_database_url, &self.s3.access_key_id, &self.s3.secret_access_key];
        all.into_iter().flatten()
    }
}

impl super::Config {
    /// The variables whose values differ from another's and take effect at the next start only.
    pub fn needs_restart(&self, other: &super::Config) -> Vec<&'static str> {
        let own = [
            ("LISTEN_ADDR", self.listen_addr != other.listen_addr),
            ("STATE_FILE", self.state_file != other.state_file),
        ];
        own.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    /// The same of those that durable runs were started with; the controller follows some of them at once.
    pub fn runs_need_restart(&self, other: &super::Config) -> Vec<&'static str> {
        match (self.ops(), other.ops()) {
            (Some(ours), Some(theirs)) => ours.changed(&theirs),
            (None, None) => Vec::new(),
            _ => vec!["OPS_DATABASE_URL"],
        }
    }

    /// The part that has to do with runs; `None` without a database for them.
    pub fn ops(&self) -> Option<OpsConfig> {
        Some(OpsConfig {
            ops_database_url: self.ops_database_url.clone()?,
            runner: self.runner.clone(),
            railway_api_token: self.railway_api_token.clone(),
            railway_project_token: self.railway_project_token.clone(),
            railway_api_url: self.railway_api_url.clone(),
            listen_addr: self.listen_addr,
            api_token: self.api_token.clone(),
            log_format: self.log_format,
            log_level: self.log_level.clone(),
            effective: self.effective.clone(),
            secrets: self.secrets(),
            warnings: self.warnings.clone(),
        })
    }
}

/// What `runner`, `migrate`, `runs` and `token` need: everything but the controller's part.
#[derive(Debug, Clone)]
pub struct OpsConfig {
    pub ops_database_url: Secret,
    pub runner: RunnerConfig,
    pub railway_api_token: Option<Secret>,
    pub railway_project_token: Option<Secret>,
    pub railway_api_url: String,
    pub listen_addr: SocketAddr,
    pub api_token: Option<Secret>,
    pub log_format: Option<LogFormat>,
    pub log_level: String,
    pub effective: Vec<Effective>,
    /// Those of the controller, too: they may stand in the same environment, where a program that a phase
    /// starts can find them.
    secrets: Vec<Secret>,
    /// What is set and probably a mistake; each begins with the name that it is about.
    pub warnings: Vec<String>,
}

impl OpsConfig {
    pub fn from_env() -> Result<OpsConfig, ConfigError> {
        OpsConfig::from_source(Source::from_process())
    }

    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Result<OpsConfig, ConfigError> {
        OpsConfig::from_source(Source::from_pairs(pairs))
    }

    fn from_source(mut source: Source) -> Result<OpsConfig, ConfigError> {
        let mut errors = Vec::new();
        source.read_env_file(&mut errors);
        source.read_secret_files(&mut errors);
        let strangers = strangers(&source);
        let raw = source.raw().map_err(|e| ConfigError(vec![e]))?;
        let mut p = Parser::new(errors);
        let url = p.database_url("OPS_DATABASE_URL", &raw.ops_database_url);
        let config = OpsConfig {
            ops_database_url: url.unwrap_or_else(|| Secret::new("")),
            runner: RunnerConfig::parse(&raw, &mut p),
            railway_api_token: p.secret("RAILWAY_API_TOKEN", &raw.railway_api_token),
            railway_project_token: p.secret("RAILWAY_TOKEN", &raw.railway_token),
            railway_api_url: p.url("RAILWAY_API_URL", &raw.railway_api_url),
            listen_addr: p.listen_addr("LISTEN_ADDR", &raw.listen_addr),
            api_token: p.secret("API_TOKEN", &raw.api_token),
            log_format: p.log_format("LOG_FORMAT", &raw.log_format),
            log_level: p.log_level("LOG_LEVEL", &raw.log_level),
            effective: source.effective(),
            secrets: source.secrets(),
            warnings: strangers.iter().map(Stranger::warning).collect(),
        };
        match p.errors {
            errors if errors.is_empty() => Ok(config),
            errors => Err(ConfigError(super::with_strangers(errors, &strangers))),
        }
    }

    /// The variables whose values differ from another's.
    pub fn changed(&self, other: &OpsConfig) -> Vec<&'static str> {
        let mut all = self.runner.changed(&other.runner);
        let own = [
            ("OPS_DATABASE_URL", self.ops_database_url != other.ops_database_url),
            ("RAILWAY_API_TOKEN", self.railway_api_token != other.railway_api_token),
            ("RAILWAY_TOKEN", self.railway_project_token != other.railway_project_token),
            ("RAILWAY_API_URL", self.railway_api_url != other.railway_api_url),
        ];
        all.extend(own.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name));
        all
    }

    /// Every secret value that this configuration holds, for the redacting log writer.
    pub fn secrets(&self) -> Vec<Secret> {
        super::with_passwords(self.secrets.clone())
    }
}

/// Whether the variables are those of a runner without a controller: the ops database is named, and
/// nothing that only a controller needs.
pub fn is_runner_alone() -> bool {
    let mut source = Source::from_process();
    source.read_env_file(&mut Vec::new());
    source.read_secret_files(&mut Vec::new());
    let Ok(raw) = source.raw() else { return false };
    let controllers =
        [&raw.digitalocean_token, &raw.railway_project_id, &raw.railway_environment_id, &raw.database_url];
    raw.ops_database_url.is_some() && controllers.into_iter().all(Option::is_none)
}
