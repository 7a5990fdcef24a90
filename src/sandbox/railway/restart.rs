//! What happens after `true`: processes start again, some time later than the answer.

use super::apps;
use super::graphql::failed;
use super::world::{Kind, RestartRequest, Service, World};
use crate::sandbox::faults::Break;
use crate::sandbox::webapp::deployments::Deployment;
use crate::sandbox::webapp::seed;
use apollo_compiler::resolvers::FieldError;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Between the answer and the moment the process is really stopped.
const BEFORE_IT_BEGINS: Duration = Duration::from_millis(30);

/// `deploymentRestart`: same deployment, same variables, new process.
pub(super) fn same_deployment(
    world: &Arc<World>,
    service: &Service,
    deployment: &Deployment,
) -> Result<(), FieldError> {
    if !deployment.is_active() {
        return Err(failed("Deployment is not active"));
    }
    remember(world, "deploymentRestart", service, &deployment.id);
    let id = deployment.id.clone();
    match service.kind {
        Kind::Webapp => world.webapp.restart(&id),
        kind => {
            world.change_deployment(&id, |d| d.instance_status = "RESTARTING");
            run(world, kind, id);
        }
    }
    Ok(())
}

/// `serviceInstanceRedeploy` and `serviceInstanceDeployV2`: a new deployment with the variables as
/// they are now. Returns its id.
pub(super) fn new_deployment(
    world: &Arc<World>,
    mutation: &'static str,
    service: &Service,
) -> Result<String, FieldError> {
    let id = match service.kind {
        Kind::Webapp => {
            let secret = service.variables.get("MANAGED_WORKER_SECRET").and_then(|v| v.value.as_deref());
            if let Some(secret) = secret {
                world.webapp.set_managed_secret(secret);
            }
            world.webapp.redeploy()
        }
        Kind::App => apps::deploy(world, service, mutation)?,
        kind => {
            let id = add(world, service, service.image.clone().unwrap_or_default(), "DEPLOYING");
            run(world, kind, id.clone());
            id
        }
    };
    remember(world, mutation, service, &id);
    Ok(id)
}

pub(super) fn add(world: &World, service: &Service, image: String, status: &str) -> String {
    let mut state = world.state();
    state.made += 1;
    let id = seed::uuid(world.options.seed, "new deployment", state.made);
    let replica = seed::uuid(world.options.seed, "new replica", state.made);
    let mut deployment = Deployment::new(id.clone(), replica, image, SignedDuration::ZERO);
    deployment.set(status, "CREATED");
    if let Some(service) = state.services.iter_mut().find(|s| s.id == service.id) {
        service.deployments.push(deployment);
    }
    id
}

fn remember(world: &World, mutation: &'static str, service: &Service, deployment_id: &str) {
    let (service_name, deployment_id) = (service.name.clone(), deployment_id.to_string());
    let at = Timestamp::now();
    world.state().restarts.push(RestartRequest { mutation, service_name, deployment_id, at });
}

fn run(world: &Arc<World>, kind: Kind, id: String) {
    let (world, tasks) = (world.clone(), world.tasks.clone());
    tasks.spawn(async move {
        let stop = world.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = start_again(&world, kind, &id) => {}
        }
    });
}

async fn start_again(world: &World, kind: Kind, id: &str) {
    let slow = kind == Kind::Postgres && world.faults.take(Break::SlowRestart);
    let away = if slow { world.options.slow_restart } else { world.options.postgres_restart };
    tokio::time::sleep(BEFORE_IT_BEGINS).await;
    let outcome = match kind {
        Kind::Postgres => world.cluster.restart_taking(away).await,
        _ => Ok(()),
    };
    world.change_deployment(id, |deployment| match &outcome {
        Ok(()) => {
            deployment.set("SUCCESS", "RUNNING");
            if kind == Kind::Postgres {
                deployment.print("LOG:  database system is ready to accept connections", "info");
            }
        }
        Err(error) => {
            deployment.set("CRASHED", "CRASHED");
            deployment.print(&error.to_string(), "error");
        }
    });
    if outcome.is_ok() {
        remove_others(world, id);
    }
}

/// One deployment of a service serves; those it replaced are removed. What failed stays failed.
pub(super) fn remove_others(world: &World, id: &str) {
    let mut state = world.state();
    let owner = state.services.iter_mut().find(|s| s.deployments.iter().any(|d| d.id == id));
    let others = owner.into_iter().flat_map(|service| service.deployments.iter_mut());
    for other in others.filter(|d| d.id != id && !["REMOVED", "FAILED"].contains(&d.status.as_str())) {
        other.set("REMOVED", "REMOVED");
    }
}
