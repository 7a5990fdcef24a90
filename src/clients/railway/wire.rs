//! Railway's answers as they come: only the fields that are asked for, enums open.

use super::DeploymentRef;
use crate::plan::state::RailwayIds;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

#[derive(Deserialize)]
pub struct Envelope<'a> {
    #[serde(borrow)]
    pub data: Option<&'a RawValue>,
    pub errors: Option<Vec<GraphqlError>>,
}

#[derive(Deserialize)]
pub struct GraphqlError {
    #[serde(default)]
    pub message: String,
}

/// A relay connection.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection<T> {
    edges: Vec<Edge<T>>,
    #[serde(default)]
    page_info: Option<PageInfo>,
}

/// The cursor does not advance.
pub struct StuckCursor;

#[derive(Deserialize)]
struct Edge<T> {
    node: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

impl<T> Connection<T> {
    /// The next cursor; none at the end. A list that claims more and does not go on is no list.
    pub fn next(&self, after: Option<&str>) -> Result<Option<String>, StuckCursor> {
        match &self.page_info {
            Some(PageInfo { has_next_page: true, end_cursor }) => match end_cursor {
                Some(cursor) if Some(cursor.as_str()) != after => Ok(Some(cursor.clone())),
                _ => Err(StuckCursor),
            },
            _ => Ok(None),
        }
    }

    pub fn nodes(self) -> impl Iterator<Item = T> {
        self.edges.into_iter().map(|edge| edge.node)
    }
}

/// A null value is a variable without a value.
pub type Variables = BTreeMap<String, Option<String>>;

#[derive(Deserialize)]
pub struct Observe {
    pub environment: EnvironmentNode,
    pub webapp: Option<Variables>,
    pub registry: Option<Variables>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentNode {
    pub service_instances: Connection<ServiceInstance>,
}

/// All pages of one observation.
#[derive(Default)]
pub struct Environment {
    pub asked: RailwayIds,
    pub services: Vec<ServiceInstance>,
    pub webapp: Option<Variables>,
    pub registry: Option<Variables>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub struct ServiceInstance {
    pub service_id: String,
    pub service_name: String,
    pub latest_deployment: Option<DeploymentCore>,
    #[serde(default)]
    pub active_deployments: Vec<DeploymentCore>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentCore {
    pub id: String,
    pub status: String,
    #[serde(default)]
    pub deployment_stopped: bool,
    #[serde(default)]
    pub instances: Vec<Instance>,
}

#[derive(Deserialize, Clone)]
pub struct Instance {
    pub status: String,
}

#[derive(Deserialize)]
pub struct Deployments {
    pub deployments: Connection<DeploymentNode>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentNode {
    id: String,
    created_at: Timestamp,
}

impl DeploymentNode {
    pub fn reference(self) -> DeploymentRef {
        DeploymentRef { id: self.id, created_at: self.created_at }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    pub deployment_logs: Vec<Log>,
}

#[derive(Deserialize)]
pub struct Log {
    pub message: String,
    #[serde(default)]
    pub attributes: Vec<Attribute>,
}

#[derive(Deserialize)]
pub struct Attribute {
    pub key: String,
    #[serde(default)]
    pub value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restarted {
    pub deployment_restart: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Scope {
    pub project_token: ScopeNode,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScopeNode {
    pub project_id: String,
    pub environment_id: String,
}

#[derive(Deserialize)]
pub struct ProjectAnswer {
    pub project: ProjectNode,
}

#[derive(Deserialize)]
pub struct ProjectNode {
    pub environments: Connection<NamedNode>,
}

#[derive(Deserialize)]
pub struct NamedNode {
    pub id: String,
    pub name: String,
}
