//! Railway: the token, the project, the environment, the services by name, the webapp's variables.

use super::{Check, Report};
use crate::clients::Readers;
use crate::config::Config;
use crate::plan::condition::Status;
use crate::plan::configuration;
use crate::plan::observation::{Lookup, RailwayView, Seen};
use crate::plan::state::RailwayIds;

pub async fn check(config: &Config, readers: &Readers) -> Report<RailwayView> {
    let mut checks = Vec::new();
    if config.railway_project_token.is_some() {
        checks.push(project_token(config, readers).await);
    }
    if checks.iter().all(|c| c.ok) {
        checks.extend(project(config, readers).await);
    }
    if checks.iter().any(|c| !c.ok) {
        return Report { checks, seen: None };
    }
    match readers.railway.observe(&RailwayIds::default()).await {
        Ok(view) => {
            checks.extend(services(config, &view));
            Report { checks, seen: Some(view) }
        }
        Err(error) => {
            checks.push(Check::refused(readers, &error));
            Report { checks, seen: None }
        }
    }
}

async fn project_token(config: &Config, readers: &Readers) -> Check {
    let (desired, token) = (&config.desired, readers.remedies.railway_token());
    match readers.railway.token_scope().await {
        Ok((project, environment)) if project == desired.project_id && environment == desired.environment_id => {
            Check::ok(token, "a project token for this project and environment")
        }
        Ok((project, environment)) => {
            let detail = format!(
                "is for project {project}, environment {environment}: make one in the right project's Settings > \
                 Tokens, or set RAILWAY_PROJECT_ID and RAILWAY_ENVIRONMENT_ID to these"
            );
            Check::bad(token, detail)
        }
        Err(error) => Check::refused(readers, &error),
    }
}

async fn project(config: &Config, readers: &Readers) -> Vec<Check> {
    const ENVIRONMENT: &str = "RAILWAY_ENVIRONMENT_ID";
    let environments = match readers.railway.environments().await {
        Ok(environments) => environments,
        Err(error) => return vec![Check::refused(readers, &error)],
    };
    let environment = match environments.iter().find(|(id, _)| *id == config.desired.environment_id) {
        Some((_, name)) => Check::ok(ENVIRONMENT, format!("environment {name}")),
        None => {
            let names: Vec<_> = environments.iter().map(|(id, name)| format!("{name} = {id}")).collect();
            let detail = format!("no environment with this id in the project; there are: {}", names.join(", "));
            Check::bad(ENVIRONMENT, detail)
        }
    };
    vec![Check::ok("RAILWAY_PROJECT_ID", "the project can be read"), environment]
}

fn services(config: &Config, view: &RailwayView) -> Vec<Check> {
    let named = [
        ("WEBAPP_SERVICE_NAME", &config.webapp_service_name, &view.webapp, true),
        ("DB_SERVICE_NAME", &config.db_service_name, &view.postgres, true),
        ("REGISTRY_SERVICE_NAME", &config.registry_service_name, &view.registry, false),
    ];
    let mut checks: Vec<Check> = named
        .into_iter()
        .map(|(variable, wanted, lookup, required)| match (configuration::service_found(lookup, variable), lookup) {
            (Ok(()), Lookup::Found(service)) if service.name == *wanted => {
                Check::ok(variable, format!("service {wanted}"))
            }
            (Ok(()), Lookup::Found(service)) => {
                Check::ok(variable, format!("none is named {wanted}; took service {}", service.name))
            }
            (Err(finding), _) if required => Check::bad(variable, finding.message),
            _ => Check::ok(variable, "no such service; supervisors are given no registry"),
        })
        .collect();
    // Without the webapp its variables say nothing new.
    if view.webapp.found().is_some() {
        let (_, finding) = configuration::read(&config.desired, &Seen::Known(view.clone()));
        let ok = finding.status == Status::True;
        checks.push(Check { ok, what: "webapp variables".into(), detail: finding.message });
    }
    checks
}
