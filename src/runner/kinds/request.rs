//! One HTTP request of a phase, and what its answer must be.
//!
//! Redirects are never followed: an answer that points elsewhere is an answer, and what was meant for
//! one host goes to no other. Headers are sent and never told, also where the answer repeats them.

use super::shape::Shape;
use crate::clients::budget::Budget;
use crate::clients::http::{Http, Lost, clip, message_of};
use crate::clients::seam::Point;
use crate::clients::{ClientError, Seam};
use crate::plan::secret::Secret;
use crate::runner::kind::PhaseError;
use crate::runs::placeholders;
use crate::telemetry::redact_also;
use reqwest::Method;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// More is no answer to a check.
const LARGEST_BODY: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);
/// What they hold is the same everywhere, and stands in answers for other reasons.
const NO_SECRETS: [HeaderName; 5] =
    [header::ACCEPT, header::ACCEPT_LANGUAGE, header::CONTENT_TYPE, header::USER_AGENT, header::CACHE_CONTROL];
/// A shorter value is no secret, and an ordinary word in an answer.
const SHORTEST_SECRET: usize = 8;

/// Sends the requests of phases.
pub struct Caller {
    seam: Seam,
    /// Made when they are first used: each reads all of the machine's certificates.
    outside: OnceLock<Http>,
    /// For this machine's own addresses: no proxy stands in between.
    local: OnceLock<Http>,
}

/// What is sent. `url` may be a path, which then is one of the deployment's.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub method: Method,
    pub url: String,
    pub headers: HeaderMap,
    pub body: Option<Value>,
    pub timeout: Duration,
    pub expect: Expect,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expect {
    /// `None`: any that is good, 200 to 299.
    pub status: Option<u16>,
    pub body_contains: Option<String>,
    /// Values by their JSON pointers.
    pub json: Map<String, Value>,
    pub most: Option<Duration>,
}

/// What came back.
pub struct Reply {
    pub status: u16,
    pub took: Duration,
    pub body: Vec<u8>,
}

impl Caller {
    pub fn new(seam: &Seam) -> Caller {
        Caller { seam: seam.clone(), outside: OnceLock::new(), local: OnceLock::new() }
    }

    fn http(&self, url: &str) -> Result<&Http, ClientError> {
        let is_local = crate::config::is_loopback_url(url);
        let cell = if is_local { &self.local } else { &self.outside };
        if let Some(http) = cell.get() {
            return Ok(http);
        }
        let budget = Arc::new(Budget::default());
        let made = Http::new("the service asked", LONGEST, HeaderMap::new(), &self.seam, budget, is_local)?;
        Ok(cell.get_or_init(|| made))
    }

    /// Sent once. `what` names the call at the seam.
    pub async fn send(&self, what: &str, request: &Request) -> Result<Reply, PhaseError> {
        let http = self.http(&request.url)?;
        let mut built = http.client().request(request.method.clone(), &request.url).headers(request.headers.clone());
        if let Some(body) = &request.body {
            built = built.json(body);
        }
        let began = Instant::now();
        http.seam().reach(|| Point::Before(what.to_owned())).await;
        let reply = http.exchange(built.timeout(request.timeout), LARGEST_BODY).await;
        http.seam().reach(|| Point::After(what.to_owned())).await;
        match reply {
            Ok(reply) => Ok(Reply { status: reply.status.as_u16(), took: began.elapsed(), body: reply.body }),
            Err(Lost::TooLarge) => Err(PhaseError::failed("it answered with more than 1 MiB")),
            Err(Lost::TimedOut) => {
                Err(PhaseError::transient(format!("no answer within {} s", request.timeout.as_secs_f64())))
            }
            Err(Lost::NotSent(why)) => Err(PhaseError::transient(format!("no connection: {}", clip(&why)))),
            Err(Lost::Broken(why)) => Err(PhaseError::transient(format!("the connection broke: {}", clip(&why)))),
        }
    }
}

impl Request {
    pub fn get(url: impl Into<String>) -> Request {
        Request {
            method: Method::GET,
            url: url.into(),
            headers: HeaderMap::new(),
            body: None,
            timeout: TIMEOUT,
            expect: Expect::default(),
        }
    }

    /// Why the answer is not what was expected; as `Expect::unmet`, without the headers that were sent.
    pub fn unmet(&self, reply: &Reply) -> Option<String> {
        self.expect.unmet(reply).map(|why| self.without_headers(&why))
    }

    /// What came back, without the headers that were sent: the whole value, and what follows its scheme.
    pub fn without_headers(&self, text: &str) -> String {
        without(text, self.sent_headers().map(str::to_owned).collect())
    }

    fn sent_headers(&self) -> impl Iterator<Item = &str> {
        let told = |name: &HeaderName| !NO_SECRETS.contains(name);
        let values = self.headers.iter().filter(move |(name, _)| told(name));
        let values = values.filter_map(|(_, value)| value.to_str().ok());
        values.flat_map(|value| [value, value.rsplit(' ').next().unwrap_or_default()])
    }

    /// What is asked of whom, for people: without user, query and fragment, which may hold secrets.
    pub fn shown(&self) -> String {
        let place = url::Url::parse(&self.url).map_or_else(
            |_| self.url.clone(),
            |mut url| {
                url.set_query(None);
                url.set_fragment(None);
                let _ = (url.set_username(""), url.set_password(None));
                url.to_string()
            },
        );
        clip(&format!("{} {place}", self.method))
    }

    /// The same where the path is a secret, too.
    pub fn host(&self) -> String {
        let url = url::Url::parse(&self.url).ok();
        url.map_or_else(|| "no address".to_owned(), |url| url.origin().ascii_serialization())
    }

    /// The beginning of an answer, without anything that was sent in its headers or address.
    pub fn said(&self, body: &[u8]) -> String {
        let mut sent: Vec<String> = self.sent_headers().map(str::to_owned).collect();
        if let Ok(url) = url::Url::parse(&self.url) {
            sent.extend(url.path_segments().into_iter().flatten().map(str::to_owned));
            sent.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
        }
        let text = without(&String::from_utf8_lossy(body), sent);
        let said = if text.trim().is_empty() { String::new() } else { message_of(text.as_bytes()) };
        if said.is_empty() { said } else { format!(": {said}") }
    }

    /// The fields of a request; `path`: whether it may be one of the deployment's.
    pub fn read(shape: &mut Shape<'_>, path: bool, method: Method) -> Option<Request> {
        let url = match path {
            true => {
                shape.one_of(&["url", "path"], true);
                shape.text("url").map(|url| ("url", url)).or(shape.text("path").map(|path| ("path", path)))
            }
            false => shape.required("url").map(|url| ("url", url)),
        };
        if let Some((name, text)) = &url {
            match *name {
                "path" if !text.starts_with('/') => shape.fault(name, "must begin with /"),
                "url" if !is_address(text) => {
                    shape.fault(name, "must be an http:// or https:// address without a user")
                }
                _ => {}
            }
        }
        let given = shape.text("method").map(|given| Method::from_bytes(given.to_ascii_uppercase().as_bytes()));
        let method = given.unwrap_or(Ok(method));
        if method.is_err() {
            shape.fault("method", "must be a method such as GET or POST");
        }
        let headers = headers(shape);
        let body = shape.get("body").cloned();
        let timeout = shape.duration("timeout", TIMEOUT, LONGEST);
        let expect = shape.inner("expect").map(Expect::read).unwrap_or_default();
        Some(Request { method: method.ok()?, url: url?.1, headers, body, timeout, expect })
    }
}

/// What is shorter than any secret is an ordinary word.
fn without(text: &str, sent: Vec<String>) -> String {
    let sent: Vec<Secret> = sent.into_iter().filter(|text| text.len() >= SHORTEST_SECRET).map(Secret::new).collect();
    if sent.is_empty() { text.to_owned() } else { redact_also(text, &sent) }
}

fn headers(shape: &mut Shape<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in shape.pairs("headers") {
        match (HeaderName::try_from(&name), HeaderValue::try_from(&value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            _ => shape.fault("headers", &format!("has {name:?}, which no HTTP header can be")),
        }
    }
    headers
}

fn is_address(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none()
    })
}

impl Expect {
    fn read(mut shape: Shape<'_>) -> Expect {
        let status = shape.number("status", 100..=599).and_then(|n| u16::try_from(n).ok());
        let body_contains = shape.text("body_contains");
        let json = shape.object("json").cloned().unwrap_or_default();
        for pointer in json.keys().filter(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            shape.fault("json", &format!("has {pointer:?}: a JSON pointer begins with /"));
        }
        let most = shape.number("max_ms", 1..=600_000).map(Duration::from_millis);
        shape.end();
        Expect { status, body_contains, json, most }
    }

    /// Why the answer is not what was expected. Shows no more of a body than asked for.
    fn unmet(&self, reply: &Reply) -> Option<String> {
        match self.status {
            Some(status) if reply.status != status => {
                return Some(format!("it answered {}, not {status}", reply.status));
            }
            None if !(200..300).contains(&reply.status) => return Some(format!("it answered {}", reply.status)),
            _ => {}
        }
        if let Some(part) = &self.body_contains
            && !String::from_utf8_lossy(&reply.body).contains(part.as_str())
        {
            return Some(format!("its answer does not contain {part:?}"));
        }
        if !self.json.is_empty() {
            let Ok(body) = serde_json::from_slice::<Value>(&reply.body) else {
                return Some("its answer is no JSON".to_owned());
            };
            for (pointer, wanted) in &self.json {
                match body.pointer(pointer) {
                    Some(found) if found == wanted => {}
                    Some(found) => {
                        return Some(format!("{pointer} is {}, not {wanted}", clip(&found.to_string())));
                    }
                    None => return Some(format!("its answer has no {pointer}")),
                }
            }
        }
        let most = self.most.filter(|most| reply.took > *most)?;
        Some(format!("it took {} ms, more than {} ms", reply.took.as_millis(), most.as_millis()))
    }
}

/// An answer that is not as expected: whether another attempt may bring a better one.
pub fn refused(reply: &Reply, why: String) -> PhaseError {
    match reply.status {
        408 | 429 | 500..=599 => PhaseError::Transient(why),
        _ => PhaseError::Failed(why),
    }
}

/// The text with its names filled in; one without a value is a failure.
pub fn filled(text: &str, values: &BTreeMap<&str, String>) -> Result<String, PhaseError> {
    placeholders::filled(text, values).map_err(PhaseError::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::secret::REDACTED;
    use serde_json::json;

    fn reply(status: u16, body: &str) -> Reply {
        Reply { status, took: Duration::from_millis(20), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn what_is_expected_is_met_and_what_is_not_is_named() {
        let json = json!({ "/status": "ok", "/list/0": 1 }).as_object().expect("an object").clone();
        let expect = Expect { body_contains: Some("ok".into()), json, ..Expect::default() };
        assert_eq!(expect.unmet(&reply(200, r#"{"status":"ok","list":[1]}"#)), None);
        for (status, body, why) in [
            (503, "ok", "it answered 503"),
            (200, "no", "its answer does not contain \"ok\""),
            (200, "ok", "its answer is no JSON"),
            (200, r#"{"status":"ok"}"#, "its answer has no /list/0"),
            (200, r#"{"status":"not ok","list":[1]}"#, "/status is \"not ok\", not \"ok\""),
        ] {
            assert_eq!(expect.unmet(&reply(status, body)).as_deref(), Some(why));
        }
        let quick = Expect { most: Some(Duration::from_millis(10)), status: Some(204), ..Expect::default() };
        assert_eq!(quick.unmet(&reply(204, "")).as_deref(), Some("it took 20 ms, more than 10 ms"));
        assert_eq!(quick.unmet(&reply(200, "")).as_deref(), Some("it answered 200, not 204"));
    }

    #[test]
    fn a_request_is_told_without_what_may_be_secret_in_it() {
        let request = Request::get("https://user:pass@example.com:8443/hooks/T0K3N4U?key=abc#x");
        assert_eq!(request.shown(), "GET https://example.com:8443/hooks/T0K3N4U");
        assert_eq!(request.host(), "https://example.com:8443");
        let mut hook = Request::get("https://example.com/hooks/T0K3N4U99?key=abcdefgh");
        hook.headers.insert("authorization", HeaderValue::from_static("Bearer of-the-hook"));
        let said = |text: &str| hook.said(text.as_bytes());
        assert_eq!(said("{\"message\": \"no room\"}"), ": no room");
        assert_eq!(said(""), "");
        for text in ["of-the-hook is bad", "no T0K3N4U99", "no abcdefgh here", "Bearer of-the-hook"] {
            let told = said(text);
            assert!(told.contains(REDACTED), "{told}");
            assert!(!["of-the-hook", "T0K3N4U99", "abcdefgh"].iter().any(|secret| told.contains(secret)), "{told}");
        }
        assert!(said(&"x ".repeat(5000)).chars().count() < 400);
    }
}
