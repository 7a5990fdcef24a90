//! What a cycle says: one line when all is well, one for each action, one for each change of a condition.

use super::status::{ActionReport, Cycle, Status};
use super::store::{Loaded, Store};
use crate::plan::Plan;
use crate::plan::action::{Action, Outcome};
use crate::plan::condition::{Condition, Status as Truth};
use crate::plan::mode::Shown;
use crate::plan::observation::Observation;
use crate::plan::state::State;
use crate::telemetry::metrics;
use std::time::Duration;

pub fn loaded(store: &Store, loaded: &Loaded) {
    let path = store.path().display();
    let text = super::describe(loaded);
    match loaded {
        Loaded::FromBackup { .. } => tracing::warn!(%path, "{text}"),
        _ => tracing::info!(%path, "{text}"),
    }
}

/// One action, with everything needed to find it again at the provider.
pub fn action(action: &Action, report: &ActionReport) {
    let (resource, reason) = (&report.resource, &report.reason);
    let (duration_ms, request_id) = (report.duration_ms, report.request_id.as_deref());
    match &report.outcome {
        Some(Outcome::Applied) => {
            tracing::info!(resource, reason, outcome = "applied", duration_ms, request_id, "{action}");
        }
        Some(Outcome::AlreadyDone) => {
            tracing::info!(resource, reason, outcome = "already_done", duration_ms, "{action}: already done");
        }
        Some(Outcome::Superseded { because }) => {
            tracing::info!(
                resource,
                reason,
                outcome = "superseded",
                because,
                duration_ms,
                "{action}: superseded, {because}"
            );
        }
        Some(Outcome::Unresolved { error }) => {
            tracing::warn!(
                resource,
                reason,
                outcome = "unresolved",
                error,
                duration_ms,
                "{action}: the answer was lost; its outcome is looked for before anything is repeated"
            );
        }
        Some(Outcome::Failed { error }) => {
            tracing::error!(resource, reason, outcome = "failed", error, duration_ms, "{action}: failed: {error}");
        }
        None => {}
    }
    metrics::action_finished(kind(action), report.outcome.as_ref().map_or("planned", result));
}

fn result(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::AlreadyDone => "already_done",
        Outcome::Superseded { .. } => "superseded",
        Outcome::Unresolved { .. } => "unresolved",
        Outcome::Failed { .. } => "failed",
    }
}

/// A bounded label for metrics.
fn kind(action: &Action) -> &'static str {
    match action {
        Action::AlterSystemWalLevel => "alter_system",
        Action::RestartPostgres { .. } => "restart_postgres",
        Action::SetReplicaIdentityFull => "replica_identity",
        Action::CreatePublication { .. } => "create_publication",
        Action::AddTableToPublication { .. } | Action::SetPublicationOperations { .. } => "repair_publication",
        Action::RotateToken { .. } => "rotate_token",
        Action::CreateFirewall { .. } => "create_firewall",
        Action::UpdateFirewall { .. } => "update_firewall",
        Action::CreateDroplet { .. } => "create_droplet",
        Action::RebootDroplet { .. } => "reboot_droplet",
        Action::DeleteDroplet { .. } => "delete_droplet",
    }
}

/// The cycle: changes of conditions, then one summary line.
pub fn cycle(state: &State, before: &[Condition], cycle: &Cycle, plan: &Plan, healthy: bool, mode: Shown) {
    for condition in &state.conditions {
        let changed = before
            .iter()
            .find(|c| c.kind == condition.kind)
            .is_none_or(|c| c.status != condition.status || c.reason != condition.reason);
        if changed {
            transition(condition);
        }
    }
    let number = cycle.number;
    let duration_ms = cycle.duration_ms;
    let done = cycle.actions.iter().filter(|a| a.outcome.is_some()).count();
    let healthy_cycles = state.healthy_cycles;
    if healthy && cycle.actions.is_empty() && plan.held.is_empty() {
        tracing::info!(cycle = number, healthy, healthy_cycles, %mode, duration_ms, "healthy");
        return;
    }
    let not_true: Vec<String> = state
        .conditions
        .iter()
        .filter(|c| c.status != Truth::True && !c.advisory)
        .map(|c| format!("{}={}", c.kind, c.reason))
        .collect();
    let held = plan.held.len();
    let planned = cycle.actions.len() - done;
    let summary = if healthy { "healthy".to_owned() } else { format!("not healthy: {}", not_true.join(" ")) };
    tracing::info!(cycle = number, healthy, %mode, actions = done, planned, held, duration_ms, "{summary}");
    for held in &plan.held {
        tracing::debug!(action = held.action, by = held.by, "held: {}", held.why);
    }
}

fn transition(condition: &Condition) {
    let (kind, status, reason) = (condition.kind, condition.status, condition.reason);
    let message = &condition.message;
    let calm = status == Truth::True || condition.advisory;
    match calm {
        true => tracing::info!(condition = %kind, ?status, %reason, "{kind} is {status:?} ({reason}): {message}"),
        false => tracing::warn!(condition = %kind, ?status, %reason, "{kind} is {status:?} ({reason}): {message}"),
    }
}

pub fn metrics(status: &Status, cycle: &Cycle, seen: &Observation) {
    metrics::set_conditions(&status.conditions);
    metrics::cycle_finished(Duration::from_millis(cycle.duration_ms));
    metrics::set_health(status.healthy, status.healthy_cycles);
    metrics::set_mode(status.mode);
    let budgets = [("railway", &status.budget.railway), ("digitalocean", &status.budget.digitalocean)];
    for (provider, budget) in budgets {
        metrics::set_provider(provider, budget.requests, budget.remaining);
    }
    metrics::set_droplets(seen.droplets.known().map(|d| d.len() as u64));
    let slot = seen.database.known().and_then(|d| d.slot.as_ref());
    metrics::set_slot_retained_bytes(slot.and_then(|s| u64::try_from(s.retained_bytes).ok()));
}
