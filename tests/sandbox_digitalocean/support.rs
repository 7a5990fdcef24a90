//! A cloud that is spoken to over real HTTP, and a webapp that listens to its droplets.

pub use axum::extract::{Request as HttpRequest, State};
pub use axum::http::StatusCode;
pub use axum::{Json, Router};
pub use ops_controller::sandbox::digitalocean::{DigitalOcean, DigitalOceanOptions, DropletBackend};
pub use ops_controller::sandbox::faults::{Break, Faults};
pub use reqwest::{Client, Method, Response};
pub use serde_json::{Value, json};
pub use std::sync::{Arc, Mutex};
pub use std::time::Duration;
pub use tokio::time::Instant;

pub const TOKEN: &str = "tr_wgt_0123456789012345678901234567890123456789";
pub const DEADLINE: Duration = Duration::from_secs(8);

pub struct Cloud {
    pub ocean: DigitalOcean,
    pub faults: Faults,
    pub client: Client,
}

pub fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_secs(5)).build().expect("a client")
}

impl Cloud {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut DigitalOceanOptions)) -> Self {
        let mut options = DigitalOceanOptions {
            boot: Duration::from_millis(60),
            address_lag: Duration::from_millis(60),
            supervisor_boot: Duration::from_millis(30),
            delete: Duration::from_millis(60),
            heartbeat_interval: Duration::from_millis(20),
            supervisor_restart: Duration::from_millis(100),
            connect_retry: Duration::from_millis(20),
            ..DigitalOceanOptions::default()
        };
        change(&mut options);
        let faults = Faults::default();
        let ocean = DigitalOcean::start(options, faults.clone()).await.expect("a simulator");
        Self { ocean, faults, client: client() }
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> reqwest::Result<Response> {
        let url = format!("{}{path}", self.ocean.base_url());
        let request = self.client.request(method, url).bearer_auth("dop_v1_sandbox");
        match body {
            None => request.send().await,
            Some(body) => request.json(&body).send().await,
        }
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let answer = self.send(method, path, body).await.expect("an answer");
        let status = answer.status();
        (status, answer.json().await.unwrap_or(Value::Null))
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.call(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.call(Method::POST, path, Some(body)).await
    }

    pub async fn refusal(&self, body: Value) -> String {
        let (status, answer) = self.post("/v2/droplets", body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
        assert_eq!(answer["id"], "unprocessable_entity");
        answer["message"].as_str().expect("a message").to_owned()
    }

    pub async fn create(&self, body: Value) -> u64 {
        let (status, answer) = self.post("/v2/droplets", body).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
        answer["droplet"]["id"].as_u64().expect("an id")
    }

    pub async fn act(&self, id: u64, body: Value) -> (StatusCode, Value) {
        self.post(&format!("/v2/droplets/{id}/actions"), body).await
    }

    pub async fn droplet_when(&self, id: u64, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (_, answer) = self.get(&format!("/v2/droplets/{id}")).await;
            if holds(&answer["droplet"]) {
                return answer["droplet"].clone();
            }
            assert!(Instant::now() < deadline, "never {what}: {answer}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn health(&self, id: u64) -> Option<StatusCode> {
        let ip = self.ocean.droplet(id)?.ip;
        Some(self.client.get(format!("http://{ip}:8020/health")).send().await.ok()?.status())
    }

    pub async fn healthy(&self, id: u64) {
        let deadline = Instant::now() + DEADLINE;
        while self.health(id).await != Some(StatusCode::OK) {
            assert!(Instant::now() < deadline, "never healthy: {:?}", self.ocean.console(id));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn plain(name: &str) -> Value {
    json!({"name": name, "region": "nyc1", "size": "s-2vcpu-2gb", "image": "ubuntu-24-04-x64", "tags": ["ours"]})
}

pub fn public(droplet: &Value) -> Option<&str> {
    let v4 = droplet["networks"]["v4"].as_array()?;
    v4.iter().find(|n| n["type"] == "public")?["ip_address"].as_str()
}

/// Says what the platform says, and remembers who asked.
#[derive(Clone, Default)]
pub struct Webapp(Arc<Mutex<Vec<(String, Value)>>>);

impl Webapp {
    pub async fn start() -> (Self, String) {
        let webapp = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let app = Router::new().fallback(platform).with_state(webapp.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (webapp, url)
    }

    pub fn count(&self, action: &str) -> usize {
        let calls = self.0.lock().expect("calls");
        calls.iter().filter(|(path, _)| path.ends_with(action)).count()
    }

    pub fn body(&self, action: &str) -> Value {
        let calls = self.0.lock().expect("calls");
        calls.iter().find(|(path, _)| path.ends_with(action)).map(|(_, body)| body.clone()).unwrap_or_default()
    }
}

pub async fn platform(State(webapp): State<Webapp>, request: HttpRequest) -> (StatusCode, Json<Value>) {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let known = header("authorization") == format!("Bearer {TOKEN}")
        && header("x-trigger-worker-managed-secret") == "managed"
        && !header("x-trigger-worker-instance-name").is_empty();
    let body = axum::body::to_bytes(body, 1 << 16).await.unwrap_or_default();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    webapp.0.lock().expect("calls").push((format!("{} {}", parts.method, parts.uri.path()), body));
    if known {
        (StatusCode::OK, Json(json!({"ok": true, "workerGroup": {"type": "MANAGED", "name": "bootstrap"}})))
    } else {
        (StatusCode::UNAUTHORIZED, Json(json!({"error": "Invalid or missing worker token"})))
    }
}

pub fn worker(name: &str, api_url: &str, token: &str, permissions: &str) -> Value {
    let content = format!(
        "TRIGGER_API_URL={api_url}\nTRIGGER_WORKER_TOKEN='{token}'\n\
         MANAGED_WORKER_SECRET=\"managed\"\nTRIGGER_WORKER_INSTANCE_NAME={name}\n"
    );
    let file =
        json!({"path": "/opt/trigger-supervisor/supervisor.env", "permissions": permissions, "content": content});
    let image = "ghcr.io/triggerdotdev/supervisor:v4.5.8";
    let config = json!({"write_files": [file], "runcmd": [format!("docker run {image}")]});
    let mut droplet = plain(name);
    droplet["user_data"] = format!("#cloud-config\n{config}").into();
    droplet
}
