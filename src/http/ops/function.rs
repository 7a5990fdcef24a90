//! `POST /functions/v1/ops-runner`: one call claims and executes at most one build, and answers when it
//! has ended. Its answers are those of the runner's document, letter by letter.

use super::{Executed, NotExecuted, Ops};
use crate::http::problem::Problem;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Answer {
    Nothing { message: &'static str },
    Done { run_id: String, status: String, worker_id: String },
}

#[derive(Serialize, ToSchema)]
struct Failure {
    error: &'static str,
    details: String,
}

/// Claims the next build and executes it. No body is read.
#[utoipa::path(post, path = "/functions/v1/ops-runner", tag = "runs", security(("bearer" = ["runner"])),
    responses((status = 200, body = Answer), (status = 500, body = Failure)))]
pub async fn run_one(State(ops): State<Arc<Ops>>) -> Response {
    let run_one = match ops.routes.run_one.clone() {
        Ok(run_one) => run_one,
        Err(why) => {
            let why = format!("this process executes no builds: {why}");
            return Problem::new(StatusCode::NOT_FOUND, "no-runner", why).into_response();
        }
    };
    let Ok(permit) = ops.routes.executions.clone().try_acquire_owned() else {
        let why = "as many runs as allowed are being executed for requests";
        return Problem::unavailable("busy", why, 5).into_response();
    };
    // A task of its own: who asked may go away, and the run must not go with them.
    let work = tokio::spawn(async move {
        let done = run_one().await;
        drop(permit);
        done
    });
    match work.await {
        Ok(Ok(None)) => Json(Answer::Nothing { message: "No runs in queue" }).into_response(),
        Ok(Ok(Some(Executed { run_id, status, worker_id }))) => {
            Json(Answer::Done { run_id, status, worker_id }).into_response()
        }
        Ok(Err(NotExecuted::NotClaimed(details))) => failure("Failed to claim run", details),
        Ok(Err(NotExecuted::Lost(details))) => failure("Internal server error", details),
        Err(_) => failure("Internal server error", "the work on the run failed; see the log".to_owned()),
    }
}

fn failure(error: &'static str, details: String) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, Json(Failure { error, details })).into_response()
}

/// For browsers that ask first.
#[utoipa::path(options, path = "/functions/v1/ops-runner", tag = "runs",
    responses((status = 200, body = String, content_type = "text/plain")))]
pub async fn preflight() -> &'static str {
    "ok"
}

/// Every answer may be read by pages of any origin, as the document has it.
pub fn across_origins(routes: OpenApiRouter<Arc<Ops>>) -> OpenApiRouter<Arc<Ops>> {
    let header = |name: HeaderName, value| SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value));
    routes
        .layer(header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"))
        .layer(header(header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, x-client-info, apikey, content-type"))
}
