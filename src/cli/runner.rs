//! `runner`: claims and executes durable runs, without the controller. The daemon has the same inside.

use super::{CONFIGURATION, DONE, ERROR, configuration_errors, signals};
use ops_controller::clients::{Seam, machine};
use ops_controller::config::OpsConfig;
use ops_controller::http::ops::{Executed, NotExecuted, RunOne};
use ops_controller::http::{self, Access, OpsRoutes, Writes};
use ops_controller::plan::secret::Secret;
use ops_controller::runner::kinds::{self, Settings, needs, watch};
use ops_controller::runner::offer::Offer;
use ops_controller::runner::once::OnceError;
use ops_controller::runner::store::Store;
use ops_controller::runner::{Kinds, Options, Runner, report};
use ops_controller::runs::schema::Address;
use ops_controller::runs::troubles::Troubles;
use ops_controller::telemetry::{self, metrics};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The document's function executes this kind.
const BUILD: &str = "build";
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// For the answers that are on their way when the runner has ended.
const SERVER_GRACE: Duration = Duration::from_millis(500);

/// Everything of this process that has to do with runs.
pub struct Work {
    pub routes: OpsRoutes,
    runner: Option<JoinHandle<()>>,
    /// Runs that requests have begun.
    executions: TaskTracker,
}

impl Work {
    /// Starts the runner, unless RUNNER_CONCURRENCY is 0. `Err`: a setting that only shows here to be wrong.
    pub fn start(config: &OpsConfig, stop: CancellationToken) -> Result<Work, String> {
        let offer = Arc::new(needs::offer(&config.runner)?);
        report::describe();
        for warning in needs::warnings(&config.runner) {
            tracing::warn!("{warning}");
        }
        let address = Address::from_url(config.ops_database_url.expose(), "ops-controller runner");
        let address = address.map_err(|e| e.to_string())?;
        let settings = Settings::new(config, &Seam::default()).map_err(|e| e.to_string())?;
        let settings = Arc::new(settings);
        let mut kinds = kinds::all(&settings);
        kinds.retain(|kind, _| offer.left_out(kind).is_none());
        let troubles = Troubles::default();
        let store = settings.store();
        let is_tried = watch::watch_store(settings, &kinds, offer.clone(), troubles.clone(), stop.clone());
        let place = Place { address, options: options(config), kinds, store, offer, troubles };
        let executions = TaskTracker::new();
        let known = kinds::NAMES.map(str::to_owned);
        let mut routes = OpsRoutes::new(&place.address, known).with_troubles(place.troubles.clone());
        routes = match place.offer.left_out(BUILD) {
            None => routes.with_execution(run_one(&place, executions.clone(), stop.clone())),
            Some(why) => routes.without_execution(why),
        };
        let runner = (place.options.concurrency > 0).then(|| tokio::spawn(work(place, is_tried, stop)));
        Ok(Work { routes, runner, executions })
    }

    /// Until what was begun has ended, or was handed back.
    pub async fn ended(self) {
        if let Some(runner) = self.runner {
            let _ = runner.await;
        }
        self.executions.close();
        if !self.executions.is_empty() {
            tracing::info!("waiting for {} runs that requests have begun", self.executions.len());
        }
        self.executions.wait().await;
    }
}

fn options(config: &OpsConfig) -> Options {
    let runner = &config.runner;
    Options {
        worker_id: runner.worker_id.clone().unwrap_or_else(machine::hostname),
        concurrency: runner.concurrency,
        lease: runner.lease,
        poll: runner.poll,
        grace: runner.grace,
        retention: runner.retention,
        prune_every: Options::PRUNES_EVERY,
    }
}

/// What every runner of this process is made of.
#[derive(Clone)]
struct Place {
    address: Address,
    options: Options,
    kinds: Kinds,
    store: Arc<Store>,
    offer: Arc<Offer>,
    troubles: Troubles,
}

impl Place {
    fn runner(&self) -> Runner {
        Runner::new(self.address.clone(), self.options.clone(), self.kinds.clone())
            .offering(self.offer.clone())
            .telling(self.troubles.clone())
    }
}

/// What `POST /functions/v1/ops-runner` does: one build, with a name of its own.
fn run_one(place: &Place, executions: TaskTracker, stop: CancellationToken) -> RunOne {
    let mut place = place.clone();
    place.kinds.retain(|name, _| name == BUILD);
    place.options.concurrency = 1;
    Arc::new(move || {
        // Of its own: it goes on when nobody waits for it, and is waited for at the end.
        let execution = match place.offer.missing(BUILD) {
            None => Ok(executions.spawn(place.runner().once(stop.clone()))),
            Some(why) => Err(NotExecuted::NotClaimed(why)),
        };
        Box::pin(async move {
            let Ok(executed) = execution?.await else {
                return Err(NotExecuted::Lost("its execution failed, see the log".to_owned()));
            };
            match executed {
                Ok(None) => Ok(None),
                Ok(Some(once)) => {
                    Ok(Some(Executed { run_id: once.run_id, status: once.status, worker_id: once.worker_id }))
                }
                Err(error @ OnceError::NotClaimed(_)) => Err(NotExecuted::NotClaimed(error.to_string())),
                Err(error @ OnceError::Lost(_)) => Err(NotExecuted::Lost(error.to_string())),
            }
        })
    })
}

/// Waits for the database, makes the tables, and works.
async fn work(place: Place, mut is_tried: tokio::sync::watch::Receiver<bool>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => return,
        // So that what is said of the kinds at the start is so.
        _ = is_tried.wait_for(|tried| *tried) => {}
    }
    let mut pause = SHORTEST_PAUSE;
    while !stop.is_cancelled() {
        let migrated = tokio::select! {
            // A server that never answers keeps nobody.
            () = stop.cancelled() => return,
            migrated = place.address.migrate() => migrated,
        };
        let began = match migrated {
            Ok(_) => place.runner().pruning(place.store.clone()).run(stop.clone()).await,
            Err(error) => Err(error),
        };
        let Err(error) = began else { return };
        report::database_is_away(&place.troubles, &error);
        tracing::warn!(%error, "no runs are executed for now: {error}");
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// The command.
pub async fn run() -> u8 {
    let config = match OpsConfig::from_env() {
        Ok(config) => config,
        Err(error) => return configuration_errors(&error),
    };
    let _telemetry = telemetry::init(config.log_format, &config.log_level, &config.secrets());
    if config.runner.concurrency == 0 {
        tracing::error!("RUNNER_CONCURRENCY is 0: this runner would never do anything");
        return CONFIGURATION;
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    // Before anything that takes time: a stop is heard from the beginning.
    let stop = CancellationToken::new();
    let known = config.clone();
    let hung_up = move || tracing::warn!("SIGHUP: {}", of_hangup(&known));
    tokio::spawn(signals::heard(stop.clone(), "no more runs are claimed", hung_up));
    let listener = match TcpListener::bind(config.listen_addr).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(address = %config.listen_addr, %error, "LISTEN_ADDR {} cannot be used: {error}", config.listen_addr);
            return ERROR;
        }
    };
    let address = listener.local_addr().unwrap_or(config.listen_addr);
    let handle = metrics::install();
    let work = match Work::start(&config, stop.clone()) {
        Ok(work) => work,
        Err(error) => {
            tracing::error!(%error, "the runner cannot be set up: {error}");
            return CONFIGURATION;
        }
    };
    let access = Access::from(writes(address, config.api_token.as_ref()));
    // Ends after the work: its state can be looked at until then.
    let over = CancellationToken::new();
    let routes = http::runner_router(over.clone(), handle, access, work.routes.clone());
    let mut server = tokio::spawn(http::serve_until(listener, routes, over.clone()));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %address, "the runner listens on http://{address}");
    work.ended().await;
    over.cancel();
    if tokio::time::timeout(SERVER_GRACE, &mut server).await.is_err() {
        server.abort();
    }
    DONE
}

/// By the address at which it really listens.
pub fn writes(address: SocketAddr, token: Option<&Secret>) -> Writes {
    match token {
        token if !address.ip().is_loopback() => Writes::NotLocal(token.cloned()),
        Some(token) => Writes::WithToken(token.clone()),
        None => Writes::NoToken,
    }
}

/// What a SIGHUP is answered with: a runner is never changed while it works.
fn of_hangup(config: &OpsConfig) -> String {
    const NEVER: &str = "a runner reads its settings at the start only";
    match OpsConfig::from_env().map(|anew| anew.changed(config)) {
        Ok(changed) if changed.is_empty() => format!("{NEVER}, and they have not changed"),
        Ok(changed) => format!("{NEVER}: restart it, because of {}", changed.join(", ")),
        Err(error) => format!("{NEVER}, and at the next start they would be refused: {}", error.0.join("; ")),
    }
}
