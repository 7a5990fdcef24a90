//! The daemon: the lock, the loop, signals, and what people ask of it while it runs.
//!
//! SIGTERM lets the current call finish for a few seconds and then hands it back: everything that
//! cannot be repeated stands in the journal. SIGHUP reads the configuration anew and keeps the old
//! one when the new one is bad.

use super::status::Status;
use super::store::{Lock, Store, StoreError};
use super::{Controller, Next, OpenError};
use crate::clients::Seam;
use crate::config::{Config, ConfigError};
use crate::plan::mode::Shown;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// The documents promise that a stop is saved within five seconds; this leaves one for the save.
const STOP_GRACE: Duration = Duration::from_secs(4);
/// A standby tries the lock this often: a takeover needs no message.
const STANDBY_POLL: Duration = Duration::from_secs(1);
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

    /// Runs until stopped. `on_active` is called once the lock is held.
    pub async fn run(self, on_active: impl FnOnce(&Store)) -> Result<(), OpenError> {
        let Some(lock) = self.wait_for_lock().await? else { return Ok(()) };
        on_active(&self.store);
        let mut controller = Controller::open(
            self.config.clone(),
            self.store.clone(),
            self.seam.clone(),
            self.status.clone(),
            self.controls.stop.clone(),
        )?;
        self.cycles(&mut controller).await;
        if let Err(error) = controller.save().await {
            tracing::error!(%error, "the state could not be saved at the end");
        }
        drop(lock);
        tracing::info!("stopped");
        Ok(())
    }

    /// `None` when stopped while waiting.
    async fn wait_for_lock(&self) -> Result<Option<Lock>, StoreError> {
        let mut said = false;
        loop {
            match self.store.lock() {
                Ok(lock) => return Ok(Some(lock)),
                Err(error @ StoreError::Locked { .. }) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::warn!("{error}; standing by");
                        let mut status = Status::starting(Shown::Standby);
                        status.mode_reason = Some(format!("{error}; this one takes over when it ends"));
                        self.status.send_replace(Arc::new(status));
                    }
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = self.controls.stop.cancelled() => return Ok(None),
                () = tokio::time::sleep(STANDBY_POLL) => {}
            }
        }
    }

    async fn cycles(&self, controller: &mut Controller) {
        while !self.controls.stop.is_cancelled() {
            self.take_requests(controller).await;
            let next = tokio::select! {
                done = controller.cycle(self.seam.now()) => done,
                () = self.grace_is_over() => {
                    tracing::warn!("stopping in the middle of a call; its outcome is looked for at the next start");
                    return;
                }
            };
            let pause = match next {
                Ok(Next::After(pause)) => pause,
                Ok(Next::WhenAsked) => Duration::MAX,
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
