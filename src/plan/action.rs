//! Everything this program could ever do to production, in one file.
//!
//! An action is one idempotent change, specific enough to leave no choice to `apply`: it names what
//! it replaces, so that a world that moved since planning supersedes it.

use super::desired::RegistryLogin;
use super::observation::Rules;
use super::secret::Secret;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// `alter system set wal_level = 'logical'`.
    AlterSystemWalLevel,
    /// One restart through Railway. `started_at` is the postmaster seen when planning: if another
    /// one runs by now, somebody restarted it already.
    RestartPostgres {
        deployment_id: String,
        started_at: Timestamp,
    },
    SetReplicaIdentityFull,
    CreatePublication {
        name: String,
    },
    AddTableToPublication {
        name: String,
    },
    SetPublicationOperations {
        name: String,
    },
    /// Gives the worker group a new token, whose hash replaces `old_hash`.
    RotateToken {
        group_id: String,
        group_name: String,
        old_hash: String,
    },
    CreateFirewall {
        spec: FirewallSpec,
    },
    UpdateFirewall {
        id: String,
        spec: FirewallSpec,
    },
    CreateDroplet {
        name: String,
        sequence: u64,
        spec: Box<DropletSpec>,
    },
    RebootDroplet {
        id: u64,
        name: String,
    },
    DeleteDroplet {
        id: u64,
        name: String,
    },
}

impl Action {
    /// Names the change, not the attempt: "the same key again" is the sign of being stuck.
    pub fn key(&self) -> String {
        match self {
            Action::AlterSystemWalLevel => "postgres/wal_level".into(),
            Action::RestartPostgres { started_at, .. } => format!("postgres/restart/{}", started_at.as_millisecond()),
            Action::SetReplicaIdentityFull => "postgres/replica-identity".into(),
            Action::CreatePublication { name } => format!("postgres/publication/{name}/create"),
            Action::AddTableToPublication { name } => format!("postgres/publication/{name}/table"),
            Action::SetPublicationOperations { name } => format!("postgres/publication/{name}/operations"),
            Action::RotateToken { group_name, .. } => format!("trigger/token/{group_name}/rotate"),
            Action::CreateFirewall { spec } => format!("digitalocean/firewall/{}/create", spec.name),
            Action::UpdateFirewall { spec, .. } => format!("digitalocean/firewall/{}/update", spec.name),
            // Each attempt has its own name; what is refused is the specification.
            Action::CreateDroplet { spec, .. } => format!("digitalocean/droplet/{}/create", spec.fingerprint),
            Action::RebootDroplet { name, .. } => format!("digitalocean/droplet/{name}/reboot"),
            Action::DeleteDroplet { name, .. } => format!("digitalocean/droplet/{name}/delete"),
        }
    }

    /// The external thing that is changed, for logs and /status.
    pub fn resource(&self) -> String {
        match self {
            Action::AlterSystemWalLevel | Action::RestartPostgres { .. } => "postgres".into(),
            Action::SetReplicaIdentityFull => "public.\"TaskRun\"".into(),
            Action::CreatePublication { name }
            | Action::AddTableToPublication { name }
            | Action::SetPublicationOperations { name } => format!("publication {name}"),
            Action::RotateToken { group_name, .. } => format!("worker group {group_name}"),
            Action::CreateFirewall { spec } | Action::UpdateFirewall { spec, .. } => format!("firewall {}", spec.name),
            Action::CreateDroplet { name, .. } => format!("droplet {name}"),
            Action::RebootDroplet { id, name } | Action::DeleteDroplet { id, name } => format!("droplet {name} ({id})"),
        }
    }

    /// What its users notice, for the plan.
    pub fn downtime(&self) -> &'static str {
        match self {
            Action::RestartPostgres { .. } => "database unavailable for some seconds to a minute",
            Action::RebootDroplet { .. } => "running tasks on this droplet end; it is out of service already",
            Action::RotateToken { .. } => "every supervisor of the group is cut off until it has the new token",
            _ => "none",
        }
    }

    /// Whether it ends something that cannot be got back.
    pub fn destroys(&self) -> bool {
        matches!(self, Action::DeleteDroplet { .. })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::AlterSystemWalLevel => write!(f, "set wal_level = logical (alter system)"),
            Action::RestartPostgres { deployment_id, .. } => {
                write!(f, "restart Postgres through Railway (deployment {deployment_id})")
            }
            Action::SetReplicaIdentityFull => write!(f, "set replica identity full on public.\"TaskRun\""),
            Action::CreatePublication { name } => write!(f, "create publication {name}"),
            Action::AddTableToPublication { name } => write!(f, "add public.\"TaskRun\" to publication {name}"),
            Action::SetPublicationOperations { name } => {
                write!(f, "publish insert, update, delete in publication {name}")
            }
            Action::RotateToken { group_name, .. } => write!(f, "issue a new token for worker group {group_name}"),
            Action::CreateFirewall { spec } => write!(f, "create firewall {}", spec.name),
            Action::UpdateFirewall { spec, .. } => write!(f, "repair firewall {}", spec.name),
            Action::CreateDroplet { name, spec, .. } => {
                write!(f, "create droplet {name} ({}, {}, {})", spec.size, spec.region, spec.image)
            }
            Action::RebootDroplet { name, id } => write!(f, "reboot droplet {name} ({id})"),
            Action::DeleteDroplet { name, id } => write!(f, "delete droplet {name} ({id})"),
        }
    }
}

/// The firewall that is wanted; bound to droplets by our identity tag.
#[derive(Debug, Clone, PartialEq)]
pub struct FirewallSpec {
    pub name: String,
    pub tag: String,
    pub rules: Rules,
}

/// The droplet that is wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct DropletSpec {
    pub region: String,
    pub size: String,
    pub image: String,
    pub ssh_keys: Vec<String>,
    /// What the supervisor is told; reaches the droplet as user-data, which cannot be read back.
    pub supervisor: SupervisorConfig,
    /// Of all of the above; kept as a tag on the droplet.
    pub fingerprint: String,
    pub identity_tag: String,
}

/// Every droplet that this program made, whatever deployment it serves.
pub const PRODUCT_TAG: &str = "ops-controller";
const SPEC_TAG_PREFIX: &str = "ops-spec-";

impl DropletSpec {
    pub fn spec_tag(&self) -> String {
        format!("{SPEC_TAG_PREFIX}{}", self.fingerprint)
    }

    /// Identity, product, fingerprint: all attached by the create call itself.
    pub fn tags(&self) -> Vec<String> {
        vec![self.identity_tag.clone(), PRODUCT_TAG.to_owned(), self.spec_tag()]
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct SupervisorConfig {
    pub trigger_version: String,
    pub api_url: String,
    pub worker_token: Secret,
    pub managed_secret: Secret,
    pub registry_domain: Option<String>,
    pub registry_login: Option<RegistryLogin>,
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// The world was changed.
    Applied,
    /// The world was as wanted already.
    AlreadyDone,
    /// The world moved since planning; nothing was done, the next cycle plans anew.
    Superseded { because: String },
    /// Sent, and the answer was lost: it is looked for in the next cycles, never sent again blindly.
    Unresolved { error: String },
    /// Refused or failed; surely nothing was changed.
    Failed { error: String },
}

/// An action with why it is planned, and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    pub action: Action,
    pub reason: String,
    /// Change of the monthly bill in USD, where there is one and the price is known.
    pub monthly_usd: Option<f64>,
}

/// An action that is not taken, and what holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub action: String,
    /// The variable or fact that holds it.
    pub by: String,
    pub why: String,
}
