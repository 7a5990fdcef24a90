//! Conditions: one named fact of health for each hop, so that the broken hop is named.
//!
//! Types and reasons are closed lists: users alert on them, and the README documents each one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The hops, in the order in which each one needs those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionType {
    ConfigurationReady,
    WorkerTokenReady,
    WalLevelLogical,
    ReplicaIdentityFull,
    PublicationReady,
    ReplicationSlotHealthy,
    FirewallReady,
    SupervisorDeployed,
    SupervisorReachable,
    SupervisorConnected,
}

impl ConditionType {
    pub const ALL: [ConditionType; 10] = [
        ConditionType::ConfigurationReady,
        ConditionType::WorkerTokenReady,
        ConditionType::WalLevelLogical,
        ConditionType::ReplicaIdentityFull,
        ConditionType::PublicationReady,
        ConditionType::ReplicationSlotHealthy,
        ConditionType::FirewallReady,
        ConditionType::SupervisorDeployed,
        ConditionType::SupervisorReachable,
        ConditionType::SupervisorConnected,
    ];
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    True,
    False,
    /// Could not look. Never counted as healthy, never acted on.
    Unknown,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Why a condition has its status. Closed: every reason stands in the README's table.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Reason { $($(#[doc = $doc])* $name,)* }

        impl Reason {
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// One sentence: what it means.
            pub fn meaning(self) -> &'static str {
                match self { $(Reason::$name => concat!($($doc,)*).trim_ascii(),)* }
            }
        }
    };
}

reasons! {
    /// Everything is as wanted.
    AsDesired,
    /// The source could not be read in this cycle; nothing is concluded and nothing is done.
    CouldNotLook,
    /// A condition that comes first is not True yet.
    WaitingForOther,
    /// Our own change is on its way; looked at again in the next cycle.
    InProgress,
    /// A guard or a setting holds the change back; the message names it.
    Held,
    /// The change was refused or failed; the message has the provider's words.
    ChangeFailed,
    /// The Railway service with that name does not exist in this environment.
    ServiceNotFound,
    /// Several Railway services fit; set the variable that names the right one.
    ServiceAmbiguous,
    /// A variable that the supervisor needs is not among the webapp's readable variables.
    VariableMissing,
    /// The webapp's origin cannot be reached from a droplet, or is not a URL.
    OriginUnreachable,
    /// The webapp's tables do not exist yet: its migrations have not run.
    MigrationsPending,
    /// The database does not know the token.
    TokenRejected,
    /// The webapp refuses the token together with the managed secret.
    ProbeRejected,
    /// No accepted token: not set, not cached, not in any log that could be searched.
    TokenNotFound,
    /// The deployments' logs are being searched for the token.
    SearchingLogs,
    /// The setting is given on the server's command line, which ALTER SYSTEM cannot override.
    CommandLineOverrides,
    /// The database role lacks the privilege; the message says which.
    PrivilegeMissing,
    /// The new wal_level is stored and waits for a restart.
    RestartPending,
    /// The server was restarted and wal_level still is not logical.
    RestartDidNotHelp,
    /// No restart now: a webapp deployment is booting or migrating.
    WebappBooting,
    /// max_wal_senders or max_replication_slots leaves no room.
    LimitTooLow,
    /// The table's replica identity is not FULL.
    IdentityNotFull,
    /// The publication does not exist.
    PublicationMissing,
    /// The publication lacks the table or an operation.
    PublicationIncomplete,
    /// The replication slot does not exist; the webapp makes it.
    SlotMissing,
    /// Nothing reads the slot; WAL piles up.
    SlotInactive,
    /// The slot retains more WAL than is comfortable; the message has the forecast.
    SlotRetainsWal,
    /// The slot is lost: it must be dropped by hand and the gap backfilled.
    SlotLost,
    /// The firewall does not exist.
    FirewallMissing,
    /// The firewall's rules or tags differ from what is wanted.
    FirewallDrifted,
    /// No droplet of ours exists.
    DropletMissing,
    /// The droplet boots.
    DropletBooting,
    /// The droplet differs from what is wanted and is being replaced.
    DropletDrifted,
    /// More droplets of ours exist than wanted.
    SurplusDroplets,
    /// The new droplet did not become healthy by its deadline.
    ReplacementFailed,
    /// The health endpoint does not answer 200.
    HealthCheckFailed,
    /// The health endpoint answers, not yet often enough in a row.
    HealthCheckSettling,
    /// Heartbeats arrive, but the health endpoint cannot be reached from here.
    ProbeBlocked,
    /// The supervisor has not sent its first heartbeat.
    NoHeartbeat,
    /// The supervisor's last heartbeat is too old.
    HeartbeatStale,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One named fact of health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: ConditionType,
    pub status: Status,
    pub reason: Reason,
    /// Says what was seen and, when not True, what to do.
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
    /// A warning does not make the deployment unhealthy although it is not True.
    #[serde(default)]
    pub advisory: bool,
}

/// What a planner says of its hop; the time of transition is added by [`settle`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub kind: ConditionType,
    pub status: Status,
    pub reason: Reason,
    pub message: String,
    pub advisory: bool,
}

impl Finding {
    pub fn yes(kind: ConditionType, message: impl Into<String>) -> Finding {
        Finding::new(kind, Status::True, Reason::AsDesired, message)
    }

    pub fn no(kind: ConditionType, reason: Reason, message: impl Into<String>) -> Finding {
        Finding::new(kind, Status::False, reason, message)
    }

    pub fn unknown(kind: ConditionType, message: impl Into<String>) -> Finding {
        Finding::new(kind, Status::Unknown, Reason::CouldNotLook, message)
    }

    pub fn new(kind: ConditionType, status: Status, reason: Reason, message: impl Into<String>) -> Finding {
        Finding { kind, status, reason, message: message.into(), advisory: false }
    }

    /// A warning: shown, but not counted against health.
    pub fn advisory(mut self) -> Finding {
        self.advisory = true;
        self
    }
}

/// Gives findings their transition times: kept from `before` while the status stays the same.
pub fn settle(findings: Vec<Finding>, before: &[Condition], now: Timestamp) -> Vec<Condition> {
    findings
        .into_iter()
        .map(|finding| {
            let last_transition_time = before
                .iter()
                .find(|c| c.kind == finding.kind && c.status == finding.status)
                .map_or(now, |c| c.last_transition_time);
            Condition {
                kind: finding.kind,
                status: finding.status,
                reason: finding.reason,
                message: finding.message,
                last_transition_time,
                advisory: finding.advisory,
            }
        })
        .collect()
}

/// Healthy: every required condition is True in this cycle. An empty list proves nothing.
pub fn healthy(conditions: &[Condition]) -> bool {
    !conditions.is_empty() && conditions.iter().all(|c| c.status == Status::True || c.advisory)
}
