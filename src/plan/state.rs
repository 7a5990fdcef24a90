//! What the controller remembers between cycles: the content of the JSON state file.
//!
//! Only what cannot be read from the world again: intents, streaks, the token that may be in no log
//! any more. Losing it costs time, never a second droplet.

use super::condition::Condition;
use super::secret::Secret;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The layout's version; a newer one is refused, an older one is upgraded when read.
pub const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    pub version: u32,
    /// Whose state this is: the identity tag. Another deployment's file is refused.
    pub identity: String,
    pub cycle: u64,
    pub healthy_cycles: u32,
    pub mode: Mode,
    /// IS_ACTIVE when last seen: false → true ends a disabled mode.
    pub was_active: bool,
    pub conditions: Vec<Condition>,
    pub token: Option<CachedToken>,
    /// Accepted once and not any more; tried again before any search.
    #[serde(default)]
    pub former_tokens: Vec<CachedToken>,
    /// A token that is being issued: written here first, so that it cannot be lost.
    pub pending_token: Option<PendingToken>,
    pub search: SearchState,
    pub probe: Option<ProbeRecord>,
    pub railway_ids: RailwayIds,
    pub intents: Vec<Intent>,
    pub supervisor: SupervisorState,
    pub restart: Option<RestartRecord>,
    pub slot_samples: Vec<SlotSample>,
    /// The database lease's epoch under which this was written: whoever takes the next one with this
    /// file goes on with its holder's journal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database_epoch: Option<u64>,
    /// Until when another controller, whose journal is not here, may have acted. Stored with the epoch:
    /// who goes on with this journal knows no more of that other one than its writer did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others_acted_until: Option<Timestamp>,
    /// By action key: how often it failed in a row, and the last error in the provider's words.
    pub failures: BTreeMap<String, Failure>,
}

impl State {
    pub fn new(identity: impl Into<String>) -> State {
        State {
            version: VERSION,
            identity: identity.into(),
            cycle: 0,
            healthy_cycles: 0,
            mode: Mode::Active,
            was_active: true,
            conditions: Vec::new(),
            token: None,
            former_tokens: Vec::new(),
            pending_token: None,
            search: SearchState::default(),
            probe: None,
            railway_ids: RailwayIds::default(),
            intents: Vec::new(),
            supervisor: SupervisorState::default(),
            restart: None,
            slot_samples: Vec::new(),
            database_epoch: None,
            others_acted_until: None,
            failures: BTreeMap::new(),
        }
    }

    /// Notes under which epoch of the database's lease it goes on from here, and whose term ended when
    /// before that. What that one created last may not be listed yet, unless this is its journal.
    pub fn take_over(&mut self, epoch: Option<u64>, predecessor: Option<(u64, Timestamp)>) {
        let other = predecessor.filter(|(before, _)| self.database_epoch != Some(*before));
        self.others_acted_until = self.others_acted_until.max(other.map(|(_, until)| until));
        self.database_epoch = epoch;
    }

    /// From when on everything is listed that another controller, whose journal is not here, created.
    pub fn others_settled_at(&self, create_settle: Duration) -> Option<Timestamp> {
        self.others_acted_until.map(|at| at + super::signed(create_settle))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Mode {
    Active,
    /// Changes nothing until resumed by a person.
    Paused {
        since: Timestamp,
    },
    /// Proven healthy often enough; only a cheap look remains.
    Disabled {
        since: Timestamp,
        reason: String,
        /// The desired configuration then: another one wakes it.
        desired: String,
        /// What the cheap look looks at.
        droplet: Option<Watched>,
        failed_looks: u32,
    },
}

/// The supervisor that a disabled controller keeps an eye on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    pub id: u64,
    pub name: String,
    pub ip: String,
    #[serde(default)]
    pub size: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedToken {
    #[serde(serialize_with = "super::secret::exposed")]
    pub value: Secret,
    pub source: TokenSource,
    pub found_at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenSource {
    Manual,
    Logs,
    Imported,
    Rotated,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingToken {
    #[serde(serialize_with = "super::secret::exposed")]
    pub value: Secret,
    pub group_id: String,
    pub issued_at: Timestamp,
}

/// How far the log search has come; it goes on in the next cycle.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SearchState {
    /// Windows that were read to their end, as they are named to users.
    pub windows: Vec<String>,
    pub finished_at: Option<Timestamp>,
}

/// The last answer of the webapp to (token, secret, origin), by their common hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRecord {
    pub inputs: String,
    pub accepted: bool,
    /// Of a refusal: when it was said last. Of acceptance: since when every cycle was accepted.
    pub at: Timestamp,
}

/// Ids of services, so that one request can ask for everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RailwayIds {
    pub webapp: Option<String>,
    pub registry: Option<String>,
}

/// Written before a call that cannot be repeated safely, and closed by looking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The action's key.
    pub key: String,
    pub what: IntentKind,
    pub at: Timestamp,
    /// `None` while it is not known whether the call was carried out.
    pub acknowledged: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum IntentKind {
    CreateDroplet { name: String, id: Option<u64> },
    DeleteDroplet { id: u64 },
    RebootDroplet { id: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SupervisorState {
    /// By droplet id, as text because JSON keys are text.
    pub droplets: BTreeMap<u64, DropletRecord>,
    /// The last number used in a droplet name.
    pub sequence: u64,
    /// When creates were sent, within the last hour: the fuse.
    pub creates: Vec<Timestamp>,
    /// New droplets in a row that did not become healthy.
    pub failed_creates: u32,
    /// No create before this time, as long as the same is desired.
    pub not_before: Option<Timestamp>,
    /// The desired configuration that failed: another one is tried at once.
    #[serde(default)]
    pub failed_desired: Option<String>,
}

/// What is remembered of one droplet of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropletRecord {
    pub name: String,
    pub first_seen: Timestamp,
    pub last_ok_at: Option<Timestamp>,
    /// 200s from /health in a row.
    pub ok_streak: u32,
    /// Looks in a row at which it was surely not in service.
    pub failed_looks: u32,
    /// When it was first reachable and connected.
    pub in_service_since: Option<Timestamp>,
    pub rebooted_at: Option<Timestamp>,
    /// Given up: to be replaced, or removed when another one serves.
    pub condemned: Option<Condemned>,
    pub deleted_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condemned {
    pub at: Timestamp,
    pub reason: String,
}

/// Restarts asked for because of one confirmed change, whatever became of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartRecord {
    /// The postmaster that was to be replaced.
    pub started_before: Timestamp,
    pub asked_at: Timestamp,
    pub asks: u32,
    /// The postmaster that replaced it.
    pub started_after: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotSample {
    pub at: Timestamp,
    pub retained_bytes: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub attempts: u32,
    pub at: Timestamp,
    pub error: String,
}
