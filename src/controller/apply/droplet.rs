//! Droplets: create once, reboot once, delete only what carries our mark.

use super::{Applier, Done};
use crate::clients::ClientError;
use crate::controller::store::StoreError;
use crate::plan::action::{DropletSpec, Outcome};
use crate::plan::observation::DropletStatus;
use crate::plan::state::{Intent, IntentKind, State};
use crate::plan::user_data::{self, Registry, UserData};

impl Applier<'_> {
    pub(super) async fn create_droplet(
        &self,
        state: &mut State,
        key: &str,
        name: &str,
        sequence: u64,
        spec: &DropletSpec,
    ) -> Result<Done, StoreError> {
        let digitalocean = &self.writers.digitalocean;
        let existing = match digitalocean.look().droplets_by_tag(&spec.identity_tag).await {
            Ok(existing) => existing,
            Err(error) => return Ok(Done::failed(format!("could not look before creating: {}", self.explain(&error)))),
        };
        if existing.iter().any(|d| d.name == name) {
            return Ok(Done::already());
        }
        if let Some(other) = existing.iter().find(|d| !state.supervisor.droplets.contains_key(&d.id)) {
            return Ok(Done::superseded(format!("droplet {} of ours appeared since planning", other.name)));
        }
        let user_data = match render(name, spec) {
            Ok(user_data) => user_data,
            Err(error) => return Ok(Done::failed(error)),
        };
        state.supervisor.sequence = state.supervisor.sequence.max(sequence);
        state.supervisor.creates.push(self.now);
        let what = IntentKind::CreateDroplet { name: name.to_owned(), id: None };
        state.intents.push(Intent { key: key.to_owned(), what, at: self.now, acknowledged: None });
        self.store.save(state).await?;
        let done = match digitalocean.create_droplet(name, spec, &user_data).await {
            Ok(created) => {
                if let Some(intent) = state.intents.last_mut() {
                    intent.acknowledged = Some(self.now);
                    intent.what = IntentKind::CreateDroplet { name: name.to_owned(), id: Some(created.id) };
                }
                Done::applied(created.request_id)
            }
            Err(error) => {
                let done = self.refused(&error);
                if error.is_definite() {
                    // Surely nothing was made: neither an open intent nor a spent fuse.
                    state.intents.pop();
                    state.supervisor.creates.pop();
                }
                done
            }
        };
        self.store.save(state).await?;
        Ok(done)
    }

    /// Once: it is written down before the call, so a lost answer is not followed by a second one.
    pub(super) async fn reboot_droplet(&self, state: &mut State, key: &str, id: u64) -> Result<Done, StoreError> {
        let digitalocean = &self.writers.digitalocean;
        let kind = match digitalocean.look().droplet(id).await {
            Err(error) => {
                return Ok(Done::failed(format!("could not look before rebooting: {}", self.explain(&error))));
            }
            Ok(None) => return Ok(Done::superseded("the droplet is gone")),
            Ok(Some(droplet)) if droplet.status == DropletStatus::Off => "power_on",
            Ok(Some(_)) => "reboot",
        };
        let Some(record) = state.supervisor.droplets.get_mut(&id) else {
            return Ok(Done::superseded("the droplet is not known any more"));
        };
        record.rebooted_at = Some(self.now);
        self.open(state, key, IntentKind::RebootDroplet { id }).await?;
        let result = digitalocean.droplet_action(id, kind).await;
        if let Err(error) = &result
            && error.is_definite()
            && let Some(record) = state.supervisor.droplets.get_mut(&id)
        {
            record.rebooted_at = None;
        }
        self.close(state, key, result).await
    }

    pub(super) async fn delete_droplet(&self, state: &mut State, key: &str, id: u64) -> Result<Done, StoreError> {
        let digitalocean = &self.writers.digitalocean;
        match digitalocean.look().droplet(id).await {
            Err(error) => return Ok(Done::failed(format!("could not look before deleting: {}", self.explain(&error)))),
            Ok(None) => {
                state.supervisor.droplets.remove(&id);
                return Ok(Done::already());
            }
            Ok(Some(droplet)) if !droplet.tags.contains(&self.desired.identity_tag()) => {
                return Ok(Done::superseded(
                    "the droplet does not carry our tag any more, so it is not ours to delete",
                ));
            }
            Ok(Some(_)) => {}
        }
        if let Some(record) = state.supervisor.droplets.get_mut(&id) {
            record.deleted_at = Some(self.now);
        }
        self.open(state, key, IntentKind::DeleteDroplet { id }).await?;
        let result = digitalocean.delete_droplet(id).await;
        if let Err(error) = &result
            && error.is_definite()
            && let Some(record) = state.supervisor.droplets.get_mut(&id)
        {
            record.deleted_at = None;
        }
        self.close(state, key, result).await
    }

    /// Journals an act before it is done.
    async fn open(&self, state: &mut State, key: &str, what: IntentKind) -> Result<(), StoreError> {
        state.intents.retain(|i| i.key != key);
        state.intents.push(Intent { key: key.to_owned(), what, at: self.now, acknowledged: None });
        self.store.save(state).await
    }

    /// Closes the journal's entry when the outcome is known; otherwise it stays open.
    async fn close(
        &self,
        state: &mut State,
        key: &str,
        result: Result<Option<String>, ClientError>,
    ) -> Result<Done, StoreError> {
        let done = match result {
            Ok(request_id) => Done::applied(request_id),
            Err(error) => self.refused(&error),
        };
        if !matches!(done.outcome, Outcome::Unresolved { .. }) {
            state.intents.retain(|i| i.key != key);
        }
        self.store.save(state).await?;
        Ok(done)
    }
}

fn render(name: &str, spec: &DropletSpec) -> Result<String, String> {
    let supervisor = &spec.supervisor;
    let otel_endpoint = format!("{}/otel", supervisor.api_url);
    let login = supervisor.registry_login.as_ref();
    let registry = supervisor.registry_domain.as_deref();
    user_data::render(&UserData {
        instance_name: name,
        trigger_version: &supervisor.trigger_version,
        api_url: &supervisor.api_url,
        otel_endpoint: &otel_endpoint,
        worker_token: supervisor.worker_token.expose(),
        managed_secret: supervisor.managed_secret.expose(),
        registry: registry.map(|url| Registry {
            url,
            username: login.map(|l| l.username.as_str()),
            password: login.map(|l| l.password.expose()),
        }),
        ssh: !spec.ssh_keys.is_empty(),
    })
    .map_err(|error| format!("the droplet's set-up cannot be written: {error}"))
}
