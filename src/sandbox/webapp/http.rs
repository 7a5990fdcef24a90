//! The webapp's routes: its health check and the worker actions a supervisor calls.

use super::database::{self, Group};
use super::deployments::forget_oldest;
use super::{Inner, WebappRequest};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::sync::Arc;

type Web = State<Arc<Inner>>;

pub(super) fn router(inner: Arc<Inner>) -> Router {
    let actions = Router::new()
        .route("/connect", post(connect))
        .route("/heartbeat", post(heartbeat))
        .route("/dequeue", post(dequeue));
    Router::new()
        .route("/healthcheck", get(healthcheck))
        .nest("/engine/v1/worker-actions", actions)
        .layer(middleware::from_fn_with_state(inner.clone(), record))
        .with_state(inner)
}

/// Notes each request, and answers like Railway's edge while no deployment serves.
async fn record(State(inner): Web, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().to_string(), request.uri().path().to_string());
    let instance_name = header_of(request.headers(), "x-trigger-worker-instance-name");
    let response = if inner.is_serving() {
        next.run(request).await
    } else {
        let body = json!({"status": "error", "code": 502, "message": "Application failed to respond"});
        (StatusCode::BAD_GATEWAY, axum::Json(body)).into_response()
    };
    let status = response.status().as_u16();
    let at = jiff::Timestamp::now();
    let mut state = inner.state();
    forget_oldest(&mut state.requests);
    state.requests.push(WebappRequest { method, path, instance_name, status, at });
    response
}

async fn healthcheck(State(inner): Web) -> Response {
    if database::is_alive(&inner.pool).await {
        (StatusCode::OK, "OK").into_response()
    } else {
        (StatusCode::INTERNAL_SERVER_ERROR, "ERROR").into_response()
    }
}

async fn connect(State(inner): Web, headers: HeaderMap, body: Bytes) -> Response {
    answer(async {
        let (group, instance) = authenticate(&inner, &headers).await?;
        let body = parsed(&body)?;
        let metadata = body.get("metadata").filter(|m| m.is_object()).ok_or_else(|| body_error("metadata"))?;
        database::write_metadata(&inner.pool, &group, &instance, metadata).await.map_err(internal)?;
        Ok(json!({"ok": true, "workerGroup": {"type": group.kind, "name": group.name}}))
    })
    .await
}

async fn heartbeat(State(inner): Web, headers: HeaderMap, body: Bytes) -> Response {
    answer(async {
        let (group, instance) = authenticate(&inner, &headers).await?;
        let body = parsed(&body)?;
        let number = |part: &str, field: &str| body.get(part)?.get(field)?.as_f64();
        for part in ["cpu", "memory"] {
            if number(part, "used").is_none() || number(part, "available").is_none() {
                return Err(body_error(part));
            }
        }
        if !body.get("tasks").is_some_and(Value::is_array) {
            return Err(body_error("tasks"));
        }
        database::write_heartbeat(&inner.pool, &group, &instance).await.map_err(internal)?;
        Ok(json!({"ok": true}))
    })
    .await
}

/// Takes runs off the queue in the real webapp, so whoever calls this to probe does damage.
async fn dequeue(State(inner): Web, headers: HeaderMap, body: Bytes) -> Response {
    inner.state().dequeues += 1;
    answer(async {
        authenticate(&inner, &headers).await?;
        parsed(&body)?;
        Ok(json!([]))
    })
    .await
}

struct Refusal {
    status: StatusCode,
    body: Value,
}

async fn answer(outcome: impl Future<Output = Result<Value, Refusal>>) -> Response {
    match outcome.await {
        Ok(body) => axum::Json(body).into_response(),
        Err(Refusal { status, body }) => (status, axum::Json(body)).into_response(),
    }
}

/// The secret is looked at before the token, and both before the body. The caller never learns
/// which was wrong; the log does, in clear, as in every webapp before 4.5.9.
async fn authenticate(inner: &Inner, headers: &HeaderMap) -> Result<(Group, String), Refusal> {
    let instance = header_of(headers, "x-trigger-worker-instance-name").filter(|name| !name.is_empty());
    let Some(instance) = instance else {
        return Err(unauthorized(inner, "Worker instance name not found in request", &[]));
    };
    let secret = header_of(headers, "x-trigger-worker-managed-secret").unwrap_or_default();
    let expected = inner.state().managed_secret.clone();
    if secret.is_empty() {
        return Err(unauthorized(inner, "Managed secret not found in request", &[]));
    }
    let seen = [("managedWorkerSecret", secret.as_str())];
    if secret.len() != expected.len() {
        return Err(unauthorized(inner, "Managed secret length mismatch", &seen));
    }
    if secret != expected {
        return Err(unauthorized(inner, "Managed secret mismatch", &seen));
    }
    let bearer = header_of(headers, header::AUTHORIZATION.as_str()).unwrap_or_default();
    let Some(token) = bearer.strip_prefix("Bearer ").filter(|token| !token.is_empty()) else {
        return Err(unauthorized(inner, "Token not found in request", &[]));
    };
    let found = database::group_of_token(&inner.pool, token).await.map_err(internal)?;
    let Some(group) = found else {
        return Err(unauthorized(inner, "No matching worker group found", &[("token", token)]));
    };
    database::ensure_instance(&inner.pool, &group, &instance).await.map_err(internal)?;
    Ok((group, instance))
}

fn unauthorized(inner: &Inner, cause: &str, attributes: &[(&str, &str)]) -> Refusal {
    inner.print_json_now(&format!("[WorkerGroupTokenService] {cause}"), "error", attributes);
    let body = json!({"error": "Invalid or missing worker token"});
    Refusal { status: StatusCode::UNAUTHORIZED, body }
}

fn parsed(body: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(body).map_err(internal)
}

fn internal(_: impl std::error::Error) -> Refusal {
    let body = json!({"error": "Internal Server Error"});
    Refusal { status: StatusCode::INTERNAL_SERVER_ERROR, body }
}

fn body_error(field: &str) -> Refusal {
    let details = json!([{"code": "invalid_type", "path": [field], "message": "Required"}]);
    let body = json!({"error": "Body Error", "details": details});
    Refusal { status: StatusCode::BAD_REQUEST, body }
}

fn header_of(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_string())
}
