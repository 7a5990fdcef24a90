//! The daemon: the lease, the loop, signals, and what people ask of it while it runs.
//!
//! It acts only while it holds the lease. When that is lost it stands by, and reads the state anew
//! when it acts again.
//!
//! SIGTERM lets the current call finish for a few seconds and then hands it back: everything that
//! cannot be repeated stands in the journal. SIGHUP reads the configuration anew and keeps the old
//! one when the new one is bad.

use super::lease::{Attempt, Candidate, Tenure, Terms};
use super::status::Status;
use super::store::{Store, StoreError};
use super::{Controller, Next, OpenError};
use crate::clients::Seam;
use crate::config::{Config, ConfigError};
use crate::plan::mode::Shown;
use crate::telemetry::metrics;
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
        Daemon { config, reload: Box::new(reload), store, seam, status, controls }
    }

    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }

    /// Runs until stopped: stands by, acts while it holds the lease, stands by again. `on_folder` is
    /// called whenever the folder's lease was taken, with what is cancelled when that is over.
    pub async fn run(self, mut on_folder: impl FnMut(&Store, CancellationToken)) -> Result<(), OpenError> {
        let mut config = self.config.clone();
        let mut candidate = Candidate::new(&config, &self.store, "daemon")?;
        let mut lost = None;
        while let Some(tenure) = self.stand_by(&mut candidate, lost.take(), &mut on_folder).await? {
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
                    lost = Some(why);
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
            candidate.release().await;
            candidate = Candidate::new(&config, &self.store, "daemon")?;
        }
        candidate.release().await;
        tracing::info!("stopped");
        Ok(())
    }

    /// `None` when stopped while waiting.
    async fn stand_by(
        &self,
        candidate: &mut Candidate,
        lost: Option<String>,
        on_folder: &mut impl FnMut(&Store, CancellationToken),
    ) -> Result<Option<Tenure>, OpenError> {
        let mut said = String::new();
        let mut is_open = candidate.folder_over().is_some_and(|over| !over.is_cancelled());
        if let Some(why) = &lost {
            self.publish_standby(why.clone());
        }
        loop {
            let attempt = candidate.attempt().await;
            match candidate.folder_over().filter(|over| !over.is_cancelled()) {
                Some(over) if !std::mem::replace(&mut is_open, true) => on_folder(&self.store, over.clone()),
                Some(_) => {}
                None => is_open = false,
            }
            let why = match attempt {
                Ok(Attempt::Active(tenure)) => return Ok(Some(tenure)),
                Ok(Attempt::Standby { why }) => why,
                // Who has acted goes on waiting; who starts like this was set up wrong.
                Err(error) if lost.is_some() => error.to_string(),
                Err(error) => return Err(error.into()),
            };
            if said != why {
                tracing::warn!("standing by: {why}");
                let both = lost.as_ref().map(|lost| format!("{why} (before: {lost})"));
                self.publish_standby(both.unwrap_or_else(|| why.clone()));
                said = why;
            }
            tokio::select! {
                () = self.controls.stop.cancelled() => return Ok(None),
                () = tokio::time::sleep(candidate.look_every()) => {}
            }
        }
    }

    fn publish_standby(&self, why: String) {
        let status = Status { mode_reason: Some(why), ..Status::starting(Shown::Standby) };
        metrics::set_active(false);
        metrics::set_mode(Shown::Standby);
        metrics::set_health(false, 0);
        self.status.send_replace(Arc::new(status));
    }

    async fn cycles(&self, controller: &mut Controller, terms: &Terms) -> End {
        while !self.controls.stop.is_cancelled() {
            self.take_requests(controller).await;
            if Terms::of(controller.config()) != *terms {
                return End::OtherTerms;
            }
            let next = tokio::select! {
                done = controller.cycle(self.seam.now()) => done,
                () = self.grace_is_over() => {
                    tracing::warn!("stopping in the middle of a call; its outcome is looked for at the next start");
                    return End::Stopped;
                }
            };
            let pause = match next {
                Ok(Next::After(pause)) => pause,
                Ok(Next::WhenAsked) => Duration::MAX,
                Err(StoreError::Fenced(fenced)) => return End::Lost(fenced.to_string()),
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

    async fn grace_is_over(&self) {
        self.controls.stop.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
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
        let config = match (self.reload)() {
            Ok(config) => config,
            Err(ConfigError(errors)) => {
                for error in &errors {
                    tracing::error!("configuration: {error}");
                }
                tracing::error!("the new configuration is refused; the old one stays in force");
                return;
            }
        };
        let old = controller.config();
        if config.listen_addr != old.listen_addr || config.state_file != old.state_file {
            tracing::warn!("LISTEN_ADDR and STATE_FILE take effect at the next start only");
        }
        match controller.reconfigure(config) {
            Ok(()) => tracing::info!("the new configuration is in force"),
            Err(error) => tracing::error!(%error, "the new configuration cannot be used; the old one stays in force"),
        }
    }
}

/// `Duration::MAX` waits for ever; tokio's own sleep would overflow.
async fn sleep(pause: Duration) {
    match pause {
        Duration::MAX => std::future::pending().await,
        pause => tokio::time::sleep(pause).await,
    }
}
