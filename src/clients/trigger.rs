//! Looks at the supervisor's health endpoint and asks the webapp about a token.
//!
//! `connect` is asked with a body that fails its schema: 400 means accepted, and nothing is written
//! but one row for the fixed probe name. `dequeue` is never called: it would take runs away.

use super::budget::Budget;
use super::error::ClientError;
use super::http::Http;
use super::seam::{Point, Seam};
use crate::plan::observation::{Health, Probe};
use crate::plan::secret::Secret;
use reqwest::header::HeaderMap;
use std::sync::Arc;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(5);
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
            Ok(answer) if answer.status() == 200 => Health::Ok,
            Ok(answer) => Health::Failed(format!("answered {}", answer.status().as_u16())),
            Err(e) if e.is_timeout() => Health::Failed("no answer within 5 s".into()),
            Err(e) if e.is_connect() => Health::Failed("connection refused or unreachable".into()),
            Err(_) => Health::Failed("connection broken".into()),
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
        match self.send("ask the webapp", request).await.map(|answer| answer.status().as_u16()) {
            Ok(200 | 400) => Probe::Accepted,
            Ok(401 | 403) => Probe::Rejected,
            Ok(status) => Probe::Unreachable(format!("it answered {status}")),
            Err(e) if e.is_timeout() => Probe::Unreachable("no answer within 5 s".into()),
            Err(_) => Probe::Unreachable("the connection failed".into()),
        }
    }

    /// Not through `Http::send`: here every answer is a finding, and none is an error.
    async fn send(&self, what: &str, request: reqwest::RequestBuilder) -> reqwest::Result<reqwest::Response> {
        self.http.seam().reach(|| Point::Before(what.to_owned())).await;
        let answer = request.send().await;
        self.http.seam().reach(|| Point::After(what.to_owned())).await;
        answer
    }
}
