//! One outbound HTTP call: seam, budget, timeout, headers, and errors without a URL or a secret.

use super::budget::{Budget, DEFAULT_PAUSE};
use super::error::ClientError;
use super::fence::Fence;
use super::seam::{Point, Seam};
use crate::telemetry::redact_text;
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
    /// Sent with every request.
    headers: HeaderMap,
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

/// What came back, whatever it says.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// How an answer failed to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// There was no connection: surely nothing was carried out.
    NotSent(String),
    TimedOut,
    Broken(String),
    TooLarge,
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
            .pool_idle_timeout(Duration::from_secs(90));
        if local {
            // A proxy set in a user's shell cannot reach this machine's own simulators.
            builder = builder.no_proxy();
        }
        if seam.outside().is_some() {
            // It only shapes requests: no certificates have to be read.
            builder = builder.tls_certs_only([]);
        }
        let client =
            builder.build().map_err(|e| ClientError::NotSent { provider, message: e.without_url().to_string() })?;
        Ok(Http { client, headers, provider, seam: seam.clone(), budget, fence: None })
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
        // On the heap: the futures of all callers would have to carry it.
        let (Reply { status, body, .. }, request_id) = Box::pin(self.receive(what, request)).await?;
        if status.is_success() {
            return Ok(Answer { status, body, request_id });
        }
        Err(self.refusal(what, status, &body, request_id.as_deref()))
    }

    /// Sends once, and expects to be sent elsewhere: returns where to. It is not followed here,
    /// because the credentials of this provider must not go along.
    pub async fn redirected(&self, what: &str, request: RequestBuilder) -> Result<String, ClientError> {
        let (Reply { status, headers, body }, request_id) = self.receive(what, request).await?;
        match header(&headers, "location") {
            Some(place) if status.is_redirection() => Ok(place.to_owned()),
            _ if status.is_success() || status.is_redirection() => Err(ClientError::NoAnswer {
                provider: self.provider,
                message: format!("{what}: {} without a place to go to", status.as_u16()),
            }),
            _ => Err(self.refusal(what, status, &body, request_id.as_deref())),
        }
    }

    /// An answer that is no word about the rate, and the provider's id for it.
    async fn receive(&self, what: &str, request: RequestBuilder) -> Result<(Reply, Option<String>), ClientError> {
        let provider = self.provider;
        self.budget.spend().map_err(|left| ClientError::RateLimited { provider, seconds: left.as_secs().max(1) })?;
        self.seam.reach(|| Point::Before(what.to_owned())).await;
        self.fence.as_ref().map_or(Ok(()), Fence::check)?;
        let sent = self.exchange(request, LARGEST_BODY).await;
        self.seam.reach(|| Point::After(what.to_owned())).await;
        let reply = sent.map_err(|lost| self.lost(lost))?;
        let (status, headers) = (reply.status, &reply.headers);
        let request_id =
            ["x-request-id", "x-github-request-id", "cf-ray"].iter().find_map(|name| header(headers, name));
        let request_id = request_id.map(clip);
        self.budget.note(
            number(headers, "ratelimit-remaining").or_else(|| number(headers, "x-ratelimit-remaining")),
            number(headers, "ratelimit-limit").or_else(|| number(headers, "x-ratelimit-limit")),
        );
        tracing::debug!(provider, call = what, status = status.as_u16(), request_id, "answered");
        if is_rate_limit(&reply) {
            let pause = self.budget.block(pause_asked_for(headers, self.seam.now()));
            return Err(ClientError::RateLimited { provider, seconds: pause.as_secs() });
        }
        Ok((reply, request_id))
    }

    /// One request and its answer, of at most `limit` bytes; without a seam's points and budgets.
    pub async fn exchange(&self, request: RequestBuilder, limit: usize) -> Result<Reply, Lost> {
        let request = request.headers(self.headers.clone());
        match self.seam.outside() {
            None => over_the_network(request, limit).await,
            Some(outside) => outside.http(request.build().map_err(|e| describe(&e))?).await,
        }
    }

    fn lost(&self, lost: Lost) -> ClientError {
        let provider = self.provider;
        match lost {
            Lost::NotSent(message) => ClientError::NotSent { provider, message },
            Lost::TimedOut => ClientError::NoAnswer { provider, message: "timed out".to_owned() },
            Lost::Broken(message) => ClientError::NoAnswer { provider, message },
            Lost::TooLarge => {
                let message = format!("an answer of more than {} MB", LARGEST_BODY >> 20);
                ClientError::NoAnswer { provider, message }
            }
        }
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
            404 | 410 => ClientError::NotFound { provider, what: what.to_owned() },
            // A gateway's word, or a conflict with something in flight, says nothing about the call itself.
            408 | 500..=599 => ClientError::NoAnswer { provider, message },
            code => ClientError::Refused { provider, status: code, message },
        }
    }
}

async fn over_the_network(request: RequestBuilder, limit: usize) -> Result<Reply, Lost> {
    let mut response = request.send().await.map_err(|e| describe(&e))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| describe(&e))? {
        if body.len() + chunk.len() > limit {
            return Err(Lost::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Reply { status, headers, body })
}

/// An error's own words with its causes, never with the URL.
fn describe(error: &reqwest::Error) -> Lost {
    let mut text = String::new();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    if error.is_timeout() {
        text = "timed out".to_owned();
    } else if text.is_empty() {
        text = "connection failed".to_owned();
    }
    // A request that never got a connection was surely not carried out.
    if error.is_connect() || error.is_builder() {
        Lost::NotSent(text)
    } else if error.is_timeout() {
        Lost::TimedOut
    } else {
        Lost::Broken(text)
    }
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

/// A provider's words as they may be shown to anybody: in one line, without the secrets that it may
/// have repeated, and short. In this order: shortened first, half a secret could be left.
pub fn clip(text: &str) -> String {
    let line: String = text.chars().filter(|c| !c.is_control()).collect();
    let clean = redact_text(&line);
    let mut clipped: String = clean.chars().take(MESSAGE).collect();
    if clean.chars().count() > MESSAGE {
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

/// 429 always. GitHub says it by 403 as well, where only these tell it from a missing right.
fn is_rate_limit(reply: &Reply) -> bool {
    let says_so = || {
        number(&reply.headers, "x-ratelimit-remaining") == Some(0)
            || reply.headers.contains_key("retry-after")
            || message_of(&reply.body).to_ascii_lowercase().contains("rate limit")
    };
    reply.status == StatusCode::TOO_MANY_REQUESTS || (reply.status == StatusCode::FORBIDDEN && says_so())
}

/// `retry-after` first: after a burst the reset header points far away.
fn pause_asked_for(headers: &HeaderMap, now: jiff::Timestamp) -> Duration {
    if let Some(seconds) = number(headers, "retry-after") {
        return Duration::from_secs(seconds);
    }
    // The second one is of the hour, and says nothing while something is left of it.
    let of_the_hour =
        || number(headers, "x-ratelimit-reset").filter(|_| number(headers, "x-ratelimit-remaining") == Some(0));
    let reset = number(headers, "ratelimit-reset").or_else(of_the_hour).and_then(|epoch| i64::try_from(epoch).ok());
    match reset.and_then(|epoch| jiff::Timestamp::from_second(epoch).ok()) {
        Some(at) => at.duration_since(now).try_into().unwrap_or(DEFAULT_PAUSE),
        None => DEFAULT_PAUSE,
    }
}
