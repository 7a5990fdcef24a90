//! One outbound HTTP call: seam, budget, timeout, headers, and errors without a URL or a secret.

use super::budget::{Budget, DEFAULT_PAUSE};
use super::error::ClientError;
use super::fence::Fence;
use super::seam::{Point, Seam};
use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, StatusCode};
use std::sync::Arc;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A message of a provider is shown up to this length.
const MESSAGE: usize = 300;
/// More than any answer that we ask for; a log page of 1,000 long lines stays below.
const LARGEST_BODY: usize = 64 << 20;

/// A provider's HTTP side.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    provider: &'static str,
    seam: Seam,
    budget: Arc<Budget>,
    /// Of a writer: no call passes without it.
    fence: Option<Fence>,
}

/// A 2xx answer.
pub struct Answer {
    pub status: StatusCode,
    pub body: Vec<u8>,
    pub request_id: Option<String>,
}

impl Http {
    pub fn new(
        provider: &'static str,
        timeout: Duration,
        headers: HeaderMap,
        seam: &Seam,
        budget: Arc<Budget>,
        local: bool,
    ) -> Result<Http, ClientError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("ops-controller/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout)
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(90))
            .default_headers(headers);
        if local {
            // A proxy set in a user's shell cannot reach this machine's own simulators.
            builder = builder.no_proxy();
        }
        let client =
            builder.build().map_err(|e| ClientError::NotSent { provider, message: e.without_url().to_string() })?;
        Ok(Http { client, provider, seam: seam.clone(), budget, fence: None })
    }

    /// The same for a writer: every call asks the fence right before it leaves.
    pub fn fenced(&self, fence: &Fence) -> Http {
        Http { fence: Some(fence.clone()), ..self.clone() }
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    pub fn seam(&self) -> &Seam {
        &self.seam
    }

    /// Sends once. `what` names the call in logs and at the seam: `create droplet`, `list droplets`.
    pub async fn send(&self, what: &str, request: RequestBuilder) -> Result<Answer, ClientError> {
        let provider = self.provider;
        self.budget.spend().map_err(|left| ClientError::RateLimited { provider, seconds: left.as_secs().max(1) })?;
        self.seam.reach(|| Point::Before(what.to_owned())).await;
        self.fence.as_ref().map_or(Ok(()), Fence::check)?;
        let sent = self.exchange(request).await;
        self.seam.reach(|| Point::After(what.to_owned())).await;
        let (status, headers, body) = sent?;
        let request_id = header(&headers, "x-request-id").or_else(|| header(&headers, "cf-ray")).map(str::to_owned);
        self.budget.note(
            number(&headers, "ratelimit-remaining").or_else(|| number(&headers, "x-ratelimit-remaining")),
            number(&headers, "ratelimit-limit").or_else(|| number(&headers, "x-ratelimit-limit")),
        );
        tracing::debug!(provider, call = what, status = status.as_u16(), request_id, "answered");
        if status == StatusCode::TOO_MANY_REQUESTS {
            let pause = self.budget.block(pause_asked_for(&headers));
            return Err(ClientError::RateLimited { provider, seconds: pause.as_secs() });
        }
        if status.is_success() {
            return Ok(Answer { status, body, request_id });
        }
        Err(self.refusal(what, status, &body, request_id.as_deref()))
    }

    async fn exchange(&self, request: RequestBuilder) -> Result<(StatusCode, HeaderMap, Vec<u8>), ClientError> {
        let lost = |e: reqwest::Error| {
            let provider = self.provider;
            let message = describe(&e);
            // A request that never got a connection was surely not carried out.
            if e.is_connect() || e.is_builder() {
                ClientError::NotSent { provider, message }
            } else {
                ClientError::NoAnswer { provider, message }
            }
        };
        let mut response = request.send().await.map_err(lost)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > LARGEST_BODY {
                let message = format!("an answer of more than {} MB", LARGEST_BODY >> 20);
                return Err(ClientError::NoAnswer { provider: self.provider, message });
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, headers, body))
    }

    fn refusal(&self, what: &str, status: StatusCode, body: &[u8], request_id: Option<&str>) -> ClientError {
        let provider = self.provider;
        let mut message = format!("{what}: {} {}", status.as_u16(), message_of(body));
        if let Some(id) = request_id {
            message.push_str(&format!(" (request {id})"));
        }
        match status.as_u16() {
            401 => ClientError::Unauthorized { provider, message },
            403 => ClientError::Forbidden { provider, message },
            404 | 410 => ClientError::NotFound { what: what.to_owned() },
            // A gateway's word, or a conflict with something in flight, says nothing about the call itself.
            408 | 500..=599 => ClientError::NoAnswer { provider, message },
            code => ClientError::Refused { provider, status: code, message },
        }
    }
}

/// An error's own words with its causes, never with the URL.
fn describe(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "timed out".to_owned();
    }
    let mut text = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    if text.is_empty() { "connection failed".to_owned() } else { text }
}

/// The provider's own sentence out of its error shapes; a page of HTML is named, not shown.
pub fn message_of(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Shape {
        message: Option<String>,
        error: Option<serde_json::Value>,
        /// GraphQL servers answer 400 with this when a document does not fit their schema.
        #[serde(default)]
        errors: Vec<Inner>,
    }
    #[derive(serde::Deserialize)]
    struct Inner {
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Shape>(body) {
        Ok(Shape { message: Some(message), .. }) => message,
        Ok(Shape { error: Some(serde_json::Value::String(error)), .. }) => error,
        Ok(Shape { errors, .. }) if !errors.is_empty() => {
            errors.into_iter().next().map(|e| e.message).unwrap_or_default()
        }
        Ok(_) => "no message".to_owned(),
        Err(_) => {
            let text = String::from_utf8_lossy(&body[..body.len().min(4096)]);
            if text.trim_start().starts_with('<') { "an HTML page".to_owned() } else { text.trim().to_owned() }
        }
    };
    clip(&text)
}

pub fn clip(text: &str) -> String {
    let mut clipped: String = text.chars().filter(|c| !c.is_control()).take(MESSAGE).collect();
    if text.chars().count() > MESSAGE {
        clipped.push('…');
    }
    clipped
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    header(headers, name)?.trim().parse().ok()
}

/// `retry-after` first: after a burst the reset header points far away.
fn pause_asked_for(headers: &HeaderMap) -> Duration {
    if let Some(seconds) = number(headers, "retry-after") {
        return Duration::from_secs(seconds);
    }
    let reset = number(headers, "ratelimit-reset").and_then(|epoch| i64::try_from(epoch).ok());
    match reset.and_then(|epoch| jiff::Timestamp::from_second(epoch).ok()) {
        Some(at) => at.duration_since(jiff::Timestamp::now()).try_into().unwrap_or(DEFAULT_PAUSE),
        None => DEFAULT_PAUSE,
    }
}
