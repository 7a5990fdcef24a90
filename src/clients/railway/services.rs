//! Finds the webapp, Postgres and the registry among an environment's services.
//!
//! Exact name, then without regard to case; Postgres then by the documents' usual names. Two that fit equally well are an error that names both, never a guess.

use super::wire::{DeploymentCore, Instance, ServiceInstance, Variables};
use crate::plan::observation::{Deployment, DeploymentStatus, Lookup, RailwayView, Service};

#[derive(Debug, Clone)]
pub struct Names {
    pub webapp: String,
    pub postgres: String,
    pub registry: String,
}

/// Tried in this order after the configured one, as the documents promise.
const POSTGRES_NAMES: [&str; 5] = ["Postgres", "postgres", "PostgreSQL", "Database", "DB"];

pub struct Lookups {
    pub webapp: Lookup,
    pub postgres: Lookup,
    pub registry: Lookup,
}

pub fn lookups(names: &Names, services: &[ServiceInstance]) -> Lookups {
    Lookups {
        webapp: by_names(&[&names.webapp], services),
        postgres: postgres(&names.postgres, services),
        registry: by_names(&[&names.registry], services),
    }
}

fn by_names(wanted: &[&str], services: &[ServiceInstance]) -> Lookup {
    let first = wanted.first().copied().unwrap_or_default().to_owned();
    for name in wanted {
        if let Some(service) = services.iter().find(|s| s.service_name == *name) {
            return Lookup::Found(convert(service));
        }
        let similar: Vec<_> = services.iter().filter(|s| s.service_name.eq_ignore_ascii_case(name)).collect();
        match similar.as_slice() {
            [] => {}
            [one] => return Lookup::Found(convert(one)),
            many => return Lookup::Ambiguous { wanted: first, matches: names_of(many.iter().copied()) },
        }
    }
    Lookup::Missing { wanted: first, present: names_of(services.iter()) }
}

/// A name that somebody chose gets no fallback: a restart must never hit another database.
fn postgres(configured: &str, services: &[ServiceInstance]) -> Lookup {
    let is_usual = POSTGRES_NAMES.iter().any(|name| name.eq_ignore_ascii_case(configured));
    let usual = is_usual.then_some(POSTGRES_NAMES).into_iter().flatten();
    let candidates: Vec<&str> = std::iter::once(configured).chain(usual).collect();
    by_names(&candidates, services)
}

fn names_of<'a>(services: impl Iterator<Item = &'a ServiceInstance>) -> Vec<String> {
    let mut names: Vec<_> = services.map(|s| s.service_name.clone()).collect();
    names.sort();
    names
}

fn convert(service: &ServiceInstance) -> Service {
    Service {
        id: service.service_id.clone(),
        name: service.service_name.clone(),
        latest: service.latest_deployment.as_ref().map(deployment),
        active: service.active_deployments.iter().map(deployment).collect(),
    }
}

fn deployment(core: &DeploymentCore) -> Deployment {
    let boots = |i: &Instance| matches!(i.status.as_str(), "CREATED" | "INITIALIZING" | "RESTARTING");
    let booting = !core.deployment_stopped && core.instances.iter().any(boots);
    Deployment { id: core.id.clone(), status: status(&core.status), booting }
}

pub fn status(word: &str) -> DeploymentStatus {
    match word {
        "INITIALIZING" | "QUEUED" | "WAITING" | "BUILDING" | "DEPLOYING" => DeploymentStatus::InFlight,
        "SUCCESS" | "SLEEPING" => DeploymentStatus::Good,
        "FAILED" | "CRASHED" => DeploymentStatus::Bad,
        "REMOVED" | "REMOVING" | "SKIPPED" => DeploymentStatus::Ended,
        "NEEDS_APPROVAL" => DeploymentStatus::NeedsApproval,
        _ => DeploymentStatus::Other,
    }
}

pub fn view(found: Lookups, mut webapp: Variables, mut registry: Variables) -> RailwayView {
    let mut take = |name: &str| webapp.remove(name).flatten().filter(|v| !v.is_empty());
    RailwayView {
        managed_secret: take("MANAGED_WORKER_SECRET").map(crate::plan::secret::Secret::new),
        api_origin: take("API_ORIGIN"),
        app_origin: take("APP_ORIGIN"),
        registry_domain: registry.remove("RAILWAY_PUBLIC_DOMAIN").flatten().filter(|v| !v.is_empty()),
        webapp: found.webapp,
        postgres: found.postgres,
        registry: found.registry,
    }
}
