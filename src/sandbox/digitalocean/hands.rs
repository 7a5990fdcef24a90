//! The account's other users: what a test sees without any lag, and what somebody does by hand.

use super::model::{Droplet, NewDroplet};
use super::world::World;
use super::{DigitalOcean, Firewall, Recorded, Simulation};
use crate::sandbox::faults::Break;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The truth about one droplet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropletView {
    pub id: u64,
    pub name: String,
    pub tags: Vec<String>,
    pub size: String,
    pub region: String,
    pub image: String,
    pub ip: Ipv4Addr,
    pub status: &'static str,
    /// A deletion was accepted and has not happened yet.
    pub deleting: bool,
    /// The supervisor's process runs; in a crash loop this comes and goes.
    pub alive: bool,
    /// The supervisor's process, when it is one of its own.
    pub pid: Option<u32>,
    pub created_at: String,
    pub user_data: Arc<str>,
    pub foreign: bool,
}

impl DigitalOcean {
    /// Every droplet that exists, oldest first.
    pub fn droplets(&self) -> Vec<DropletView> {
        self.0.with(|state, _| state.world.existing().map(|d| view(state, d)).collect(), false)
    }

    pub fn droplet(&self, id: u64) -> Option<DropletView> {
        self.droplets().into_iter().find(|d| d.id == id)
    }

    /// The most droplets with this tag that ever existed at once, those being deleted not counted.
    pub fn most_alive(&self, tag: &str) -> usize {
        self.0.with(|state, _| state.world.most_alive(tag), false)
    }

    /// What the machine has written on its console.
    pub fn console(&self, id: u64) -> Vec<String> {
        self.0.with(|state, _| state.machines.life(id).map(|l| l.console()).unwrap_or_default(), false)
    }

    pub fn requests(&self) -> Vec<Recorded> {
        self.0.with(|state, _| state.journal.requests.iter().cloned().collect(), false)
    }

    pub fn clear_requests(&self) {
        self.0.with(|state, _| state.journal.requests.clear(), false);
    }

    /// Mistakes in requests that the provider would have passed over in silence.
    pub fn violations(&self) -> Vec<String> {
        self.0.with(|state, _| state.journal.violations.clone(), false)
    }

    pub fn firewalls(&self) -> Vec<Firewall> {
        self.0.with(|state, _| state.world.firewalls.clone(), false)
    }

    pub fn tags(&self) -> Vec<String> {
        self.0.with(|state, _| state.world.tags.iter().cloned().collect(), false)
    }

    /// Somebody else's droplet: active, without a supervisor, never chosen by `apply_break`.
    pub fn add_droplet(&self, name: &str, tags: &[&str]) -> std::io::Result<u64> {
        let new = NewDroplet {
            name: name.to_owned(),
            tags: tags.iter().map(|t| (*t).to_owned()).collect(),
            size: "s-1vcpu-1gb".to_owned(),
            region: "nyc1".to_owned(),
            image: "ubuntu-24-04-x64".to_owned(),
            ..NewDroplet::default()
        };
        self.0.with(|state, now| state.world.add_foreign(new, now), true)
    }

    /// The supervisor dies and stays dead until a reboot.
    pub fn kill_supervisor(&self, id: u64) -> Result<(), String> {
        self.by_hand(id, World::cut)
    }

    pub fn resize_by_hand(&self, id: u64, size: &str) -> Result<(), String> {
        if self.0.catalog.size(size).is_none() {
            return Err(format!("there is no size {size}"));
        }
        self.by_hand(id, |world, id| {
            if let Some(droplet) = world.droplet_mut(id) {
                droplet.size = size.to_owned();
            }
        })
    }

    pub fn delete_by_hand(&self, id: u64) -> Result<(), String> {
        let now = tokio::time::Instant::now();
        self.by_hand(id, |world, id| world.remove(id, now))
    }

    /// Edits the firewall of this name, which is effective at once.
    pub fn edit_firewall_by_hand(&self, name: &str, edit: impl FnOnce(&mut Firewall)) -> Result<(), String> {
        let work = |state: &mut Simulation, _| {
            let firewall = state.world.firewalls.iter_mut().find(|f| f.name == name);
            firewall.map(edit).ok_or_else(|| format!("there is no firewall {name}"))
        };
        self.0.with(work, true)
    }

    /// Does what a one-time `Break` of this cloud says, to the newest droplet that is not foreign.
    pub fn apply_break(&self, event: Break) -> Result<(), String> {
        let newest = self.droplets().into_iter().rev().find(|d| !d.foreign && !d.deleting);
        let newest = newest.ok_or("there is no droplet");
        match event {
            Break::SupervisorKilled => self.kill_supervisor(newest?.id),
            Break::DropletDeleted => self.delete_by_hand(newest?.id),
            Break::SizeChanged => {
                let droplet = newest?;
                let other = if droplet.size == "s-1vcpu-1gb" { "s-2vcpu-2gb" } else { "s-1vcpu-1gb" };
                self.resize_by_hand(droplet.id, other)
            }
            other => Err(format!("{} is no event of this cloud but a switch in Faults", other.name())),
        }
    }

    fn by_hand(&self, id: u64, change: impl FnOnce(&mut World, u64)) -> Result<(), String> {
        let work = |state: &mut Simulation, _| match state.world.droplet_mut(id) {
            None => Err(format!("there is no droplet {id}")),
            Some(_) => {
                change(&mut state.world, id);
                Ok(())
            }
        };
        self.0.with(work, true)
    }
}

fn view(state: &Simulation, droplet: &Droplet) -> DropletView {
    let life = state.machines.life(droplet.id);
    DropletView {
        id: droplet.id,
        name: droplet.name.clone(),
        tags: droplet.tags.clone(),
        size: droplet.size.clone(),
        region: droplet.region.clone(),
        image: droplet.image.clone(),
        ip: droplet.ip,
        status: droplet.state.name(),
        deleting: droplet.is_deleting(),
        alive: life.is_some_and(|l| l.is_alive()),
        pid: life.and_then(|l| l.pid()),
        created_at: droplet.created_at.clone(),
        user_data: droplet.user_data.clone(),
        foreign: droplet.foreign,
    }
}
