//! What `/status` is told, in a cycle and beside it.

use super::status::{Budgets, DropletStatus, Status};
use super::{Controller, Next};
use crate::plan;
use crate::plan::condition::healthy;
use crate::plan::droplets::View;
use crate::plan::mode::{self, Shown};
use crate::plan::observation::Observation;
use crate::plan::state::Mode;
use std::sync::Arc;

impl Controller {
    /// Publishes a change of mode without a cycle; what the last cycle saw stays.
    pub(super) fn publish(&self, next: Option<Next>) {
        let last = self.status.borrow().clone();
        let mut status = self.base_status(next);
        status.cycle.clone_from(&last.cycle);
        status.held.clone_from(&last.held);
        status.droplet.clone_from(&last.droplet);
        if let (None, Mode::Disabled { droplet: Some(watched), .. }) = (&status.droplet, &self.state.mode) {
            status.droplet = Some(DropletStatus {
                id: watched.id,
                name: watched.name.clone(),
                ip: Some(watched.ip.clone()),
                size: watched.size.clone(),
                price_monthly: None,
            });
        }
        self.status.send_replace(Arc::new(status));
    }

    pub(super) fn base_status(&self, next: Option<Next>) -> Status {
        let mode = mode::shown(&self.config.desired, &self.state);
        let mode_reason = match &self.state.mode {
            _ if mode == Shown::Inactive => Some("IS_ACTIVE=false: observes and plans, changes nothing".to_owned()),
            Mode::Disabled { reason, since, .. } => Some(format!("{reason}, since {since}")),
            Mode::Paused { since } => Some(format!("paused by a person, since {since}")),
            Mode::Active => None,
        };
        Status {
            // What an earlier process saw is no look of ours.
            healthy: self.looked && healthy(&self.state.conditions),
            mode_reason,
            healthy_cycles: self.state.healthy_cycles,
            conditions: self.state.conditions.clone(),
            next_cycle_at: match next {
                Some(Next::After(pause)) => Some(self.seam.now() + plan::signed(pause)),
                _ => None,
            },
            budget: Budgets {
                railway: self.readers.railway.budget(),
                digitalocean: self.readers.digitalocean.budget(),
            },
            warnings: self.config.warnings.clone(),
            ..Status::starting(mode)
        }
    }
}

pub(super) fn shown_droplet(view: &View<'_>, seen: &Observation) -> DropletStatus {
    let sizes = seen.sizes.known().map(Vec::as_slice).unwrap_or_default();
    DropletStatus {
        id: view.droplet.id,
        name: view.droplet.name.clone(),
        ip: view.droplet.ip.clone(),
        size: view.droplet.size.clone(),
        price_monthly: sizes.iter().find(|s| s.slug == view.droplet.size).map(|s| s.price_monthly),
    }
}
