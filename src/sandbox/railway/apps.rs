//! Services that somebody made: created, given an image and variables, deployed, and really answering.
//!
//! No image is run. Behind an app's address is one listener, and it answers for whichever deployment
//! serves, with the image of that one; without any it answers as Railway's edge does.

use super::graphql::failed;
use super::restart::{self, remove_others};
use super::world::{Kind, Service, Variable, World};
use crate::sandbox::webapp::deployments::Deployment;
use crate::sandbox::webapp::seed;
use apollo_compiler::resolvers::FieldError;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// What becomes of an app's deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppFate {
    Succeeds,
    /// FAILED while BUILDING: the image cannot be pulled.
    FailsToBuild,
    /// FAILED while DEPLOYING: the health check never passes.
    FailsToStart,
    /// CRASHED after it was SUCCESS for a moment and had replaced the one before.
    Crashes,
    /// BUILDING for ever.
    Hangs,
}

/// `serviceCreate`: with a source, a deployment begins at once.
pub(super) fn create(world: &Arc<World>, input: &Value) -> Result<Service, FieldError> {
    let address = listen(world);
    let mut state = world.state();
    state.made += 1;
    let made = |what: &str| seed::uuid(world.options.seed, what, state.made);
    let name = input["name"].as_str().map_or_else(|| format!("service-{}", state.made), str::to_string);
    if state.services.iter().any(|service| service.name == name) {
        return Err(failed(format!("A service named \"{name}\" already exists in this project")));
    }
    let (address, serve) = address.map_err(|error| failed(format!("Problem processing request: {error}")))?;
    let service = Service {
        id: made("app"),
        instance_id: made("app instance"),
        name,
        kind: Kind::App,
        image: input["source"]["image"].as_str().map(str::to_string),
        repo: None,
        created_at: Timestamp::now(),
        variables: variables(&input["variables"]),
        deployments: Vec::new(),
        address: Some(address),
    };
    state.services.push(service.clone());
    drop(state);
    serve(service.id.clone());
    if service.image.is_some() {
        restart::new_deployment(world, "serviceCreate", &service)?;
    }
    Ok(service)
}

/// `serviceInstanceUpdate`: nothing is deployed by it.
pub(super) fn update(world: &World, service: &Service, input: &Value) {
    if let Some(image) = input["source"]["image"].as_str() {
        world.change_service(&service.name, |s| s.image = Some(image.to_string()));
    }
}

/// `variableCollectionUpsert`: deploys unless told not to.
pub(super) fn set_variables(world: &Arc<World>, service: &Service, input: &Value) -> Result<(), FieldError> {
    let new = variables(&input["variables"]);
    world.change_service(&service.name, |s| {
        if input["replace"] == true {
            s.variables.clear();
        }
        s.variables.extend(new);
    });
    let is_deployed = service.kind == Kind::Webapp || !service.deployments.is_empty();
    match world.service(&service.id).filter(|_| input["skipDeploys"] != true && is_deployed) {
        Some(changed) => restart::new_deployment(world, "variableCollectionUpsert", &changed).map(drop),
        None => Ok(()),
    }
}

fn variables(given: &Value) -> BTreeMap<String, Variable> {
    let variable = |value: &Value| Variable { value: value.as_str().map(str::to_string), ..Variable::default() };
    given.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), variable(value))).collect()
}

/// A new deployment of an app. A redeploy runs again what is live, whatever image was set since.
pub(super) fn deploy(world: &Arc<World>, service: &Service, mutation: &str) -> Result<String, FieldError> {
    let live = || serving(service).map(|deployment| deployment.image.clone());
    let image = if mutation == "serviceInstanceRedeploy" { live() } else { service.image.clone() };
    let image = image.ok_or_else(|| failed("Service has no source to deploy"))?;
    let id = restart::add(world, service, image.clone(), "INITIALIZING");
    let fate = {
        let mut state = world.state();
        let at = state.fates.iter().position(|(name, _)| *name == service.name);
        at.map_or(AppFate::Succeeds, |at| state.fates.remove(at).1)
    };
    let (world, new) = (world.clone(), id.clone());
    world.tasks.clone().spawn(async move {
        let stop = world.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = come_up(&world, &new, &image, fate) => {}
        }
    });
    Ok(id)
}

async fn come_up(world: &World, id: &str, image: &str, fate: AppFate) {
    let build = |line: &str, severity| world.change_deployment(id, |d| d.print_build(line, severity));
    world.change_deployment(id, |d| d.set("BUILDING", "CREATED"));
    build(&format!("Pulling {image}"), "info");
    tokio::time::sleep(world.options.app_build).await;
    match fate {
        AppFate::Hangs => return,
        AppFate::FailsToBuild => {
            build(&format!("failed to pull {image}: not found"), "error");
            return end(world, id, "FAILED");
        }
        _ => {}
    }
    if !goes_on(world, id) {
        return;
    }
    world.change_deployment(id, |d| {
        d.set("DEPLOYING", "INITIALIZING");
        d.print("Starting Container", "info");
    });
    tokio::time::sleep(world.options.app_start).await;
    if fate == AppFate::FailsToStart {
        world.change_deployment(id, |d| d.print("Healthcheck failed!", "error"));
        return end(world, id, "FAILED");
    }
    if !goes_on(world, id) {
        return;
    }
    world.change_deployment(id, |d| d.set("SUCCESS", "RUNNING"));
    remove_others(world, id);
    if fate == AppFate::Crashes {
        tokio::time::sleep(world.options.app_start).await;
        world.change_deployment(id, |d| d.print("panic: it does not run", "error"));
        end(world, id, "CRASHED");
    }
}

fn end(world: &World, id: &str, status: &str) {
    if goes_on(world, id) {
        world.change_deployment(id, |d| d.set(status, "CRASHED"));
    }
}

/// A newer deployment may have taken its place meanwhile.
fn goes_on(world: &World, id: &str) -> bool {
    let state = world.state();
    state.services.iter().flat_map(|s| &s.deployments).any(|d| d.id == id && d.status != "REMOVED")
}

fn serving(service: &Service) -> Option<&Deployment> {
    service.deployments.iter().rev().find(|deployment| deployment.status == "SUCCESS")
}

/// An address of its own, and what serves there once the service has its id.
fn listen(world: &Arc<World>) -> std::io::Result<(SocketAddr, impl FnOnce(String))> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (address, world) = (listener.local_addr()?, world.clone());
    let serve = move |service_id: String| {
        let stop = world.stop.clone().cancelled_owned();
        let tasks = world.tasks.clone();
        let app = Router::new().route("/", get(health)).route("/health", get(health)).with_state((world, service_id));
        tasks.spawn(async move { axum::serve(listener, app).with_graceful_shutdown(stop).await });
    };
    Ok((address, serve))
}

async fn health(State((world, service_id)): State<(Arc<World>, String)>) -> Response {
    let service = world.service(&service_id);
    let Some(deployment) = service.as_ref().and_then(serving) else {
        let body = json!({ "status": "error", "code": 404, "message": "Application not found" });
        return (StatusCode::NOT_FOUND, Json(body)).into_response();
    };
    let status = world.state().health.get(&service_id).copied().unwrap_or(200);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let said = if status.is_success() { "ok" } else { "unhealthy" };
    let body = json!({ "status": said, "image": deployment.image, "deployment_id": deployment.id });
    (status, Json(body)).into_response()
}
