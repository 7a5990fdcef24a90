//! The queue by kinds, who works on it, and stopping a kind from being claimed.

use super::Ops;
use super::auth::Caller;
use super::change::{Nothing, Reason};
use super::receive::{Body, KindName};
use crate::http::problem::Problem;
use crate::runs::control::{self, Actor, Depth};
use crate::runs::request;
use crate::runs::runners::{self, Runner};
use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct Queue {
    kinds: Vec<Depth>,
}

/// How much waits, of each kind.
#[utoipa::path(get, path = "/ops/queue", tag = "runs", security(("bearer" = ["runs:read"])),
    responses((status = 200, body = Queue)))]
pub async fn queue(State(ops): State<Arc<Ops>>) -> Result<Json<Queue>, Problem> {
    let kinds = ops.ask(|c| Box::pin(control::depths(c))).await?;
    Ok(Json(Queue { kinds }))
}

#[derive(Serialize, ToSchema)]
pub struct Runners {
    runners: Vec<Runner>,
}

/// Runners of the last day, who was heard of last first.
#[utoipa::path(get, path = "/ops/runners", tag = "runs", security(("bearer" = ["runs:read"])),
    responses((status = 200, body = Runners)))]
pub async fn runners(State(ops): State<Arc<Ops>>) -> Result<Json<Runners>, Problem> {
    let runners = ops.ask(|c| Box::pin(runners::list(c))).await?;
    Ok(Json(Runners { runners }))
}

#[derive(Serialize, ToSchema)]
pub struct KindState {
    kind: String,
    paused: bool,
    /// False: it was so before.
    changed: bool,
}

/// Lets no run of this kind be claimed; what is under way goes on.
#[utoipa::path(post, path = "/ops/kinds/{kind}/pause", tag = "runs", security(("bearer" = ["admin"])),
    params(("kind" = String, Path)), request_body = Option<Reason>,
    responses((status = 200, body = KindState)))]
pub async fn pause(
    State(ops): State<Arc<Ops>>,
    Extension(Caller(who)): Extension<Caller>,
    KindName(kind): KindName,
    Body(fields): Body,
) -> Result<Json<KindState>, Problem> {
    let reason = request::reason(fields).map_err(Problem::invalid)?;
    must_be_known(&ops, &kind).await?;
    let name = kind.clone();
    let pause =
        ops.ask(move |c| Box::pin(async move { control::pause_kind(c, &name, Actor(&who), reason.as_deref()).await }));
    let changed = pause.await?;
    Ok(Json(KindState { kind, paused: true, changed }))
}

/// Lets runs of this kind be claimed again.
#[utoipa::path(post, path = "/ops/kinds/{kind}/resume", tag = "runs", security(("bearer" = ["admin"])),
    params(("kind" = String, Path)), request_body = Option<Nothing>,
    responses((status = 200, body = KindState)))]
pub async fn resume(
    State(ops): State<Arc<Ops>>,
    Extension(Caller(who)): Extension<Caller>,
    KindName(kind): KindName,
    Body(fields): Body,
) -> Result<Json<KindState>, Problem> {
    request::nothing(fields).map_err(Problem::invalid)?;
    must_be_known(&ops, &kind).await?;
    let name = kind.clone();
    let resume = ops.ask(move |c| Box::pin(async move { control::resume_kind(c, &name, Actor(&who)).await }));
    let changed = resume.await?;
    Ok(Json(KindState { kind, paused: false, changed }))
}

/// A misspelt kind would be paused, and the one that was meant would go on.
async fn must_be_known(ops: &Ops, kind: &str) -> Result<(), Problem> {
    let known = ops.known_kinds().await?;
    match known.iter().any(|k| k == kind) {
        true => Ok(()),
        false => {
            let why = format!("no runner knows this kind; there are: {}", known.join(", "));
            Err(Problem::new(StatusCode::NOT_FOUND, "unknown-kind", why))
        }
    }
}
