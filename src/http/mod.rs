//! `/status` and its kin, and the routes of durable runs under `/ops`.
//!
//! The controller's reads are open and never show a secret; its writes need `API_TOKEN`. Without a token
//! set, writes are refused; on an address other than loopback, only reads are served. Commands on the
//! same machine use a socket beside the state file instead, which the file system protects. The routes
//! of runs always need a token with the right scope, see [`ops`].

mod access;
mod controller;
mod document;
pub mod ops;
mod probes;
mod problem;
mod runner;

pub use access::{Access, Writes};
pub use ops::OpsRoutes;

use crate::controller::daemon::Controls;
use axum::extract::Extension;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::PrometheusHandle;
use problem::Problem;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;
use utoipa_axum::router::OpenApiRouter;

/// Of all routes but the one that executes a run.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// None of the controller's routes takes a body.
const LARGEST_BODY: usize = 16 << 10;

fn timeout() -> TimeoutLayer {
    TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIMEOUT)
}

/// All routes. Without a metrics handle, `/metrics` answers 404; without the ops part, so does all that
/// has to do with runs.
pub fn router(
    controls: Controls,
    metrics: Option<PrometheusHandle>,
    access: impl Into<Access>,
    ops: Option<OpsRoutes>,
) -> axum::Router {
    let access = access.into();
    let stop = controls.stop.clone();
    let troubles = ops.as_ref().map(OpsRoutes::troubles).unwrap_or_default();
    let ops = ops.map(|routes| ops::Ops::new(routes, access.clone(), stop));
    assembled(controller::api(controls, metrics, access, troubles), ops)
}

/// The routes of a process without a controller.
pub fn runner_router(
    stop: CancellationToken,
    metrics: PrometheusHandle,
    access: impl Into<Access>,
    ops: OpsRoutes,
) -> axum::Router {
    assembled(runner::api(metrics, ops.clone()), Some(ops::Ops::new(ops, access.into(), stop)))
}

fn assembled(own: OpenApiRouter, ops: Option<Arc<ops::Ops>>) -> axum::Router {
    let (runs, of_runs) = ops::parts(ops);
    let (routes, mut api) =
        OpenApiRouter::with_openapi(document::begin()).merge(own).merge(document::api()).split_for_parts();
    api.merge(of_runs);
    document::refusals(&mut api);
    routes
        .layer(RequestBodyLimitLayer::new(LARGEST_BODY))
        .layer(timeout())
        .merge(runs)
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "not-found", "there is no such route") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "this route does not take this method")
        })
        .layer(Extension(document::Document::of(&api)))
        .layer(middleware::map_response(with_problem))
        .layer(CatchPanicLayer::custom(|_| Problem::internal("this request failed; see the log").into_response()))
        .layer(SetResponseHeaderLayer::overriding(header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
}

/// Limits answer with bare text; users are promised a problem with a code.
async fn with_problem(answer: Response) -> Response {
    match answer.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let why = format!(
                "the body is too large: {} MiB at most for durable runs, {} KiB for the other routes",
                ops::LARGEST_BODY >> 20,
                LARGEST_BODY >> 10
            );
            let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", why);
            // The rest of the body is not read, so nothing can follow on this connection.
            ([(header::CONNECTION, "close")], problem).into_response()
        }
        StatusCode::SERVICE_UNAVAILABLE if !answer.headers().contains_key(header::CONTENT_TYPE) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", "this request took too long").into_response()
        }
        _ => answer,
    }
}

/// Serves until the controls are stopped.
pub async fn serve(listener: TcpListener, router: axum::Router, controls: Controls) -> std::io::Result<()> {
    serve_until(listener, router, controls.stop).await
}

pub async fn serve_until(listener: TcpListener, router: axum::Router, stop: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await
}

/// The same on the socket beside the state file.
pub async fn serve_socket(listener: UnixListener, router: axum::Router, controls: Controls) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(async move { controls.stop.cancelled().await }).await
}
