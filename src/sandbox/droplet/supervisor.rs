//! The supervisor's session with the webapp: connect, then heartbeat for ever.
//!
//! As in the real one, a refused connect ends the process, while a failed heartbeat is only
//! logged: `/health` stays 200 and the platform has lost its worker. A probe of the listener
//! alone cannot tell the two apart, which is what makes this worth simulating.

use super::user_data::SupervisorEnv;
use super::{Console, Machine};
use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};
use std::time::Duration;

const CONNECT_ATTEMPTS: u32 = 5;
/// The webapp is on loopback; longer than this is a hang.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

enum Failure {
    /// Network trouble, 408, 409, 429 and 5xx: worth another attempt.
    Transient(String),
    /// Everything else, 401 above all: the same request would fail again.
    Permanent(String),
}

impl Failure {
    fn reason(self) -> String {
        match self {
            Failure::Transient(reason) | Failure::Permanent(reason) => reason,
        }
    }
}

/// Ends only when the process would; returns why.
pub async fn run(machine: &Machine, env: &SupervisorEnv, console: &Console<'_>) -> String {
    let session = match Session::new(env) {
        Ok(session) => session,
        Err(reason) => return reason,
    };
    if let Err(reason) = session.connect(machine.connect_retry, console).await {
        return format!("[SupervisorSession] Failed to connect: {reason}");
    }
    console("Connected to platform");
    loop {
        // The first heartbeat comes after one interval, not at once.
        tokio::time::sleep(machine.heartbeat_interval).await;
        if let Err(failure) = session.heartbeat().await {
            console(&format!("Heartbeat failed: {}", failure.reason()));
        }
    }
}

struct Session<'a> {
    env: &'a SupervisorEnv,
    client: Client,
}

impl<'a> Session<'a> {
    fn new(env: &'a SupervisorEnv) -> Result<Self, String> {
        refuse_other_hosts(&env.api_url)?;
        // Another part of the process may have installed it already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .timeout(REQUEST_TIMEOUT)
            // Only loopback is spoken to, so no certificate store has to be read.
            .tls_certs_only([])
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| format!("failed to build the HTTP client: {e}"))?;
        Ok(Self { env, client })
    }

    async fn connect(&self, pause: Duration, console: &Console<'_>) -> Result<(), String> {
        let body = json!({"metadata": {"workerVersion": self.env.version}});
        let mut wait = pause;
        let mut attempt = 1;
        loop {
            match self.post("connect", &body).await {
                Ok(()) => return Ok(()),
                Err(Failure::Transient(reason)) if attempt < CONNECT_ATTEMPTS => {
                    console(&format!("Failed to connect, attempt {attempt}: {reason}"));
                }
                Err(failure) => return Err(failure.reason()),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(pause * 10);
            attempt += 1;
        }
    }

    async fn heartbeat(&self) -> Result<(), Failure> {
        // A real supervisor sends these constants, too.
        let half = json!({"used": 0.5, "available": 0.5});
        self.post("heartbeat", &json!({"cpu": half, "memory": half, "tasks": []})).await
    }

    async fn post(&self, action: &str, body: &Value) -> Result<(), Failure> {
        let answer = self
            .client
            .post(format!("{}/engine/v1/worker-actions/{action}", self.env.api_url))
            .bearer_auth(&self.env.token)
            .header("x-trigger-worker-instance-name", &self.env.instance_name)
            .header("x-trigger-worker-managed-secret", &self.env.managed_secret)
            .json(body)
            .send()
            .await
            .map_err(|e| Failure::Transient(format!("{action} got no answer: {e}")))?;
        let status = answer.status();
        let reason = format!("{action} answered {status}");
        match status {
            s if s.is_success() => Ok(()),
            StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS => {
                Err(Failure::Transient(reason))
            }
            s if s.is_server_error() => Err(Failure::Transient(reason)),
            _ => Err(Failure::Permanent(reason)),
        }
    }
}

fn refuse_other_hosts(api_url: &str) -> Result<(), String> {
    let url = Url::parse(api_url).map_err(|e| format!("TRIGGER_API_URL is no URL: {e}"))?;
    let host = url.host_str().unwrap_or_default();
    let on_loopback = host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if on_loopback {
        Ok(())
    } else {
        Err("TRIGGER_API_URL is not on loopback, and a simulated droplet calls nothing else".to_owned())
    }
}
