//! What a disabled controller still does: it looks, cheaply, whether the supervisor lives.
//!
//! It changes nothing, and asks neither Railway nor DigitalOcean.

use super::store::StoreError;
use super::{Controller, Next};
use crate::plan::condition::{healthy, settle};
use crate::plan::desired::Desired;
use crate::plan::droplets;
use crate::plan::mode::{self, CheapLook};
use crate::plan::observation::Health;
use crate::plan::state::{Mode, Watched};
use crate::telemetry;
use std::time::Duration;

impl Controller {
    /// Disabled: the health endpoint and the heartbeat, no Railway, no DigitalOcean.
    pub(super) async fn cheap_look(&mut self, desired: &Desired) -> Result<Next, StoreError> {
        let times = &desired.times;
        let idle = times.disabled_check_interval.map_or(Next::WhenAsked, Next::After);
        let Mode::Disabled { droplet: Some(watched), .. } = self.state.mode.clone() else {
            self.publish(Some(idle));
            return Ok(idle);
        };
        if times.disabled_check_interval.is_none() {
            self.publish(Some(idle));
            return Ok(idle);
        }
        let (health, heartbeat) =
            tokio::join!(self.readers.trigger.health(&watched.ip), self.readers.postgres.heartbeat_age(&watched.name),);
        let stale = times.heartbeat_stale_after.as_secs_f64();
        let look = match (&health, &heartbeat) {
            (_, Err(_)) => CheapLook::Unknown,
            // Dated in the future: the clocks differ, and the age says nothing.
            (_, Ok(Some(age))) if *age < -stale => CheapLook::Unknown,
            (_, Ok(Some(age))) if *age <= stale => CheapLook::Alive,
            (Health::Failed(_), Ok(_)) => CheapLook::Dead,
            // It answers and sends no heartbeats: the webapp may be down, which is not its fault; but a
            // full cycle can tell.
            (Health::Ok, Ok(_)) => CheapLook::Dead,
        };
        self.note_cheap_look(desired, &watched, &health, heartbeat.as_ref().ok().copied());
        let woken = mode::cheap_look(desired, &mut self.state, look);
        tracing::info!(droplet = watched.name, ?look, woken, "disabled: looked at the supervisor");
        self.save().await?;
        let next = match (woken, look) {
            (true, _) => Next::After(Duration::ZERO),
            // Suspicious: look again soon, so that a death is certain within seconds, not hours.
            (false, CheapLook::Dead) => Next::After(times.progress_interval),
            _ => idle,
        };
        self.publish(Some(next));
        Ok(next)
    }

    /// What a disabled controller says stays true: the two conditions that it still looks at.
    fn note_cheap_look(
        &mut self,
        desired: &Desired,
        watched: &Watched,
        health: &Health,
        heartbeat: Option<Option<f64>>,
    ) {
        let now = self.seam.now();
        let findings = droplets::cheap_findings(desired, &watched.name, health, heartbeat);
        for condition in settle(findings, &self.state.conditions, now) {
            self.state.conditions.retain(|c| c.kind != condition.kind);
            self.state.conditions.push(condition);
        }
        self.state.conditions.sort_by_key(|c| c.kind);
        self.looked = true;
        telemetry::metrics::set_conditions(&self.state.conditions);
        telemetry::metrics::set_health(healthy(&self.state.conditions), self.state.healthy_cycles);
        telemetry::metrics::set_mode(mode::shown(desired, &self.state));
    }
}
