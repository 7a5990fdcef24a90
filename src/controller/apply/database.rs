//! The watched database: settings, publication, one restart, one token.

use super::{Applier, Done};
use crate::clients::postgres::Change;
use crate::controller::store::StoreError;
use crate::plan::action::Action;
use crate::plan::desired::hex_sha256;
use crate::plan::observation::DatabaseView;
use crate::plan::secret::Secret;
use crate::plan::state::{CachedToken, PendingToken, RestartRecord, State, TokenSource};
use crate::plan::token::PREFIX;
use jiff::Timestamp;

impl Applier<'_> {
    /// Changes that are the same when done twice: a look, then the statement.
    pub(super) async fn change_database(&self, state: &mut State, action: &Action) -> Done {
        let postgres = &self.writers.postgres;
        let view = match postgres.look().look().await {
            Ok(view) => view,
            Err(error) => return Done::failed(format!("could not look before the change: {}", self.explain(&error))),
        };
        if is_done(&view, action) {
            return Done::already();
        }
        let result = match action {
            Action::AlterSystemWalLevel => {
                let set = postgres.change(Change::WalLevelLogical).await;
                if set.is_ok() {
                    // Without the right to reload, the file still counts.
                    let _ = postgres.change(Change::Reload).await;
                }
                set
            }
            Action::SetReplicaIdentityFull => postgres.change(Change::ReplicaIdentityFull).await,
            Action::CreatePublication { .. } => postgres.change(Change::CreatePublication).await,
            Action::AddTableToPublication { .. } => postgres.change(Change::AddTableToPublication).await,
            _ => postgres.change(Change::SetPublicationOperations).await,
        };
        match result {
            Ok(()) => {
                if *action == Action::AlterSystemWalLevel {
                    // A new change: it has its own one restart.
                    state.restart = None;
                }
                Done::applied(None)
            }
            Err(error) => self.refused(&error),
        }
    }

    pub(super) async fn restart(
        &self,
        state: &mut State,
        deployment_id: &str,
        started_at: Timestamp,
    ) -> Result<Done, StoreError> {
        let view = match self.writers.postgres.look().look().await {
            Ok(view) => view,
            Err(error) => {
                return Ok(Done::failed(format!("could not look before the restart: {}", self.explain(&error))));
            }
        };
        if view.wal_level.value == "logical" {
            return Ok(Done::already());
        }
        if view.started_at != started_at {
            return Ok(Done::superseded("the server was restarted since planning"));
        }
        let before = state.restart.clone();
        let asks = before.as_ref().map_or(0, |r| r.asks) + 1;
        state.restart =
            Some(RestartRecord { started_before: started_at, asked_at: self.now, asks, started_after: None });
        self.store.save(state).await?;
        let done = match self.writers.railway.restart(deployment_id).await {
            Ok(request_id) => Done::applied(request_id),
            Err(error) => {
                if error.is_definite() {
                    // Surely not restarted: this ask does not count.
                    state.restart = before;
                }
                self.refused(&error)
            }
        };
        self.store.save(state).await?;
        Ok(done)
    }

    /// The new token is stored before the database learns its hash, so it cannot be lost.
    pub(super) async fn rotate(&self, state: &mut State, group_id: &str, old_hash: &str) -> Result<Done, StoreError> {
        let token = match state.pending_token.as_ref().filter(|p| p.group_id == group_id) {
            Some(pending) => pending.value.clone(),
            None => match new_token() {
                Ok(token) => token,
                Err(error) => return Ok(Done::failed(error)),
            },
        };
        let pending = PendingToken { value: token.clone(), group_id: group_id.to_owned(), issued_at: self.now };
        state.pending_token = Some(pending);
        self.store.save(state).await?;
        let new_hash = hex_sha256(token.expose().as_bytes());
        let done = match self.writers.postgres.rotate_token(group_id, old_hash, &new_hash).await {
            Ok(true) => {
                state.pending_token = None;
                state.token = Some(CachedToken { value: token, source: TokenSource::Rotated, found_at: self.now });
                Done::applied(None)
            }
            Ok(false) => Done::superseded("the group's token was changed since planning"),
            // Kept as pending: if the update went through, the next look finds its hash.
            Err(error) => self.refused(&error),
        };
        self.store.save(state).await?;
        Ok(done)
    }
}

fn is_done(view: &DatabaseView, action: &Action) -> bool {
    let publication = view.publication.as_ref();
    match action {
        Action::AlterSystemWalLevel => {
            view.wal_level.value == "logical" || view.wal_level_in_file.as_deref() == Some("logical")
        }
        Action::SetReplicaIdentityFull => view.task_run.as_ref().is_some_and(|t| t.replica_identity == 'f'),
        Action::CreatePublication { .. } => publication.is_some(),
        Action::AddTableToPublication { .. } => publication.is_some_and(|p| p.has_table),
        Action::SetPublicationOperations { .. } => publication.is_some_and(|p| p.inserts && p.updates && p.deletes),
        _ => false,
    }
}

/// `tr_wgt_` and forty characters of the platform's alphabet, each equally likely.
fn new_token() -> Result<Secret, String> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut token = PREFIX.to_owned();
    let mut bytes = [0u8; 64];
    while token.len() < PREFIX.len() + 40 {
        getrandom::fill(&mut bytes).map_err(|e| format!("no randomness: {e}"))?;
        // 248 is the largest multiple of 62 that a byte holds: above it, some letters would come more often.
        let letters = bytes.iter().filter(|b| **b < 248).map(|b| char::from(ALPHABET[usize::from(b % 62)]));
        token.extend(letters.take(PREFIX.len() + 40 - token.len()));
    }
    Ok(Secret::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_token_has_the_platforms_shape_and_is_not_the_last_one() {
        let (a, b) = (new_token().expect("randomness"), new_token().expect("randomness"));
        assert!(crate::plan::token::is_token(a.expose()));
        assert_ne!(a, b);
    }
}
