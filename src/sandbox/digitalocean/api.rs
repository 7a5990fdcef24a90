//! One request against the account: what every endpoint has in common, and the table of them.

use super::answer::{Answer, Outcome, Page};
use super::catalog::Catalog;
use super::journal::Journal;
use super::world::World;
use super::{DigitalOceanOptions, schema};
use crate::sandbox::faults::{Break, Faults};
use serde_json::{Map, Value};
use tokio::time::Instant;

/// What was asked for, already read from the connection.
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub raw_query: String,
    /// Null when there was none, a text when it was no JSON.
    pub body: Value,
    pub bearer: Option<String>,
}

impl Request {
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Everything an endpoint may look at and change.
pub struct Api<'a> {
    pub request: &'a Request,
    pub options: &'a DigitalOceanOptions,
    pub faults: &'a Faults,
    pub catalog: &'a Catalog,
    pub world: &'a mut World,
    pub journal: &'a mut Journal,
    pub base_url: &'a str,
    pub now: Instant,
}

const LIST_PARAMS: [&str; 2] = ["page", "per_page"];
const DROPLET_LIST_PARAMS: [&str; 5] = ["page", "per_page", "tag_name", "name", "type"];
const DEFAULT_PER_PAGE: usize = 20;
const MAX_PER_PAGE: usize = 200;

impl Api<'_> {
    /// What stands in front of the API comes first, then the token, then the endpoint.
    pub fn answer(&mut self) -> Answer {
        if self.faults.take(Break::Html502) {
            return Answer::gateway(axum::http::StatusCode::BAD_GATEWAY);
        }
        if self.faults.take(Break::RateLimited) {
            return Answer::too_many_requests(self.options.retry_after);
        }
        if self.request.bearer.as_deref() != Some(self.options.token.as_str()) {
            return Answer::unauthorized();
        }
        self.route().unwrap_or_else(|refusal| refusal)
    }

    fn route(&mut self) -> Outcome {
        let request = self.request;
        let Some(path) = request.path.strip_prefix("/v2/") else {
            return self.no_such_endpoint();
        };
        let segments: Vec<&str> = path.split('/').collect();
        match (request.method.as_str(), segments.as_slice()) {
            ("GET", ["droplets"]) => self.list_droplets(),
            ("POST", ["droplets"]) => self.create_droplets(),
            ("GET", ["droplets", id]) => self.get_droplet(id),
            ("DELETE", ["droplets", id]) => self.delete_droplet(id),
            ("POST", ["droplets", id, "actions"]) => self.act_on_droplet(id),
            ("GET", ["actions", id]) => self.get_action(id),
            ("GET", ["firewalls"]) => self.list_firewalls(),
            ("POST", ["firewalls"]) => self.create_firewall(),
            ("GET", ["firewalls", id]) => self.get_firewall(id),
            ("PUT", ["firewalls", id]) => self.replace_firewall(id),
            ("DELETE", ["firewalls", id]) => self.delete_firewall(id),
            ("POST", ["tags"]) => self.create_tag(),
            ("GET", ["tags", name]) => self.get_tag(name),
            ("DELETE", ["tags", name]) => self.delete_tag(name),
            ("POST", ["tags", name, "resources"]) => self.tag_resources(name),
            ("GET", ["account"]) => self.get_account(),
            ("GET", ["account", "keys"]) => self.list_keys(),
            ("GET", ["sizes"]) => self.list_sizes(),
            ("GET", ["regions"]) => self.list_regions(),
            _ => self.no_such_endpoint(),
        }
    }

    fn no_such_endpoint(&mut self) -> Outcome {
        self.violation("is no endpoint the simulator knows");
        Err(Answer::not_found())
    }

    /// Remembers a mistake which the provider would pass over in silence.
    pub fn violation(&mut self, what: &str) {
        let Request { method, path, .. } = self.request;
        self.journal.violations.push(format!("{method} {path}: {what}"));
    }

    pub fn lacks(&self, scope: &str) -> bool {
        self.options.missing_scopes.iter().any(|s| s == scope)
    }

    pub fn need(&self, scope: &str) -> Result<(), Answer> {
        if self.lacks(scope) { Err(Answer::forbidden()) } else { Ok(()) }
    }

    /// The body, kept to the schema; unknown fields become violations.
    pub fn body(&mut self, fields: &[schema::Field]) -> Result<Map<String, Value>, Answer> {
        self.part(&self.request.body, fields)
    }

    /// A part of the body, kept to its own schema.
    pub fn part(&mut self, part: &Value, fields: &[schema::Field]) -> Result<Map<String, Value>, Answer> {
        let mut unknown = Vec::new();
        let checked = schema::checked(part, fields, &mut unknown).cloned();
        for field in unknown {
            self.violation(&format!("unknown body field {field}"));
        }
        checked
    }

    pub fn page(&mut self) -> Result<Page, Answer> {
        let known: &[&str] = if self.request.path == "/v2/droplets" { &DROPLET_LIST_PARAMS } else { &LIST_PARAMS };
        let query = &self.request.query;
        let unknown: Vec<_> = query.iter().filter(|(n, _)| !known.contains(&n.as_str())).collect();
        for (name, _) in unknown {
            self.violation(&format!("unknown query parameter {name}"));
        }
        let page = self.number("page", 1)?;
        let per_page = self.number("per_page", DEFAULT_PER_PAGE)?;
        if page == 0 || !(1..=MAX_PER_PAGE).contains(&per_page) {
            return Err(Answer::unprocessable("per_page must be between 1 and 200, page at least 1"));
        }
        let others = query.iter().filter(|(n, _)| !LIST_PARAMS.contains(&n.as_str()));
        Ok(Page {
            page,
            per_page,
            url: format!("{}{}", self.base_url, self.request.path),
            query: others.cloned().collect(),
        })
    }

    fn number(&self, name: &str, default: usize) -> Result<usize, Answer> {
        match self.request.param(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| Answer::unprocessable(format!("{name} is invalid"))),
        }
    }
}
