//! What every process of ours answers: that it lives, and its metrics.

use super::problem::Problem;
use crate::telemetry::metrics;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::PrometheusHandle;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn api(metrics: Option<PrometheusHandle>) -> OpenApiRouter {
    OpenApiRouter::new().routes(routes!(healthz)).routes(routes!(metrics_text)).with_state(metrics)
}

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "controller",
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "controller",
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics_text(State(handle): State<Option<PrometheusHandle>>) -> Response {
    match handle {
        Some(handle) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
            (kind, metrics::render(&handle)).into_response()
        }
        None => Problem::new(StatusCode::NOT_FOUND, "no-metrics", "metrics are not collected here").into_response(),
    }
}
