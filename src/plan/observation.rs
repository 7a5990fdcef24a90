//! What was read in one cycle. Plain data: the planner's only view of the world.
//!
//! A read that failed is `Unknown` with its reason, never an empty list (rule 1).

use super::secret::Secret;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something read, or the reason why it could not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    Known(T),
    Unknown { reason: String },
}

impl<T> Seen<T> {
    pub fn unknown(reason: impl Into<String>) -> Seen<T> {
        Seen::Unknown { reason: reason.into() }
    }

    pub fn known(&self) -> Option<&T> {
        match self {
            Seen::Known(value) => Some(value),
            Seen::Unknown { .. } => None,
        }
    }
}

/// Everything read in one cycle.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The observer's clock when the cycle began.
    pub at: Timestamp,
    pub railway: Seen<RailwayView>,
    pub database: Seen<DatabaseView>,
    /// Droplets that carry our identity tag: the tag listing, completed by name and id look-ups.
    pub droplets: Seen<Vec<Droplet>>,
    pub firewall: Seen<Option<Firewall>>,
    pub sizes: Seen<Vec<Size>>,
    pub account: Seen<Account>,
    /// One health probe for each droplet of ours that has an address.
    pub health: BTreeMap<u64, Health>,
    /// What the webapp said to the token; `None` when it was not asked in this cycle.
    pub probe: Option<Probe>,
    /// What the log search of this cycle found; `None` when none was needed.
    pub search: Option<Search>,
}

impl Observation {
    /// Nothing looked at yet: everything is Unknown.
    pub fn nothing(at: Timestamp, reason: &str) -> Observation {
        Observation {
            at,
            railway: Seen::unknown(reason),
            database: Seen::unknown(reason),
            droplets: Seen::unknown(reason),
            firewall: Seen::unknown(reason),
            sizes: Seen::unknown(reason),
            account: Seen::unknown(reason),
            health: BTreeMap::new(),
            probe: None,
            search: None,
        }
    }
}

// --- Railway ---

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RailwayView {
    pub webapp: Lookup,
    pub postgres: Lookup,
    pub registry: Lookup,
    /// The webapp's rendered variables that we use. Sealed ones are never returned by Railway.
    pub managed_secret: Option<Secret>,
    pub api_origin: Option<String>,
    pub app_origin: Option<String>,
    /// `RAILWAY_PUBLIC_DOMAIN` of the registry service, when there is such a service.
    pub registry_domain: Option<String>,
}

/// A service looked up by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    Found(Service),
    /// `present` are the names that do exist, for the message.
    Missing {
        wanted: String,
        present: Vec<String>,
    },
    Ambiguous {
        wanted: String,
        matches: Vec<String>,
    },
}

impl Lookup {
    pub fn found(&self) -> Option<&Service> {
        match self {
            Lookup::Found(service) => Some(service),
            _ => None,
        }
    }
}

/// A service in our environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub id: String,
    pub name: String,
    pub latest: Option<Deployment>,
    /// What is running now; "latest" may have failed while an older one still serves.
    pub active: Vec<Deployment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    pub id: String,
    pub status: DeploymentStatus,
    /// A replica is being created, initialised or restarted, whatever the status says.
    pub booting: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeploymentStatus {
    /// INITIALIZING, QUEUED, WAITING, BUILDING, DEPLOYING.
    InFlight,
    /// SUCCESS, SLEEPING.
    Good,
    /// FAILED, CRASHED.
    Bad,
    /// REMOVED, REMOVING, SKIPPED.
    Ended,
    /// NEEDS_APPROVAL: waits for a person.
    NeedsApproval,
    /// A status that we do not know yet.
    Other,
}

// --- PostgreSQL ---

#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseView {
    /// `server_version_num`, such as 150018.
    pub version: i32,
    /// Changes at every restart: the proof that one happened.
    pub started_at: Timestamp,
    pub in_recovery: bool,
    pub role: Role,
    pub wal_level: Setting,
    /// The value in postgresql.auto.conf, when the role may read it.
    pub wal_level_in_file: Option<String>,
    pub max_wal_senders: i32,
    pub wal_senders_used: i32,
    pub max_replication_slots: i32,
    pub replication_slots_used: i32,
    pub task_run: Option<TaskRun>,
    pub publication: Option<Publication>,
    pub slot: Option<Slot>,
    /// `None`: the webapp's tables do not exist.
    pub worker_groups: Option<Vec<WorkerGroup>>,
    /// By `"WorkerInstance"."resourceIdentifier"`.
    pub workers: BTreeMap<String, Worker>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    pub name: String,
    pub superuser: bool,
    pub replication: bool,
    /// Superuser, or `grant alter system on parameter wal_level` (PostgreSQL 15 and later).
    pub may_alter_system: bool,
    pub may_create_in_database: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub value: String,
    /// `pg_settings.source`: `default`, `configuration file`, `command line`, ...
    pub source: String,
    pub pending_restart: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRun {
    /// `pg_class.relreplident`: `d`, `n`, `f` or `i`.
    pub replica_identity: char,
    pub owned: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub has_table: bool,
    pub inserts: bool,
    pub updates: bool,
    pub deletes: bool,
    pub owned: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    pub active: bool,
    pub wal_status: String,
    pub retained_bytes: i64,
    /// Bytes until `max_slot_wal_keep_size` invalidates it; `None` when unlimited.
    pub safe_bytes: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerGroup {
    pub id: String,
    pub name: String,
    /// Lower-case hex SHA-256 of the whole token.
    pub token_hash: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Age of the last heartbeat by the database's clock; `None` before the first.
    pub heartbeat_age_seconds: Option<f64>,
}

// --- DigitalOcean ---

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Droplet {
    pub id: u64,
    pub name: String,
    pub status: DropletStatus,
    pub size: String,
    pub region: String,
    pub tags: Vec<String>,
    /// The public IPv4 address; may come later than `active`.
    pub ip: Option<String>,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DropletStatus {
    New,
    Active,
    Off,
    Archive,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    pub id: String,
    pub name: String,
    pub rules: Rules,
    pub tags: Vec<String>,
}

/// A firewall's rules in a normal form: sorted, without duplicates, so that drift can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    pub inbound: Vec<Rule>,
    pub outbound: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    pub protocol: String,
    /// `8020`, `8000-9000`, or `0` for all.
    pub ports: String,
    pub addresses: Vec<String>,
    /// Sources that are no plain addresses (tags, droplets, load balancers); we never set any.
    pub others: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Size {
    pub slug: String,
    pub price_monthly: f64,
    pub available: bool,
    pub regions: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub status: String,
    pub droplet_limit: Option<u64>,
}

// --- the supervisor and the webapp ---

/// One look at `http://IP:8020/health`. A refused connection is a look, not an Unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    Ok,
    Failed(String),
}

/// What the webapp said to `connect` with our token and secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    Accepted,
    Rejected,
    Unreachable(String),
}

/// What one round of log search brought.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Search {
    /// Tokens out of bootstrap blocks, not reported as rejected by any line seen.
    pub found: Vec<Secret>,
    /// Which windows were searched, for the message.
    pub searched: Vec<String>,
    /// All windows have been searched.
    pub complete: bool,
    pub error: Option<String>,
}
