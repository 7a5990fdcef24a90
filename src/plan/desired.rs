//! What configuration asks for: the documents' variables, already parsed and checked.
//!
//! Plain values only. Where they come from, and their errors, is `config`'s business.

use super::secret::Secret;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// The desired state of one Trigger.dev deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    pub project_id: String,
    pub environment_id: String,
    pub region: String,
    pub size: String,
    /// The droplet's image slug.
    pub image: String,
    pub ssh_keys: Vec<String>,
    /// Who may reach :8020/health, as CIDR addresses.
    pub health_sources: Vec<String>,
    /// The supervisor image's tag.
    pub trigger_version: String,
    /// For the registry in Railway, when it asks for a login.
    pub registry_login: Option<RegistryLogin>,
    pub manual_token: Option<Secret>,
    /// A sealed MANAGED_WORKER_SECRET cannot be read from Railway; this one is used instead.
    pub managed_secret: Option<Secret>,
    pub rotate_lost_token: bool,
    pub allow_local_origin: bool,
    pub is_active: bool,
    pub auto_disable: bool,
    pub healthy_cycles_before_disable: u32,
    pub pg_volume_gb: Option<u64>,
    pub limits: Limits,
    pub times: Times,
}

/// What a supervisor needs to pull task images from a registry that asks.
#[derive(Debug, Clone, PartialEq)]
pub struct RegistryLogin {
    pub username: String,
    pub password: Secret,
}

/// Guards: each holds an action back rather than let it run away.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Droplets of ours that may exist at once; two, because a replacement comes before its predecessor goes.
    pub max_droplets: u32,
    pub max_creates_per_hour: u32,
    pub max_deletes_per_cycle: u32,
    pub max_monthly_usd: f64,
}

/// Deadlines and thresholds.
#[derive(Debug, Clone, PartialEq)]
pub struct Times {
    pub check_interval: Duration,
    pub progress_interval: Duration,
    pub disabled_check_interval: Option<Duration>,
    pub boot_deadline: Duration,
    /// Consecutive failed looks after which a supervisor counts as unhealthy.
    pub unhealthy_after: u32,
    pub heartbeat_stale_after: Duration,
    /// How long a lost create is looked for before another is sent.
    pub create_settle: Duration,
    pub restart_deadline: Duration,
}

impl Desired {
    /// The tag that marks a droplet as ours: the whole ids, since two environments of a project may
    /// share their first characters. Lower case, because DigitalOcean keeps the first spelling.
    pub fn identity_tag(&self) -> String {
        format!("ops-controller-{}-{}", self.project_id, self.environment_id).to_lowercase()
    }

    /// The predecessor's identity tag; what carries only this one is reported, never touched.
    pub fn predecessor_tag(&self) -> String {
        format!("trigger-supervisor-{}-{}", self.project_id, short(&self.environment_id))
    }

    /// Firewall names are unique in an account, so this one is derived from the whole identity.
    pub fn firewall_name(&self) -> String {
        format!("ops-controller-{}-{}", short(&self.environment_id), &hex_sha256(self.identity_tag().as_bytes())[..8])
    }

    /// Changes when anything that the user can ask for changes; ends an auto-disabled state.
    pub fn fingerprint(&self) -> String {
        let Desired {
            project_id,
            environment_id,
            region,
            size,
            image,
            ssh_keys,
            health_sources,
            trigger_version,
            registry_login,
            manual_token,
            managed_secret,
            rotate_lost_token,
            allow_local_origin,
            // What follows says how to watch, not what is wanted.
            is_active: _,
            auto_disable,
            healthy_cycles_before_disable: _,
            pg_volume_gb: _,
            limits: _,
            times: _,
        } = self;
        let expose = |s: &Option<Secret>| s.as_ref().map(|s| s.expose().to_owned());
        let parts = serde_json::json!([
            project_id,
            environment_id,
            region,
            size,
            image,
            ssh_keys,
            health_sources,
            trigger_version,
            registry_login.as_ref().map(|login| (&login.username, login.password.expose())),
            expose(manual_token),
            expose(managed_secret),
            rotate_lost_token,
            allow_local_origin,
            auto_disable,
        ]);
        hex_sha256(parts.to_string().as_bytes())[..16].to_owned()
    }
}

/// The first eight characters, as in the predecessor's names.
pub fn short(id: &str) -> String {
    id.chars().filter(|c| c.is_ascii_alphanumeric()).take(8).collect::<String>().to_lowercase()
}

/// Lower-case hex SHA-256: how Trigger.dev stores worker tokens, and how we fingerprint.
pub fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
