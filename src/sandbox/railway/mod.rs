//! A simulated Railway: one project, one GraphQL endpoint, executed for real against a schema.
//!
//! Behind two of its services stand real things: the database cluster, which a restart restarts,
//! and the webapp, whose log lines the deployment logs are. It simulates the fields of
//! `schema.graphql` and refuses every other one with an error, as the real API does. Services made
//! through the API are apps: what is deployed of one answers on loopback. None can be deleted.

mod apps;
mod filter;
mod graphql;
mod http;
mod logs;
mod objects;
mod resolve;
mod restart;
mod trouble;
mod world;

pub use apps::AppFate;
pub use graphql::FUTURE_STATUS;
pub use trouble::Trouble;
pub use world::{POSTGRES_IMAGE, RailwayRequest, RestartRequest};

use crate::sandbox::connection::{Cut, CuttableListener};
use crate::sandbox::faults::{Break, Faults};
use crate::sandbox::postgres::Cluster;
use crate::sandbox::webapp::{Webapp, seed};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use world::{Service, Variable, World};

/// The simulated part of the schema; compared with the official one by a test.
pub const SDL: &str = include_str!("schema.graphql");
const PATH: &str = "/graphql/v2";
/// How often standing faults are looked at.
const FAULT_WATCH: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
pub struct RailwayOptions {
    pub seed: u64,
    pub project_id: String,
    pub environment_id: String,
    pub account_token: String,
    pub project_token: String,
    /// How long the database is away when Railway restarts it.
    pub postgres_restart: Duration,
    /// The same under `Break::SlowRestart`.
    pub slow_restart: Duration,
    /// How long an app's deployment stays BUILDING, and then DEPLOYING.
    pub app_build: Duration,
    pub app_start: Duration,
    /// Requests in an hour; 1,000 is the Hobby plan.
    pub rate_limit: u32,
    /// HTTP status for documents that do not fit the schema. Clients report 200; the provider's
    /// newer documentation says 400.
    pub validation_status: u16,
}

impl Default for RailwayOptions {
    fn default() -> RailwayOptions {
        let seed = 1;
        RailwayOptions {
            seed,
            project_id: seed::uuid(seed, "project", 0),
            environment_id: seed::uuid(seed, "environment", 0),
            account_token: seed::uuid(seed, "account token", 0),
            project_token: seed::uuid(seed, "project token", 1),
            postgres_restart: Duration::from_millis(300),
            slow_restart: Duration::from_secs(15),
            app_build: Duration::from_millis(50),
            app_start: Duration::from_millis(50),
            rate_limit: 1_000,
            validation_status: 200,
        }
    }
}

/// A running simulator. Dropping it lets the server go on until its runtime ends; `stop` ends it.
pub struct Railway {
    world: Arc<World>,
    address: SocketAddr,
}

impl Railway {
    pub async fn start(
        options: RailwayOptions,
        faults: Faults,
        cluster: Arc<Cluster>,
        webapp: Webapp,
    ) -> io::Result<Railway> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let world = Arc::new(World::new(options, faults, cluster, webapp));
        let service = http::router(world.clone()).into_make_service_with_connect_info::<Cut>();
        let stop = world.stop.clone().cancelled_owned();
        let server = axum::serve(CuttableListener(listener), service).with_graceful_shutdown(stop);
        world.tasks.spawn(async move { server.await });
        world.tasks.spawn(follow_faults(world.clone()));
        Ok(Railway { world, address })
    }

    pub async fn stop(&self) {
        self.world.stop.cancel();
        self.world.tasks.close();
        let _ = tokio::time::timeout(PATIENCE, self.world.tasks.wait()).await;
    }

    /// The whole endpoint, path included.
    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    pub fn options(&self) -> &RailwayOptions {
        &self.world.options
    }

    pub fn project_id(&self) -> &str {
        &self.world.options.project_id
    }

    pub fn environment_id(&self) -> &str {
        &self.world.options.environment_id
    }

    pub fn service_id(&self, name: &str) -> Option<String> {
        self.find(name).map(|service| service.id)
    }

    /// Newest first.
    pub fn deployment_ids(&self, service: &str) -> Vec<String> {
        let deployments = self.find(service).map(|s| s.deployments).unwrap_or_default();
        deployments.into_iter().rev().map(|deployment| deployment.id).collect()
    }

    /// An app as if made in the dashboard, without image or deployment; an error when the name is taken.
    pub fn add_app(&self, name: &str) -> Result<String, String> {
        let made = apps::create(&self.world, &serde_json::json!({ "name": name }));
        made.map(|service| service.id).map_err(|error| error.message)
    }

    /// Where an app answers, whatever is deployed.
    pub fn app_url(&self, service: &str) -> Option<String> {
        self.find(service)?.address.map(|address| format!("http://{address}"))
    }

    /// What becomes of the next deployment of this app; those after it succeed again.
    pub fn next_deployment(&self, service: &str, fate: AppFate) {
        self.world.state().fates.push((service.to_string(), fate));
    }

    /// What the app's `/health` answers from now on, whichever deployment serves.
    pub fn set_app_health(&self, service: &str, status: u16) {
        if let Some(id) = self.service_id(service) {
            self.world.state().health.insert(id, status);
        }
    }

    /// The value of a variable, as deployments get it.
    pub fn set_image(&self, service: &str, image: &str) -> bool {
        self.world.change_service(service, |s| s.image = Some(image.to_string()))
    }

    pub fn variable(&self, service: &str, name: &str) -> Option<String> {
        self.find(service)?.variables.get(name)?.value.clone()
    }

    /// `false` when there is no such service, as for the methods below.
    pub fn set_variable(&self, service: &str, name: &str, value: &str) -> bool {
        let variable = Variable { value: Some(value.to_string()), ..Variable::default() };
        self.world.change_service(service, |s| drop(s.variables.insert(name.to_string(), variable)))
    }

    /// The map then holds null under this name.
    pub fn set_variable_to_null(&self, service: &str, name: &str) -> bool {
        self.world.change_service(service, |s| drop(s.variables.insert(name.to_string(), Variable::default())))
    }

    pub fn remove_variable(&self, service: &str, name: &str) -> bool {
        self.world.change_service(service, |s| drop(s.variables.remove(name)))
    }

    /// Its value is never shown again; its name is, among the kinds.
    pub fn seal_variable(&self, service: &str, name: &str) -> bool {
        let seal = |s: &mut Service| s.variables.entry(name.to_string()).or_default().sealed = true;
        self.world.change_service(service, seal)
    }

    pub fn rename_service(&self, from: &str, to: &str) -> bool {
        self.world.change_service(from, |s| s.name = to.to_string())
    }

    /// The newest deployment of the webapp shows this status, `FUTURE_STATUS` included.
    pub fn set_webapp_deployment_status(&self, status: &str) {
        self.world.webapp.set_deployment_status(status);
    }

    /// For the next request of any operation.
    pub fn inject(&self, trouble: Trouble) {
        self.world.state().troubles.push(None, trouble);
    }

    /// For the next request of this operation.
    pub fn inject_for(&self, operation: &str, trouble: Trouble) {
        self.world.state().troubles.push(Some(operation), trouble);
    }

    pub fn clear_injected(&self) {
        self.world.state().troubles.clear();
    }

    /// As if so many requests had been made in this hour.
    pub fn spend_rate_limit(&self, requests: u32) {
        let mut state = self.world.state();
        state.window_began.get_or_insert_with(jiff::Timestamp::now);
        state.spent = state.spent.saturating_add(requests).min(self.world.options.rate_limit);
    }

    pub fn requests(&self) -> Vec<RailwayRequest> {
        self.world.state().requests.clone()
    }

    pub fn clear_requests(&self) {
        self.world.state().requests.clear();
    }

    /// Every mutation that asked for a restart, in order.
    pub fn restart_requests(&self) -> Vec<RestartRequest> {
        self.world.state().restarts.clone()
    }

    /// How often the database really came back.
    pub fn postgres_restarts(&self) -> u32 {
        self.world.cluster.restarts()
    }

    fn find(&self, name: &str) -> Option<Service> {
        self.world.services().into_iter().find(|service| service.name == name)
    }
}

/// Faults that nobody asks for by a request: the database that is away, the poisoned log.
async fn follow_faults(world: Arc<World>) {
    let mut stopped_by_us = false;
    loop {
        tokio::select! {
            () = world.stop.cancelled() => return,
            () = tokio::time::sleep(FAULT_WATCH) => {}
        }
        if world.faults.take(Break::PoisonedToken) {
            world.webapp.poison_log();
            // Once is enough, even when it was ordered for a while.
            world.faults.clear(Break::PoisonedToken);
        }
        let down = world.faults.is_on(Break::DatabaseDown);
        // Looked at again and again, because a restart asked of Railway must not end the outage.
        if down && world.cluster.is_running() {
            stopped_by_us |= world.cluster.stop().await.is_ok();
        } else if !down && stopped_by_us {
            stopped_by_us = world.cluster.start().await.is_err();
        }
    }
}
