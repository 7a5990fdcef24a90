//! The sandbox's own little server: what can be broken, and `POST /sandbox/break/NAME`.

use super::Sandbox;
use super::faults::Break;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Serves until the runtime ends; returns its address.
pub async fn serve(sandbox: Arc<Sandbox>) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router =
        Router::new().route("/sandbox", get(world)).route("/sandbox/break/{name}", post(cause)).with_state(sandbox);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

async fn cause(State(sandbox): State<Arc<Sandbox>>, Path(name): Path<String>) -> Response {
    let Some(trouble) = Break::from_name(&name) else {
        let known: Vec<_> = Break::ALL.iter().map(|b| b.name()).collect();
        return (StatusCode::NOT_FOUND, Json(json!({ "error": "no such break", "known": known }))).into_response();
    };
    match sandbox.cause(trouble) {
        Ok(()) => Json(json!({ "broken": name })).into_response(),
        Err(why) => (StatusCode::CONFLICT, Json(json!({ "error": why }))).into_response(),
    }
}

/// The truth about the simulated world, to hold against what the controller says.
async fn world(State(sandbox): State<Arc<Sandbox>>) -> Json<serde_json::Value> {
    let droplets: Vec<_> = sandbox
        .digitalocean
        .droplets()
        .iter()
        .map(|d| json!({ "id": d.id, "name": d.name, "size": d.size, "ip": d.ip, "alive": d.alive }))
        .collect();
    let breaks: Vec<_> = Break::ALL.iter().map(|b| b.name()).collect();
    Json(json!({
        "droplets": droplets,
        "postgres_restarts": sandbox.railway.postgres_restarts(),
        "requests": {
            "railway": sandbox.railway.requests().len(),
            "digitalocean": sandbox.digitalocean.requests().len(),
        },
        "break": breaks,
    }))
}
