//! The probes of a process that only executes runs.

use super::probes;
use super::problem::Problem;
use crate::http::OpsRoutes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::PrometheusHandle;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn api(metrics: PrometheusHandle, ops: OpsRoutes) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(readyz)).with_state(ops).merge(probes::api(Some(metrics)))
}

/// Ready when the database answers: without it nothing can be claimed.
#[utoipa::path(get, path = "/readyz", tag = "controller",
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn readyz(State(ops): State<OpsRoutes>) -> Response {
    match ops.answers().await {
        Ok(()) => "ready\n".into_response(),
        Err(error) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-database", error.to_string()).into_response(),
    }
}
