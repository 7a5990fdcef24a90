//! The HTTP side: tokens, rate headers, ETags, ordered trouble; and the store that artifacts lie in.

use super::Shared;
use super::answer::{Answer, Content};
use super::api::{self, Call, Request};
use super::trouble::Trouble;
use crate::sandbox::connection::{Cut, CuttableListener};
use crate::sandbox::webapp::deployments::forget_oldest;
use crate::sandbox::webapp::seed;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Query, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, USER_AGENT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::Value;
use std::sync::Arc;
use tokio::net::TcpListener;

/// One request and the status of its answer, even if that was lost on its way.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub at: Timestamp,
    pub method: String,
    pub path: String,
    pub query: String,
    pub body: Value,
    pub status: u16,
    /// Whether it carried credentials, right or wrong.
    pub authorized: bool,
}

pub(super) async fn serve_api(shared: Arc<Shared>, listener: TcpListener) {
    let stop = shared.stop.clone().cancelled_owned();
    let app = Router::new().fallback(handle).with_state(shared);
    let service = app.into_make_service_with_connect_info::<Cut>();
    // It never fails: accept errors are retried inside.
    let _ = axum::serve(CuttableListener(listener), service).with_graceful_shutdown(stop).await;
}

pub(super) async fn serve_store(shared: Arc<Shared>, listener: TcpListener) {
    let stop = shared.stop.clone().cancelled_owned();
    let app = Router::new().fallback(fetch).with_state(shared);
    let _ = axum::serve(listener, app).with_graceful_shutdown(stop).await;
}

async fn handle(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    parts: Parts,
    body: Bytes,
) -> Response {
    let request = read(&parts, &body);
    let call = Call::of(&request, &shared.options.repository);
    let trouble = shared.state().trouble(call.name());
    if let Some(Trouble::Slow(time)) = trouble {
        tokio::time::sleep(time).await;
    }
    let answer = answered(&shared, &request, &call, trouble, &parts.headers);
    if trouble == Some(Trouble::AnswerLost) {
        cut.now();
    }
    let recorded = recorded(&parts, request.body.clone(), answer.status);
    let mut state = shared.state();
    forget_oldest(&mut state.requests);
    state.requests.push(recorded);
    drop(state);
    response(answer)
}

/// Everything but the network.
fn answered(
    shared: &Shared,
    request: &Request,
    call: &Call<'_>,
    trouble: Option<Trouble>,
    headers: &HeaderMap,
) -> Answer {
    if trouble == Some(Trouble::BadGateway) {
        return Answer::bad_gateway();
    }
    let mut state = shared.state();
    let admitted = match trouble {
        Some(Trouble::SecondaryLimit { retry_after }) => Err(Answer::secondary_limit(retry_after)),
        _ => api::admitted(shared, request),
    };
    let mut answer = match admitted {
        Err(refusal) => refusal,
        Ok(()) if !state.rate(shared.options.rate_limit, false).1 => {
            Answer::error(StatusCode::FORBIDDEN, "API rate limit exceeded for user ID 1.")
        }
        Ok(()) => api::answer(shared, &mut state, request, call).unwrap_or_else(|refusal| refusal),
    };
    if trouble == Some(Trouble::BadGatewayAfter) {
        return Answer::bad_gateway();
    }
    let unchanged = tagged(&mut answer, headers);
    // What has not changed costs nothing.
    let (rate, _) = state.rate(shared.options.rate_limit, !unchanged);
    answer.headers.extend(rate);
    state.answered += 1;
    let id = seed::hex(shared.options.seed, "github request", state.answered, 16);
    answer.with("x-github-request-id", id)
}

/// Marks a body; one that the caller has already is not sent again.
fn tagged(answer: &mut Answer, headers: &HeaderMap) -> bool {
    let Content::Json(body) = &answer.content else { return false };
    if answer.status != StatusCode::OK {
        return false;
    }
    let tag = format!("W/\"{}\"", seed::sha256_hex(&body.to_string()));
    let known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    answer.headers.push((ETAG.as_str(), tag));
    if known {
        (answer.status, answer.content) = (StatusCode::NOT_MODIFIED, Content::Empty);
    }
    known
}

fn response(answer: Answer) -> Response {
    let (kind, body) = match answer.content {
        Content::Empty => (None, Body::empty()),
        Content::Json(value) => (Some("application/json; charset=utf-8"), Body::from(value.to_string())),
        Content::Page(text) => (Some("text/html"), Body::from(text)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    if let Some(kind) = kind {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn read(parts: &Parts, body: &Bytes) -> Request {
    let text = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let bearer = text(AUTHORIZATION.as_str());
    Request {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: Query::try_from_uri(&parts.uri).map(|Query(pairs)| pairs).unwrap_or_default(),
        body: serde_json::from_slice(body).unwrap_or_default(),
        bearer: bearer.and_then(|v| v.strip_prefix("Bearer ").map(str::to_owned)),
        user_agent: parts.headers.contains_key(USER_AGENT),
        version: text("x-github-api-version"),
    }
}

fn recorded(parts: &Parts, body: Value, status: StatusCode) -> Recorded {
    Recorded {
        at: Timestamp::now(),
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        body,
        status: status.as_u16(),
        authorized: parts.headers.contains_key(AUTHORIZATION),
    }
}

/// Refuses credentials, as the real store does: the address is the only key.
async fn fetch(State(shared): State<Arc<Shared>>, parts: Parts) -> Response {
    let query: std::collections::BTreeMap<String, String> =
        Query::try_from_uri(&parts.uri).map(|Query(pairs)| pairs).unwrap_or_default();
    let sig = query.get("sig").map(String::as_str);
    let mut state = shared.state();
    let response = match api::stored(&shared, &state, parts.uri.path(), sig) {
        _ if parts.headers.contains_key(AUTHORIZATION) => StatusCode::BAD_REQUEST.into_response(),
        Some(bytes) => ([(CONTENT_TYPE, "application/zip")], bytes).into_response(),
        None => StatusCode::FORBIDDEN.into_response(),
    };
    forget_oldest(&mut state.store_requests);
    state.store_requests.push(recorded(&parts, Value::Null, response.status()));
    response
}
