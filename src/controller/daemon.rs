//! The daemon: the lease, the loop, signals, and what people ask of it while it runs.
//!
//! It acts only while it holds the lease. When that is lost it stands by, and reads the state anew
//! when it acts again.
//!
//! SIGTERM lets the current call finish for a few seconds and then hands it back: everything that
//! cannot be repeated stands in the journal. SIGHUP reads the configuration anew and keeps the old
//! one when the new one is bad.

mod standby;

use super::lease::{Candidate, LeaseError, Terms};
use super::status::Status;
use super::store::{Store, StoreError};
use super::{Controller, Next, OpenError};
use crate::clients::Seam;
use crate::config::{Config, ConfigError};
use crate::plan::mode::Shown;
use crate::telemetry::metrics;
use standby::Before;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// The documents promise that a stop is saved within five seconds; this leaves one for the save.
const STOP_GRACE: Duration = Duration::from_secs(4);
/// After a cycle whose state could not be saved.
const SAVE_AGAIN: Duration = Duration::from_secs(10);

/// What people ask of a running daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Cycle,
    Pause,
    Resume,
    Reload,
}

/// The daemon's handle for the HTTP server, signals and tests.
#[derive(Clone)]
pub struct Controls {
    pub status: watch::Receiver<Arc<Status>>,
    requests: Arc<Mutex<Vec<Request>>>,
    wake: Arc<Notify>,
    pub stop: CancellationToken,
}

impl Controls {
    /// Taken up before the next cycle, which comes at once.
    pub fn ask(&self, request: Request) {
        self.requests.lock().unwrap_or_else(|e| e.into_inner()).push(request);
        self.wake.notify_one();
    }
}

/// Why it does not act any more.
enum End {
    Stopped,
    Lost(String),
    /// The new configuration needs another lease.
    OtherTerms,
}

pub struct Daemon {
    config: Config,
    reload: Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>,
    /// Hears of each new configuration that was accepted.
    in_force: Box<dyn Fn(&Config) + Send + Sync>,
    store: Store,
    seam: Seam,
    status: watch::Sender<Arc<Status>>,
    controls: Controls,
}

impl Daemon {
    pub fn new(
        config: Config,
        reload: impl Fn() -> Result<Config, ConfigError> + Send + Sync + 'static,
        seam: Seam,
    ) -> Daemon {
        let (status, receiver) = watch::channel(Arc::new(Status::starting(Shown::Standby)));
        let controls = Controls {
            status: receiver,
            requests: Arc::default(),
            wake: Arc::default(),
            stop: CancellationToken::new(),
        };
        let store = Store::new(&config.state_file, seam.clone());
        Daemon { config, reload: Box::new(reload), in_force: Box::new(|_| {}), store, seam, status, controls }
    }

    /// What else follows the configuration: told after one was accepted, never of one that was refused.
    pub fn with_in_force(mut self, told: impl Fn(&Config) + Send + Sync + 'static) -> Daemon {
        self.in_force = Box::new(told);
        self
    }

    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }

    /// Runs until stopped: stands by, acts while it holds the lease, stands by again. `on_folder` is
    /// called whenever the folder's lease was taken, with what is cancelled when that is over.
    pub async fn run(self, mut on_folder: impl FnMut(&Store, CancellationToken)) -> Result<(), OpenError> {
        let mut config = self.config.clone();
        let mut candidate = self.candidate(&config)?;
        let mut before = Before::Start;
        while let Some(tenure) = self.stand_by(&mut config, &mut candidate, before, &mut on_folder).await? {
            // What was remembered before may be of another epoch: the state is read anew.
            let mut controller = Controller::open(
                config,
                self.store.clone().fenced(tenure.fence().clone()),
                self.seam.clone(),
                self.status.clone(),
                self.controls.stop.clone(),
            )?;
            controller.take_over(&tenure);
            let terms = Terms::of(controller.config());
            // Whatever is under way is left where it stands: it may not be finished any more.
            let end = tokio::select! {
                end = self.cycles(&mut controller, &terms) => end,
                why = tenure.over() => End::Lost(why),
            };
            config = controller.config().clone();
            match end {
                End::Lost(why) => {
                    metrics::lease_lost();
                    tracing::error!("the lease is lost, standing by: {why}");
                    before = Before::Lost(why);
                    continue;
                }
                End::Stopped | End::OtherTerms => {
                    if let Err(error) = controller.save().await {
                        tracing::error!(%error, "the state could not be saved at the end");
                    }
                }
            }
            if self.controls.stop.is_cancelled() {
                break;
            }
            before = Before::OtherTerms;
            let next = self.candidate(&config)?;
            std::mem::replace(&mut candidate, next).release().await;
        }
        candidate.release().await;
        tracing::info!("the controller has stopped");
        Ok(())
    }

    fn candidate(&self, config: &Config) -> Result<Candidate, LeaseError> {
        Candidate::new(config, &self.store, "daemon")
    }

    async fn cycles(&self, controller: &mut Controller, terms: &Terms) -> End {
        while !self.controls.stop.is_cancelled() {
            self.take_requests(controller).await;
            if Terms::of(controller.config()) != *terms {
                return End::OtherTerms;
            }
            let next = tokio::select! {
                done = controller.cycle(self.seam.now()) => done,
                () = self.stopped_for(STOP_GRACE) => {
                    tracing::warn!("stopping in the middle of a call; its outcome is looked for at the next start");
                    return End::Stopped;
                }
            };
            let pause = match next {
                Ok(Next::After(pause)) => pause,
                Ok(Next::WhenAsked) => Duration::MAX,
                Err(StoreError::Fenced(fenced)) if !fenced.is_for_now() => return End::Lost(fenced.to_string()),
                Err(error) => {
                    tracing::error!(%error, "the state could not be saved: nothing is changed until it can be");
                    SAVE_AGAIN
                }
            };
            tokio::select! {
                () = self.controls.stop.cancelled() => {}
                () = self.controls.wake.notified() => {}
                () = sleep(pause) => {}
            }
        }
        End::Stopped
    }

    /// Until it was stopped that long ago.
    async fn stopped_for(&self, grace: Duration) {
        self.controls.stop.cancelled().await;
        tokio::time::sleep(grace).await;
    }

    async fn take_requests(&self, controller: &mut Controller) {
        let requests = std::mem::take(&mut *self.controls.requests.lock().unwrap_or_else(|e| e.into_inner()));
        for request in requests {
            let done = match request {
                Request::Cycle => Ok(()),
                Request::Pause => controller.pause().await,
                Request::Resume => controller.resume().await,
                Request::Reload => {
                    self.reload(controller);
                    Ok(())
                }
            };
            match done {
                Ok(()) => tracing::info!(?request, "asked for: {request:?}"),
                Err(error) => tracing::error!(?request, %error, "asked for, and could not be saved"),
            }
        }
    }

    fn reload(&self, controller: &mut Controller) {
        let Some(config) = self.read_anew(controller.config()) else { return };
        match controller.reconfigure(config) {
            Ok(()) => self.accept(controller.config()),
            Err(error) => tracing::error!(%error, "the new configuration cannot be used; the old one stays in force"),
        }
    }

    /// `None` when it is bad, which is said.
    fn read_anew(&self, old: &Config) -> Option<Config> {
        let refused = match (self.reload)() {
            Ok(config) => match self.try_out(&config, old) {
                Ok(()) => {
                    for (names, what) in
                        [(config.needs_restart(old), ""), (config.runs_need_restart(old), "for durable runs ")]
                    {
                        if !names.is_empty() {
                            tracing::warn!(
                                "changed, and {what}in force from the next start only: {}",
                                names.join(", ")
                            );
                        }
                    }
                    return Some(config);
                }
                Err(error) => vec![error.to_string()],
            },
            Err(ConfigError(errors)) => errors,
        };
        for error in &refused {
            tracing::error!("configuration: {error}");
        }
        tracing::error!("the new configuration is refused; the old one stays in force");
        None
    }

    /// What could only fail later, when the old one is given up already.
    fn try_out(&self, config: &Config, old: &Config) -> Result<(), OpenError> {
        self.candidate(config)?;
        let identity = config.desired.identity_tag();
        if identity != old.desired.identity_tag() {
            self.store.load(&identity, self.seam.now())?;
        }
        Ok(())
    }

    fn accept(&self, config: &Config) {
        (self.in_force)(config);
        tracing::info!("the new configuration is in force");
    }
}

/// `Duration::MAX` waits for ever; tokio's own sleep would overflow.
async fn sleep(pause: Duration) {
    match pause {
        Duration::MAX => std::future::pending().await,
        pause => tokio::time::sleep(pause).await,
    }
}
