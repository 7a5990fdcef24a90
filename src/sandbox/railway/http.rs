//! The one endpoint: tokens, rate headers, ordered trouble, and the GraphQL in between.

use super::graphql::{self, Call, Refused};
use super::resolve::{Caller, Root};
use super::trouble::Trouble;
use super::world::{RailwayRequest, World};
use crate::sandbox::connection::Cut;
use crate::sandbox::faults::Break;
use crate::sandbox::webapp::deployments::forget_oldest;
use crate::sandbox::webapp::seed;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const GENERIC: &str = "Problem processing request";
const HTML_502: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
     <center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";

pub(super) fn router(world: Arc<World>) -> Router {
    Router::new().route(super::PATH, post(answer)).with_state(world)
}

async fn answer(
    State(world): State<Arc<World>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    RawQuery(query_string): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(call) = parsed(&body) else {
        let refused = Refused { code: "BAD_REQUEST", messages: vec!["POST body is not a GraphQL request".into()] };
        return refusal(&refused, StatusCode::BAD_REQUEST);
    };
    let operation = graphql::operation_name(&call);
    remember(&world, &call, &operation, query_string, &headers);
    if world.faults.take(Break::Html502) {
        return bad_gateway();
    }
    let trouble = world.state().troubles.take(&operation);
    if let Some(early) = trouble.as_ref().and_then(instead) {
        return early;
    }
    let budget = match spend(&world) {
        Ok(budget) => budget,
        Err(seconds) => return too_many(seconds),
    };
    if let Some(Trouble::Slow(time)) = trouble {
        tokio::time::sleep(time).await;
    }
    let mut response = executed(&world, &call, &headers, trouble.as_ref());
    match trouble {
        Some(Trouble::ErrorsAfter) => response = generic_error(),
        Some(Trouble::DroppedAfter) => cut.now(),
        _ => {}
    }
    response.headers_mut().extend(budget);
    response
}

fn parsed(body: &[u8]) -> Option<Call> {
    let mut body: Value = serde_json::from_slice(body).ok()?;
    let document = body["query"].as_str()?.to_string();
    let operation = body["operationName"].as_str().map(str::to_string);
    let variables = match body["variables"].take() {
        Value::Null => json!({}),
        variables => variables,
    };
    Some(Call { document, operation, variables })
}

fn remember(world: &World, call: &Call, operation: &str, query_string: Option<String>, headers: &HeaderMap) {
    let user_agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).map(str::to_string);
    let mut state = world.state();
    forget_oldest(&mut state.requests);
    state.requests.push(RailwayRequest {
        operation: operation.to_string(),
        variables: call.variables.clone(),
        document: call.document.clone(),
        query_string,
        user_agent,
        at: Timestamp::now(),
    });
}

/// Answers that come from the edge or before anything is done.
fn instead(trouble: &Trouble) -> Option<Response> {
    match trouble {
        Trouble::ErrorsBefore => Some(generic_error()),
        Trouble::BadGateway => Some(bad_gateway()),
        Trouble::TooManyRequests { retry_after } => Some(too_many(retry_after.as_secs())),
        Trouble::Cloudflare1015 => {
            let text = [(header::CONTENT_TYPE, "text/plain; charset=UTF-8")];
            Some((StatusCode::TOO_MANY_REQUESTS, text, "error code: 1015").into_response())
        }
        _ => None,
    }
}

fn executed(world: &Arc<World>, call: &Call, headers: &HeaderMap, trouble: Option<&Trouble>) -> Response {
    let caller = match caller(world, headers) {
        Ok(caller) => caller,
        Err(message) => {
            let refused = Refused { code: "INTERNAL_SERVER_ERROR", messages: vec![message.to_string()] };
            return refusal(&refused, StatusCode::OK);
        }
    };
    match graphql::execute(call, Root { world, caller }, trouble) {
        Ok(mut body) => {
            if trouble == Some(&Trouble::PartialData) && body["errors"].is_null() {
                body["errors"] = json!([{"message": GENERIC}]);
            }
            finish(body)
        }
        Err(refused) => {
            let status = StatusCode::from_u16(world.options.validation_status).unwrap_or(StatusCode::OK);
            refusal(&refused, status)
        }
    }
}

/// Wrong, expired and missing tokens look the same, except for a project token.
fn caller(world: &World, headers: &HeaderMap) -> Result<Caller, &'static str> {
    let value = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or_default());
    let options = &world.options;
    if let Some(token) = value("project-access-token") {
        let right = token == options.project_token;
        return if right { Ok(Caller::Project) } else { Err("Project Token not found") };
    }
    let bearer = value("authorization").and_then(|v| v.strip_prefix("Bearer "));
    let right = bearer.is_some_and(|token| token == options.account_token);
    if right { Ok(Caller::Account) } else { Err("Not Authorized") }
}

/// Every error carries a code and a trace.
fn finish(mut body: Value) -> Response {
    for error in body["errors"].as_array_mut().into_iter().flatten() {
        if error["extensions"]["code"].is_null() {
            error["extensions"] = json!({"code": "INTERNAL_SERVER_ERROR"});
        }
        error["traceId"] = json!("0000000000000000");
    }
    axum::Json(body).into_response()
}

fn refusal(refused: &Refused, status: StatusCode) -> Response {
    let error = |message: &String| json!({"message": message, "extensions": {"code": refused.code}});
    let errors: Vec<Value> = refused.messages.iter().map(error).collect();
    let mut response = finish(json!({"data": null, "errors": errors}));
    *response.status_mut() = status;
    response
}

fn generic_error() -> Response {
    finish(json!({"data": null, "errors": [{"message": GENERIC}]}))
}

fn bad_gateway() -> Response {
    (StatusCode::BAD_GATEWAY, [(header::CONTENT_TYPE, "text/html")], HTML_502).into_response()
}

fn too_many(seconds: u64) -> Response {
    let error = json!({"errors": [{"message": "Rate limit exceeded, please try again later"}]});
    let retry = [(header::RETRY_AFTER, seconds.to_string())];
    (StatusCode::TOO_MANY_REQUESTS, retry, axum::Json(error)).into_response()
}

/// Takes one request from the hour's budget and tells what is left of it; the error is the number
/// of seconds until there is a new one.
fn spend(world: &World) -> Result<HeaderMap, u64> {
    let mut state = world.state();
    let now = Timestamp::now();
    let began = match state.window_began {
        Some(began) if now < began + HOUR => began,
        _ => {
            state.spent = 0;
            now
        }
    };
    state.window_began = Some(began);
    let limit = world.options.rate_limit;
    let until_reset = (began + HOUR).duration_since(now).as_secs().max(1);
    if state.spent >= limit {
        return Err(until_reset.unsigned_abs());
    }
    state.spent += 1;
    state.made += 1;
    let id = seed::uuid(world.options.seed, "request", state.made);
    let named = [
        ("x-ratelimit-limit", limit.to_string()),
        ("x-ratelimit-remaining", (limit - state.spent).to_string()),
        ("x-ratelimit-reset", (began + HOUR).as_second().to_string()),
        ("x-request-id", id),
    ];
    let header = |(name, value): (&'static str, String)| {
        Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?))
    };
    Ok(named.into_iter().filter_map(header).collect())
}
