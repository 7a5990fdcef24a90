//! `/status` and its kin. Reads are open and never show a secret; writes need `API_TOKEN`.
//!
//! Without a token set, writes are refused; on an address other than loopback, only reads are
//! served. Commands on the same machine use a socket beside the state file instead, which the file
//! system protects.

mod problem;

use crate::controller::daemon::{Controls, Request};
use crate::controller::status::Status;
use crate::plan::secret::Secret;
use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use problem::Problem;
use sha2::{Digest, Sha256};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::net::{TcpListener, UnixListener};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::TimeoutLayer;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// No route takes a body.
const LARGEST_BODY: usize = 16 << 10;

/// Who may write.
#[derive(Clone)]
pub enum Writes {
    /// With this bearer token.
    WithToken(Secret),
    /// Nobody: no API_TOKEN is set.
    NoToken,
    /// Nobody: the address is not loopback.
    NotLocal,
    /// Whoever can open the socket: its mode is 0600.
    Socket,
}

/// The rule in force; a new configuration replaces it while the server runs.
#[derive(Clone)]
pub struct Access(Arc<RwLock<Writes>>);

impl Access {
    pub fn set(&self, writes: Writes) {
        *self.0.write().unwrap_or_else(|e| e.into_inner()) = writes;
    }

    fn now(&self) -> Writes {
        self.0.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

impl From<Writes> for Access {
    fn from(writes: Writes) -> Access {
        Access(Arc::new(RwLock::new(writes)))
    }
}

#[derive(Clone)]
struct Shared {
    controls: Controls,
    metrics: Option<PrometheusHandle>,
    access: Access,
}

/// All routes. Without a metrics handle, `/metrics` answers 404.
pub fn router(controls: Controls, metrics: Option<PrometheusHandle>, access: impl Into<Access>) -> Router {
    let shared = Shared { controls, metrics, access: access.into() };
    let writing = Router::new()
        .route("/cycles", post(|State(s): State<Shared>| accept(s, Request::Cycle)))
        .route("/pause", post(|State(s): State<Shared>| accept(s, Request::Pause)))
        .route("/resume", post(|State(s): State<Shared>| accept(s, Request::Resume)))
        .route_layer(middleware::from_fn_with_state(shared.clone(), authorize));
    Router::new()
        .route("/status", get(status))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics_text))
        .merge(writing)
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "not-found", "there is no such route") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "this route does not take this method")
        })
        .layer(RequestBodyLimitLayer::new(LARGEST_BODY))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIMEOUT))
        .layer(middleware::map_response(with_problem))
        .layer(CatchPanicLayer::custom(|_| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "this request failed; see the log")
                .into_response()
        }))
        .layer(SetResponseHeaderLayer::overriding(header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .with_state(shared)
}

/// Limits answer with bare text; users are promised a problem with a code.
async fn with_problem(answer: Response) -> Response {
    match answer.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let problem =
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "no route takes a body of this size");
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
pub async fn serve(listener: TcpListener, router: Router, controls: Controls) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(async move { controls.stop.cancelled().await }).await
}

/// The same on the socket beside the state file.
pub async fn serve_socket(listener: UnixListener, router: Router, controls: Controls) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(async move { controls.stop.cancelled().await }).await
}

async fn status(State(shared): State<Shared>) -> Response {
    let status: Arc<Status> = shared.controls.status.borrow().clone();
    match serde_json::to_vec(&*status) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(_) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the status cannot be shown").into_response()
        }
    }
}

/// Ready when the loop runs or stands by: a listener alone is no proof, so a loop that has not come
/// round in time is not ready.
async fn readyz(State(shared): State<Shared>) -> Response {
    let status = shared.controls.status.borrow().clone();
    let overdue = status
        .next_cycle_at
        .is_some_and(|at| jiff::Timestamp::now().duration_since(at) > jiff::SignedDuration::from_secs(300));
    match overdue {
        false => "ready\n".into_response(),
        true => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overdue", "the next cycle is overdue by more than 5 minutes")
                .into_response()
        }
    }
}

async fn metrics_text(State(shared): State<Shared>) -> Response {
    match &shared.metrics {
        Some(handle) => {
            handle.run_upkeep();
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
            (kind, handle.render()).into_response()
        }
        None => Problem::new(StatusCode::NOT_FOUND, "no-metrics", "metrics are not collected here").into_response(),
    }
}

async fn accept(shared: Shared, request: Request) -> Response {
    let status = shared.controls.status.borrow().clone();
    if status.mode == crate::plan::mode::Shown::Standby {
        let reason = status.mode_reason.as_deref().unwrap_or("it has just started");
        let why = format!("this instance stands by, ask the active one: {reason}");
        return Problem::new(StatusCode::CONFLICT, "standby", why).into_response();
    }
    shared.controls.ask(request);
    let asked = format!("{request:?}").to_lowercase();
    (StatusCode::ACCEPTED, axum::Json(serde_json::json!({ "accepted": asked }))).into_response()
}

async fn authorize(State(shared): State<Shared>, request: HttpRequest, next: Next) -> Response {
    let refused = match &shared.access.now() {
        Writes::Socket => None,
        Writes::NotLocal => Some(Problem::new(
            StatusCode::FORBIDDEN,
            "reads-only",
            "LISTEN_ADDR is not a loopback address, so only reads are served; use the command on the same machine",
        )),
        Writes::NoToken => Some(Problem::new(
            StatusCode::FORBIDDEN,
            "no-api-token",
            "writes are refused because API_TOKEN is not set; use the command on the same machine",
        )),
        Writes::WithToken(token) if matches(request.headers(), token) => None,
        Writes::WithToken(_) => {
            Some(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "send API_TOKEN as a bearer token"))
        }
    };
    match refused {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

/// Compares digests in constant time: neither content nor length of the token shows in the timing.
fn matches(headers: &HeaderMap, token: &Secret) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    // The scheme's name is without regard to case.
    let given = match given.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    };
    let digest = |text: &str| Sha256::digest(text.as_bytes());
    !token.is_empty() && bool::from(digest(given).ct_eq(&digest(token.expose())))
}
