//! Standing by: tries for the lease, says why it does not act, and hears a stop and a new configuration.
//!
//! It changes nothing. What else is asked for waits until it acts.

use super::{Daemon, Request};
use crate::config::Config;
use crate::controller::OpenError;
use crate::controller::lease::{Attempt, Candidate, Tenure, Terms};
use crate::controller::status::Status;
use crate::controller::store::Store;
use crate::plan::mode::Shown;
use crate::telemetry::{metrics, redact_all};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// For a taking that is under way when the daemon is stopped: it ends in time to be given back.
const ATTEMPT_GRACE: Duration = Duration::from_secs(1);

/// What was before.
pub(super) enum Before {
    Start,
    Lost(String),
    OtherTerms,
}

impl Daemon {
    /// `None` when stopped while waiting.
    pub(super) async fn stand_by(
        &self,
        config: &mut Config,
        candidate: &mut Candidate,
        before: Before,
        on_folder: &mut impl FnMut(&Store, CancellationToken),
    ) -> Result<Option<Tenure>, OpenError> {
        let mut said = String::new();
        let mut is_open = candidate.folder_over().is_some_and(|over| !over.is_cancelled());
        // Who starts in a folder that cannot be used was set up wrong; later it may be full for a while.
        let mut is_first = matches!(before, Before::Start);
        let lost = match before {
            Before::Lost(why) => Some(why),
            Before::Start | Before::OtherTerms => None,
        };
        if let Some(why) = &lost {
            self.publish_standby(why.clone());
        }
        loop {
            let attempt = tokio::select! {
                attempt = candidate.attempt() => attempt,
                () = self.stopped_for(ATTEMPT_GRACE) => return Ok(None),
            };
            match candidate.folder_over().filter(|over| !over.is_cancelled()) {
                Some(over) if !std::mem::replace(&mut is_open, true) => on_folder(&self.store, over.clone()),
                Some(_) => {}
                None => is_open = false,
            }
            let why = match attempt {
                Ok(Attempt::Active(tenure)) => return Ok(Some(tenure)),
                Ok(Attempt::Standby { why, .. }) => why,
                Err(error) if is_first => return Err(error.into()),
                Err(error) => error.to_string(),
            };
            is_first = false;
            if said != why {
                tracing::warn!("standing by: {why}");
                let both = lost.as_ref().map(|lost| format!("{why} (before: {lost})"));
                self.publish_standby(both.unwrap_or_else(|| why.clone()));
                said = why;
            }
            tokio::select! {
                () = self.controls.stop.cancelled() => return Ok(None),
                () = self.controls.wake.notified() => self.take_reloads(config, candidate).await?,
                () = tokio::time::sleep(candidate.look_every()) => {}
            }
        }
    }

    /// While it stands by, only a new configuration can be taken up; all else waits until it acts.
    async fn take_reloads(&self, config: &mut Config, candidate: &mut Candidate) -> Result<(), OpenError> {
        let asked = {
            let mut requests = self.controls.requests.lock().unwrap_or_else(|e| e.into_inner());
            let asked = requests.contains(&Request::Reload);
            requests.retain(|request| *request != Request::Reload);
            asked
        };
        let Some(new) = asked.then(|| self.read_anew(config)).flatten() else { return Ok(()) };
        redact_all(&new.secrets());
        if Terms::of(&new) != Terms::of(config) {
            let next = self.candidate(&new)?;
            std::mem::replace(candidate, next).release().await;
        }
        self.accept(&new);
        *config = new;
        Ok(())
    }

    fn publish_standby(&self, why: String) {
        let status = Status { mode_reason: Some(why), ..Status::starting(Shown::Standby) };
        metrics::set_active(false);
        metrics::set_mode(Shown::Standby);
        metrics::set_health(false, 0);
        self.status.send_replace(Arc::new(status));
    }
}
