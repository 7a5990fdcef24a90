//! Bringing an image into service: find or make the service, set image and variables, deploy, follow.
//!
//! Setting what is set is harmless; creating and deploying are not, so both are sent once and a lost
//! answer is resolved by looking: by the service's name, and by the deployments since.

mod wire;

use super::{MAX_PAGES, PROVIDER, Reader, Writer, clip, cut_short, documents, parse, undecided};
use crate::clients::ClientError;
use crate::plan::observation::DeploymentStatus;
use crate::plan::secret::Secret;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A service by its exact name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedService {
    pub id: String,
    /// What its next deployment runs.
    pub image: Option<String>,
}

/// Where one deployment stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    pub id: String,
    pub status: DeploymentStatus,
    /// The status in Railway's word.
    pub word: String,
    pub created_at: Timestamp,
    /// Good, not stopped, and every one of its processes runs; a crash loop looks good without this.
    pub runs: bool,
    /// What it really runs.
    pub image: Option<String>,
    /// Its public address with its scheme, once the service has a domain.
    pub url: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    Build,
    Deploy,
}

impl Reader {
    /// The same for another project and environment that the token may see.
    pub fn scoped(&self, project_id: &str, environment_id: &str) -> Reader {
        let (project_id, environment_id) = (project_id.to_owned(), environment_id.to_owned());
        Reader { project_id, environment_id, ..self.clone() }
    }

    /// Right after a create, not to be found proves nothing.
    pub async fn service_named(&self, name: &str) -> Result<Option<NamedService>, ClientError> {
        let mut after: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let variables =
                json!({ "projectId": self.project_id, "environmentId": self.environment_id, "after": after });
            let page: wire::Services = self.query("list services", "Services", documents::SERVICES, &variables).await?;
            let instances = page.environment.service_instances;
            let next = instances.next(after.as_deref()).map_err(|_| cut_short())?;
            if let Some(found) = instances.nodes().find(|service| service.service_name == name) {
                let image = found.source.and_then(|source| source.image);
                return Ok(Some(NamedService { id: found.service_id, image }));
            }
            match next {
                Some(cursor) => after = Some(cursor),
                None => return Ok(None),
            }
        }
        Err(cut_short())
    }

    /// `None` when there is none, or none yet.
    pub async fn release(&self, deployment_id: &str) -> Result<Option<Release>, ClientError> {
        let variables = json!({ "id": deployment_id });
        let found: Result<wire::OneDeployment, _> =
            self.query("read deployment", "Deployment", documents::DEPLOYMENT, &variables).await;
        match found {
            Ok(found) => Ok(Some(found.deployment.release())),
            Err(ClientError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Those made at this moment of Railway's clock or later, newest first: what a deploy made whose
    /// answer was lost.
    pub async fn releases_since(&self, service_id: &str, since: Timestamp) -> Result<Vec<Release>, ClientError> {
        let mut found: Vec<Release> = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let input = json!({
                "projectId": self.project_id,
                "environmentId": self.environment_id,
                "serviceId": service_id,
                "includeDeleted": true,
            });
            let page: wire::Recent = self
                .query(
                    "list deployments",
                    "RecentDeployments",
                    documents::RECENT,
                    &json!({ "input": input, "after": after }),
                )
                .await?;
            let next = page.deployments.next(after.as_deref()).map_err(|_| cut_short())?;
            let page: Vec<Release> = page.deployments.nodes().map(wire::Deployment::release).collect();
            // The order is not promised: only a page that keeps it says that what follows is older.
            let is_ordered = page.is_sorted_by(|a, b| a.created_at >= b.created_at);
            let reaches_back = is_ordered && page.last().is_some_and(|oldest| oldest.created_at < since);
            found.extend(page.into_iter().filter(|release| release.created_at >= since));
            match next {
                Some(cursor) if !reaches_back => after = Some(cursor),
                _ => {
                    found.sort_by_key(|release| std::cmp::Reverse(release.created_at));
                    return Ok(found);
                }
            }
        }
        Err(cut_short())
    }

    /// The last lines of a log, as they may be shown to anybody.
    pub async fn log_tail(&self, deployment_id: &str, log: Log, lines: usize) -> Result<Vec<String>, ClientError> {
        let variables = json!({ "deploymentId": deployment_id, "limit": lines });
        let logs = match log {
            Log::Build => {
                let found: wire::BuildLogs =
                    self.query("read build log", "BuildLogs", documents::BUILD_LOGS, &variables).await?;
                found.build_logs
            }
            Log::Deploy => {
                let found: super::wire::Logs =
                    self.query("read deployment log", "DeploymentLogs", documents::LOGS, &variables).await?;
                found.deployment_logs
            }
        };
        // One line too many may come, and it is the oldest.
        let more = logs.len().saturating_sub(lines);
        Ok(logs.into_iter().skip(more).map(|line| clip(&line.message)).collect())
    }
}

impl Writer {
    /// The look before an act.
    pub fn look(&self) -> &Reader {
        &self.look
    }

    /// Makes an empty service; returns its id. Sent once. A name that is taken is refused.
    pub async fn create_service(&self, name: &str) -> Result<String, ClientError> {
        let Reader { project_id, environment_id, .. } = &self.reader;
        let input = json!({ "projectId": project_id, "environmentId": environment_id, "name": name });
        let made: Result<wire::ServiceCreated, _> =
            self.mutate("create service", "ServiceCreate", documents::SERVICE_CREATE, json!({ "input": input })).await;
        match made {
            Ok(made) => Ok(made.service_create.id),
            // Railway refuses before it creates; any other sentence leaves the outcome open.
            Err(ClientError::Refused { message, .. }) if message.contains("already exists") => {
                Err(ClientError::Refused { provider: PROVIDER, status: 200, message })
            }
            Err(error) => Err(undecided(error)),
        }
    }

    /// What the next deployment runs.
    pub async fn set_image(&self, service_id: &str, image: &str) -> Result<(), ClientError> {
        let variables = json!({
            "serviceId": service_id,
            "environmentId": self.reader.environment_id,
            "input": { "source": { "image": image } },
        });
        let done: wire::Updated =
            self.mutate("set image", "ServiceInstanceUpdate", documents::SERVICE_UPDATE, variables).await?;
        accepted("set image", done.service_instance_update)
    }

    /// Sets these and leaves all others; the next deployment has them.
    pub async fn set_variables(&self, service_id: &str, values: &BTreeMap<String, Secret>) -> Result<(), ClientError> {
        let values: Map<String, Value> =
            values.iter().map(|(name, value)| (name.clone(), json!(value.expose()))).collect();
        let Reader { project_id, environment_id, .. } = &self.reader;
        // `replace` is never sent: it would delete what is not listed.
        let input = json!({
            "projectId": project_id,
            "environmentId": environment_id,
            "serviceId": service_id,
            "variables": values,
            "skipDeploys": true,
        });
        let done: wire::VariablesSet = self
            .mutate("set variables", "VariableCollectionUpsert", documents::VARIABLES_SET, json!({ "input": input }))
            .await?;
        accepted("set variables", done.variable_collection_upsert)
    }

    /// Deploys what is set now; returns the deployment's id. Sent once: after a lost answer,
    /// [`Reader::releases_since`] tells whether it was carried out.
    pub async fn deploy(&self, service_id: &str) -> Result<String, ClientError> {
        let variables = json!({ "serviceId": service_id, "environmentId": self.reader.environment_id });
        let deployed: Result<wire::DeployStarted, _> =
            self.mutate("deploy service", "ServiceInstanceDeploy", documents::DEPLOY, variables).await;
        deployed.map(|d| d.service_instance_deploy_v2).map_err(undecided)
    }

    async fn mutate<T: serde::de::DeserializeOwned>(
        &self,
        what: &str,
        operation: &str,
        document: &str,
        variables: Value,
    ) -> Result<T, ClientError> {
        parse(what, &self.reader.post(what, operation, document, &variables).await?)
    }
}

fn accepted(what: &str, answer: bool) -> Result<(), ClientError> {
    let refused =
        || ClientError::Refused { provider: PROVIDER, status: 200, message: format!("{what}: it was not accepted") };
    answer.then_some(()).ok_or_else(refused)
}

/// Railway tells a bare host. What lies on this machine has no encryption.
fn address(host: &str) -> String {
    if host.contains("://") {
        return host.to_owned();
    }
    let plain = format!("http://{host}");
    if crate::config::is_loopback_url(&plain) { plain } else { format!("https://{host}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_becomes_an_address_and_an_address_stays() {
        assert_eq!(address("app-production.up.railway.app"), "https://app-production.up.railway.app");
        assert_eq!(address("127.0.0.1:4711"), "http://127.0.0.1:4711");
        assert_eq!(address("http://example.com"), "http://example.com");
    }
}
