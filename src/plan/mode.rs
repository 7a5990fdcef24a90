//! The mode: whether cycles change anything, and when enough is proven to stop.
//!
//! Auto-disable means "change nothing, keep a cheap look": it ends by a person, by a changed
//! configuration, by IS_ACTIVE going false → true, or by the supervisor's death.

use super::desired::Desired;
use super::droplets::View;
use super::observation::Observation;
use super::state::{Mode, State, Watched};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The mode as users see it in /status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    Active,
    /// IS_ACTIVE=false: observes, plans, changes nothing.
    Inactive,
    /// Paused by a person: the same, until resumed.
    Paused,
    /// Auto-disabled: only the cheap look.
    Disabled,
    /// Another instance holds the lock.
    Standby,
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Shown::Active => "active",
            Shown::Inactive => "inactive",
            Shown::Paused => "paused",
            Shown::Disabled => "disabled",
            Shown::Standby => "standby",
        })
    }
}

pub fn shown(desired: &Desired, state: &State) -> Shown {
    match &state.mode {
        _ if !desired.is_active => Shown::Inactive,
        Mode::Active => Shown::Active,
        Mode::Paused { .. } => Shown::Paused,
        Mode::Disabled { .. } => Shown::Disabled,
    }
}

/// What configuration alone does to the mode, at the start of every cycle. Says why when it wakes.
pub fn begin(desired: &Desired, state: &mut State) -> Option<&'static str> {
    let activated = desired.is_active && !state.was_active;
    state.was_active = desired.is_active;
    if !desired.is_active {
        return None;
    }
    let why = match &state.mode {
        Mode::Disabled { .. } if activated => "IS_ACTIVE was switched on again",
        Mode::Disabled { desired: then, .. } if *then != desired.fingerprint() => {
            "the desired configuration was changed"
        }
        _ => return None,
    };
    wake(state);
    Some(why)
}

/// Back to work, counting healthy cycles from nothing.
pub fn wake(state: &mut State) {
    state.mode = Mode::Active;
    state.healthy_cycles = 0;
}

/// Counts the cycle, and disables when enough were healthy in a row. True when it disabled now.
pub fn end(
    desired: &Desired,
    state: &mut State,
    healthy: bool,
    serving: Option<&View<'_>>,
    seen: &Observation,
) -> bool {
    // A cycle that may change nothing proves nothing about healing itself: it is not counted.
    let acting = desired.is_active && state.mode == Mode::Active;
    state.healthy_cycles = match (healthy, acting) {
        (true, true) => state.healthy_cycles.saturating_add(1),
        (true, false) => state.healthy_cycles,
        (false, _) => 0,
    };
    let enough = desired.healthy_cycles_before_disable.max(1);
    let may = desired.auto_disable && acting;
    if !(may && state.healthy_cycles >= enough) {
        return false;
    }
    let watched = serving.and_then(|view| {
        let ip = view.droplet.ip.clone()?;
        Some(Watched { id: view.droplet.id, name: view.droplet.name.clone(), ip, size: view.droplet.size.clone() })
    });
    state.mode = Mode::Disabled {
        since: seen.at,
        reason: format!("{} healthy cycles in a row (AUTO_DISABLE)", state.healthy_cycles),
        desired: desired.fingerprint(),
        droplet: watched,
        failed_looks: 0,
    };
    true
}

/// What the cheap look of a disabled controller showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheapLook {
    Alive,
    Dead,
    /// Could not look: proves nothing, wakes nobody.
    Unknown,
}

/// Takes a cheap look into the state; true when it wakes the controller.
pub fn cheap_look(desired: &Desired, state: &mut State, look: CheapLook) -> bool {
    let Mode::Disabled { failed_looks, .. } = &mut state.mode else { return false };
    match look {
        CheapLook::Alive => *failed_looks = 0,
        CheapLook::Unknown => {}
        CheapLook::Dead => *failed_looks = failed_looks.saturating_add(1),
    }
    let dead = *failed_looks >= desired.times.unhealthy_after;
    if dead {
        wake(state);
    }
    dead
}

/// Paused by a person.
pub fn pause(state: &mut State, now: Timestamp) {
    state.mode = Mode::Paused { since: now };
}
