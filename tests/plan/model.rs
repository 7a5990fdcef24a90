//! A small world that does what the plan says, and breaks: seeds decide how.
//!
//! Creates are refused, lost or never boot, machines die, listings lag or fail, the webapp and the
//! database go away, the desired size changes, the state file is lost. Facts are checked in every
//! cycle against what is true, not against what was seen; and when the trouble ends, exactly one
//! droplet as desired must serve.

use crate::dice::Dice;
use crate::world::*;
use jiff::{SignedDuration, Timestamp};
use ops_controller::plan::action::{Action, DropletSpec};
use ops_controller::plan::observation::{Droplet, DropletStatus, Health, Probe, Seen, Worker};
use ops_controller::plan::state::{Failure, Intent, IntentKind, State};

struct Machine {
    droplet: Droplet,
    visible_from: Timestamp,
    /// `None`: never.
    serves_from: Option<Timestamp>,
    heals_by_reboot: bool,
    last_beat: Option<Timestamp>,
    gone_at: Option<Timestamp>,
}

impl Machine {
    fn serves(&self, now: Timestamp) -> bool {
        self.serves_from.is_some_and(|from| from <= now)
    }
}

pub struct Sim {
    pub world: World,
    dice: Dice,
    machines: Vec<Machine>,
    next_id: u64,
    pub trouble: bool,
    webapp_back: Timestamp,
    database_back: Timestamp,
    /// Creates that may have reached DigitalOcean.
    sent: Vec<Timestamp>,
    log: Vec<String>,
}

impl Sim {
    pub fn new(seed: u64, max_droplets: u32) -> Sim {
        let mut world = World::without_droplets();
        world.desired.limits.max_droplets = max_droplets;
        let now = world.seen.at;
        Sim {
            world,
            dice: Dice(seed),
            machines: vec![],
            next_id: 1,
            trouble: true,
            webapp_back: now,
            database_back: now,
            sent: vec![],
            log: vec![format!("seed {seed}, MAX_DROPLETS {max_droplets}")],
        }
    }

    fn now(&self) -> Timestamp {
        self.world.seen.at
    }

    fn check(&self, fact: bool, what: &str) {
        let last = self.log.len().saturating_sub(16);
        assert!(fact, "{what} at {}\n{}", self.now(), self.log[last..].join("\n"));
    }

    fn note(&mut self, what: impl std::fmt::Display) {
        let line = format!("{} {what}", self.now());
        self.log.push(line);
    }

    /// One cycle: things happen, one look, one plan, its actions.
    pub fn step(&mut self) -> Cycle {
        if self.trouble {
            self.happen();
        }
        self.pass();
        self.look();
        let cycle = self.world.cycle();
        self.check_plan(&cycle);
        for action in cycle.actions() {
            self.apply(action);
        }
        let now = self.now();
        self.world.state.failures.retain(|_, f| now.duration_since(f.at) < SignedDuration::from_hours(24));
        self.world.later(if cycle.plan.in_progress { seconds(5) } else { seconds(60) });
        cycle
    }

    /// Trouble.
    fn happen(&mut self) {
        let now = self.now();
        if self.dice.chance(1) {
            let back = now + seconds(self.dice.within(20, 1500));
            self.webapp_back = back;
            self.note(format!("webapp down until {back}"));
        }
        if self.dice.chance(1) {
            let back = now + seconds(self.dice.within(5, 900));
            self.database_back = back;
            self.note(format!("database down until {back}"));
        }
        if self.dice.chance(1) {
            let size = if self.world.desired.size == "s-2vcpu-2gb" { "s-4vcpu-8gb" } else { "s-2vcpu-2gb" };
            self.world.desired.size = size.into();
            self.note(format!("size {size} is wanted"));
        }
        if !self.machines.is_empty() && self.dice.chance(1) {
            let which = self.dice.within(0, self.machines.len() as i64) as usize;
            let heals = self.dice.chance(50);
            let machine = &mut self.machines[which];
            machine.serves_from = None;
            machine.heals_by_reboot = heals;
            let name = machine.droplet.name.clone();
            self.note(format!("{name} dies, a reboot heals it: {heals}"));
        }
        if !self.machines.is_empty() && self.dice.roll().is_multiple_of(400) {
            let gone = self.machines.remove(0);
            self.note(format!("{} is deleted by somebody", gone.droplet.name));
        }
        // Not while a create or delete is under way: then only the state file knows of it.
        let quiet = self.world.state.intents.is_empty()
            && self.machines.iter().all(|m| m.visible_from <= now && m.gone_at.is_none());
        if quiet && self.dice.roll().is_multiple_of(400) {
            self.world.state = State { token: self.world.state.token.clone(), ..State::new("") };
            // The fuse is lost with it.
            self.sent.clear();
            self.note("the state file is lost");
        }
    }

    /// Deletions end, heartbeats come every 30 s.
    fn pass(&mut self) {
        let now = self.now();
        self.machines.retain(|m| m.gone_at.is_none_or(|at| at > now));
        let heard = now >= self.webapp_back && now >= self.database_back;
        for machine in &mut self.machines {
            let Some(from) = machine.serves_from.filter(|from| *from <= now) else { continue };
            // Beats at from + 30 s, from + 60 s, ...; one that nobody hears is not repeated.
            let beat = from + seconds(now.duration_since(from).as_secs() / 30 * 30);
            if heard && beat > from && beat >= self.webapp_back.max(self.database_back) {
                machine.last_beat = Some(beat);
            }
        }
    }

    fn is_listed(&self, machine: &Machine) -> bool {
        let id = machine.droplet.id;
        let known = self.world.state.supervisor.droplets.contains_key(&id);
        let answered = self
            .world
            .state
            .intents
            .iter()
            .any(|i| matches!(i.what, IntentKind::CreateDroplet { id: Some(created), .. } if created == id));
        machine.visible_from <= self.now() || known || answered
    }

    fn look(&mut self) {
        let now = self.now();
        let calm = World::settled().seen;
        let (mut railway, mut database) = (calm.railway, calm.database);
        if now < self.database_back || (self.trouble && self.dice.chance(3)) {
            database = Seen::unknown("no connection");
        } else if let Seen::Known(view) = &mut database {
            view.workers = self
                .machines
                .iter()
                .map(|m| {
                    let age = m.last_beat.map(|at| now.duration_since(at).as_secs_f64());
                    (m.droplet.name.clone(), Worker { heartbeat_age_seconds: age })
                })
                .collect();
        }
        if self.trouble && self.dice.chance(3) {
            railway = Seen::unknown("502");
        }
        let listed: Vec<&Machine> = self.machines.iter().filter(|m| self.is_listed(m)).collect();
        let health = |m: &Machine| {
            let answers = if m.serves(now) { Health::Ok } else { Health::Failed("connection refused".into()) };
            (m.droplet.id, answers)
        };
        self.world.seen.health = listed.iter().filter(|m| m.droplet.ip.is_some()).map(|m| health(m)).collect();
        self.world.seen.droplets = Seen::Known(listed.iter().map(|m| m.droplet.clone()).collect());
        if self.trouble && self.dice.chance(3) {
            self.world.seen.droplets = Seen::unknown("429");
            self.world.seen.health.clear();
        }
        let asked = database.known().is_some() && railway.known().is_some();
        let answer = if now < self.webapp_back { Probe::Unreachable("502".into()) } else { Probe::Accepted };
        self.world.seen.probe = asked.then_some(answer);
        (self.world.seen.railway, self.world.seen.database) = (railway, database);
    }

    fn check_plan(&self, cycle: &Cycle) {
        let (seen, state) = (&self.world.seen, &self.world.state);
        let looked =
            seen.droplets.known().is_some() && seen.database.known().is_some() && seen.railway.known().is_some();
        let pending = state.intents.iter().any(|i| matches!(i.what, IntentKind::CreateDroplet { .. }));
        self.check(cycle.creates().len() <= 1, "two creates in one plan");
        self.check(cycle.creates().is_empty() || (looked && !pending), "a create without having looked");
        self.check(cycle.deletes().is_empty() || seen.droplets.known().is_some(), "a delete without having looked");
        let limit = self.world.desired.limits.max_droplets as usize;
        self.check(self.machines.len() <= limit, "more droplets than MAX_DROPLETS");
        if cycle.healthy() {
            let now = self.now();
            let [only] = self.machines.as_slice() else {
                return self.check(false, "healthy without exactly one droplet");
            };
            self.check(only.serves(now) && self.is_as_desired(&only.droplet), "healthy without a droplet as desired");
        }
    }

    fn is_as_desired(&self, droplet: &Droplet) -> bool {
        droplet.tags.contains(&spec(&self.world.desired).spec_tag())
    }

    fn apply(&mut self, action: &Action) {
        self.note(action);
        let key = action.key();
        match action {
            Action::CreateDroplet { name, sequence, spec } => self.create(key, name, *sequence, spec),
            Action::DeleteDroplet { id, .. } => self.delete(key, *id),
            Action::RebootDroplet { id, .. } => self.reboot(key, *id),
            other => self.check(false, &format!("nobody asked for: {other}")),
        }
    }

    fn refuse(&mut self, key: String) {
        self.note("... refused");
        let attempts = self.world.state.failures.get(&key).map_or(0, |f| f.attempts) + 1;
        let failure = Failure { attempts, at: self.now(), error: "422".into() };
        self.world.state.failures.insert(key, failure);
    }

    fn create(&mut self, key: String, name: &str, sequence: u64, spec: &DropletSpec) {
        let now = self.now();
        let unknown =
            |m: &Machine| m.visible_from <= now && !self.world.state.supervisor.droplets.contains_key(&m.droplet.id);
        if self.machines.iter().any(unknown) {
            return self.note("... superseded");
        }
        let good = self.machines.iter().any(|m| {
            let fresh = m.last_beat.is_some_and(|at| now.duration_since(at) < seconds(90));
            let told_to_go =
                self.world.state.supervisor.droplets.get(&m.droplet.id).is_some_and(|r| r.deleted_at.is_some());
            m.serves(now) && fresh && !told_to_go && self.is_as_desired(&m.droplet)
        });
        self.check(!good, "a create although a droplet as desired serves");
        let same_name = self.machines.iter().any(|m| m.droplet.name == name);
        self.check(!same_name, "a name is used twice");
        let supervisor = &mut self.world.state.supervisor;
        supervisor.sequence = supervisor.sequence.max(sequence);
        if self.trouble && self.dice.chance(10) {
            return self.refuse(key);
        }
        self.world.state.supervisor.creates.push(now);
        self.sent.push(now);
        let hour_ago = now - SignedDuration::from_hours(1);
        self.sent.retain(|at| *at > hour_ago);
        self.check(self.sent.len() <= 4, "more creates in an hour than allowed");
        let id = self.next_id;
        let answered = !(self.trouble && self.dice.chance(20));
        let made = answered || self.dice.chance(50);
        self.note(format!("... answered: {answered}, made: {made}"));
        if made {
            self.next_id += 1;
            self.make(id, name, spec);
        }
        self.world.state.intents.push(Intent {
            key,
            what: IntentKind::CreateDroplet { name: name.into(), id: answered.then_some(id) },
            at: now,
            acknowledged: answered.then_some(now),
        });
    }

    fn make(&mut self, id: u64, name: &str, spec: &DropletSpec) {
        let now = self.now();
        let boots = !(self.trouble && self.dice.chance(20));
        let lag = if self.trouble { self.dice.within(0, 60) } else { 0 };
        let serves_from = boots.then(|| now + seconds(self.dice.within(40, 240)));
        let mut droplet = droplet(id, name, spec, now);
        droplet.created_at = now;
        if !boots && self.dice.chance(50) {
            droplet.ip = None;
            droplet.status = DropletStatus::New;
        }
        let heals_by_reboot = self.dice.chance(50);
        let visible_from = now + seconds(lag);
        self.machines.push(Machine {
            droplet,
            visible_from,
            serves_from,
            heals_by_reboot,
            last_beat: None,
            gone_at: None,
        });
    }

    fn delete(&mut self, key: String, id: u64) {
        let now = self.now();
        let serves = |m: &&Machine| m.serves(now) && m.last_beat.is_some() && m.gone_at.is_none();
        let others = self.machines.iter().filter(|m| m.droplet.id != id).filter(serves).count();
        let this = self.machines.iter().find(|m| m.droplet.id == id);
        self.check(!(this.as_ref().is_some_and(serves) && others == 0), "the only serving droplet is deleted");
        let refused = self.trouble && self.dice.chance(15);
        if refused {
            return self.refuse(key);
        }
        let takes = seconds(self.dice.within(1, 40));
        let lost = self.trouble && self.dice.chance(10);
        if let Some(machine) = self.machines.iter_mut().find(|m| m.droplet.id == id)
            && !lost
        {
            machine.gone_at.get_or_insert(now + takes);
        }
        if let Some(record) = self.world.state.supervisor.droplets.get_mut(&id) {
            record.deleted_at = Some(now);
        }
    }

    fn reboot(&mut self, key: String, id: u64) {
        let now = self.now();
        let Some(which) = self.machines.iter().position(|m| m.droplet.id == id) else {
            return self.note("... it is gone");
        };
        self.check(!self.machines[which].serves(now), "a droplet that answers is rebooted");
        if self.trouble && self.dice.chance(20) {
            return self.refuse(key);
        }
        let record = self.world.state.supervisor.droplets.get_mut(&id).expect("a rebooted droplet is recorded");
        assert!(record.rebooted_at.is_none(), "rebooted twice");
        record.rebooted_at = Some(now);
        let machine = &mut self.machines[which];
        if machine.heals_by_reboot {
            machine.serves_from = Some(now + seconds(60));
            machine.last_beat = None;
        }
    }

    /// Runs without trouble until all is healthy; the number of hours it took.
    pub fn settle(&mut self) -> i64 {
        self.trouble = false;
        let now = self.now();
        (self.webapp_back, self.database_back) = (now, now);
        for machine in &mut self.machines {
            machine.visible_from = machine.visible_from.min(now);
        }
        loop {
            let cycle = self.step();
            let hours = self.now().duration_since(now).as_hours();
            if cycle.healthy() {
                return hours;
            }
            let findings: Vec<_> = cycle.plan.findings.iter().map(|f| format!("{f:?}")).collect();
            self.check(hours < 24, &format!("not healthy a day after the trouble ended: {}", findings.join("\n")));
        }
    }
}

fn run(seed: u64, max_droplets: u32) {
    let mut sim = Sim::new(seed, max_droplets);
    for _ in 0..3 {
        sim.trouble = true;
        for _ in 0..300 {
            sim.step();
        }
        sim.settle();
        // Settled stays settled: one droplet, nothing planned, the usual pace.
        for _ in 0..20 {
            let cycle = sim.step();
            sim.check(cycle.healthy() && cycle.plan.is_settled(), "what was settled did not stay so");
            sim.check(!cycle.plan.in_progress, "in progress although all is settled");
        }
    }
}

#[test]
fn whatever_happens_one_droplet_as_desired_serves_in_the_end_and_none_is_lost_on_the_way() {
    for seed in 0..60 {
        run(seed, 2);
    }
}

#[test]
fn the_same_holds_with_room_for_three_droplets() {
    for seed in 1_000..1_030 {
        run(seed, 3);
    }
}
