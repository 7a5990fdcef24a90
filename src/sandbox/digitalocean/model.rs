//! What the account consists of: droplets, the actions on them, and what they do to machines.

use super::ids::Reservation;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    New,
    Active,
    Off,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::New => "new",
            State::Active => "active",
            State::Off => "off",
        }
    }
}

#[derive(Debug)]
pub struct Droplet {
    pub id: u64,
    pub name: String,
    pub tags: Vec<String>,
    pub size: String,
    pub region: String,
    pub image: String,
    pub vpc_uuid: String,
    pub features: Vec<&'static str>,
    pub user_data: Arc<str>,
    pub state: State,
    pub created: Instant,
    pub created_at: String,
    pub ip: Ipv4Addr,
    /// Given back when the droplet is removed.
    pub reservation: Option<Reservation>,
    /// The public address shows from then on, a moment after the droplet became active.
    pub address_due: Option<Instant>,
    /// The machine's supervisor starts then.
    pub start_due: Option<Instant>,
    /// Set when a deletion was accepted: still listed, locked, until then.
    pub deletion_due: Option<Instant>,
    pub removed: Option<Instant>,
    /// Accepted by the API, but the provider will fail to build it.
    pub doomed: bool,
    pub never_healthy: bool,
    /// Not created through the API: nobody's but the test's.
    pub foreign: bool,
}

impl Droplet {
    pub fn exists(&self) -> bool {
        self.removed.is_none()
    }

    pub fn is_deleting(&self) -> bool {
        self.deletion_due.is_some()
    }

    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|t| t == tag)
    }
}

/// What a create request has come to after every check.
#[derive(Debug, Clone, Default)]
pub struct NewDroplet {
    pub name: String,
    pub tags: Vec<String>,
    pub size: String,
    pub region: String,
    pub image: String,
    pub vpc_uuid: String,
    pub features: Vec<&'static str>,
    pub user_data: Arc<str>,
    pub never_healthy: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActionKind {
    Create,
    Destroy,
    Reboot,
    PowerCycle,
    PowerOn,
    PowerOff,
    Shutdown,
    Resize { size: String },
}

impl ActionKind {
    pub fn name(&self) -> &'static str {
        match self {
            ActionKind::Create => "create",
            ActionKind::Destroy => "destroy",
            ActionKind::Reboot => "reboot",
            ActionKind::PowerCycle => "power_cycle",
            ActionKind::PowerOn => "power_on",
            ActionKind::PowerOff => "power_off",
            ActionKind::Shutdown => "shutdown",
            ActionKind::Resize { .. } => "resize",
        }
    }
}

#[derive(Debug)]
pub struct Action {
    pub id: u64,
    pub kind: ActionKind,
    pub droplet: u64,
    pub region: String,
    pub status: &'static str,
    pub started_at: String,
    pub completed_at: Option<String>,
    pub ends: Instant,
}

/// What must be done to a real machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    On(u64),
    Cut(u64),
}
