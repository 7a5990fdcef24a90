//! Looks at the supervisor's health endpoint and asks the webapp about a token.
//!
//! `connect` is asked with a body that fails its schema: 400 means accepted, and nothing is written
//! but one row for the fixed probe name. `dequeue` is never called: it would take runs away.

use super::budget::Budget;
use super::error::ClientError;
use super::http::{Http, Lost, Reply};
use super::seam::{Point, Seam};
use crate::plan::observation::{Health, Probe};
use crate::plan::secret::Secret;
use reqwest::header::HeaderMap;
use std::sync::Arc;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);
/// The platform's answers are a line; more is somebody else's page.
const LARGEST_ANSWER: usize = 4096;
/// One name for all probes: each new name would leave a row in the webapp's database.
const PROBE_NAME: &str = "ops-controller-probe";

#[derive(Clone)]
pub struct Trigger {
    http: Http,
}

impl Trigger {
    pub fn new(seam: &Seam) -> Result<Trigger, ClientError> {
        let budget = Arc::new(Budget::default());
        Ok(Trigger { http: Http::new("webapp", TIMEOUT, HeaderMap::new(), seam, budget, true)? })
    }

    /// One look at `http://IP:8020/health`.
    pub async fn health(&self, ip: &str) -> Health {
        let url = format!("http://{ip}:{}/health", crate::plan::firewall::HEALTH_PORT);
        let request = self.http.client().get(url).header("connection", "close");
        match self.send("look at the supervisor", request).await {
            Ok(reply) if reply.status == 200 => Health::Ok,
            Ok(reply) => Health::Failed(format!("answered {}", reply.status.as_u16())),
            Err(Lost::TimedOut) => Health::Failed("no answer within 5 s".into()),
            Err(Lost::NotSent(_)) => Health::Failed("connection refused or unreachable".into()),
            Err(Lost::Broken(_) | Lost::TooLarge) => Health::Failed("connection broken".into()),
        }
    }

    /// Asks the webapp whether it accepts this token and secret.
    pub async fn probe(&self, api_url: &str, token: &Secret, managed_secret: &Secret) -> Probe {
        let request = self
            .http
            .client()
            .post(format!("{api_url}/engine/v1/worker-actions/connect"))
            .bearer_auth(token.expose())
            .header("x-trigger-worker-instance-name", PROBE_NAME)
            .header("x-trigger-worker-managed-secret", managed_secret.expose())
            .json(&serde_json::json!({}));
        match self.send("ask the webapp", request).await {
            Ok(reply) => verdict(&reply),
            Err(Lost::TimedOut) => Probe::Unreachable("no answer within 5 s".into()),
            Err(Lost::TooLarge) => Probe::Unreachable("it answered with a page, not as Trigger.dev does".into()),
            Err(_) => Probe::Unreachable("the connection failed".into()),
        }
    }

    /// Not through `Http::send`: here every answer is a finding, and none is an error.
    async fn send(&self, what: &str, request: reqwest::RequestBuilder) -> Result<Reply, Lost> {
        self.http.seam().reach(|| Point::Before(what.to_owned())).await;
        let reply = self.http.exchange(request, LARGEST_ANSWER).await;
        self.http.seam().reach(|| Point::After(what.to_owned())).await;
        reply
    }
}

/// Only the platform's own answers count: any web server may answer 200 or 400 to a POST, and a
/// token must not be called accepted by a stranger.
fn verdict(reply: &Reply) -> Probe {
    let body: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let error = body.get("error").and_then(|e| e.as_str()).unwrap_or_default();
    let connected =
        body.get("ok").and_then(serde_json::Value::as_bool) == Some(true) && body.get("workerGroup").is_some();
    match reply.status.as_u16() {
        400 if error == "Body Error" => Probe::Accepted,
        200 if connected => Probe::Accepted,
        401 if error.contains("worker token") => Probe::Rejected,
        status => Probe::Unreachable(format!("it answered {status}, and not as Trigger.dev does")),
    }
}
