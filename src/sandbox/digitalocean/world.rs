//! The account's true state, and how it moves on by itself as time passes.
//!
//! Everything that happens later is a due time in the state, and `advance` is the only place where
//! it comes true; nothing here waits, listens or spawns. What must be done to real machines is
//! left in `power` for the caller.

use super::ids::{Ids, Reservation};
use super::model::{Action, ActionKind, Droplet, NewDroplet, Power, State};
use super::network::Firewall;
use super::{DigitalOceanOptions, DropletBackend};
use crate::sandbox::calendar::Calendar;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

/// A sandbox may run for months.
const KEPT_ACTIONS: usize = 200;
/// Tells the accounts of this process apart, which draw their addresses from the same seed.
static ACCOUNTS: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
pub struct World {
    options: DigitalOceanOptions,
    pub calendar: Calendar,
    pub ids: Ids,
    /// Apart from the ids, which must not depend on what else this host runs.
    addresses: Ids,
    salt: u64,
    pub droplets: BTreeMap<u64, Droplet>,
    pub actions: BTreeMap<u64, Action>,
    pub tags: BTreeSet<String>,
    pub firewalls: Vec<Firewall>,
    pub power: Vec<Power>,
    most_alive: BTreeMap<String, usize>,
}

impl World {
    pub fn new(options: DigitalOceanOptions, calendar: Calendar) -> Self {
        Self {
            calendar,
            ids: Ids::new(options.seed),
            addresses: Ids::new(!options.seed),
            salt: (u64::from(std::process::id()) << 32) + ACCOUNTS.fetch_add(1, Ordering::Relaxed),
            options,
            droplets: BTreeMap::new(),
            actions: BTreeMap::new(),
            tags: BTreeSet::new(),
            firewalls: Vec::new(),
            power: Vec::new(),
            most_alive: BTreeMap::new(),
        }
    }

    pub fn existing(&self) -> impl Iterator<Item = &Droplet> {
        self.droplets.values().filter(|d| d.exists())
    }

    pub fn droplet_mut(&mut self, id: u64) -> Option<&mut Droplet> {
        self.droplets.get_mut(&id).filter(|d| d.exists())
    }

    pub fn has_pending_event(&self, droplet: u64) -> bool {
        self.actions.values().any(|a| a.droplet == droplet && a.status == "in-progress")
    }

    pub fn most_alive(&self, tag: &str) -> usize {
        self.most_alive.get(tag).copied().unwrap_or(0)
    }

    /// The tag as it is spelled: the first creation decides about capitals.
    pub fn tag(&mut self, name: &str) -> String {
        if let Some(known) = self.tags.iter().find(|t| t.eq_ignore_ascii_case(name)) {
            return known.clone();
        }
        self.tags.insert(name.to_owned());
        name.to_owned()
    }

    /// Puts the tag, which exists, on a droplet.
    pub fn attach_tag(&mut self, droplet: u64, tag: &str) {
        if let Some(droplet) = self.droplet_mut(droplet)
            && !droplet.has_tag(tag)
        {
            droplet.tags.push(tag.to_owned());
        }
        self.count_tags();
    }

    /// A new droplet and the id of its create action.
    pub fn create(&mut self, new: NewDroplet, now: Instant) -> std::io::Result<(u64, u64)> {
        let id = self.insert(new, now)?;
        let action = self.begin(id, ActionKind::Create, self.options.boot, now);
        Ok((id, action))
    }

    /// A droplet that has been there before, without any supervisor.
    pub fn add_foreign(&mut self, new: NewDroplet, now: Instant) -> std::io::Result<u64> {
        let id = self.insert(new, now)?;
        if let Some(droplet) = self.droplet_mut(id) {
            droplet.state = State::Active;
            droplet.address_due = Some(now);
            droplet.foreign = true;
        }
        Ok(id)
    }

    fn insert(&mut self, new: NewDroplet, now: Instant) -> std::io::Result<u64> {
        let NewDroplet { name, tags, size, region, image, vpc_uuid, features, user_data, never_healthy } = new;
        let (ip, reservation) = self.address()?;
        let mut spelled: Vec<String> = tags.iter().map(|t| self.tag(t)).collect();
        spelled.dedup();
        let id = self.ids.number();
        let droplet = Droplet {
            id,
            name,
            tags: spelled,
            size,
            region,
            image,
            vpc_uuid,
            features,
            // A character outside the basic plane breaks the build of the real machine.
            doomed: user_data.chars().any(|c| c.len_utf8() == 4),
            user_data,
            state: State::New,
            created: now,
            created_at: date(&self.calendar, now),
            ip,
            reservation,
            address_due: None,
            start_due: None,
            deletion_due: None,
            removed: None,
            never_healthy,
            foreign: false,
        };
        self.droplets.insert(id, droplet);
        self.count_tags();
        Ok(id)
    }

    /// An address of this host that is kept while the droplet exists; a made-up one where no machine runs.
    fn address(&mut self) -> std::io::Result<(Ipv4Addr, Option<Reservation>)> {
        if matches!(self.options.backend, DropletBackend::Nothing) {
            let [_, _, b, c, d, ..] = self.addresses.random().to_le_bytes();
            return Ok((Ipv4Addr::new(203, b, c, d), None));
        }
        let reservation = Reservation::new(&mut self.addresses, self.salt)?;
        Ok((reservation.ip, Some(reservation)))
    }

    /// Starts an action whose effect comes when it ends; machines lose their power at once.
    pub fn act(&mut self, droplet: u64, kind: ActionKind, now: Instant) -> u64 {
        let cuts = !matches!(kind, ActionKind::PowerOn | ActionKind::Create);
        if cuts {
            self.cut(droplet);
        }
        let takes = match kind {
            ActionKind::Destroy => self.options.delete,
            ActionKind::PowerOff | ActionKind::Shutdown => self.options.boot / 4,
            _ => self.options.boot,
        };
        self.begin(droplet, kind, takes, now)
    }

    pub fn begin_delete(&mut self, droplet: u64, now: Instant) {
        self.act(droplet, ActionKind::Destroy, now);
        let due = now + self.options.delete;
        if let Some(droplet) = self.droplet_mut(droplet) {
            droplet.deletion_due = Some(due);
        }
    }

    /// Gone at once, as when somebody else deleted it a while ago.
    pub fn remove(&mut self, id: u64, now: Instant) {
        self.cut(id);
        if let Some(droplet) = self.droplet_mut(id) {
            droplet.removed = Some(now);
            droplet.reservation = None;
        }
    }

    /// Takes the supervisor's process away; only powering on brings it back.
    pub fn cut(&mut self, id: u64) {
        if let Some(droplet) = self.droplet_mut(id) {
            droplet.start_due = None;
            self.power.push(Power::Cut(id));
        }
    }

    fn begin(&mut self, droplet: u64, kind: ActionKind, takes: std::time::Duration, now: Instant) -> u64 {
        let id = self.ids.number();
        let region = self.droplets.get(&droplet).map(|d| d.region.clone()).unwrap_or_default();
        let action = Action {
            id,
            kind,
            droplet,
            region,
            status: "in-progress",
            started_at: date(&self.calendar, now),
            completed_at: None,
            ends: now + takes,
        };
        self.actions.insert(id, action);
        id
    }

    /// Lets everything that is due by `now` happen.
    pub fn advance(&mut self, now: Instant) {
        let due = |a: &&mut Action| a.status == "in-progress" && a.ends <= now;
        let mut ended = Vec::new();
        for action in self.actions.values_mut().filter(due) {
            let doomed = self.droplets.get(&action.droplet).is_none_or(|d| d.doomed);
            action.status = if doomed { "errored" } else { "completed" };
            action.completed_at = Some(date(&self.calendar, now));
            ended.push((action.droplet, action.kind.clone(), action.ends));
        }
        for (droplet, kind, at) in ended {
            self.complete(droplet, kind, at);
        }
        for droplet in self.droplets.values_mut().filter(|d| d.exists()) {
            if droplet.start_due.is_some_and(|due| due <= now) {
                droplet.start_due = None;
                self.power.push(Power::On(droplet.id));
            }
        }
        while self.actions.len() > KEPT_ACTIONS
            && let Some((id, _)) = self.actions.iter().find(|(_, a)| a.status != "in-progress")
        {
            let id = *id;
            self.actions.remove(&id);
        }
        let keep = self.options.list_lag;
        self.droplets.retain(|_, d| d.removed.is_none_or(|at| at + keep > now));
    }

    fn complete(&mut self, id: u64, kind: ActionKind, at: Instant) {
        let (supervisor_boot, address_lag) = (self.options.supervisor_boot, self.options.address_lag);
        let Some(droplet) = self.droplets.get_mut(&id).filter(|d| d.exists()) else {
            return;
        };
        match kind {
            ActionKind::Create if droplet.doomed => self.remove(id, at),
            ActionKind::Destroy => self.remove(id, at),
            ActionKind::PowerOff | ActionKind::Shutdown => droplet.state = State::Off,
            ActionKind::Resize { size } => droplet.size = size,
            ActionKind::Create | ActionKind::Reboot | ActionKind::PowerCycle | ActionKind::PowerOn => {
                droplet.state = State::Active;
                droplet.address_due.get_or_insert(at + address_lag);
                droplet.start_due = (!droplet.never_healthy && !droplet.foreign).then_some(at + supervisor_boot);
            }
        }
    }

    /// When `advance` has something to do next.
    pub fn next_event(&self) -> Option<Instant> {
        let actions = self.actions.values().filter(|a| a.status == "in-progress").map(|a| a.ends);
        let starts = self.existing().filter_map(|d| d.start_due);
        actions.chain(starts).min()
    }

    /// A droplet whose deletion was accepted no longer counts: it is listed, but no longer wanted.
    fn count_tags(&mut self) {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for droplet in self.droplets.values().filter(|d| d.exists() && !d.is_deleting()) {
            for tag in &droplet.tags {
                *counts.entry(tag).or_default() += 1;
            }
        }
        for (tag, count) in counts {
            let most = self.most_alive.entry(tag.to_owned()).or_default();
            *most = count.max(*most);
        }
    }
}

/// A moment, as the provider writes it.
pub fn date(calendar: &Calendar, at: Instant) -> String {
    calendar.at(at).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
