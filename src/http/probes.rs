//! What every process of ours answers: that it lives, and its metrics.

use super::problem::Problem;
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
async fn metrics_text(State(metrics): State<Option<PrometheusHandle>>) -> Response {
    match metrics {
        Some(handle) => {
            handle.run_upkeep();
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
            (kind, handle.render()).into_response()
        }
        None => Problem::new(StatusCode::NOT_FOUND, "no-metrics", "metrics are not collected here").into_response(),
    }
}
