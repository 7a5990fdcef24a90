//! Railway's answers about services and their deployments, as they come.

use super::{Release, address};
use crate::clients::railway::services;
use crate::clients::railway::wire::{Connection, DeploymentCore, Log};
use crate::plan::observation::DeploymentStatus;
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
pub struct Services {
    pub environment: Environment,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    pub service_instances: Connection<Service>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    pub service_id: String,
    pub service_name: String,
    pub source: Option<Source>,
}

#[derive(Deserialize)]
pub struct Source {
    pub image: Option<String>,
}

#[derive(Deserialize)]
pub struct OneDeployment {
    pub deployment: Deployment,
}

#[derive(Deserialize)]
pub struct Recent {
    pub deployments: Connection<Deployment>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    #[serde(flatten)]
    core: DeploymentCore,
    created_at: Timestamp,
    /// Not documented: what is not as expected is as if it were not there.
    #[serde(default)]
    meta: serde_json::Value,
    static_url: Option<String>,
    url: Option<String>,
}

impl Deployment {
    pub fn release(self) -> Release {
        let core = self.core;
        let status = services::status(&core.status);
        let all_run = !core.instances.is_empty() && core.instances.iter().all(|i| i.status == "RUNNING");
        let named = |url: Option<String>| url.filter(|url| !url.is_empty());
        Release {
            runs: status == DeploymentStatus::Good && !core.deployment_stopped && all_run,
            id: core.id,
            status,
            word: core.status,
            created_at: self.created_at,
            image: self.meta["image"].as_str().map(str::to_owned),
            url: named(self.static_url).or(named(self.url)).map(|host| address(&host)),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildLogs {
    pub build_logs: Vec<Log>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceCreated {
    pub service_create: Made,
}

#[derive(Deserialize)]
pub struct Made {
    pub id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Updated {
    pub service_instance_update: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariablesSet {
    pub variable_collection_upsert: bool,
}

#[derive(Deserialize)]
pub struct DeployStarted {
    #[serde(rename = "serviceInstanceDeployV2")]
    pub service_instance_deploy_v2: String,
}
