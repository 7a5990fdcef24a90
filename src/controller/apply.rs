//! Carries out one action: look, journal, act, and say how it ended.
//!
//! Every act looks again right before it acts, so that a world that moved since planning supersedes
//! the action, and applying twice changes the world once. What cannot be repeated safely is written
//! to the state file first; an outcome that was lost stays open there until a later cycle sees it.

mod database;
mod droplet;
mod firewall;

use super::store::{Store, StoreError};
use crate::clients::{ClientError, Writers};
use crate::plan::action::{Action, Outcome};
use crate::plan::desired::Desired;
use crate::plan::state::{Failure, State};
use jiff::Timestamp;

/// How an action ended, and the provider's id for the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    pub outcome: Outcome,
    pub request_id: Option<String>,
}

impl Done {
    fn applied(request_id: Option<String>) -> Done {
        Done { outcome: Outcome::Applied, request_id }
    }

    fn already() -> Done {
        Done { outcome: Outcome::AlreadyDone, request_id: None }
    }

    fn superseded(because: impl Into<String>) -> Done {
        Done { outcome: Outcome::Superseded { because: because.into() }, request_id: None }
    }

    fn failed(error: impl ToString) -> Done {
        Done { outcome: Outcome::Failed { error: error.to_string() }, request_id: None }
    }
}

/// DigitalOcean runs one event on a droplet at a time; the next cycle comes back.
fn is_busy(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { message, .. } if message.contains("pending event"))
}

/// What an action may use.
pub struct Applier<'a> {
    pub writers: &'a Writers,
    pub store: &'a Store,
    pub desired: &'a Desired,
    pub now: Timestamp,
}

impl Applier<'_> {
    /// A refusal surely changed nothing; anything else is looked for in the next cycles.
    fn refused(&self, error: &ClientError) -> Done {
        let told = self.explain(error);
        let outcome = match error {
            _ if is_busy(error) => Outcome::Superseded { because: told },
            ClientError::RateLimited { .. } => Outcome::Superseded { because: told },
            e if e.is_definite() => Outcome::Failed { error: told },
            _ => Outcome::Unresolved { error: told },
        };
        Done { outcome, request_id: None }
    }

    fn explain(&self, error: &ClientError) -> String {
        self.writers.remedies.explain(error).to_string()
    }

    /// Carries out one action. An error means that the state could not be saved: then nothing may be done.
    pub async fn apply(&self, state: &mut State, action: &Action) -> Result<Done, StoreError> {
        let done = match action {
            Action::AlterSystemWalLevel
            | Action::SetReplicaIdentityFull
            | Action::CreatePublication { .. }
            | Action::AddTableToPublication { .. }
            | Action::SetPublicationOperations { .. } => self.change_database(state, action).await,
            Action::RestartPostgres { deployment_id, started_at } => {
                self.restart(state, deployment_id, *started_at).await?
            }
            Action::RotateToken { group_id, old_hash, .. } => self.rotate(state, group_id, old_hash).await?,
            Action::CreateFirewall { spec } => self.create_firewall(spec).await,
            Action::UpdateFirewall { id, spec } => self.update_firewall(id, spec).await,
            Action::CreateDroplet { name, sequence, spec } => {
                self.create_droplet(state, &action.key(), name, *sequence, spec).await?
            }
            Action::RebootDroplet { id, .. } => self.reboot_droplet(state, &action.key(), *id).await?,
            Action::DeleteDroplet { id, .. } => self.delete_droplet(state, &action.key(), *id).await?,
        };
        note_failure(state, &action.key(), &done.outcome, self.now);
        Ok(done)
    }
}

/// Counts refusals in a row: each makes the pause before the next try longer.
fn note_failure(state: &mut State, key: &str, outcome: &Outcome, now: Timestamp) {
    match outcome {
        Outcome::Applied | Outcome::AlreadyDone => {
            state.failures.remove(key);
        }
        Outcome::Failed { error } => {
            let attempts = state.failures.get(key).map_or(0, |f| f.attempts).saturating_add(1);
            state.failures.insert(key.to_owned(), Failure { attempts, at: now, error: error.clone() });
        }
        Outcome::Superseded { .. } | Outcome::Unresolved { .. } => {}
    }
    // Keys carry fingerprints; old ones must not pile up over the years.
    let day_ago = now - jiff::SignedDuration::from_hours(24);
    state.failures.retain(|_, failure| failure.at > day_ago);
}
