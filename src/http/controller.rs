//! The controller's own routes: its status, probes, metrics, and what it can be asked for.

use super::access::{Access, Writes, bearer, is_same};
use super::probes;
use super::problem::Problem;
use crate::controller::daemon::{Controls, Request};
use crate::controller::status::Status;
use crate::runs::troubles::Troubles;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(Clone)]
struct Shared {
    controls: Controls,
    access: Access,
    /// Of the runner beside the controller.
    troubles: Troubles,
}

pub fn api(controls: Controls, metrics: Option<PrometheusHandle>, access: Access, troubles: Troubles) -> OpenApiRouter {
    let shared = Shared { controls, access, troubles };
    let writing = OpenApiRouter::new()
        .routes(routes!(cycles))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .route_layer(middleware::from_fn_with_state(shared.clone(), authorize));
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(readyz))
        .merge(writing)
        .with_state(shared)
        .merge(probes::api(metrics))
}

/// A status, and what keeps the runner inside from its work.
#[derive(Serialize)]
struct WithRunner<'a> {
    #[serde(flatten)]
    status: &'a Status,
    runner_troubles: Vec<String>,
}

/// How everything stands.
#[utoipa::path(get, path = "/status", tag = "controller", responses((status = 200, body = Object)))]
async fn status(State(shared): State<Shared>) -> Response {
    let status: Arc<Status> = shared.controls.status.borrow().clone();
    let runner_troubles = shared.troubles.list();
    let written = match runner_troubles.is_empty() {
        true => serde_json::to_vec(&*status),
        false => serde_json::to_vec(&WithRunner { status: &status, runner_troubles }),
    };
    match written {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(_) => Problem::internal("the status cannot be shown").into_response(),
    }
}

/// Ready when the loop runs or stands by.
///
/// A listener alone is no proof, so a loop that has not come round in time is not ready.
#[utoipa::path(get, path = "/readyz", tag = "controller",
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn readyz(State(shared): State<Shared>) -> Response {
    let status = shared.controls.status.borrow().clone();
    let overdue = status
        .next_cycle_at
        .is_some_and(|at| jiff::Timestamp::now().duration_since(at) > jiff::SignedDuration::from_secs(300));
    match overdue {
        false => "ready\n".into_response(),
        true => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overdue", "the next cycle is overdue by more than 5 minutes")
                .into_response()
        }
    }
}

#[derive(Serialize, ToSchema)]
struct Accepted {
    /// What was asked for.
    accepted: String,
}

/// Begins a cycle now.
#[utoipa::path(post, path = "/cycles", tag = "controller", security(("bearer" = [])),
    responses((status = 202, body = Accepted)))]
async fn cycles(State(shared): State<Shared>) -> Response {
    accept(shared, Request::Cycle)
}

/// Changes nothing until resumed.
#[utoipa::path(post, path = "/pause", tag = "controller", security(("bearer" = [])),
    responses((status = 202, body = Accepted)))]
async fn pause(State(shared): State<Shared>) -> Response {
    accept(shared, Request::Pause)
}

/// Ends the paused or the auto-disabled mode.
#[utoipa::path(post, path = "/resume", tag = "controller", security(("bearer" = [])),
    responses((status = 202, body = Accepted)))]
async fn resume(State(shared): State<Shared>) -> Response {
    accept(shared, Request::Resume)
}

fn accept(shared: Shared, request: Request) -> Response {
    let status = shared.controls.status.borrow().clone();
    if status.mode == crate::plan::mode::Shown::Standby {
        let reason = status.mode_reason.as_deref().unwrap_or("it has just started");
        let why = format!("this instance stands by, ask the active one: {reason}");
        return Problem::new(StatusCode::CONFLICT, "standby", why).into_response();
    }
    shared.controls.ask(request);
    let accepted = format!("{request:?}").to_lowercase();
    (StatusCode::ACCEPTED, axum::Json(Accepted { accepted })).into_response()
}

async fn authorize(State(shared): State<Shared>, request: HttpRequest, next: Next) -> Response {
    let refused = match &shared.access.now() {
        Writes::Socket => None,
        Writes::NotLocal(_) => Some(Problem::new(
            StatusCode::FORBIDDEN,
            "reads-only",
            "LISTEN_ADDR is not a loopback address, so only reads are served; use the command on the same machine",
        )),
        Writes::NoToken => Some(Problem::new(
            StatusCode::FORBIDDEN,
            "no-api-token",
            "writes are refused because API_TOKEN is not set; use the command on the same machine",
        )),
        Writes::WithToken(token) if bearer(request.headers()).is_some_and(|given| is_same(given, token)) => None,
        Writes::WithToken(_) => {
            Some(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "send API_TOKEN as a bearer token"))
        }
    };
    match refused {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}
