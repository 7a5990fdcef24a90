//! Railway's GraphQL API: what a cycle reads, the logs, one restart, and what brings an image into service.
//!
//! An answer with `errors` is a failure even when it carries data: a partial read is no read.

mod documents;
pub mod log_page;
pub mod releases;
mod services;
mod wire;

use super::budget::{Budget, Remaining};
use super::error::ClientError;
use super::fence::Fence;
use super::http::{Answer, Http, clip};
use super::retry;
use super::seam::Seam;
use crate::config::Config;
use crate::plan::logs::Harvest;
use crate::plan::observation::RailwayView;
use crate::plan::secret::Secret;
use crate::plan::state::RailwayIds;
use documents::{DEPLOYMENTS, LOGS, OBSERVE, PROJECT, RESTART, SCOPE};
use jiff::Timestamp;
use log_page::LogPage;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use wire::Envelope;

pub use documents::DOCUMENTS;
pub use services::Names;

const PROVIDER: &str = "Railway";
const TIMEOUT: Duration = Duration::from_secs(20);
/// Pages of a hundred; a project with more than a thousand services is not ours to serve.
const MAX_PAGES: usize = 10;
/// Others report "every 30 s".
const PAUSE_BETWEEN_SERVICES: u64 = 31;
/// Lines asked for at once; Railway may answer one more.
pub const LOG_PAGE: usize = 1000;

#[derive(Clone)]
pub struct Reader {
    http: Http,
    url: String,
    project_id: String,
    environment_id: String,
    names: Names,
}

/// The writing half.
#[derive(Clone)]
pub struct Writer {
    /// Its calls are fenced.
    reader: Reader,
    look: Reader,
}

/// A deployment whose logs may hold the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentRef {
    pub id: String,
    pub created_at: Timestamp,
}

impl Reader {
    pub fn new(config: &Config, seam: &Seam, budget: Arc<Budget>) -> Result<Reader, ClientError> {
        let tokens = (config.railway_project_token.as_ref(), config.railway_api_token.as_ref());
        let http = connect(&config.railway_api_url, tokens, seam, budget)?;
        Ok(Reader {
            http,
            url: endpoint(&config.railway_api_url),
            project_id: config.desired.project_id.clone(),
            environment_id: config.desired.environment_id.clone(),
            names: Names {
                webapp: config.webapp_service_name.clone(),
                postgres: config.db_service_name.clone(),
                registry: config.registry_service_name.clone(),
            },
        })
    }

    /// For whoever brings images into service: of no project until it is [`scoped`](Reader::scoped).
    /// `tokens`: a project's, and an account's.
    pub fn unscoped(
        url: &str,
        tokens: (Option<&Secret>, Option<&Secret>),
        seam: &Seam,
        budget: Arc<Budget>,
    ) -> Result<Reader, ClientError> {
        let none = String::new;
        Ok(Reader {
            http: connect(url, tokens, seam, budget)?,
            url: endpoint(url),
            project_id: none(),
            environment_id: none(),
            names: Names { webapp: none(), postgres: none(), registry: none() },
        })
    }

    pub fn budget(&self) -> Remaining {
        self.http.budget().show()
    }

    /// Services, deployments and variables: one request when the ids are known and still right.
    pub async fn observe(&self, ids: &RailwayIds) -> Result<RailwayView, ClientError> {
        let first = match self.environment(ids).await {
            // A known id may be of a service that was deleted: ask again without it.
            Err(error) if error.is_definite() && !error.is_rate_limit() && *ids != RailwayIds::default() => {
                self.environment(&RailwayIds::default()).await?
            }
            other => other?,
        };
        let found = services::lookups(&self.names, &first.services);
        let right = RailwayIds {
            webapp: found.webapp.found().map(|s| s.id.clone()),
            registry: found.registry.found().map(|s| s.id.clone()),
        };
        let (webapp, registry) = match right == first.asked {
            true => (first.webapp, first.registry),
            false => {
                let second = self.environment(&right).await?;
                (second.webapp, second.registry)
            }
        };
        Ok(services::view(found, webapp.unwrap_or_default(), registry.unwrap_or_default()))
    }

    async fn environment(&self, ids: &RailwayIds) -> Result<wire::Environment, ClientError> {
        let mut result = wire::Environment { asked: ids.clone(), ..Default::default() };
        let mut after: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let variables = json!({
                "projectId": self.project_id,
                "environmentId": self.environment_id,
                "webappId": ids.webapp.as_deref().unwrap_or_default(),
                "registryId": ids.registry.as_deref().unwrap_or_default(),
                "withWebapp": ids.webapp.is_some() && after.is_none(),
                "withRegistry": ids.registry.is_some() && after.is_none(),
                "after": after,
            });
            let page: wire::Observe = self.query("observe Railway", "Observe", OBSERVE, &variables).await?;
            result.webapp = page.webapp.or(result.webapp);
            result.registry = page.registry.or(result.registry);
            let next = page.environment.service_instances.next(after.as_deref()).map_err(|_| cut_short())?;
            result.services.extend(page.environment.service_instances.nodes());
            match next {
                Some(cursor) => after = Some(cursor),
                None => return Ok(result),
            }
        }
        Err(cut_short())
    }

    /// Every deployment of a service in the environment, newest first.
    pub async fn deployments(&self, service_id: &str) -> Result<Vec<DeploymentRef>, ClientError> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let variables = json!({
                "input": {
                    "projectId": self.project_id,
                    "environmentId": self.environment_id,
                    "serviceId": service_id,
                    "includeDeleted": true,
                },
                "first": 100,
                "after": after,
            });
            let page: wire::Deployments =
                self.query("list deployments", "Deployments", DEPLOYMENTS, &variables).await?;
            let next = page.deployments.next(after.as_deref()).map_err(|_| cut_short())?;
            all.extend(page.deployments.nodes().map(wire::DeploymentNode::reference));
            match next {
                Some(cursor) => after = Some(cursor),
                None => {
                    all.sort_by_key(|d| std::cmp::Reverse(d.created_at));
                    return Ok(all);
                }
            }
        }
        Err(cut_short())
    }

    /// Reads one page of a deployment's logs into the harvest.
    pub async fn harvest_logs(
        &self,
        deployment_id: &str,
        filter: Option<&str>,
        window: (Option<&str>, Option<&str>),
        harvest: &mut Harvest,
    ) -> Result<LogPage, ClientError> {
        let variables = json!({
            "deploymentId": deployment_id,
            "filter": filter,
            "limit": LOG_PAGE,
            "startDate": window.0,
            "endDate": window.1,
        });
        let answer = retry::read(|| self.post("search logs", "DeploymentLogs", LOGS, &variables)).await?;
        LogPage::read(&answer.body, answer.request_id.as_deref(), harvest)
    }

    /// The project and environment of a project token; refused for other tokens.
    pub async fn token_scope(&self) -> Result<(String, String), ClientError> {
        let scope: wire::Scope = self.query("read the token's scope", "ProjectTokenScope", SCOPE, &json!({})).await?;
        Ok((scope.project_token.project_id, scope.project_token.environment_id))
    }

    /// Environment ids and names of the project.
    pub async fn environments(&self) -> Result<Vec<(String, String)>, ClientError> {
        let variables = json!({ "projectId": self.project_id });
        let answer: wire::ProjectAnswer = self.query("read the project", "Project", PROJECT, &variables).await?;
        Ok(answer.project.environments.nodes().map(|e| (e.id, e.name)).collect())
    }

    async fn query<T: DeserializeOwned>(
        &self,
        what: &str,
        operation: &str,
        document: &str,
        variables: &Value,
    ) -> Result<T, ClientError> {
        let answer = retry::read(|| self.post(what, operation, document, variables)).await?;
        parse(what, &answer)
    }

    async fn post(
        &self,
        what: &str,
        operation: &str,
        document: &str,
        variables: &Value,
    ) -> Result<Answer, ClientError> {
        let body = json!({ "query": document, "variables": variables, "operationName": operation });
        self.http.send(what, self.http.client().post(&self.url).json(&body)).await
    }
}

/// Without a query string in the URL, Railway's edge limits everybody to ten requests a second.
fn endpoint(url: &str) -> String {
    let mark = if url.contains('?') { "&" } else { "?" };
    format!("{url}{mark}source=ops-controller")
}

fn connect(
    url: &str,
    (project_token, account_token): (Option<&Secret>, Option<&Secret>),
    seam: &Seam,
    budget: Arc<Budget>,
) -> Result<Http, ClientError> {
    let mut headers = HeaderMap::new();
    let (name, value) = match (project_token, account_token) {
        (Some(token), _) => ("project-access-token".parse().ok(), token.expose().to_owned()),
        (None, Some(token)) => (Some(AUTHORIZATION), format!("Bearer {}", token.expose())),
        (None, None) => (None, String::new()),
    };
    if let Some(name) = name {
        let mut value = HeaderValue::try_from(value).map_err(|_| ClientError::Unauthorized {
            provider: PROVIDER,
            message: "the token holds characters that no header can carry".into(),
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Http::new(PROVIDER, TIMEOUT, headers, seam, budget, crate::config::is_loopback_url(url))
}

impl Writer {
    pub fn new(look: Reader, fence: &Fence) -> Writer {
        Writer { reader: Reader { http: look.http.fenced(fence), ..look.clone() }, look }
    }

    /// Restarts the process of a deployment; answers before it happened. Sent once.
    pub async fn restart(&self, deployment_id: &str) -> Result<Option<String>, ClientError> {
        let what = "restart deployment";
        let variables = json!({ "id": deployment_id });
        let answer = self.reader.post(what, "DeploymentRestart", RESTART, &variables).await?;
        let done: wire::Restarted = parse(what, &answer).map_err(undecided)?;
        match done.deployment_restart {
            true => Ok(answer.request_id),
            false => Err(ClientError::Refused {
                provider: PROVIDER,
                status: 200,
                message: "the restart was not accepted".into(),
            }),
        }
    }
}

/// For a mutation: a sentence that we do not know may have come before or after the change.
fn undecided(error: ClientError) -> ClientError {
    match error {
        ClientError::Refused { provider, message, .. } => ClientError::NoAnswer { provider, message },
        error => error,
    }
}

/// A list that was not read to its end must not look complete.
fn cut_short() -> ClientError {
    let message = format!("a list does not end within {MAX_PAGES} pages, or its cursor does not advance");
    ClientError::NoAnswer { provider: PROVIDER, message }
}

fn parse<T: DeserializeOwned>(what: &str, answer: &Answer) -> Result<T, ClientError> {
    parse_body(what, &answer.body, answer.request_id.as_deref())
}

fn parse_body<T: DeserializeOwned>(what: &str, body: &[u8], request_id: Option<&str>) -> Result<T, ClientError> {
    let unusable = |message: String| ClientError::NoAnswer { provider: PROVIDER, message };
    let envelope: Envelope =
        serde_json::from_slice(body).map_err(|_| unusable(format!("{what}: the answer is no JSON")))?;
    if let Some(error) = envelope.errors.into_iter().flatten().next() {
        return Err(graphql_error(what, &error.message, request_id));
    }
    let data = envelope.data.ok_or_else(|| unusable(format!("{what}: neither data nor errors")))?;
    serde_json::from_str(data.get()).map_err(|e| unusable(format!("{what}: unexpected shape ({})", shape(&e))))
}

/// Where it went wrong, without the text that serde quotes: it may be a variable's value.
fn shape(error: &serde_json::Error) -> String {
    format!("line {} column {}", error.line(), error.column())
}

/// Railway answers 200 with a sentence; only the sentence tells the kinds apart.
fn graphql_error(what: &str, message: &str, request_id: Option<&str>) -> ClientError {
    let lower = message.to_ascii_lowercase();
    let mut text = format!("{what}: {}", clip(message));
    if let Some(id) = request_id {
        text.push_str(&format!(" (request {id})"));
    }
    if lower.contains("not authorized") || lower.contains("project token not found") || lower.contains("unauthorized") {
        return ClientError::Forbidden { provider: PROVIDER, message: text };
    }
    if lower.contains("not found") {
        return ClientError::NotFound { provider: PROVIDER, what: text };
    }
    // Services are made one at a time; no header says how long it takes.
    if lower.contains("too quickly") {
        return ClientError::RateLimited { provider: PROVIDER, seconds: PAUSE_BETWEEN_SERVICES };
    }
    // The generic failure may come before or after the change was made.
    if lower.contains("problem processing request")
        || lower.contains("internal server error")
        || lower.contains("timeout")
    {
        return ClientError::NoAnswer { provider: PROVIDER, message: text };
    }
    ClientError::Refused { provider: PROVIDER, status: 200, message: text }
}
