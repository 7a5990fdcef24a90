//! A world in memory whose time is compressed: months pass in minutes, and the same way each time.
//!
//! The controller under test is the real one, down to the bytes of its requests and of its state
//! file; what lies behind the network is not. DigitalOcean is the sandbox's own simulator without
//! its listener; Railway, the webapp and PostgreSQL are models, because real ones take real time.
//! The suites that use the real ones say whether the models are right; here it is about order.

// Each test binary uses a part of this.
#![allow(dead_code)]

pub mod driver;
pub mod echo;
pub mod platform;
pub mod railway;
pub mod trouble;

use axum::body::{Body, to_bytes};
use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use ops_controller::clients::http::{Lost, Reply};
use ops_controller::clients::postgres::{Change, Server};
use ops_controller::clients::seam::Outside;
use ops_controller::clients::{ClientError, Fence};
use ops_controller::plan::observation::{DatabaseView, Publication};
use ops_controller::sandbox::calendar::Calendar;
use ops_controller::sandbox::digitalocean::{DigitalOcean, DigitalOceanOptions, DropletView, Recorded};
use ops_controller::sandbox::droplet::user_data::supervisor_env;
use ops_controller::sandbox::faults::{Break, Faults};
use platform::{Platform, Supervisor};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use trouble::{Call, Orders, Party, Trouble};

pub const DIGITALOCEAN: &str = "https://api.digitalocean.example.org";
pub const RAILWAY: &str = "https://railway.example.org/graphql/v2";
/// What one call takes.
const LATENCY: Duration = Duration::from_millis(80);
/// A client's patience; nothing ever takes longer than its own.
const SILENCE: Duration = Duration::from_secs(15);
/// A younger one may only need more time.
const BOOTS: SignedDuration = SignedDuration::from_mins(4);
const LARGEST: usize = 8 << 20;
const HTML: &str = "<!DOCTYPE html><html><head><title>bad gateway</title></head><body>cloudflare</body></html>";

/// Handles of one and the same world.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    calendar: Calendar,
    cloud: DigitalOcean,
    faults: Faults,
    state: Mutex<State>,
    /// A request was sent and its sender is to die now.
    in_flight: Notify,
}

struct State {
    platform: Platform,
    orders: Orders,
    /// What the database repeats when it repeats everything.
    database_url: String,
    /// The next call never returns to the program, which dies while it is under way.
    dies_in_flight: bool,
    counts: Counts,
    supervisors: BTreeMap<u64, Option<Supervisor>>,
}

/// What was asked, by party.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    pub railway: u64,
    pub digitalocean: u64,
    pub database: u64,
    /// Answers that repeated what was sent.
    pub echoes: u64,
    /// Creates that came while one that is just the same served or booted.
    pub needless_creates: u64,
}

/// Midnight, so that messages are easy to read.
fn epoch() -> Timestamp {
    Timestamp::from_second(1_767_225_600).expect("a moment")
}

impl World {
    /// Must be called in a runtime whose clock is paused.
    pub fn new(seed: u64, list_lag: Duration, token: &str) -> World {
        World::of(DigitalOceanOptions { seed, list_lag, ..DigitalOceanOptions::default() }, token)
    }

    /// With another account than usual; its times are this world's.
    pub fn of(account: DigitalOceanOptions, token: &str) -> World {
        let calendar = Calendar::starting(epoch());
        let faults = Faults::default();
        let options = DigitalOceanOptions {
            boot: Duration::from_secs(25),
            address_lag: Duration::from_secs(4),
            supervisor_boot: Duration::from_secs(40),
            delete: Duration::from_secs(15),
            firewall_apply: Duration::from_secs(3),
            ..account
        };
        let cloud = DigitalOcean::in_memory(options, faults.clone(), calendar).expect("an account");
        let platform = Platform::new(calendar.now(), token);
        let state = State {
            platform,
            orders: Orders::default(),
            database_url: String::new(),
            dies_in_flight: false,
            counts: Counts::default(),
            supervisors: BTreeMap::new(),
        };
        World(Arc::new(Inner { calendar, cloud, faults, state: Mutex::new(state), in_flight: Notify::new() }))
    }

    pub fn now(&self) -> Timestamp {
        self.0.calendar.now()
    }

    pub fn cloud(&self) -> &DigitalOcean {
        &self.0.cloud
    }

    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    pub fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    /// The platform as it is now.
    pub fn platform<T>(&self, work: impl FnOnce(&mut Platform, Timestamp) -> T) -> T {
        let supervisors = self.supervisors();
        let now = self.now();
        let mut state = self.state();
        state.platform.advance(now, &supervisors);
        work(&mut state.platform, now)
    }

    pub fn set_database_url(&self, url: &str) {
        self.state().database_url = format!("no connection with {url}, which was given");
    }

    pub fn orders<T>(&self, work: impl FnOnce(&mut Orders) -> T) -> T {
        work(&mut self.state().orders)
    }

    /// The next call is sent, and whoever sent it dies before any answer: see `died_in_flight`.
    pub fn let_the_next_call_die_in_flight(&self) {
        self.state().dies_in_flight = true;
    }

    pub async fn died_in_flight(&self) {
        self.0.in_flight.notified().await;
    }

    pub async fn sleep_until(&self, at: Timestamp) {
        let left = at.duration_since(self.now());
        tokio::time::sleep(left.try_into().unwrap_or_default()).await;
    }

    /// The same request once more, answered to nobody.
    pub async fn repeat(&self, request: &Recorded) {
        let path = format!("{DIGITALOCEAN}{}", request.path);
        let token = format!("Bearer {}", DigitalOceanOptions::default().token);
        let built = axum::http::Request::builder().method(request.method.as_str()).uri(path);
        let built = built.header("authorization", token).body(Body::from(request.body.to_string()));
        self.0.cloud.carry(built.expect("a request")).await.expect("an answer");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("the world")
    }

    fn supervisors(&self) -> Vec<Supervisor> {
        let alive = |d: &DropletView| d.alive && !d.foreign;
        self.0.cloud.droplets().iter().filter(|d| alive(d)).filter_map(|d| self.supervisor_of(d)).collect()
    }

    /// What a machine was told to run. User-data never changes, so it is read once.
    pub fn supervisor_of(&self, droplet: &DropletView) -> Option<Supervisor> {
        let read = || {
            let env = supervisor_env(&droplet.user_data).ok()?;
            Some(Supervisor { name: env.instance_name, token: env.token, managed_secret: env.managed_secret })
        };
        self.state().supervisors.entry(droplet.id).or_insert_with(read).clone()
    }

    fn fate(&self, call: Call) -> Fate {
        let now = self.now();
        let mut state = self.state();
        match call.party {
            Party::Railway => state.counts.railway += 1,
            Party::DigitalOcean => state.counts.digitalocean += 1,
            Party::Database => state.counts.database += 1,
            Party::Webapp | Party::Supervisor => {}
        }
        if std::mem::take(&mut state.dies_in_flight) {
            return Fate::DiesInFlight;
        }
        let trouble = state.orders.take(call, now);
        state.counts.echoes += u64::from(trouble == Some(Trouble::Echo));
        Fate::Goes(trouble)
    }

    /// One call with whatever goes wrong with it.
    async fn call<T>(
        &self,
        call: Call,
        done: impl Future<Output = T> + Send + 'static,
        failed: impl FnOnce(Trouble, Option<T>) -> T,
    ) -> T
    where
        T: Send + 'static,
    {
        let Fate::Goes(trouble) = self.fate(call) else {
            tokio::spawn(async move {
                tokio::time::sleep(LATENCY).await;
                done.await
            });
            self.0.in_flight.notify_one();
            return std::future::pending().await;
        };
        tokio::time::sleep(LATENCY).await;
        match trouble {
            None => done.await,
            Some(Trouble::Stale) => {
                let is_first = !self.0.faults.is_on(Break::ListLag);
                if is_first {
                    self.0.faults.next_requests(Break::ListLag, 1);
                }
                let answer = done.await;
                if is_first {
                    self.0.faults.clear(Break::ListLag);
                }
                answer
            }
            Some(Trouble::DoneLater(time)) => {
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    done.await
                });
                failed(Trouble::DoneLater(time), None)
            }
            Some(trouble @ (Trouble::AnswerLost | Trouble::Gateway504 | Trouble::ErrorAfter | Trouble::Partial)) => {
                let answer = done.await;
                failed(trouble, Some(answer))
            }
            Some(Trouble::Silence) => {
                tokio::time::sleep(SILENCE).await;
                failed(Trouble::Silence, None)
            }
            Some(trouble) => failed(trouble, None),
        }
    }

    async fn answer(&self, request: &Sent) -> Result<Reply, Lost> {
        match request.party {
            Party::Railway => Ok(self.railway(request)),
            Party::DigitalOcean => self.digitalocean(request).await,
            Party::Supervisor => self.supervisor(request),
            _ => Ok(self.webapp(request)),
        }
    }

    fn railway(&self, request: &Sent) -> Reply {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let operation = body["operationName"].as_str().unwrap_or_default();
        let data = self.platform(|platform, now| railway::data(platform, now, operation, &body["variables"]));
        match data {
            Some(data) => json_reply(200, &json!({ "data": data })),
            None => json_reply(200, &json!({"data": null, "errors": [{"message": "Not found"}]})),
        }
    }

    fn is_needless_create(&self, request: &Sent) -> bool {
        if request.method != reqwest::Method::POST || request.url.path() != "/v2/droplets" {
            return false;
        }
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let wanted: BTreeSet<&str> = body["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let lately = self.now() - BOOTS;
        self.0.cloud.droplets().iter().any(|d| {
            let tags: BTreeSet<&str> = d.tags.iter().map(String::as_str).collect();
            let is_young = d.created_at.parse::<Timestamp>().is_ok_and(|at| at > lately);
            let fits = tags == wanted && body["size"] == d.size.as_str() && body["region"] == d.region.as_str();
            fits && (d.alive || is_young) && !d.deleting
        })
    }

    async fn digitalocean(&self, request: &Sent) -> Result<Reply, Lost> {
        if self.is_needless_create(request) {
            self.state().counts.needless_creates += 1;
        }
        let mut built = axum::http::Request::builder().method(request.method.as_str()).uri(request.url.as_str());
        for (name, value) in &request.headers {
            built = built.header(name, value);
        }
        let built = built.body(Body::from(request.body.clone())).expect("a request");
        let Some(response) = self.0.cloud.carry(built).await else {
            return Err(Lost::Broken("connection closed".to_owned()));
        };
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, LARGEST).await.expect("a body").to_vec();
        Ok(Reply { status: parts.status, headers: parts.headers, body })
    }

    fn supervisor(&self, request: &Sent) -> Result<Reply, Lost> {
        let host = request.url.host_str().unwrap_or_default();
        match self.0.cloud.droplets().into_iter().find(|d| d.ip.to_string() == host) {
            Some(droplet) if droplet.alive => Ok(text_reply(200, "OK")),
            _ => Err(Lost::NotSent("connection refused".to_owned())),
        }
    }

    /// Only what the probe asks: `connect` with a body that is none.
    fn webapp(&self, request: &Sent) -> Reply {
        let header = |name: &str| request.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let token = header("authorization").trim_start_matches("Bearer ").to_owned();
        let secret = header("x-trigger-worker-managed-secret").to_owned();
        let (is_up, accepts) = self.platform(|p, now| (p.is_up(now), p.accepts(&token, &secret)));
        match (is_up, accepts) {
            (false, _) => json_reply(500, &json!({"error": "Internal Server Error"})),
            (true, true) => json_reply(400, &json!({"error": "Body Error", "details": []})),
            (true, false) => json_reply(401, &json!({"error": "Invalid or missing worker token"})),
        }
    }

    fn change(&self, change: Change) -> Result<(), ClientError> {
        self.platform(|platform, now| {
            if !platform.is_up(now) {
                return Err(refused());
            }
            let publication = Publication { has_table: true, inserts: true, updates: true, deletes: true, owned: true };
            match change {
                Change::WalLevelLogical => platform.wal_level_in_file = Some("logical"),
                Change::Reload => {}
                Change::ReplicaIdentityFull => platform.replica_identity = 'f',
                Change::CreatePublication if platform.publication.is_some() => {
                    let message = "create the publication: it already exists".to_owned();
                    return Err(ClientError::Refused { provider: "PostgreSQL", status: 0, message });
                }
                Change::CreatePublication | Change::AddTableToPublication | Change::SetPublicationOperations => {
                    platform.publication = Some(publication);
                }
            }
            Ok(())
        })
    }

    async fn database<T: Send + 'static>(
        &self,
        is_write: bool,
        work: impl FnOnce(&World) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<T, ClientError> {
        let world = self.clone();
        let done = async move { work(&world) };
        let (provider, echo) = ("PostgreSQL", self.state().database_url.clone());
        self.call(Call { party: Party::Database, is_write, is_of_droplets: false }, done, |trouble, _| match trouble {
            Trouble::ConnectionRefused => Err(refused()),
            Trouble::ErrorBefore | Trouble::RateLimited { .. } => {
                Err(ClientError::Refused { provider, status: 0, message: "too many clients already".to_owned() })
            }
            Trouble::Echo => Err(ClientError::Refused { provider, status: 0, message: echo }),
            _ => Err(ClientError::NoAnswer { provider, message: "the connection broke".to_owned() }),
        })
        .await
    }
}

/// What becomes of a call.
enum Fate {
    Goes(Option<Trouble>),
    DiesInFlight,
}

fn refused() -> ClientError {
    ClientError::NotSent { provider: "PostgreSQL", message: "connection refused".to_owned() }
}

/// A request as it left the program.
struct Sent {
    party: Party,
    method: reqwest::Method,
    url: reqwest::Url,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Sent {
    fn read(request: reqwest::Request) -> Sent {
        let url = request.url().clone();
        let party = match url.as_str() {
            text if text.starts_with(DIGITALOCEAN) => Party::DigitalOcean,
            text if text.starts_with(RAILWAY) => Party::Railway,
            text if text.starts_with(railway::WEBAPP) => Party::Webapp,
            _ => Party::Supervisor,
        };
        let body = request.body().and_then(|b| b.as_bytes()).unwrap_or_default().to_vec();
        Sent { party, method: request.method().clone(), url, headers: request.headers().clone(), body }
    }

    fn is_write(&self) -> bool {
        match self.party {
            Party::DigitalOcean => self.method != reqwest::Method::GET,
            Party::Railway => memchr::memmem::find(&self.body, b"DeploymentRestart").is_some(),
            _ => false,
        }
    }
}

impl Outside for World {
    fn now(&self) -> Timestamp {
        World::now(self)
    }

    fn http(&self, request: reqwest::Request) -> Pin<Box<dyn Future<Output = Result<Reply, Lost>> + Send + '_>> {
        let request = Arc::new(Sent::read(request));
        let party = request.party;
        let call = Call {
            party,
            is_write: request.is_write(),
            is_of_droplets: party == Party::DigitalOcean && request.url.path().starts_with("/v2/droplets"),
        };
        let (world, sent) = (self.clone(), request.clone());
        let done = async move { world.answer(&sent).await };
        Box::pin(self.call(call, done, move |trouble, answer| match trouble {
            Trouble::Echo => Ok(echo::reply(&request, self.counts().echoes)),
            trouble => troubled(party, trouble, answer),
        }))
    }

    fn database(&self) -> Arc<dyn Server> {
        Arc::new(self.clone())
    }
}

impl Server for World {
    fn look(&self) -> BoxFuture<'_, Result<DatabaseView, ClientError>> {
        Box::pin(self.database(false, |world| {
            world.platform(|p, now| if p.is_up(now) { Ok(p.view(now)) } else { Err(refused()) })
        }))
    }

    fn heartbeat_age<'a>(&'a self, worker: &'a str) -> BoxFuture<'a, Result<Option<f64>, ClientError>> {
        let worker = worker.to_owned();
        Box::pin(self.database(false, move |world| {
            world.platform(|p, now| if p.is_up(now) { Ok(p.heartbeat_age(&worker, now)) } else { Err(refused()) })
        }))
    }

    fn change<'a>(&'a self, change: Change, fence: &'a Fence) -> BoxFuture<'a, Result<(), ClientError>> {
        let fence = fence.clone();
        Box::pin(self.database(true, move |world| {
            fence.check()?;
            world.change(change)
        }))
    }

    fn rotate_token<'a>(
        &'a self,
        group_id: &'a str,
        old_hash: &'a str,
        new_hash: &'a str,
        fence: &'a Fence,
    ) -> BoxFuture<'a, Result<bool, ClientError>> {
        let (group, old, new) = (group_id.to_owned(), old_hash.to_owned(), new_hash.to_owned());
        let fence = fence.clone();
        Box::pin(self.database(true, move |world| {
            fence.check()?;
            world.platform(|p, now| {
                if !p.is_up(now) {
                    return Err(refused());
                }
                let is_seen = group == platform::GROUP && p.token_hash == old;
                if is_seen {
                    p.token_hash = new;
                }
                Ok(is_seen)
            })
        }))
    }
}

/// What the program gets to see instead of the answer.
fn troubled(party: Party, trouble: Trouble, answer: Option<Result<Reply, Lost>>) -> Result<Reply, Lost> {
    let error = match party {
        Party::Railway => (200, json!({"data": null, "errors": [{"message": "Problem processing request"}]})),
        _ => (500, json!({"id": "server_error", "message": "Unexpected server-side error"})),
    };
    match trouble {
        Trouble::AnswerLost | Trouble::NeverArrived => Err(Lost::Broken("connection reset by peer".to_owned())),
        Trouble::ConnectionRefused => Err(Lost::NotSent("connection refused".to_owned())),
        Trouble::Silence => Err(Lost::TimedOut),
        Trouble::Gateway504 | Trouble::DoneLater(_) => Ok(text_reply(504, HTML)),
        Trouble::Html502 => Ok(text_reply(502, HTML)),
        Trouble::ErrorBefore | Trouble::ErrorAfter => Ok(json_reply(error.0, &error.1)),
        Trouble::RateLimited { retry_after } => {
            let mut reply = json_reply(429, &json!({"id": "too_many_requests", "message": "slow down"}));
            if let Some(seconds) = retry_after {
                reply.headers.insert("retry-after", HeaderValue::from(seconds));
            }
            Ok(reply)
        }
        Trouble::Partial => answer.unwrap_or(Err(Lost::TimedOut)).map(|reply| partial(party, reply)),
        Trouble::Stale | Trouble::Echo => Err(Lost::TimedOut),
    }
}

/// Railway answers with data and an error beside it; another body breaks off in the middle.
fn partial(party: Party, mut reply: Reply) -> Reply {
    match (party, serde_json::from_slice::<Value>(&reply.body)) {
        (Party::Railway, Ok(mut body)) => {
            body["errors"] = json!([{"message": "Problem processing request"}]);
            if let Some(webapp) = body["data"].get_mut("webapp") {
                *webapp = Value::Null;
            }
            json_reply(200, &body)
        }
        _ => {
            reply.body.truncate(reply.body.len() / 2);
            reply
        }
    }
}

fn json_reply(status: u16, body: &Value) -> Reply {
    text_reply(status, &body.to_string())
}

fn text_reply(status: u16, body: &str) -> Reply {
    let status = StatusCode::from_u16(status).expect("a status");
    Reply { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec() }
}
