//! What is known of each droplet of ours: streaks and verdicts over cycles.
//!
//! A droplet *serves* when /health answered 200 several times in a row and its heartbeat is fresh.
//! It *fails* a look only when both were surely looked at: a heartbeat that could not be read, or a
//! webapp that is down itself, says nothing about the droplet.

mod findings;
mod ours;

use super::action::{Action, DropletSpec};
use super::desired::Desired;
use super::observation::{DatabaseView, Droplet, DropletStatus, Health, Observation, Probe, Seen};
use super::state::{Condemned, DropletRecord, Intent, IntentKind, ProbeRecord, State};
use super::supervisor::sequence_of;
use super::{readable_duration, signed};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

use ours::ours;

pub use findings::{cheap_findings, connected, reachable};

/// 200s in a row before a droplet counts as reachable: a supervisor with a bad token answers 200
/// for a short time in each round of its crash loop.
pub const OK_STREAK: u32 = 3;
/// A create that was answered 202 may stay invisible this long before it counts as vanished.
const ACCEPTED_SETTLE: SignedDuration = SignedDuration::from_mins(2);
/// After the last 200, a failing probe is looked at often for this long; then at the usual pace.
const SETTLING: SignedDuration = SignedDuration::from_mins(5);
/// A delete that was journalled and not acknowledged by then may never have been sent.
const UNSENT_DELETE: SignedDuration = SignedDuration::from_secs(30);
/// First pause after a droplet that never became healthy; doubled each time.
const CREATE_BACKOFF: SignedDuration = SignedDuration::from_mins(2);
const CREATE_BACKOFF_MAX: SignedDuration = SignedDuration::from_hours(6);
/// Refusals after which a reboot is given up and the droplet replaced.
const MAX_REBOOT_REFUSALS: u32 = 3;

/// One droplet of ours with everything known of it.
#[derive(Debug)]
pub struct View<'a> {
    pub droplet: &'a Droplet,
    pub record: Option<&'a DropletRecord>,
    /// Fingerprint tag, size and region are as desired.
    pub matches: bool,
    pub serving: bool,
    /// Its heartbeat is fresh; `None` when that could not be read.
    pub connected: Option<bool>,
}

impl View<'_> {
    pub fn is_going(&self) -> bool {
        self.record.is_some_and(|r| r.deleted_at.is_some())
    }

    pub fn is_condemned(&self) -> bool {
        self.record.is_some_and(|r| r.condemned.is_some())
    }

    /// Surely out of service for as many looks as it takes.
    pub fn is_failing(&self, desired: &Desired) -> bool {
        self.has_served() && self.record.is_some_and(|r| r.failed_looks >= desired.times.unhealthy_after)
    }

    pub fn has_served(&self) -> bool {
        self.record.is_some_and(|r| r.in_service_since.is_some())
    }

    pub fn since(&self) -> Timestamp {
        self.record.map_or(self.droplet.created_at, |r| r.first_seen)
    }

    /// The one that best does the service: serving before answering before matching before having
    /// served; oldest first.
    pub fn rank(&self) -> (bool, bool, (bool, bool), bool, bool, std::cmp::Reverse<u64>) {
        // A fresh heartbeat proves more than a 200.
        let alive = (self.connected == Some(true), self.record.is_some_and(|r| r.ok_streak > 0));
        let oldest = std::cmp::Reverse(self.droplet.id);
        (self.serving, !self.is_condemned(), alive, self.matches, self.has_served(), oldest)
    }

    /// Changes are to be expected within seconds.
    pub fn is_settling(&self, now: Timestamp) -> bool {
        let Some(record) = self.record else { return true };
        let settling = record.last_ok_at.is_some_and(|at| now.duration_since(at) < SETTLING);
        // One that answers steadily lacks its heartbeat; that is awaited at the usual pace.
        !self.serving && record.ok_streak < OK_STREAK && settling
    }

    pub fn why_not(&self) -> String {
        match self.record.and_then(|r| r.condemned.as_ref()) {
            Some(condemned) => condemned.reason.clone(),
            None if !self.matches => "it differs from the desired size, region, image, version or configuration".into(),
            None => "it is one too many".into(),
        }
    }

    pub fn delete(&self) -> Action {
        Action::DeleteDroplet { id: self.droplet.id, name: self.droplet.name.clone() }
    }
}

/// All droplets of ours that the observation shows; none when it shows nothing.
pub fn views<'a>(
    desired: &Desired,
    state: &'a State,
    seen: &'a Observation,
    spec: Option<&DropletSpec>,
) -> Vec<View<'a>> {
    let droplets = seen.droplets.known().map(Vec::as_slice).unwrap_or_default();
    ours(desired, state, droplets)
        .into_iter()
        .map(|droplet| {
            let record = state.supervisor.droplets.get(&droplet.id);
            let connected = is_connected(desired, seen, droplet);
            View {
                droplet,
                record,
                matches: spec.is_some_and(|spec| is_as_desired(desired, droplet, spec, seen.at)),
                serving: record.is_some_and(|r| r.ok_streak >= OK_STREAK) && connected == Some(true),
                connected,
            }
        })
        .collect()
}

fn is_as_desired(desired: &Desired, droplet: &Droplet, spec: &DropletSpec, now: Timestamp) -> bool {
    // A new one may show before its tags do: then it is not yet known to be another.
    let is_bare = !droplet.tags.contains(&desired.identity_tag());
    let is_young = now.duration_since(droplet.created_at) < signed(desired.times.create_settle);
    let is_tagged = droplet.tags.contains(&spec.spec_tag()) || (is_bare && is_young);
    is_tagged && droplet.size == spec.size && droplet.region == spec.region
}

/// Whether its heartbeat is fresh, by the database's clock; `None` when that could not be read.
pub fn is_connected(desired: &Desired, seen: &Observation, droplet: &Droplet) -> Option<bool> {
    let DatabaseView { workers, worker_groups, .. } = seen.database.known()?;
    worker_groups.as_ref()?;
    let age = workers.get(&droplet.name).and_then(|w| w.heartbeat_age_seconds);
    let stale = desired.times.heartbeat_stale_after.as_secs_f64();
    match age {
        // From the future: the webapp's clock and the database's differ, and the age says nothing.
        Some(age) if age < -stale => None,
        age => Some(age.is_some_and(|age| age <= stale)),
    }
}

/// Takes this cycle's looks into the state: droplets found and gone, streaks, verdicts, intents.
pub fn digest(desired: &Desired, state: &mut State, seen: &Observation) {
    let now = seen.at;
    let hour_ago = now - SignedDuration::from_hours(1);
    state.supervisor.creates.retain(|at| *at > hour_ago);
    if state.supervisor.failed_desired.as_ref().is_some_and(|failed| *failed != desired.fingerprint()) {
        // The configuration was corrected; what failed before says nothing about this one.
        state.supervisor.failed_creates = 0;
        state.supervisor.not_before = None;
        state.supervisor.failed_desired = None;
    }
    if let Some(database) = seen.database.known() {
        // After a lost state file the rows of earlier supervisors still tell which names were used.
        let used = database.workers.keys().filter_map(|name| sequence_of(desired, name)).max();
        state.supervisor.sequence = state.supervisor.sequence.max(used.unwrap_or(0));
    }
    let Seen::Known(droplets) = &seen.droplets else { return };
    let droplets = ours(desired, state, droplets);
    for droplet in &droplets {
        note_droplet(desired, state, seen, droplet);
    }
    // The observer asked for each missing one by its id as well, so absent means gone; but a read that
    // lags behind knows nothing of what was made since, even if another read has shown it before.
    let (settle, present) =
        (signed(desired.times.create_settle), droplets.iter().map(|d| d.id).collect::<BTreeSet<_>>());
    state.supervisor.droplets.retain(|id, record| {
        let is_young = record.deleted_at.is_none() && now.duration_since(record.first_seen) < settle;
        is_young || present.contains(id)
    });
    settle_intents(desired, state, &droplets, now);
    close_reboots(state);
}

fn note_droplet(desired: &Desired, state: &mut State, seen: &Observation, droplet: &Droplet) {
    let now = seen.at;
    if let Some(sequence) = sequence_of(desired, &droplet.name) {
        state.supervisor.sequence = state.supervisor.sequence.max(sequence);
    }
    let webapp_heard = webapp_hears(desired, state.probe.as_ref(), seen);
    let record = state.supervisor.droplets.entry(droplet.id).or_insert_with(|| DropletRecord {
        name: droplet.name.clone(),
        // Its own birth, not our first look: after a lost state file an old droplet gets no new grace.
        first_seen: droplet.created_at.min(now),
        last_ok_at: None,
        ok_streak: 0,
        failed_looks: 0,
        in_service_since: None,
        rebooted_at: None,
        condemned: None,
        deleted_at: None,
    });
    let connected = is_connected(desired, seen, droplet);
    match seen.health.get(&droplet.id) {
        Some(Health::Ok) => {
            record.ok_streak = record.ok_streak.saturating_add(1);
            record.last_ok_at = Some(now);
        }
        Some(Health::Failed(_)) | None => record.ok_streak = 0,
    }
    if record.ok_streak >= OK_STREAK && connected == Some(true) {
        record.in_service_since.get_or_insert(now);
        record.failed_looks = 0;
        // One that dies again soon after its reboot is replaced, not rebooted for ever.
        let proven = |at| now.duration_since(at) >= signed(desired.times.boot_deadline);
        record.rebooted_at = record.rebooted_at.filter(|at| !proven(*at));
        record.condemned = None;
        return;
    }
    if surely_failing(seen, droplet, connected, webapp_heard) {
        record.failed_looks = record.failed_looks.saturating_add(1);
    } else if connected == Some(true) {
        record.failed_looks = 0;
    }
    let reboot = Action::RebootDroplet { id: droplet.id, name: droplet.name.clone() };
    let refusals = state.failures.get(&reboot.key()).map_or(0, |f| f.attempts);
    // A webapp that is down itself says nothing about the droplet.
    let verdict = if webapp_heard { verdict(desired, record, droplet, connected, refusals, now) } else { None };
    if let Some(reason) = verdict
        && record.condemned.is_none()
    {
        let never_served = record.in_service_since.is_none();
        record.condemned = Some(Condemned { at: now, reason });
        if never_served {
            back_off(desired, state, now);
        }
    }
}

/// Both evidences were looked at and both, or the one that counts, speak against it.
fn surely_failing(seen: &Observation, droplet: &Droplet, connected: Option<bool>, webapp_heard: bool) -> bool {
    if connected != Some(false) {
        return false;
    }
    match seen.health.get(&droplet.id) {
        Some(Health::Failed(_)) => true,
        // It answers, yet is not heard of: its own fault only when the webapp would have heard it.
        Some(Health::Ok) => webapp_heard,
        // Without an address nobody can look; a droplet that never gets one must not boot for ever.
        None => droplet.ip.is_none() || matches!(droplet.status, DropletStatus::Off | DropletStatus::Archive),
    }
}

/// Whether the webapp has accepted us for so long that a heartbeat must have come: one is sent every
/// 30 s, and those that were sent while webapp or database were down are not repeated.
fn webapp_hears(desired: &Desired, probe: Option<&ProbeRecord>, seen: &Observation) -> bool {
    seen.probe == Some(Probe::Accepted)
        && probe
            .is_some_and(|p| p.accepted && seen.at.duration_since(p.at) >= signed(desired.times.heartbeat_stale_after))
}

/// Why it is given up, if it is.
fn verdict(
    desired: &Desired,
    record: &DropletRecord,
    droplet: &Droplet,
    connected: Option<bool>,
    reboot_refusals: u32,
    now: Timestamp,
) -> Option<String> {
    // A database that could not be read proves nothing against the droplet.
    if connected != Some(false) || record.deleted_at.is_some() {
        return None;
    }
    let deadline = signed(desired.times.boot_deadline);
    if record.failed_looks < desired.times.unhealthy_after {
        return None;
    }
    match (record.in_service_since, record.rebooted_at) {
        (None, _) if now.duration_since(record.first_seen) >= deadline => {
            Some(format!("{} was not in service {} after its creation", droplet.name, readable_duration(deadline)))
        }
        (Some(_), Some(rebooted)) if now.duration_since(rebooted) >= deadline => {
            Some(format!("{} stayed out of service {} after its reboot", droplet.name, readable_duration(deadline)))
        }
        (Some(_), None) if reboot_refusals >= MAX_REBOOT_REFUSALS => {
            Some(format!("{} is out of service and its reboot was refused {reboot_refusals} times", droplet.name))
        }
        _ => None,
    }
}

/// Another droplet that never became healthy: the next create waits longer.
fn back_off(desired: &Desired, state: &mut State, now: Timestamp) {
    let failed = state.supervisor.failed_creates.saturating_add(1);
    let factor = 1_i32 << failed.saturating_sub(1).min(12);
    let pause = CREATE_BACKOFF.saturating_mul(factor).min(CREATE_BACKOFF_MAX);
    state.supervisor.failed_creates = failed;
    state.supervisor.not_before = Some(now + pause);
    state.supervisor.failed_desired = Some(desired.fingerprint());
}

/// Closes creates that were found, and those that surely left nothing.
fn settle_intents(desired: &Desired, state: &mut State, droplets: &[&Droplet], now: Timestamp) {
    forget_unsent_deletes(state, now);
    let mut vanished = 0;
    state.intents.retain(|intent| {
        let Intent { what: IntentKind::CreateDroplet { name, id }, at, acknowledged, .. } = intent else {
            return true;
        };
        let found = droplets.iter().any(|d| d.name == *name || Some(d.id) == *id);
        let age = now.duration_since(*at);
        let lost = match acknowledged {
            None => age >= signed(desired.times.create_settle),
            Some(_) => age >= ACCEPTED_SETTLE.max(signed(desired.times.create_settle)),
        };
        if lost && !found && acknowledged.is_some() {
            vanished += 1;
        }
        !found && !lost
    });
    for _ in 0..vanished {
        back_off(desired, state, now);
    }
    let serving =
        state.supervisor.droplets.values().any(|r| r.ok_streak >= OK_STREAK && r.in_service_since == Some(now));
    if serving {
        state.supervisor.failed_creates = 0;
        state.supervisor.not_before = None;
    }
}

/// A delete that was journalled and never acknowledged may not have been sent: after a while it is
/// decided anew, because what justified it may be gone.
fn forget_unsent_deletes(state: &mut State, now: Timestamp) {
    let droplets = &mut state.supervisor.droplets;
    state.intents.retain(|intent| {
        let IntentKind::DeleteDroplet { id } = intent.what else { return true };
        let old = now.duration_since(intent.at) >= UNSENT_DELETE;
        match droplets.get_mut(&id) {
            None => false,
            Some(record) if old => {
                record.deleted_at = None;
                false
            }
            Some(_) => true,
        }
    });
}

/// A reboot whose answer was lost is settled by what became of its droplet.
fn close_reboots(state: &mut State) {
    let droplets = &state.supervisor.droplets;
    state.intents.retain(|intent| {
        let IntentKind::RebootDroplet { id } = intent.what else { return true };
        droplets.get(&id).is_some_and(|r| r.rebooted_at.is_some() && r.condemned.is_none() && r.ok_streak < OK_STREAK)
    });
}
