//! Looking at runs.

use super::Ops;
use super::receive::{Query, RunId};
use crate::http::problem::Problem;
use crate::runs::look::{self, Artifact, Attempt, Events, Filter, Page, Phase, Run};
use crate::runs::names;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sqlx::postgres::PgConnection;
use std::sync::Arc;
use utoipa::ToSchema;

const PAGE: i64 = 50;
const LONGEST_PAGE: i64 = 200;
const EVENTS: i64 = 200;
const MOST_EVENTS: i64 = 1000;

/// Runs, the newest first, without their input, output and metadata.
#[utoipa::path(get, path = "/ops/runs", tag = "runs", security(("bearer" = ["runs:read"])),
    params(
        ("status" = Option<String>, Query,
            pattern = "^(queued|claimed|running|success|failed|cancelled)(,(queued|claimed|running|success|failed|cancelled))*$",
            description = "one or more statuses, separated by commas, or repeated"),
        ("kind" = Option<String>, Query, pattern = "^[a-z][a-z0-9_]{0,62}$"),
        ("project_id" = Option<String>, Query, pattern = "^[a-z0-9][a-z0-9-]{0,62}$"),
        ("env_id" = Option<String>, Query, pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,200}$"),
        ("before" = Option<String>, Query, pattern = "^run-[a-z0-9-]{1,96}$", description = "`next` of the page before"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 200, description = "without it 50"),
    ),
    responses((status = 200, body = Page)))]
pub async fn list(State(ops): State<Arc<Ops>>, mut query: Query) -> Result<Json<Page>, Problem> {
    let filter = Filter {
        status: query.texts("status", names::status)?,
        kind: query.text("kind", names::kind)?,
        project_id: query.text("project_id", names::project_id)?,
        env_id: query.text("env_id", names::key)?,
        before: query.text("before", names::run_id)?,
    };
    let limit = query.number("limit", 1, LONGEST_PAGE)?.unwrap_or(PAGE);
    query.end()?;
    Ok(Json(ops.ask(move |c| Box::pin(async move { look::list(c, &filter, limit).await })).await?))
}

/// One run.
#[utoipa::path(get, path = "/ops/runs/{run_id}", tag = "runs", security(("bearer" = ["runs:read"])),
    params(("run_id" = String, Path)), responses((status = 200, body = Run)))]
pub async fn show(State(ops): State<Arc<Ops>>, RunId(id): RunId) -> Result<Json<Run>, Problem> {
    let run = ops.ask(move |c| Box::pin(async move { look::get(c, &id).await })).await?;
    run.map(Json).ok_or_else(Problem::no_run)
}

/// What happened in a run, in order. A page of large events has fewer than `limit`: go on as long as there
/// is a `next`.
#[utoipa::path(get, path = "/ops/runs/{run_id}/events", tag = "runs", security(("bearer" = ["runs:read"])),
    params(
        ("run_id" = String, Path),
        ("after" = Option<i64>, Query, minimum = 0, description = "only events with a larger seq"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000, description = "without it 200"),
    ),
    responses((status = 200, body = Events)))]
pub async fn events(State(ops): State<Arc<Ops>>, RunId(id): RunId, mut query: Query) -> Result<Json<Events>, Problem> {
    let after = query.number("after", 0, i64::MAX)?.unwrap_or(0);
    let limit = query.number("limit", 1, MOST_EVENTS)?.unwrap_or(EVENTS);
    query.end()?;
    let found = ops.ask(move |c| {
        Box::pin(async move {
            let Events { events, next } = look::events(c, &id, after, limit).await?;
            Ok(exists(c, &id, events).await?.map(|events| Events { events, next }))
        })
    });
    found.await?.map(Json).ok_or_else(Problem::no_run)
}

#[derive(Serialize, ToSchema)]
pub struct Phases {
    phases: Vec<Phase>,
}

/// A run's checkpointed steps.
#[utoipa::path(get, path = "/ops/runs/{run_id}/phases", tag = "runs", security(("bearer" = ["runs:read"])),
    params(("run_id" = String, Path)), responses((status = 200, body = Phases)))]
pub async fn phases(State(ops): State<Arc<Ops>>, RunId(id): RunId) -> Result<Json<Phases>, Problem> {
    let found = ops.ask(move |c| {
        Box::pin(async move {
            let phases = look::phases(c, &id).await?;
            exists(c, &id, phases).await
        })
    });
    let phases = found.await?.ok_or_else(Problem::no_run)?;
    Ok(Json(Phases { phases }))
}

#[derive(Serialize, ToSchema)]
pub struct Attempts {
    attempts: Vec<Attempt>,
}

/// Every try of a run: who, when, and how it ended.
#[utoipa::path(get, path = "/ops/runs/{run_id}/attempts", tag = "runs", security(("bearer" = ["runs:read"])),
    params(("run_id" = String, Path)), responses((status = 200, body = Attempts)))]
pub async fn attempts(State(ops): State<Arc<Ops>>, RunId(id): RunId) -> Result<Json<Attempts>, Problem> {
    let found = ops.ask(move |c| {
        Box::pin(async move {
            let attempts = look::attempts(c, &id).await?;
            exists(c, &id, attempts).await
        })
    });
    let attempts = found.await?.ok_or_else(Problem::no_run)?;
    Ok(Json(Attempts { attempts }))
}

#[derive(Serialize, ToSchema)]
pub struct Artifacts {
    artifacts: Vec<Artifact>,
}

/// What a run left behind, and where it lies.
#[utoipa::path(get, path = "/ops/runs/{run_id}/artifacts", tag = "runs", security(("bearer" = ["runs:read"])),
    params(("run_id" = String, Path)), responses((status = 200, body = Artifacts)))]
pub async fn artifacts(State(ops): State<Arc<Ops>>, RunId(id): RunId) -> Result<Json<Artifacts>, Problem> {
    let found = ops.ask(move |c| {
        Box::pin(async move {
            let artifacts = look::artifacts(c, &id).await?;
            exists(c, &id, artifacts).await
        })
    });
    let artifacts = found.await?.ok_or_else(Problem::no_run)?;
    Ok(Json(Artifacts { artifacts }))
}

/// What was found of a run; `None`: there is no such run. Only where nothing was found is it looked for.
async fn exists<T>(c: &mut PgConnection, id: &str, found: Vec<T>) -> Result<Option<Vec<T>>, sqlx::Error> {
    match found.is_empty() && look::get(c, id).await?.is_none() {
        true => Ok(None),
        false => Ok(Some(found)),
    }
}
