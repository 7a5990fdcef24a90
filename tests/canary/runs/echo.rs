//! A server that repeats what it was sent, and secrets that nobody sent it, where it is told to.
//!
//! A request whose address or body has `echo-STATUS-WAY` is answered with that status and everything
//! that came with it, written in that way. Any other goes on to the provider behind it, if there is one.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

/// As it came; each character escaped, so that it is a secret again only for who has read the JSON;
/// encoded; and so far back that who reads only the beginning cuts through a secret.
pub const WAYS: [&str; 6] = ["raw", "escaped", "base64", "hex", "percent", "cut"];
/// What clients read of an answer that is no JSON.
const READ: usize = 4096;

pub struct Echo {
    pub url: String,
    seen: Arc<Mutex<BTreeSet<String>>>,
}

struct Mirror {
    upstream: Option<String>,
    client: reqwest::Client,
    /// Said with every answer.
    told: String,
    seen: Arc<Mutex<BTreeSet<String>>>,
}

impl Echo {
    /// `upstream`: who answers what is no echo.
    pub async fn start(upstream: Option<String>, told: &[String]) -> Echo {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.build().expect("a client");
        let seen = Arc::new(Mutex::default());
        let mirror = Mirror { upstream, client, told: told.join(" , "), seen: Arc::clone(&seen) };
        let app = Router::new().fallback(answer).with_state(Arc::new(mirror));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Echo { url, seen }
    }

    /// Which echoes were really asked for.
    pub fn seen(&self) -> BTreeSet<String> {
        self.seen.lock().expect("no test panics here").clone()
    }
}

async fn answer(
    State(mirror): State<Arc<Mirror>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if uri.path().contains("/.ops-probe-") {
        return bucket(&method);
    }
    let sent = format!("{uri} {}", String::from_utf8_lossy(&body));
    if let Some((mark, status, way)) = ordered(&sent) {
        mirror.seen.lock().expect("no test panics here").insert(mark);
        let mut values = serde_json::from_slice(&body).map_or(Value::Null, |mut body: Value| body["variables"].take());
        if let Some(inner) = values.pointer_mut("/input/variables") {
            values = inner.take();
        }
        // Of a question in GraphQL what is asked about: its words alone fill a message.
        let sent = if values.is_object() { format!("{uri} {values}") } else { sent };
        // Of a good answer the body is kept, and that an address is kept out of it nobody promises.
        let sent = if status.is_success() { sent.split_once(' ').map_or("", |(_, body)| body) } else { &sent };
        return echo(status, &way, &said(&headers, sent, &mirror.told), &headers);
    }
    let Some(upstream) = &mirror.upstream else { return StatusCode::NOT_FOUND.into_response() };
    let url = format!("{upstream}{}", uri.path_and_query().map_or("", |path| path.as_str()));
    let url = if uri.path() == "/" { upstream.clone() } else { url };
    let mut headers = headers;
    for name in ["host", "content-length", "connection"] {
        headers.remove(name);
    }
    match mirror.client.request(method, url).headers(headers).body(body).send().await {
        Ok(reply) => {
            let (status, mut headers) = (reply.status(), reply.headers().clone());
            for name in ["transfer-encoding", "content-length", "connection"] {
                headers.remove(name);
            }
            (status, headers, reply.bytes().await.unwrap_or_default()).into_response()
        }
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

/// What a runner tries before it works may be written, read and deleted: it is what comes later that is refused.
fn bucket(method: &Method) -> Response {
    let about = [("etag", "\"1\""), ("last-modified", "Sat, 21 Nov 2026 00:00:00 GMT")];
    match *method {
        Method::DELETE => StatusCode::NO_CONTENT.into_response(),
        Method::GET => (about, ".ops-probe-").into_response(),
        _ => about.into_response(),
    }
}

/// `echo-401-raw` somewhere in what was sent.
fn ordered(sent: &str) -> Option<(String, StatusCode, String)> {
    let (_, rest) = sent.split_once("echo-")?;
    let (status, rest) = rest.split_once('-')?;
    let way: String = rest.chars().take_while(char::is_ascii_alphanumeric).collect();
    let code = StatusCode::from_bytes(status.as_bytes()).ok()?;
    Some((format!("{status}-{way}"), code, way))
}

/// Credentials first: of a long answer the beginning is read.
fn said(headers: &HeaderMap, sent: &str, told: &str) -> String {
    let mut values: Vec<(&HeaderName, &str)> =
        headers.iter().filter_map(|(name, value)| Some((name, value.to_str().ok()?))).collect();
    values.sort_by_key(|(name, _)| *name != "authorization");
    let values: Vec<&str> = values.into_iter().map(|(_, value)| value).collect();
    format!("{} , {told} , {sent}", values.join(" , "))
}

fn echo(status: StatusCode, way: &str, said: &str, headers: &HeaderMap) -> Response {
    let percent = || url::form_urlencoded::byte_serialize(said.as_bytes()).collect::<String>();
    let said = match way {
        "base64" => STANDARD.encode(said),
        "percent" => percent(),
        "hex" => said.bytes().map(|byte| format!("{byte:02x}")).collect(),
        _ => said.to_owned(),
    };
    let mut body = match way {
        "cut" => format!("{:>width$}{said}", "a long preface, ", width = READ - 20),
        _ => json!({
            "message": said, "errors": [{ "message": said }], "said": said,
            "deployment_id": said, "deployment_url": format!("http://127.0.0.1:1/{said}"),
        })
        .to_string(),
    };
    if way == "escaped" {
        body = escaped(&body);
    }
    // Where providers put a request's own id.
    let id = headers.get("authorization").cloned();
    let mut response = (status, body).into_response();
    response.headers_mut().extend(id.map(|id| (HeaderName::from_static("x-request-id"), id)));
    response
}

/// As a careful server writes `&` and `<`, done to every character of every text.
fn escaped(json: &str) -> String {
    let mut out = String::new();
    let (mut inside, mut characters) = (false, json.chars());
    while let Some(c) = characters.next() {
        match c {
            '"' => {
                inside = !inside;
                out.push(c);
            }
            '\\' => out.extend([Some(c), characters.next()].into_iter().flatten()),
            c if inside && c.is_ascii() => write!(out, "\\u{:04x}", u32::from(c)).expect("memory"),
            c => out.push(c),
        }
    }
    out
}
