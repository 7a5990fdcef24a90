//! The router on a real listener, beside a database, with tokens of each scope.

use crate::document::Document;
use crate::server::Db;
use ops_controller::clients::Seam;
use ops_controller::config::Config;
use ops_controller::controller::daemon::{Controls, Daemon};
use ops_controller::http::{self, Access, OpsRoutes, Writes};
use ops_controller::plan::secret::Secret;
use ops_controller::runs::schema::Address;
use ops_controller::runs::tokens::{self, NewToken, Scope};
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Nothing here takes nearly that long; a loaded machine may.
pub const DEADLINE: Duration = Duration::from_secs(60);
pub const API_TOKEN: &str = "the-api-token-of-the-daemon";

pub fn controls() -> Controls {
    let pairs = [
        ("DIGITALOCEAN_TOKEN", "dop_v1_nobody"),
        ("RAILWAY_API_TOKEN", "nobody"),
        ("RAILWAY_PROJECT_ID", "project"),
        ("RAILWAY_ENVIRONMENT_ID", "environment"),
        ("DATABASE_URL", "postgresql://user:secret@127.0.0.1:1/railway"),
        ("STATE_FILE", "/nonexistent/state.json"),
    ];
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::from_pairs(pairs).expect("a configuration");
    let again = config.clone();
    Daemon::new(config, move || Ok(again.clone()), Seam::default()).controls()
}

/// The routes of runs in a database, for a program that knows the kind `mail`.
pub fn routes(address: &Address) -> OpsRoutes {
    OpsRoutes::new(address, ["mail".to_owned()])
}

/// An answer, taken whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// Its sentence.
    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str) -> String {
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json", "{}", self.text());
        let body = self.expect(status);
        assert_eq!((body["code"].as_str(), body["status"].as_u64()), (Some(code), Some(u64::from(status))), "{body}");
        body["detail"].as_str().expect("a sentence").to_owned()
    }
}

pub struct World {
    pub db: Arc<Db>,
    pub document: Arc<Document>,
    pub address: SocketAddr,
    pub access: Access,
    pub controls: Controls,
    client: Client,
    admin: String,
}

impl World {
    pub async fn start() -> World {
        World::with(|routes| routes).await
    }

    pub async fn with(adapt: impl FnOnce(OpsRoutes) -> OpsRoutes) -> World {
        let db = Arc::new(Db::new().await);
        let routes = adapt(routes(&db.address));
        World::serving(db, Some(routes)).await
    }

    pub async fn serving(db: Arc<Db>, routes: Option<OpsRoutes>) -> World {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let controls = controls();
        let access = Access::from(Writes::WithToken(Secret::new(API_TOKEN)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let router = http::router(controls.clone(), None, access.clone(), routes);
        tokio::spawn(http::serve(listener, router, controls.clone()));
        let client = Client::builder().no_proxy().timeout(DEADLINE).build().expect("a client");
        let api = client.get(format!("http://{address}/openapi.json")).send().await.expect("an answer");
        let document = Arc::new(Document::new(api.json().await.expect("JSON")));
        let mut world = World { db, document, address, access, controls, client, admin: API_TOKEN.to_owned() };
        world.admin = world.token("admin", &[Scope::Admin]).await;
        world
    }

    /// A new token, as the command makes it.
    pub async fn token(&self, name: &str, scopes: &[Scope]) -> String {
        let secret = tokens::generate().expect("chance");
        let token = NewToken { name, scopes, expires_in: None };
        tokens::create(&mut self.db.c().await, token, &tokens::digest(&secret), "test").await.expect("a token");
        secret
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    /// Sends it as it is; the answer is held against the document. A server that refuses a large body does
    /// not read it, and the client, still writing, may see only that: then it asks again.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        for _ in 0..50 {
            let Some(again) = request.try_clone() else { break };
            if let Ok(answer) = self.try_send(again).await {
                return answer;
            }
        }
        self.try_send(request).await.expect("an answer")
    }

    pub async fn try_send(&self, request: RequestBuilder) -> Result<Answer, reqwest::Error> {
        let request = request.build().expect("a request");
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let answer = self.client.execute(request).await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = answer.bytes().await?.to_vec();
        let kind = headers.get(CONTENT_TYPE).map(|kind| kind.to_str().expect("ASCII")).unwrap_or_default();
        if let Err(why) = self.document.hold(method.as_str(), &path, status, kind, &body) {
            panic!("{why}");
        }
        Ok(Answer { status, headers, body })
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path).bearer_auth(&self.admin)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).bearer_auth(&self.admin).json(&body)).await
    }

    pub fn as_admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).bearer_auth(&self.admin)
    }

    /// A queued run of the kind `mail`.
    pub async fn queued(&self) -> String {
        let run = self.post("/ops/runs", serde_json::json!({"kind": "mail"})).await.expect(201);
        run["run_id"].as_str().expect("an id").to_owned()
    }

    /// The same, claimed by `w1`, at work since then.
    pub async fn running(&self) -> String {
        let id = self.queued().await;
        self.db.execute("select ops.claim_runs('w1', '{mail}', 1, '1 hour')").await;
        self.db.execute(&format!("select ops.begin_phase('{id}', 1, 'send', 1)")).await;
        id
    }

    /// The same, ended.
    pub async fn finished(&self, outcome: &str) -> String {
        let id = self.running().await;
        let sql = format!("select ops.end_phase('{id}', 1, 'send', '{outcome}', '{{}}', null)");
        self.db.execute(&sql).await;
        let error = if outcome == "failed" { "'it broke'" } else { "null" };
        self.db
            .execute(&format!(
                "select ops.finish_runs('{{{id}}}', '{{1}}', '{{{outcome}}}', '{{null}}', array[{error}]::text[])"
            ))
            .await;
        id
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.controls.stop.cancel();
    }
}
