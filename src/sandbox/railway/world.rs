//! The project: its services, their variables and deployments.

use super::RailwayOptions;
use super::apps::AppFate;
use super::trouble::Orders;
use crate::sandbox::faults::Faults;
use crate::sandbox::postgres::Cluster;
use crate::sandbox::webapp::deployments::Deployment;
use crate::sandbox::webapp::{Webapp, replication, seed};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub const POSTGRES_IMAGE: &str = "ghcr.io/railwayapp-templates/postgres-ssl:15";
/// How long ago everything in the project was made.
const PROJECT_AGE: SignedDuration = SignedDuration::from_hours(24 * 30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Restarts the cluster.
    Postgres,
    /// Its deployments are the webapp's own.
    Webapp,
    /// Has deployments and logs, and nothing behind them.
    Plain,
    /// Somebody's own program: its deployments build, start, and answer on a port of their own.
    App,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Variable {
    /// `None` is the null that the scalar allows.
    pub value: Option<String>,
    /// How it is written, when that is not its value.
    pub template: Option<String>,
    /// The API never shows its value again.
    pub sealed: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Service {
    pub id: String,
    pub name: String,
    pub instance_id: String,
    pub kind: Kind,
    pub image: Option<String>,
    pub repo: Option<String>,
    pub created_at: Timestamp,
    pub variables: BTreeMap<String, Variable>,
    /// Oldest first. Empty for the webapp, which keeps its own.
    pub deployments: Vec<Deployment>,
    /// Its public address, for apps.
    pub address: Option<SocketAddr>,
}

/// A GraphQL request, as it arrived.
#[derive(Debug, Clone)]
pub struct RailwayRequest {
    pub operation: String,
    pub variables: Value,
    pub document: String,
    /// The URL's query string, by which clients introduce themselves.
    pub query_string: Option<String>,
    pub user_agent: Option<String>,
    pub at: Timestamp,
}

/// A mutation that makes a process start again.
#[derive(Debug, Clone)]
pub struct RestartRequest {
    pub mutation: &'static str,
    pub service_name: String,
    /// The deployment that was named, or the new one.
    pub deployment_id: String,
    pub at: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub services: Vec<Service>,
    pub requests: Vec<RailwayRequest>,
    pub restarts: Vec<RestartRequest>,
    pub troubles: Orders,
    /// What becomes of apps' next deployments, by the service's name.
    pub fates: Vec<(String, AppFate)>,
    /// What apps say of their health when it is not 200, by the service's id.
    pub health: BTreeMap<String, u16>,
    /// Numbers what is made later, and the requests.
    pub made: u64,
    /// Requests of this hour.
    pub spent: u32,
    pub window_began: Option<Timestamp>,
}

pub(super) struct World {
    pub options: RailwayOptions,
    pub faults: Faults,
    pub cluster: Arc<Cluster>,
    pub webapp: Webapp,
    pub state: Mutex<State>,
    pub stop: CancellationToken,
    pub tasks: TaskTracker,
}

impl World {
    pub fn new(options: RailwayOptions, faults: Faults, cluster: Arc<Cluster>, webapp: Webapp) -> World {
        let services = contents(&options, &cluster, &webapp);
        let state = Mutex::new(State { services, ..State::default() });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        World { options, faults, cluster, webapp, state, stop, tasks }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A copy of every service, each with its deployments.
    pub fn services(&self) -> Vec<Service> {
        let mut services = self.state().services.clone();
        for service in services.iter_mut().filter(|s| s.kind == Kind::Webapp) {
            service.deployments = self.webapp.deployments();
        }
        services
    }

    pub fn service(&self, id: &str) -> Option<Service> {
        self.services().into_iter().find(|service| service.id == id)
    }

    pub fn change_service(&self, name: &str, change: impl FnOnce(&mut Service)) -> bool {
        let mut state = self.state();
        let found = state.services.iter_mut().find(|service| service.name == name);
        found.map(change).is_some()
    }

    pub fn change_deployment(&self, id: &str, change: impl FnOnce(&mut Deployment)) {
        let mut state = self.state();
        let mut all = state.services.iter_mut().flat_map(|service| service.deployments.iter_mut());
        if let Some(deployment) = all.find(|deployment| deployment.id == id) {
            change(deployment);
        }
    }
}

/// A Trigger.dev made from the template, beside services of other people.
fn contents(options: &RailwayOptions, cluster: &Cluster, webapp: &Webapp) -> Vec<Service> {
    let seed = options.seed;
    let random = |what: &str| seed::hex(seed, what, 0, 12);
    let webapp_domain = format!("trigger-production-{}.up.railway.app", &random("domain")[..4]);
    let registry_domain = format!("registry-production-{}.up.railway.app", &random("registry")[..4]);
    let image = format!("ghcr.io/triggerdotdev/trigger.dev:{}", webapp.image_tag());
    let plain = |name: &str, image: &str| service(seed, name, Kind::Plain, Some(image));

    let mut postgres = service(seed, "Postgres", Kind::Postgres, Some(POSTGRES_IMAGE));
    postgres.variables = variables(&[
        (
            "DATABASE_URL",
            &cluster.url(),
            Some("postgresql://${{PGUSER}}:${{PGPASSWORD}}@${{PGHOST}}:${{PGPORT}}/${{PGDATABASE}}"),
        ),
        ("PGHOST", "127.0.0.1", None),
        ("PGPORT", &cluster.port().to_string(), None),
        ("PGUSER", crate::sandbox::postgres::SUPERUSER, None),
        ("PGPASSWORD", cluster.password(), None),
        ("PGDATABASE", cluster.database(), None),
    ]);

    let mut trigger = service(seed, "trigger.dev", Kind::Webapp, Some(&image));
    trigger.variables = variables(&[
        ("MANAGED_WORKER_SECRET", &webapp.managed_secret(), None),
        ("API_ORIGIN", &webapp.url(), Some("https://${{RAILWAY_PUBLIC_DOMAIN}}")),
        ("APP_ORIGIN", &webapp.url(), Some("https://${{RAILWAY_PUBLIC_DOMAIN}}")),
        ("RAILWAY_PUBLIC_DOMAIN", &webapp_domain, None),
        ("TRIGGER_IMAGE_TAG", webapp.image_tag(), None),
        ("TRIGGER_BOOTSTRAP_ENABLED", "1", None),
        ("TRIGGER_BOOTSTRAP_WORKER_GROUP_NAME", "bootstrap", None),
        ("DATABASE_URL", &cluster.url(), Some("${{Postgres.DATABASE_URL}}")),
        ("RUN_REPLICATION_ENABLED", "1", None),
        ("RUN_REPLICATION_SLOT_NAME", replication::SLOT, None),
        ("RUN_REPLICATION_PUBLICATION_NAME", replication::PUBLICATION, None),
        ("SESSION_SECRET", &random("session"), None),
    ]);

    let mut registry = plain("registry", "registry:2");
    registry.variables = variables(&[("RAILWAY_PUBLIC_DOMAIN", &registry_domain, None)]);
    let mut landing = plain("landing-page", "");
    (landing.image, landing.repo) = (None, Some("acme/landing-page".to_string()));
    vec![
        postgres,
        trigger,
        registry,
        plain("redis", "redis:7"),
        plain("clickhouse", "clickhouse/clickhouse-server:25.8"),
        plain("metabase", "metabase/metabase:latest"),
        landing,
    ]
}

fn service(seed: u64, name: &str, kind: Kind, image: Option<&str>) -> Service {
    let made = |what: &str| seed::uuid(seed, &format!("{what} {name}"), 0);
    let mut deployments = Vec::new();
    if kind != Kind::Webapp {
        let image = image.unwrap_or_default().to_string();
        let mut first = Deployment::new(made("deployment"), made("replica"), image, PROJECT_AGE);
        first.print("Starting Container", "info");
        first.set("SUCCESS", "RUNNING");
        // Old as a deployment; what it prints from now on is new.
        first.age = SignedDuration::ZERO;
        deployments.push(first);
    }
    Service {
        id: made("service"),
        name: name.to_string(),
        instance_id: made("service instance"),
        kind,
        image: image.map(str::to_string),
        repo: None,
        created_at: Timestamp::now() - PROJECT_AGE,
        variables: BTreeMap::new(),
        deployments,
        address: None,
    }
}

fn variables(list: &[(&str, &str, Option<&str>)]) -> BTreeMap<String, Variable> {
    let variable = |value: &str, template: Option<&str>| Variable {
        value: Some(value.to_string()),
        template: template.map(str::to_string),
        sealed: false,
    };
    list.iter().map(|(name, value, template)| (name.to_string(), variable(value, *template))).collect()
}
