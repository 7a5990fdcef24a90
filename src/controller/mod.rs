//! What waits: the loop, observing, applying, the state file, the lease, the status.
//!
//! One cycle reads: observe → digest → plan → apply → record. Nothing in it waits for the world to
//! become as wanted: a booting droplet or a restarting Postgres is looked at again in the next cycle.

mod apply;
pub mod daemon;
pub mod destroy;
mod disabled;
pub mod doctor;
pub mod lease;
pub mod observe;
mod publish;
pub mod report;
mod search;
pub mod status;
pub mod store;
pub mod why;

use crate::clients::{ClientError, Readers, Seam, Writers};
use crate::config::Config;
use crate::plan::action::Planned;
use crate::plan::condition::{Condition, healthy, settle};
use crate::plan::desired::Desired;
use crate::plan::droplets::views;
use crate::plan::mode::{self, Shown};
use crate::plan::observation::Observation;
use crate::plan::state::{Mode, State};
use crate::plan::{self, Plan};
use crate::telemetry;
use apply::Applier;
use jiff::Timestamp;
use lease::{LeaseError, Tenure};
use observe::Memory;
use status::{ActionReport, Cycle, DropletStatus, Status};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Loaded, Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Reads the world and says what remains to be done. The dry run ends here: it holds only readers.
pub async fn propose(
    readers: &Readers,
    desired: &Desired,
    state: &mut State,
    memory: &mut Memory,
    at: Timestamp,
) -> (Observation, Plan) {
    let seen = observe::observe(readers, desired, state, memory, at).await;
    plan::digest(desired, state, &seen);
    let plan = plan::plan(desired, state, &seen);
    (seen, plan)
}

/// The reconciliation of one deployment.
pub struct Controller {
    config: Config,
    readers: Readers,
    writers: Writers,
    store: Store,
    state: State,
    memory: Memory,
    /// When something last changed: an action was taken, or a condition turned.
    moved_at: Timestamp,
    /// This process has looked at least once.
    looked: bool,
    status: watch::Sender<Arc<Status>>,
    /// Stops between two actions, never within one.
    stop: CancellationToken,
    seam: Seam,
}

/// Beyond the longest deadline, for what has to follow it.
const QUICK_GRACE: jiff::SignedDuration = jiff::SignedDuration::from_mins(2);

/// When the next cycle is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    After(Duration),
    /// Nothing to look at until somebody asks: disabled without cheap looks.
    WhenAsked,
}

impl Controller {
    /// Loads the state. The store's fence is that of every write.
    pub fn open(
        config: Config,
        store: Store,
        seam: Seam,
        status: watch::Sender<Arc<Status>>,
        stop: CancellationToken,
    ) -> Result<Controller, OpenError> {
        let readers = Readers::new(&config, &seam)?;
        let (state, loaded) = store.load(&config.desired.identity_tag(), seam.now())?;
        report::loaded(&store, &loaded);
        let controller = Controller {
            writers: readers.writers(store.fence()),
            readers,
            config,
            store,
            state,
            memory: Memory::default(),
            moved_at: seam.now(),
            looked: false,
            status,
            stop,
            seam,
        };
        controller.redact();
        controller.publish(None);
        Ok(controller)
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes a new configuration; everything is looked at anew.
    pub fn reconfigure(&mut self, config: Config) -> Result<(), OpenError> {
        if config.desired.identity_tag() != self.state.identity {
            // Another deployment has another state; it is loaded, not mixed in.
            let (state, loaded) = self.store.load(&config.desired.identity_tag(), self.seam.now())?;
            report::loaded(&self.store, &loaded);
            self.state = state;
        }
        self.readers = self.readers.reconfigured(&config, &self.seam)?;
        self.writers = self.readers.writers(self.store.fence());
        self.config = config;
        self.memory = Memory::default();
        self.moved_at = self.seam.now();
        self.redact();
        Ok(())
    }

    /// Says whose work it goes on with.
    pub fn take_over(&mut self, tenure: &Tenure) {
        self.state.take_over(tenure.database_epoch, tenure.predecessor);
    }

    pub async fn save(&self) -> Result<(), StoreError> {
        self.store.save(&self.state).await
    }

    pub async fn resume(&mut self) -> Result<(), StoreError> {
        mode::wake(&mut self.state);
        self.moved_at = self.seam.now();
        self.publish(None);
        self.save().await
    }

    pub async fn pause(&mut self) -> Result<(), StoreError> {
        mode::pause(&mut self.state, self.seam.now());
        self.publish(None);
        self.save().await
    }

    /// One cycle at this time. An error means that the state could not be saved; then nothing was done
    /// after that, and the next cycle tries again.
    pub async fn cycle(&mut self, at: Timestamp) -> Result<Next, StoreError> {
        let desired = self.config.desired.clone();
        if let Some(why) = mode::begin(&desired, &mut self.state) {
            tracing::info!(reason = why, "woken from the disabled mode: {why}");
            self.save().await?;
        }
        if mode::shown(&desired, &self.state) == Shown::Disabled {
            return self.cheap_look(&desired).await;
        }
        self.full_cycle(&desired, at).await
    }

    async fn full_cycle(&mut self, desired: &Desired, at: Timestamp) -> Result<Next, StoreError> {
        let begun = Instant::now();
        self.state.cycle += 1;
        let (seen, plan) = propose(&self.readers, desired, &mut self.state, &mut self.memory, at).await;
        self.redact_seen(&seen);
        let before = std::mem::take(&mut self.state.conditions);
        self.state.conditions = settle(plan.findings.clone(), &before, at);
        let healthy = healthy(&self.state.conditions);
        let may_change = mode::shown(desired, &self.state) == Shown::Active;
        let (actions, applied) = match may_change {
            true => self.apply(desired, &plan.actions, at).await,
            false => (plan.actions.iter().map(ActionReport::planned).collect(), Ok(())),
        };
        let cycle = Cycle {
            number: self.state.cycle,
            started_at: at,
            duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            actions,
        };
        let droplet = self.end_of_cycle(desired, &seen, healthy);
        let saved = match applied {
            Ok(()) => self.save().await,
            failed => failed,
        };
        self.note_movement(&before, &cycle, at);
        let next = self.next(&plan, may_change, at);
        report::cycle(&self.state, &before, &cycle, &plan, healthy, mode::shown(desired, &self.state));
        // What was seen is told even when it cannot be remembered.
        self.looked = true;
        let mut status = Status { healthy, held: plan.held, droplet, ..self.base_status(Some(next)) };
        if let Err(error) = &saved {
            let warning = format!("the state could not be saved, and nothing is changed until it can be: {error}");
            status.warnings.push(warning);
        }
        report::metrics(&status, &cycle, &seen);
        status.cycle = Some(cycle);
        self.status.send_replace(Arc::new(status));
        saved.map(|()| next)
    }

    /// Counts the cycle, perhaps disables, and says which droplet does the service.
    fn end_of_cycle(&mut self, desired: &Desired, seen: &Observation, healthy: bool) -> Option<DropletStatus> {
        let state = self.state.clone();
        let all = views(desired, &state, seen, None);
        let current = all.iter().filter(|v| !v.is_going()).max_by_key(|v| v.rank());
        let disabled = mode::end(desired, &mut self.state, healthy, current, seen);
        if disabled {
            tracing::info!(
                healthy_cycles = self.state.healthy_cycles,
                "disabled after {} healthy cycles in a row; it ends by resume, a changed configuration, or the supervisor's death",
                self.state.healthy_cycles
            );
        }
        current.map(|view| publish::shown_droplet(view, seen))
    }

    /// Applies in order; stops at once when the journal cannot be written.
    async fn apply(
        &mut self,
        desired: &Desired,
        planned: &[Planned],
        now: Timestamp,
    ) -> (Vec<ActionReport>, Result<(), StoreError>) {
        let mut reports = Vec::new();
        if !planned.is_empty()
            && let Err(error) = self.save().await
        {
            // Nothing is changed by a program that cannot write down what it does.
            return (reports, Err(error));
        }
        for planned in planned {
            if self.stop.is_cancelled() {
                tracing::info!(action = %planned.action, "stopping: left for the next start");
                break;
            }
            let begun = Instant::now();
            let applier = Applier { writers: &self.writers, store: &self.store, desired, now };
            let done = match applier.apply(&mut self.state, &planned.action).await {
                Ok(done) => done,
                Err(error) => return (reports, Err(error)),
            };
            let report = ActionReport {
                outcome: Some(done.outcome),
                request_id: done.request_id,
                duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                ..ActionReport::planned(planned)
            };
            report::action(&planned.action, &report);
            self.forget_after(planned);
            reports.push(report);
        }
        (reports, Ok(()))
    }

    /// What an action touched is looked at again, not remembered.
    fn forget_after(&mut self, planned: &Planned) {
        use crate::plan::action::Action;
        match &planned.action {
            Action::CreateFirewall { .. } | Action::UpdateFirewall { .. } => self.memory.forget_firewall(),
            Action::CreateDroplet { .. } => self.memory.forget_account(),
            Action::RestartPostgres { .. } => self.memory.forget_railway(),
            _ => {}
        }
    }

    fn note_movement(&mut self, before: &[Condition], cycle: &Cycle, at: Timestamp) {
        let facts = |list: &[Condition]| list.iter().map(|c| (c.kind, c.status, c.reason)).collect::<Vec<_>>();
        if !cycle.actions.is_empty() || facts(before) != facts(&self.state.conditions) {
            self.moved_at = at;
        }
    }

    /// Soon while something is in progress; at the usual pace when nothing has moved for so long
    /// that even a boot would have ended: quick looks cost the providers' budgets.
    fn next(&self, plan: &Plan, may_change: bool, at: Timestamp) -> Next {
        let times = &self.config.desired.times;
        let patience = plan::signed(times.boot_deadline.max(times.restart_deadline)) + QUICK_GRACE;
        let moving = at.duration_since(self.moved_at) < patience;
        match &self.state.mode {
            Mode::Disabled { .. } => times.disabled_check_interval.map_or(Next::WhenAsked, Next::After),
            _ if plan.in_progress && may_change && moving => {
                Next::After(times.progress_interval.min(times.check_interval))
            }
            _ => Next::After(times.check_interval),
        }
    }

    /// Values that must not reach a log, as far as they are known now.
    fn redact(&self) {
        telemetry::redact_all(&self.config.secrets());
        let held = [self.state.token.as_ref().map(|t| &t.value), self.state.pending_token.as_ref().map(|t| &t.value)];
        held.into_iter().flatten().for_each(telemetry::redact);
    }

    fn redact_seen(&self, seen: &Observation) {
        self.redact();
        let managed = seen.railway.known().and_then(|view| view.managed_secret.as_ref());
        managed.into_iter().for_each(telemetry::redact);
    }
}

/// Why a controller could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

/// How the state came to be, as one sentence.
pub fn describe(loaded: &Loaded) -> String {
    match loaded {
        Loaded::Fresh => "no state yet: starting from what the world shows".to_owned(),
        Loaded::Read => "state read".to_owned(),
        Loaded::FromBackup { why } => format!("the state file could not be used ({why}); took its backup"),
        Loaded::Imported { token: true } => "took the worker token from the predecessor's state file".to_owned(),
        Loaded::Imported { token: false } => "found the predecessor's state file; it holds no usable token".to_owned(),
    }
}
