//! Decides what to change. Pure: no I/O, no clock, no randomness, nothing async.
//!
//! Two steps, both plain functions: [`digest`] takes what was seen into the state (streaks, found
//! tokens, settled intents), and [`plan`] says for every hop how it stands and which actions remain.
//! The dry run and the daemon share both; only the daemon applies.

pub mod action;
pub mod condition;
pub mod configuration;
pub mod desired;
pub mod droplets;
pub mod firewall;
mod guards;
pub mod logs;
pub mod mode;
pub mod observation;
pub mod prices;
pub mod replication;
pub mod secret;
pub mod state;
pub mod supervisor;
pub mod token;
pub mod user_data;

use action::{DropletSpec, Held, Planned, SupervisorConfig};
use condition::Finding;
use configuration::Configuration;
use desired::Desired;
use jiff::{SignedDuration, Timestamp};
use observation::Observation;
use secret::Secret;
use state::{Failure, State};
use std::time::Duration;

/// What remains to be done, and how every hop stands.
#[derive(Debug, Default)]
pub struct Plan {
    pub actions: Vec<Planned>,
    pub held: Vec<Held>,
    /// In the order of `ConditionType::ALL`.
    pub findings: Vec<Finding>,
    /// Something changes by itself or by us within seconds: the next cycle comes soon.
    pub in_progress: bool,
}

impl Plan {
    pub fn is_settled(&self) -> bool {
        self.actions.is_empty() && self.held.is_empty()
    }
}

/// Takes one cycle's observation into the state.
pub fn digest(desired: &Desired, state: &mut State, seen: &Observation) {
    let (configuration, _) = configuration::read(desired, &seen.railway);
    if let Some(view) = seen.railway.known() {
        state.railway_ids.webapp = view.webapp.found().map(|s| s.id.clone());
        state.railway_ids.registry = view.registry.found().map(|s| s.id.clone());
    }
    token::digest(desired, state, seen, configuration.as_ref());
    replication::digest(state, seen);
    droplets::digest(desired, state, seen);
}

/// What remains to be done. `state` has digested `seen`.
pub fn plan(desired: &Desired, state: &State, seen: &Observation) -> Plan {
    let (configuration, configured) = configuration::read(desired, &seen.railway);
    let (token, token_finding, token_actions) = token::plan(desired, state, seen, configuration.as_ref());
    let replication = replication::plan(desired, state, seen);
    let firewall = firewall::plan(desired, state, seen);
    let spec = configuration.as_ref().zip(token.as_ref()).map(|(c, t)| droplet_spec(desired, c, t));
    let inputs = supervisor::Inputs { spec: spec.as_ref(), firewall_ready: firewall.is_ready() };
    let supervisor = supervisor::plan(desired, state, seen, &inputs);

    // A search that cannot look is not one in progress: it would spend the budget every few seconds.
    let searched = seen.search.as_ref().is_some_and(|s| s.error.is_none());
    let searching = searched && token_finding.reason == condition::Reason::SearchingLogs;
    let mut plan = Plan {
        in_progress: replication.in_progress
            || supervisor.in_progress
            || firewall.action.is_some()
            || !token_actions.is_empty()
            || searching,
        ..Plan::default()
    };
    plan.findings.extend([configured, token_finding]);
    plan.findings.extend(replication.findings);
    plan.findings.push(firewall.finding);
    plan.findings.extend(supervisor.findings);
    plan.actions.extend(replication.actions);
    plan.actions.extend(token_actions);
    plan.actions.extend(firewall.action);
    plan.actions.extend(supervisor.actions);
    plan.held.extend(replication.held);
    plan.held.extend(firewall.held);
    plan.held.extend(supervisor.held);
    plan
}

/// The droplet that is wanted, with the fingerprint of everything that makes it what it is.
pub fn droplet_spec(desired: &Desired, configuration: &Configuration, token: &Secret) -> DropletSpec {
    let supervisor = SupervisorConfig {
        trigger_version: desired.trigger_version.clone(),
        api_url: configuration.api_url.clone(),
        worker_token: token.clone(),
        managed_secret: configuration.managed_secret.clone(),
        registry_domain: configuration.registry_domain.clone(),
        registry_login: desired.registry_login.clone(),
    };
    let SupervisorConfig { trigger_version, api_url, worker_token, managed_secret, registry_domain, registry_login } =
        &supervisor;
    let parts = serde_json::json!([
        user_data::REVISION,
        desired.region,
        desired.size,
        desired.image,
        desired.ssh_keys,
        trigger_version,
        api_url,
        worker_token.expose(),
        managed_secret.expose(),
        registry_domain,
        registry_login.as_ref().map(|login| (&login.username, login.password.expose())),
    ]);
    let fingerprint = desired::hex_sha256(parts.to_string().as_bytes())[..16].to_owned();
    DropletSpec {
        region: desired.region.clone(),
        size: desired.size.clone(),
        image: desired.image.clone(),
        ssh_keys: desired.ssh_keys.clone(),
        supervisor,
        fingerprint,
        identity_tag: desired.identity_tag(),
    }
}

/// First pause after a refused change; doubled with each further refusal.
const FAILURE_BACKOFF: SignedDuration = SignedDuration::from_secs(30);
const FAILURE_BACKOFF_MAX: SignedDuration = SignedDuration::from_hours(1);

/// The failure that keeps an action back, and until when; `None` when it may be tried.
pub fn backed_off<'a>(state: &'a State, key: &str, now: Timestamp) -> Option<(&'a Failure, Timestamp)> {
    let failure = state.failures.get(key)?;
    let factor = 1_i32 << failure.attempts.saturating_sub(1).min(10);
    let until = failure.at + FAILURE_BACKOFF.saturating_mul(factor).min(FAILURE_BACKOFF_MAX);
    (now < until).then_some((failure, until))
}

/// Configured times are bounded when parsed; a larger one saturates.
pub(crate) fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// `45 s`, `12 min`, `3 h`, `5 days`: enough for a person.
pub fn readable_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// `512 B`, `16 MB`, `3.2 GB`.
pub fn readable_bytes(bytes: i64) -> String {
    let bytes = bytes.max(0) as f64;
    match bytes {
        b if b < 1024.0 => format!("{b} B"),
        b if b < 1024.0 * 1024.0 => format!("{:.0} kB", b / 1024.0),
        b if b < 1024.0 * 1024.0 * 1024.0 => format!("{:.0} MB", b / (1024.0 * 1024.0)),
        b => format!("{:.1} GB", b / (1024.0 * 1024.0 * 1024.0)),
    }
}
