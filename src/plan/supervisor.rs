//! `SupervisorDeployed`, `SupervisorReachable`, `SupervisorConnected`: exactly one droplet of ours,
//! as desired and in service.
//!
//! New comes before old: a replacement is made first, proven in service, and only then is the old
//! one deleted. Nothing is decided on a listing that failed, and nothing is made while the outcome
//! of an earlier create is unknown. What was *seen* of each droplet is taken into the state by
//! `droplets::digest`; here is only the decision.

use super::action::{Action, DropletSpec, Held, Planned};
use super::condition::{ConditionType, Finding, Reason, Status};
use super::desired::{Desired, short};
use super::droplets::{View, views};
use super::observation::{Observation, Seen};
use super::state::{IntentKind, State};
use super::{guards, prices};
use super::{readable_duration, signed};
use jiff::SignedDuration;

#[derive(Debug, Default)]
pub struct Supervisor {
    pub findings: Vec<Finding>,
    pub actions: Vec<Planned>,
    pub held: Vec<Held>,
    pub in_progress: bool,
}

impl Supervisor {
    /// Whether earlier refusals keep the action back; then it is held.
    fn is_held_back(&mut self, state: &State, action: &Action, seen: &Observation) -> bool {
        let Some((failure, until)) = super::backed_off(state, &action.key(), seen.at) else { return false };
        self.held.push(Held {
            action: action.to_string(),
            by: "back-off".into(),
            why: format!("failed {} times; tried again after {until}: {}", failure.attempts, failure.error),
        });
        true
    }
}

/// A DELETE that was accepted and still shows the droplet after this long is sent again.
const DELETE_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// What the planner needs besides desired, state and observation.
pub struct Inputs<'a> {
    /// `None` while token or configuration are not proven.
    pub spec: Option<&'a DropletSpec>,
    pub firewall_ready: bool,
}

pub fn plan(desired: &Desired, state: &State, seen: &Observation, inputs: &Inputs<'_>) -> Supervisor {
    let mut out = Supervisor::default();
    if let Seen::Unknown { reason } = &seen.droplets {
        for kind in
            [ConditionType::SupervisorDeployed, ConditionType::SupervisorReachable, ConditionType::SupervisorConnected]
        {
            out.findings.push(Finding::unknown(kind, reason));
        }
        return out;
    }
    let all = views(desired, state, seen, inputs.spec);
    delete_again(state, &all, seen, &mut out);
    let alive: Vec<&View<'_>> = all.iter().filter(|v| !v.is_going()).collect();
    let deployed = match inputs.spec {
        None => without_spec(&alive),
        Some(spec) => deployed(&Context { desired, state, seen, inputs, spec, all: &all }, &alive, &mut out),
    };
    let current = alive.iter().max_by_key(|v| v.rank()).copied();
    let reachable = super::droplets::reachable(desired, seen, current);
    let connected = super::droplets::connected(desired, seen, current);
    if current.is_some_and(|v| v.is_settling(seen.at)) {
        out.in_progress = true;
    }
    out.findings.extend([deployed, reachable, connected]);
    out
}

struct Context<'a> {
    desired: &'a Desired,
    state: &'a State,
    seen: &'a Observation,
    inputs: &'a Inputs<'a>,
    spec: &'a DropletSpec,
    all: &'a [View<'a>],
}

const DEPLOYED: ConditionType = ConditionType::SupervisorDeployed;

/// A droplet that was told to go and stays is told again; deleting by id is idempotent. Not while it
/// may be the only one that serves: what was to take its place may have died since, and the call may never have arrived.
fn delete_again(state: &State, all: &[View<'_>], seen: &Observation, out: &mut Supervisor) {
    for view in all {
        let Some(at) = view.record.and_then(|r| r.deleted_at) else { continue };
        let replaced = all.iter().any(|v| v.serving && v.droplet.id != view.droplet.id);
        // A stale heartbeat is no proof: the webapp may be down.
        let out_of_service = view.record.is_some_and(|r| r.ok_streak == 0);
        if !replaced && !out_of_service {
            continue;
        }
        out.in_progress = true;
        if seen.at.duration_since(at) >= DELETE_AGAIN_AFTER && !out.is_held_back(state, &view.delete(), seen) {
            let reason = "its deletion was accepted and it still exists".to_owned();
            out.actions.push(Planned { action: view.delete(), reason, monthly_usd: None });
        }
    }
}

fn without_spec(alive: &[&View<'_>]) -> Finding {
    let message = "what the droplet should be is not known: ConfigurationReady and WorkerTokenReady come first";
    let status = if alive.is_empty() { Status::False } else { Status::Unknown };
    Finding::new(DEPLOYED, status, Reason::WaitingForOther, message)
}

fn deployed(cx: &Context<'_>, alive: &[&View<'_>], out: &mut Supervisor) -> Finding {
    let good: Vec<&View<'_>> = alive.iter().filter(|v| v.matches && !v.is_condemned()).copied().collect();
    if let Some(serving) = good.iter().filter(|v| v.serving).max_by_key(|v| v.rank()) {
        return in_service(cx, serving, alive, out);
    }
    // A matching one that served before goes through wait → reboot → replace.
    if let Some(failing) = good.iter().filter(|v| v.has_served()).max_by_key(|v| v.rank()) {
        return failing_droplet(cx, failing, out);
    }
    if let Some(booting) = good.iter().max_by_key(|v| v.rank()) {
        let age = cx.seen.at.duration_since(booting.since());
        let deadline = signed(cx.desired.times.boot_deadline);
        // Past its deadline and not given up: it waits for something else, which the next conditions name.
        out.in_progress |= age < deadline;
        let (name, age, deadline) = (&booting.droplet.name, readable_duration(age), readable_duration(deadline));
        let message = format!("droplet {name} boots, {age} of at most {deadline}");
        return Finding::no(DEPLOYED, Reason::DropletBooting, message);
    }
    replace(cx, alive, out)
}

/// One as desired serves: everything else of ours is surplus.
fn in_service(cx: &Context<'_>, serving: &View<'_>, alive: &[&View<'_>], out: &mut Supervisor) -> Finding {
    let mut surplus: Vec<_> = alive.iter().filter(|v| v.droplet.id != serving.droplet.id).collect();
    surplus.sort_by_key(|v| v.droplet.id);
    if let Some(name) = pending_create(cx.state, cx.seen).filter(|_| surplus.is_empty()) {
        out.in_progress = true;
        let message =
            format!("droplet {} serves; the create of {name} was sent and is looked for", serving.droplet.name);
        return Finding::no(DEPLOYED, Reason::InProgress, message);
    }
    // One that was told to go is there, and paid for, until the listing no longer shows it.
    let going: Vec<_> = cx.all.iter().filter(|v| v.is_going()).map(|v| v.droplet.name.as_str()).collect();
    if surplus.is_empty() && !going.is_empty() {
        let message = format!("droplet {} serves; {} is being deleted", serving.droplet.name, going.join(", "));
        return Finding::no(DEPLOYED, Reason::InProgress, message);
    }
    if surplus.is_empty() {
        let message = format!("droplet {} ({}, {}) serves", serving.droplet.name, cx.spec.size, cx.spec.region);
        return Finding::yes(DEPLOYED, message);
    }
    for view in &surplus {
        let reason = format!("{} serves as desired; {}", serving.droplet.name, view.why_not());
        delete(cx, view, &reason, out);
    }
    let names: Vec<_> = surplus.iter().map(|v| v.droplet.name.clone()).collect();
    let message = format!("droplet {} serves; of ours, {} must go", serving.droplet.name, names.join(", "));
    Finding::no(DEPLOYED, Reason::SurplusDroplets, message)
}

/// Served before and does not now. Given up by `droplets::digest` when the reboot did not help.
fn failing_droplet(cx: &Context<'_>, view: &View<'_>, out: &mut Supervisor) -> Finding {
    let name = &view.droplet.name;
    let after = cx.desired.times.unhealthy_after;
    let looks = view.record.map_or(0, |r| r.failed_looks);
    let rebooted = view.record.and_then(|r| r.rebooted_at);
    if let Some(at) = rebooted.filter(|at| cx.seen.at.duration_since(*at) < signed(cx.desired.times.boot_deadline)) {
        out.in_progress = true;
        let since = readable_duration(cx.seen.at.duration_since(at));
        let message =
            format!("droplet {name} was rebooted {since} ago and is given its boot time; then it is replaced");
        return Finding::no(DEPLOYED, Reason::DropletBooting, message);
    }
    if looks < after || rebooted.is_some() {
        if looks > 0 {
            out.in_progress = true;
        }
        if cx.all.len() > 1 {
            // The conditions that follow may speak of another one, which serves in its place.
            let message =
                format!("droplet {name} is out of service for {looks} of {after} looks; others of ours exist");
            return Finding::no(DEPLOYED, Reason::SurplusDroplets, message);
        }
        // It exists as desired; whether it works is said by the two conditions that follow.
        let message = format!("droplet {name} is as desired; out of service for {looks} of {after} looks");
        return Finding::yes(DEPLOYED, message);
    }
    let action = Action::RebootDroplet { id: view.droplet.id, name: name.clone() };
    let reason = format!("out of service for {looks} looks in a row");
    if !out.is_held_back(cx.state, &action, cx.seen) {
        out.in_progress = true;
        out.actions.push(Planned { action, reason, monthly_usd: None });
    }
    Finding::no(
        DEPLOYED,
        Reason::HealthCheckFailed,
        format!("droplet {name} is out of service; it is rebooted once before it is replaced"),
    )
}

/// Nothing as desired exists, or it was given up: make a new one, if nothing forbids.
fn replace(cx: &Context<'_>, alive: &[&View<'_>], out: &mut Supervisor) -> Finding {
    let finding = match alive.iter().max_by_key(|v| v.rank()) {
        None => Finding::no(DEPLOYED, Reason::DropletMissing, "no droplet of ours exists; one is to be created"),
        Some(old) => {
            let reason = if old.is_condemned() { Reason::ReplacementFailed } else { Reason::DropletDrifted };
            Finding::no(
                DEPLOYED,
                reason,
                format!("droplet {}: {}; it is to be replaced", old.droplet.name, old.why_not()),
            )
        }
    };
    remove_failed(cx, alive, out);
    if let Some(name) = pending_create(cx.state, cx.seen) {
        out.in_progress = true;
        let message = format!("the create of droplet {name} was sent; looking for it before anything else is made");
        return Finding::no(DEPLOYED, Reason::InProgress, message);
    }
    let action = Action::CreateDroplet {
        name: droplet_name(cx.desired, cx.state.supervisor.sequence + 1),
        sequence: cx.state.supervisor.sequence + 1,
        spec: Box::new(cx.spec.clone()),
    };
    match guards::may_create(cx.desired, cx.state, cx.seen, cx.inputs.firewall_ready, cx.all, &action) {
        Ok(monthly_usd) => {
            out.in_progress = true;
            let reason = finding.message.clone();
            out.actions.push(Planned { action, reason, monthly_usd: Some(monthly_usd) });
            finding
        }
        Err(hold) => {
            out.in_progress |= hold.ends_by_itself;
            let message = format!("{}; held by {}: {}", finding.message, hold.by, hold.why);
            out.held.push(Held { action: action.to_string(), by: hold.by, why: hold.why });
            Finding::no(DEPLOYED, hold.reason.unwrap_or(finding.reason), message)
        }
    }
}

/// Removes what was given up, as long as another one stays: the last one is kept for its logs and
/// replaced new-first. When all slots are taken by what is not wanted, one is freed.
fn remove_failed(cx: &Context<'_>, alive: &[&View<'_>], out: &mut Supervisor) {
    let keep = alive.iter().max_by_key(|v| v.rank()).map(|v| v.droplet.id);
    let others: Vec<_> = alive.iter().filter(|v| Some(v.droplet.id) != keep).collect();
    let full = cx.all.len() as u32 >= cx.desired.limits.max_droplets;
    for view in &others {
        if (view.is_condemned() && !view.has_served()) || full {
            delete(cx, view, &view.why_not(), out);
        }
    }
    // One dead droplet and no room for another, ever: it goes first, since it serves nobody. Room that
    // is on its way comes by itself, unless what was told to go stays because it alone answers.
    let stays = |v: &View<'_>| v.is_going() && v.record.is_some_and(|r| r.ok_streak > 0);
    let only_one = cx.desired.limits.max_droplets == 1 && cx.all.len() == 1;
    if (only_one || (full && cx.all.iter().any(stays)))
        && others.is_empty()
        && let Some(last) = alive.first()
        && (last.is_condemned() || last.is_failing(cx.desired))
        && !last.serving
    {
        delete(cx, last, &last.why_not(), out);
    }
}

fn delete(cx: &Context<'_>, view: &View<'_>, reason: &str, out: &mut Supervisor) {
    if out.is_held_back(cx.state, &view.delete(), cx.seen) {
        return;
    }
    out.in_progress = true;
    let planned = out.actions.iter().filter(|p| p.action.destroys()).count() as u32;
    let limit = cx.desired.limits.max_deletes_per_cycle;
    if planned >= limit {
        out.held.push(Held {
            action: view.delete().to_string(),
            by: "MAX_DELETES_PER_CYCLE".into(),
            why: format!("{limit} deletions per cycle are allowed; it goes in a later cycle"),
        });
        return;
    }
    let monthly_usd = prices::price(cx.seen, &view.droplet.size).map(|p| -p);
    out.actions.push(Planned { action: view.delete(), reason: reason.to_owned(), monthly_usd });
}

/// A droplet that was asked for and has not been seen, or not any more by a read that may lag behind.
pub fn pending_create<'a>(state: &'a State, seen: &Observation) -> Option<&'a str> {
    let open = state.intents.iter().find_map(|i| match &i.what {
        IntentKind::CreateDroplet { name, .. } => Some(name.as_str()),
        _ => None,
    });
    let droplets = seen.droplets.known()?;
    let is_hidden = |id: &u64| !droplets.iter().any(|d| d.id == *id);
    let hidden = || state.supervisor.droplets.iter().find(|(id, _)| is_hidden(id)).map(|(_, r)| r.name.as_str());
    open.or_else(hidden)
}

/// Never reused: a heartbeat row of an earlier droplet must not speak for a new one.
fn droplet_name(desired: &Desired, sequence: u64) -> String {
    format!("trigger-supervisor-{}-{sequence}", short(&desired.environment_id))
}

/// The number at the end of a name of ours.
pub fn sequence_of(desired: &Desired, name: &str) -> Option<u64> {
    let prefix = format!("trigger-supervisor-{}-", short(&desired.environment_id));
    name.strip_prefix(&prefix)?.parse().ok()
}
