//! Answers in the provider's own words: three shapes of error, pages of a list, gateway pages.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub content: Content,
    /// The connection is closed before a byte of this is sent.
    pub lost: bool,
    pub retry_after: Option<u64>,
}

#[derive(Debug, Clone)]
pub enum Content {
    Empty,
    Json(Value),
    /// A gateway in front of the API answered, with its own page and without the API's headers.
    GatewayPage(String),
}

/// Every endpoint either does what was asked or refuses; both are answers.
pub type Outcome = Result<Answer, Answer>;

impl Answer {
    pub fn json(status: StatusCode, body: Value) -> Self {
        Self { status, content: Content::Json(body), lost: false, retry_after: None }
    }

    pub fn ok(body: Value) -> Self {
        Self::json(StatusCode::OK, body)
    }

    pub fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, content: Content::Empty, lost: false, retry_after: None }
    }

    pub fn gateway(status: StatusCode) -> Self {
        let page = format!(
            "<!DOCTYPE html>\n<html lang=\"en-US\"><head><title>api.digitalocean.com | {status}</title></head>\n\
             <body><h1>{status}</h1><p>cloudflare</p></body></html>\n"
        );
        Self { status, content: Content::GatewayPage(page), lost: false, retry_after: None }
    }

    pub fn unauthorized() -> Self {
        Self::error(StatusCode::UNAUTHORIZED, "unauthorized", "Unable to authenticate you")
    }

    pub fn forbidden() -> Self {
        let text = "You are not authorized to perform this operation";
        Self::error(StatusCode::FORBIDDEN, "forbidden", text)
    }

    pub fn not_found() -> Self {
        let text = "The resource you requested could not be found.";
        Self::error(StatusCode::NOT_FOUND, "not_found", text)
    }

    pub fn conflict(message: &str) -> Self {
        Self::error(StatusCode::CONFLICT, "conflict", message)
    }

    pub fn unprocessable(message: impl AsRef<str>) -> Self {
        Self::error(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable_entity", message.as_ref())
    }

    pub fn server_error() -> Self {
        let text = "Unexpected server-side error";
        Self::error(StatusCode::INTERNAL_SERVER_ERROR, "server_error", text)
    }

    /// The edge answers this one, and spells its id unlike the documentation does.
    pub fn too_many_requests(retry_after: u64) -> Self {
        let mut answer = Self::error(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests", "Too many requests");
        answer.retry_after = Some(retry_after);
        answer
    }

    /// What `POST /v2/tags` says about bad characters, in a shape nothing else uses.
    pub fn bad_tag(message: &str) -> Self {
        let body = json!({"error": message, "messages": null, "root_causes": []});
        Self::json(StatusCode::BAD_REQUEST, body)
    }

    fn error(status: StatusCode, id: &str, message: &str) -> Self {
        Self::json(status, json!({"id": id, "message": message}))
    }

    /// `rate` is limit, remaining and the moment of reset.
    pub fn into_response(self, request_id: &str, rate: (u32, u32, i64)) -> Response {
        let (body, kind) = match self.content {
            Content::Empty => (Body::empty(), None),
            Content::Json(value) => (Body::from(value.to_string()), Some("application/json; charset=utf-8")),
            Content::GatewayPage(page) => (Body::from(page), Some("text/html; charset=UTF-8")),
        };
        let from_api = kind != Some("text/html; charset=UTF-8");
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if from_api {
            let (limit, left, reset) = rate;
            // A burst limit shows nothing left although the hour is not spent.
            let remaining = if self.retry_after.is_some() { 0 } else { left };
            headers.insert("ratelimit-limit", HeaderValue::from(limit));
            headers.insert("ratelimit-remaining", HeaderValue::from(remaining));
            headers.insert("ratelimit-reset", HeaderValue::from(reset));
            if let Ok(id) = HeaderValue::from_str(request_id) {
                headers.insert("x-request-id", id);
            }
        }
        response
    }
}

/// Which part of a list was asked for, and how its neighbours are addressed.
#[derive(Debug)]
pub struct Page {
    pub page: usize,
    pub per_page: usize,
    /// `http://host/v2/droplets` and the query without `page` and `per_page`.
    pub url: String,
    pub query: Vec<(String, String)>,
}

impl Page {
    /// The whole answer of a list: its root key, `links` and `meta`.
    pub fn answer(&self, key: &str, items: Vec<Value>) -> Answer {
        let total = items.len();
        let last = total.div_ceil(self.per_page).max(1);
        let mut pages = serde_json::Map::new();
        if self.page > 1 {
            pages.insert("first".into(), self.link(1));
            pages.insert("prev".into(), self.link(self.page - 1));
        }
        if self.page < last {
            pages.insert("next".into(), self.link(self.page + 1));
            pages.insert("last".into(), self.link(last));
        }
        // A list of one page has an empty `links`, not an empty `pages`.
        let links = if pages.is_empty() { json!({}) } else { json!({"pages": pages}) };
        let skipped = (self.page - 1).saturating_mul(self.per_page);
        let shown: Vec<_> = items.into_iter().skip(skipped).take(self.per_page).collect();
        Answer::ok(json!({key: shown, "links": links, "meta": {"total": total}}))
    }

    fn link(&self, page: usize) -> Value {
        let mut url = format!("{}?page={page}&per_page={}", self.url, self.per_page);
        for (name, value) in &self.query {
            url.push_str(&format!("&{name}={}", percent_encoded(value)));
        }
        Value::from(url)
    }
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
