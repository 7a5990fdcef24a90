//! The HTTP side: reads a request, hands it to the account, sends or loses the answer.

use super::DigitalOcean;
use super::answer::Answer;
use super::api::{Api, Request};
use super::journal::Recorded;
use crate::sandbox::connection::{Cut, CuttableListener};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Query, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::Response;
use serde_json::Value;
use tokio::net::TcpListener;

/// Larger than the largest user-data, so that the account can refuse it in its own words.
const MAX_BODY: usize = 1024 * 1024;

pub async fn serve(account: DigitalOcean, listener: TcpListener) {
    let stopped = account.0.stopped.clone();
    let app = Router::new().fallback(handle).with_state(account);
    let service = app.into_make_service_with_connect_info::<Cut>();
    let server = axum::serve(CuttableListener(listener), service);
    // It never fails: accept errors are retried inside.
    let _ = server.with_graceful_shutdown(async move { stopped.cancelled().await }).await;
}

async fn handle(
    State(account): State<DigitalOcean>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    request: axum::extract::Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let request = read(&parts, body).await;
    let (answer, request_id, rate) = account.answer(&request);
    if answer.lost {
        cut.now();
    }
    answer.into_response(&request_id, rate)
}

impl DigitalOcean {
    /// Answers a request without any network; `None` when the answer is lost on its way.
    pub async fn carry(&self, request: axum::extract::Request) -> Option<Response> {
        let (parts, body) = request.into_parts();
        let request = read(&parts, body).await;
        let (answer, request_id, rate) = self.answer(&request);
        (!answer.lost).then(|| answer.into_response(&request_id, rate))
    }

    fn answer(&self, request: &Request) -> (Answer, String, (u32, u32, i64)) {
        let inner = &self.0;
        let work = |state: &mut super::Simulation, now| {
            let wall = state.world.calendar.at(now);
            let rate = state.journal.rate(now, wall);
            let mut api = Api {
                request,
                options: &inner.options,
                faults: &inner.faults,
                catalog: &inner.catalog,
                world: &mut state.world,
                journal: &mut state.journal,
                base_url: &inner.base_url,
                now,
            };
            let answer = api.answer();
            state.journal.record(Recorded {
                at: wall,
                method: request.method.clone(),
                path: request.path.clone(),
                query: request.raw_query.clone(),
                body: request.body.clone(),
                status: answer.status.as_u16(),
            });
            (answer, state.journal.request_id(), rate)
        };
        inner.with(work, true)
    }
}

async fn read(parts: &Parts, body: Body) -> Request {
    // A body that is too large or breaks off is no JSON, and is refused as such.
    let bytes = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let body = if bytes.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into())
    };
    let bearer = parts.headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    Request {
        method: parts.method.to_string(),
        path: decoded(parts.uri.path().trim_end_matches('/')),
        query: Query::try_from_uri(&parts.uri).map(|Query(pairs)| pairs).unwrap_or_default(),
        raw_query: parts.uri.query().unwrap_or_default().to_owned(),
        body,
        bearer: bearer.and_then(|v| v.strip_prefix("Bearer ")).map(str::to_owned),
    }
}

/// Clients may write the colon of a tag as `%3A`.
fn decoded(path: &str) -> String {
    let mut out = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, code) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
