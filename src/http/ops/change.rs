//! Changing runs: queue, cancel, retry. Each is one statement, so nothing is ever half done.

use super::Ops;
use super::auth::Caller;
use super::receive::{Body, RunId, text_header};
use crate::http::problem::Problem;
use crate::runs::control::{self, Actor};
use crate::runs::request::{self, RunRequest};
use crate::runs::{Queued, names, queue};
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

const KEY: &str = "Idempotency-Key";

/// Queues a run, once for each Idempotency-Key.
#[utoipa::path(post, path = "/ops/runs", tag = "runs", security(("bearer" = ["runs:write"])),
    request_body = RunRequest,
    params(("Idempotency-Key" = Option<String>, Header, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,200}$",
        description = "who asks again with the same key gets the run that is there")),
    responses(
        (status = 201, body = Queued, description = "queued"),
        (status = 200, body = Queued, description = "it was queued before, with the same key"),
    ))]
pub async fn queue_run(
    State(ops): State<Arc<Ops>>,
    headers: HeaderMap,
    Body(fields): Body,
) -> Result<Response, Problem> {
    let key = text_header(&headers, KEY)?;
    if let Some(key) = &key {
        names::key(key).map_err(|why| Problem::invalid_field(KEY, why))?;
    }
    let queued = match RunRequest::from_json(fields).map_err(Problem::invalid)? {
        RunRequest::Build(build) => {
            let queue =
                ops.ask(move |c| Box::pin(async move { queue::enqueue_build(c, &build, key.as_deref()).await }));
            queue.await?
        }
        RunRequest::Kind(request) => {
            let known = ops.known_kinds().await?;
            if !known.contains(&request.kind) {
                return Err(Problem::invalid_field("kind", format!("must be known: {}", known.join(", "))));
            }
            ops.ask(move |c| Box::pin(queue::enqueue_kind(c, request, key))).await?
        }
    };
    let status = if queued.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let mut answer = (status, Json(&queued)).into_response();
    if let Ok(place) = HeaderValue::try_from(format!("/ops/runs/{}", queued.run_id)) {
        answer.headers_mut().insert(header::LOCATION, place);
    }
    Ok(answer)
}

#[derive(Serialize, ToSchema)]
pub struct Changed {
    run_id: String,
    /// What it is now.
    status: String,
}

/// Why.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // It only describes what is read field by field.
pub struct Reason {
    #[schema(pattern = "^(?=[\\s\\S]*\\S)[^\\u0000]{1,1000}$")]
    reason: Option<String>,
}

/// Cancels a run: a queued one at once; one that is under way is told, and keeps its status until it ends.
#[utoipa::path(post, path = "/ops/runs/{run_id}/cancel", tag = "runs", security(("bearer" = ["runs:write"])),
    params(("run_id" = String, Path)), request_body = Option<Reason>,
    responses((status = 200, body = Changed)))]
pub async fn cancel(
    State(ops): State<Arc<Ops>>,
    Extension(Caller(who)): Extension<Caller>,
    RunId(run_id): RunId,
    Body(fields): Body,
) -> Result<Json<Changed>, Problem> {
    let reason = request::reason(fields).map_err(Problem::invalid)?;
    let id = run_id.clone();
    let cancel =
        ops.ask(move |c| Box::pin(async move { control::cancel(c, &id, Actor(&who), reason.as_deref()).await }));
    let status = cancel.await?;
    Ok(Json(Changed { run_id, status }))
}

/// Nothing more can be said.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)] // It only describes what is read.
pub struct Nothing {}

/// Queues a failed or cancelled run again, after the phases that it has completed.
#[utoipa::path(post, path = "/ops/runs/{run_id}/retry", tag = "runs", security(("bearer" = ["runs:write"])),
    params(("run_id" = String, Path)), request_body = Option<Nothing>,
    responses((status = 200, body = Changed)))]
pub async fn retry(
    State(ops): State<Arc<Ops>>,
    Extension(Caller(who)): Extension<Caller>,
    RunId(run_id): RunId,
    Body(fields): Body,
) -> Result<Json<Changed>, Problem> {
    request::nothing(fields).map_err(Problem::invalid)?;
    let id = run_id.clone();
    let status = ops.ask(move |c| Box::pin(async move { control::requeue(c, &id, Actor(&who)).await })).await?;
    Ok(Json(Changed { run_id, status }))
}
