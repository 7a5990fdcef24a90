//! Where values come from: the environment, secret files, `ENV_FILE`.
//!
//! `envy` is given only our own names, already checked for UTF-8, and a struct of plain text:
//! its own reading of the environment panics on foreign bytes, and its parse errors quote values.

use super::Effective;
use super::variables::{VARIABLES, find};
use crate::plan::secret::Secret;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Environment,
    /// `NAME_FILE` or `file://`.
    SecretFile(String),
    EnvFile(String),
    Default,
    Unset,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Environment => f.write_str("environment"),
            Origin::SecretFile(path) => write!(f, "file {path}"),
            Origin::EnvFile(path) => write!(f, "ENV_FILE {path}"),
            Origin::Default => f.write_str("default"),
            Origin::Unset => f.write_str("unset"),
        }
    }
}

#[derive(Default)]
pub struct Source {
    values: BTreeMap<String, (String, Origin)>,
    /// Names that are set and are not ours, and where.
    foreign: Vec<(String, Origin)>,
    /// Names of ours whose values are no UTF-8.
    not_text: Vec<String>,
}

/// Every variable as text; `None` when unset and without default. No `Debug`: it holds secrets.
#[derive(Deserialize)]
pub struct Raw {
    pub digitalocean_token: Option<String>,
    pub supervisor_region: Option<String>,
    pub supervisor_size: Option<String>,
    pub supervisor_image: Option<String>,
    pub supervisor_ssh_keys: Option<String>,
    pub supervisor_health_sources: Option<String>,
    pub railway_api_token: Option<String>,
    pub railway_token: Option<String>,
    pub railway_project_id: Option<String>,
    pub railway_environment_id: Option<String>,
    pub database_url: Option<String>,
    pub ops_database_url: Option<String>,
    pub db_service_name: Option<String>,
    pub webapp_service_name: Option<String>,
    pub registry_service_name: Option<String>,
    pub docker_registry_username: Option<String>,
    pub docker_registry_password: Option<String>,
    pub trigger_version: Option<String>,
    pub trigger_worker_token: Option<String>,
    pub managed_worker_secret: Option<String>,
    pub rotate_lost_token: Option<String>,
    pub allow_local_origin: Option<String>,
    pub is_active: Option<String>,
    pub check_interval: Option<String>,
    pub auto_disable: Option<String>,
    pub healthy_cycles_before_disable: Option<String>,
    pub disabled_check_interval: Option<String>,
    pub progress_interval: Option<String>,
    pub supervisor_boot_deadline: Option<String>,
    pub supervisor_unhealthy_after: Option<String>,
    pub heartbeat_stale_after: Option<String>,
    pub create_settle: Option<String>,
    pub restart_deadline: Option<String>,
    pub max_droplets: Option<String>,
    pub max_creates_per_hour: Option<String>,
    pub max_deletes_per_cycle: Option<String>,
    pub max_monthly_usd: Option<String>,
    pub pg_volume_gb: Option<String>,
    pub state_file: Option<String>,
    pub lease_time: Option<String>,
    pub listen_addr: Option<String>,
    pub api_token: Option<String>,
    pub log_format: Option<String>,
    pub log_level: Option<String>,
    pub railway_api_url: Option<String>,
    pub digitalocean_api_url: Option<String>,
    pub worker_id: Option<String>,
    pub runner_concurrency: Option<String>,
    pub runner_kinds: Option<String>,
    pub runner_lease: Option<String>,
    pub runner_poll_interval: Option<String>,
    pub runner_grace: Option<String>,
    pub runner_commands: Option<String>,
    pub event_retention_days: Option<String>,
    pub run_retention_days: Option<String>,
    pub audit_retention_days: Option<String>,
    pub artifact_store: Option<String>,
    pub aws_access_key_id: Option<String>,
    pub aws_secret_access_key: Option<String>,
    pub aws_region: Option<String>,
    pub aws_endpoint_url: Option<String>,
    pub target_database_url: Option<String>,
    pub github_token: Option<String>,
    pub github_api_url: Option<String>,
}

impl Source {
    pub fn from_process() -> Source {
        let mut source = Source::default();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => source.add(name, value, Origin::Environment),
                Err(_) if is_ours(&name) => source.not_text.push(name),
                Err(_) => {}
            }
        }
        source
    }

    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Source {
        let mut source = Source::default();
        for (name, value) in pairs {
            source.add(name, value, Origin::Environment);
        }
        source
    }

    fn add(&mut self, name: String, value: String, origin: Origin) {
        if !is_ours(&name) {
            self.foreign.push((name, origin));
        } else if !value.is_empty() {
            self.values.insert(name, (value, origin));
        }
    }

    /// The values of all secret variables that are set, whoever reads them.
    pub fn secrets(&self) -> Vec<Secret> {
        let set = VARIABLES.iter().filter(|v| v.secret).filter_map(|v| self.values.get(v.name));
        set.map(|(value, _)| Secret::new(value.trim())).collect()
    }

    /// Reads `ENV_FILE`, if one is named. Errors name line numbers, never content.
    pub fn read_env_file(&mut self, errors: &mut Vec<String>) {
        for name in std::mem::take(&mut self.not_text) {
            errors.push(format!("{name} is not valid UTF-8"));
        }
        let Some((path, _)) = self.values.get("ENV_FILE").cloned() else { return };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) => return errors.push(format!("ENV_FILE: the file that it names cannot be read: {e}")),
        };
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            match line.split_once('=') {
                Some((name, value)) => {
                    let (name, value) = (name.trim().to_owned(), unquote(value.trim()).to_owned());
                    self.override_by_file(name, value, &path);
                }
                None => errors.push(format!("ENV_FILE: line {} is not NAME=VALUE", number + 1)),
            }
        }
    }

    /// The file wins, also over the other way to give the same secret: a person who moves a token
    /// from `NAME` to `NAME_FILE` cannot change the environment of a running process as well.
    fn override_by_file(&mut self, name: String, value: String, path: &str) {
        if is_ours(&name) && value.is_empty() {
            self.values.remove(&name);
            return;
        }
        let sibling = match name.strip_suffix("_FILE") {
            Some(base) if find(&name).is_none() => base.to_owned(),
            _ => format!("{name}_FILE"),
        };
        if is_ours(&sibling) && self.values.get(&sibling).is_some_and(|(_, from)| *from == Origin::Environment) {
            self.values.remove(&sibling);
        }
        self.add(name, value, Origin::EnvFile(path.to_owned()));
    }

    /// Replaces `NAME_FILE` and `file://` by what stands in the file.
    pub fn read_secret_files(&mut self, errors: &mut Vec<String>) {
        for variable in VARIABLES.iter().filter(|v| v.secret) {
            let name = variable.name;
            let direct = self.values.get(name).map(|(value, _)| value.clone());
            let file = self.values.get(&format!("{name}_FILE")).map(|(value, _)| value.clone());
            let by_url = direct.as_deref().and_then(|v| v.strip_prefix("file://")).map(str::to_owned);
            let path = match (file, by_url, &direct) {
                (Some(_), _, Some(_)) => {
                    errors.push(format!("{name} and {name}_FILE are both set: unset one"));
                    continue;
                }
                (Some(path), _, None) | (None, Some(path), _) => path,
                (None, None, _) => continue,
            };
            match read_secret(Path::new(&path)) {
                Ok(value) => {
                    self.values.insert(name.to_owned(), (value, Origin::SecretFile(path)));
                }
                // Not the path: a token put into NAME_FILE by mistake would be printed.
                Err(why) => errors.push(format!("{name}: the file that it names {why}")),
            }
        }
    }

    /// Names that are set and are not ours, and whether `ENV_FILE` sets them.
    pub fn foreign(&self) -> impl Iterator<Item = (&str, bool)> {
        self.foreign.iter().map(|(name, origin)| (name.as_str(), matches!(origin, Origin::EnvFile(_))))
    }

    /// All values with defaults, as text.
    pub fn raw(&self) -> Result<Raw, String> {
        let pairs = VARIABLES.iter().filter_map(|v| {
            let value = self.values.get(v.name).map(|(value, _)| value.clone()).or(v.default.map(str::to_owned))?;
            Some((v.name.to_owned(), value))
        });
        // All fields are optional text, so this cannot fail on a value; its error could quote one.
        envy::from_iter(pairs).map_err(|_| "the environment could not be read".to_owned())
    }

    pub fn effective(&self) -> Vec<Effective> {
        VARIABLES
            .iter()
            .map(|v| {
                let found = self.values.get(v.name);
                let origin = match (found, v.default) {
                    (Some((_, origin)), _) => origin.clone(),
                    (None, Some(_)) => Origin::Default,
                    (None, None) => Origin::Unset,
                };
                let shown = match (v.secret, found) {
                    (true, Some(_)) => "set".to_owned(),
                    (true, None) => "unset".to_owned(),
                    (false, Some((value, _))) => value.clone(),
                    (false, None) => v.default.unwrap_or("unset").to_owned(),
                };
                Effective { name: v.name, shown, origin }
            })
            .collect()
    }
}

fn is_ours(name: &str) -> bool {
    find(name).is_some() || name.strip_suffix("_FILE").and_then(find).is_some_and(|v| v.secret)
}

fn read_secret(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot be read: {e}"))?;
    // Editors end a file with a newline; a secret with one at its end would be refused everywhere.
    let value = text.strip_suffix('\n').unwrap_or(&text);
    let value = value.strip_suffix('\r').unwrap_or(value);
    if value.trim().is_empty() { Err("is empty".to_owned()) } else { Ok(value.to_owned()) }
}

/// As compose reads the same file: quotes are not part of a value, nor is a comment behind it.
fn unquote(value: &str) -> &str {
    let ends = |rest: &str| rest.trim().is_empty() || rest.trim_start().starts_with('#');
    for quote in ['\'', '"'] {
        let inside = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote));
        if let Some((inside, _)) = inside.filter(|(_, rest)| ends(rest)) {
            return inside;
        }
    }
    let comment = value.find(" #").or_else(|| value.find("\t#"));
    value[..comment.unwrap_or(value.len())].trim_end()
}
