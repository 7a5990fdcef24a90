//! What `/status` and `status` show. No secret ever enters this.

use crate::clients::budget::Remaining;
use crate::plan::action::{Held, Outcome, Planned};
use crate::plan::condition::Condition;
use crate::plan::mode::Shown;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub version: &'static str,
    /// All required conditions are True in the last cycle.
    pub healthy: bool,
    pub mode: Shown,
    /// Why it is in this mode, where there is a reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode_reason: Option<String>,
    pub healthy_cycles: u32,
    pub conditions: Vec<Condition>,
    pub cycle: Option<Cycle>,
    /// Actions not taken, and what holds each.
    pub held: Vec<Held>,
    pub next_cycle_at: Option<Timestamp>,
    pub budget: Budgets,
    pub droplet: Option<DropletStatus>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Default)]
pub struct Budgets {
    pub railway: Remaining,
    pub digitalocean: Remaining,
}

/// The last cycle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cycle {
    pub number: u64,
    pub started_at: Timestamp,
    pub duration_ms: u64,
    /// What was done, and how each ended. In a mode that changes nothing: what would be done.
    pub actions: Vec<ActionReport>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ActionReport {
    pub action: String,
    pub resource: String,
    pub reason: String,
    /// `None`: not done, because the mode changes nothing.
    pub outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    pub duration_ms: u64,
}

impl ActionReport {
    pub fn planned(planned: &Planned) -> ActionReport {
        ActionReport {
            action: planned.action.to_string(),
            resource: planned.action.resource(),
            reason: planned.reason.clone(),
            outcome: None,
            request_id: None,
            duration_ms: 0,
        }
    }
}

/// The droplet that does, or is to do, the service.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub struct DropletStatus {
    pub id: u64,
    pub name: String,
    pub ip: Option<String>,
    pub size: String,
    pub price_monthly: Option<f64>,
}

impl Status {
    /// Before the first cycle.
    pub fn starting(mode: Shown) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION"),
            healthy: false,
            mode,
            mode_reason: None,
            healthy_cycles: 0,
            conditions: Vec::new(),
            cycle: None,
            held: Vec::new(),
            next_cycle_at: None,
            budget: Budgets::default(),
            droplet: None,
            warnings: Vec::new(),
        }
    }
}
