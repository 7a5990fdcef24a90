//! A settled world that each test perturbs in one place.

use jiff::{SignedDuration, Timestamp};
use ops_controller::plan::action::{Action, DropletSpec};
use ops_controller::plan::condition::{Condition, ConditionType, Finding, Reason, Status, healthy, settle};
use ops_controller::plan::configuration::Configuration;
use ops_controller::plan::desired::{Desired, Limits, Times, hex_sha256};
use ops_controller::plan::observation::*;
use ops_controller::plan::secret::Secret;
use ops_controller::plan::state::{CachedToken, DropletRecord, Intent, IntentKind, ProbeRecord, State, TokenSource};
use ops_controller::plan::{Plan, digest, droplet_spec, firewall, plan, token};
use std::collections::BTreeMap;
use std::time::Duration;

pub const TOKEN: &str = "tr_wgt_CANARYtokenCANARYtokenCANARYtokenCANARYt";
pub const OTHER_TOKEN: &str = "tr_wgt_CANARYotherCANARYotherCANARYotherCANARYo";
pub const MANAGED_SECRET: &str = "CANARYmanagedsecret0123456789abc";
pub const ORIGIN: &str = "https://trigger.example.com";
pub const START: &str = "2026-03-01T12:00:00Z";
/// The serving droplet of the settled world.
pub const ID: u64 = 7001;
pub const NAME: &str = "trigger-supervisor-b2c3d4e5-1";
/// What the next droplet will be called.
pub const NEXT: &str = "trigger-supervisor-b2c3d4e5-2";
pub const NEXT_ID: u64 = 7002;

/// One thing that drifts.
pub type Perturb = fn(&mut World);

#[derive(Debug)]
pub struct World {
    pub desired: Desired,
    pub state: State,
    pub seen: Observation,
}

pub fn time(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

pub fn seconds(n: i64) -> SignedDuration {
    SignedDuration::from_secs(n)
}

pub fn minutes(n: i64) -> SignedDuration {
    SignedDuration::from_mins(n)
}

pub fn desired() -> Desired {
    Desired {
        registry_login: None,
        project_id: "a1b2c3d4-0000-4000-8000-000000000001".into(),
        environment_id: "b2c3d4e5-0000-4000-8000-000000000002".into(),
        region: "nyc1".into(),
        size: "s-2vcpu-2gb".into(),
        image: "ubuntu-24-04-x64".into(),
        ssh_keys: vec![],
        health_sources: vec!["0.0.0.0/0".into(), "::/0".into()],
        trigger_version: "v4.5.12".into(),
        manual_token: None,
        managed_secret: None,
        rotate_lost_token: false,
        allow_local_origin: false,
        is_active: true,
        auto_disable: false,
        healthy_cycles_before_disable: 3,
        pg_volume_gb: None,
        limits: Limits { max_droplets: 2, max_creates_per_hour: 3, max_deletes_per_cycle: 1, max_monthly_usd: 100.0 },
        times: Times {
            check_interval: Duration::from_secs(60),
            progress_interval: Duration::from_secs(5),
            disabled_check_interval: Some(Duration::from_secs(900)),
            boot_deadline: Duration::from_secs(600),
            unhealthy_after: 3,
            heartbeat_stale_after: Duration::from_secs(90),
            create_settle: Duration::from_secs(90),
            restart_deadline: Duration::from_secs(600),
        },
    }
}

fn service(id: &str, name: &str) -> Lookup {
    let deployment = Deployment { id: format!("{id}-deployment"), status: DeploymentStatus::Good, booting: false };
    Lookup::Found(Service {
        id: id.into(),
        name: name.into(),
        latest: Some(deployment.clone()),
        active: vec![deployment],
    })
}

fn railway() -> RailwayView {
    RailwayView {
        webapp: service("webapp", "trigger.dev"),
        postgres: service("postgres", "Postgres"),
        registry: service("registry", "registry"),
        managed_secret: Some(Secret::new(MANAGED_SECRET)),
        api_origin: Some(ORIGIN.into()),
        app_origin: None,
        registry_domain: Some("registry.example.com".into()),
    }
}

fn database() -> DatabaseView {
    DatabaseView {
        version: 160_004,
        started_at: time("2026-02-01T00:00:00Z"),
        in_recovery: false,
        role: Role {
            name: "postgres".into(),
            superuser: true,
            replication: true,
            may_alter_system: true,
            may_create_in_database: true,
        },
        wal_level: Setting { value: "logical".into(), source: "configuration file".into(), pending_restart: false },
        wal_level_in_file: Some("logical".into()),
        max_wal_senders: 10,
        wal_senders_used: 1,
        max_replication_slots: 10,
        replication_slots_used: 1,
        task_run: Some(TaskRun { replica_identity: 'f', owned: true }),
        publication: Some(Publication { has_table: true, inserts: true, updates: true, deletes: true, owned: true }),
        slot: Some(Slot { active: true, wal_status: "reserved".into(), retained_bytes: 1 << 20, safe_bytes: None }),
        worker_groups: Some(vec![group("bootstrap", TOKEN)]),
        workers: BTreeMap::from([(NAME.to_owned(), Worker { heartbeat_age_seconds: Some(5.0) })]),
    }
}

pub fn group(name: &str, token: &str) -> WorkerGroup {
    WorkerGroup { id: format!("group-{name}"), name: name.into(), token_hash: hex_sha256(token.as_bytes()) }
}

pub fn size(slug: &str, price_monthly: f64) -> Size {
    Size { slug: slug.into(), price_monthly, available: true, regions: vec!["nyc1".into(), "fra1".into()] }
}

/// What a droplet of the settled world would be told.
pub fn configuration() -> Configuration {
    Configuration {
        managed_secret: Secret::new(MANAGED_SECRET),
        api_url: ORIGIN.into(),
        registry_domain: Some("registry.example.com".into()),
    }
}

pub fn spec(desired: &Desired) -> DropletSpec {
    droplet_spec(desired, &configuration(), &Secret::new(TOKEN))
}

/// A droplet as the spec wants it, created one minute before `at`.
pub fn droplet(id: u64, name: &str, spec: &DropletSpec, at: Timestamp) -> Droplet {
    Droplet {
        id,
        name: name.into(),
        status: DropletStatus::Active,
        size: spec.size.clone(),
        region: spec.region.clone(),
        tags: spec.tags(),
        ip: Some(format!("203.0.113.{}", id % 250)),
        created_at: at - minutes(1),
    }
}

/// A record of a droplet that has been in service for a day.
pub fn served_record(name: &str, now: Timestamp) -> DropletRecord {
    DropletRecord {
        name: name.into(),
        first_seen: now - SignedDuration::from_hours(24),
        last_ok_at: Some(now - seconds(60)),
        ok_streak: 100,
        failed_looks: 0,
        in_service_since: Some(now - SignedDuration::from_hours(23)),
        rebooted_at: None,
        condemned: None,
        deleted_at: None,
    }
}

impl World {
    /// Everything as wanted, and known to be so for a day.
    pub fn settled() -> World {
        let desired = desired();
        let now = time(START);
        let mut state = State::new(desired.identity_tag());
        let day_ago = now - SignedDuration::from_hours(24);
        state.token = Some(CachedToken { value: Secret::new(TOKEN), source: TokenSource::Logs, found_at: day_ago });
        let inputs = token::probe_inputs(&Secret::new(TOKEN), &configuration());
        state.probe = Some(ProbeRecord { inputs, accepted: true, at: day_ago });
        state.supervisor.sequence = 1;
        state.supervisor.droplets.insert(ID, served_record(NAME, now));
        let wanted = firewall::spec(&desired);
        let mut old = droplet(ID, NAME, &spec(&desired), now);
        old.created_at = day_ago;
        let seen = Observation {
            at: now,
            railway: Seen::Known(railway()),
            database: Seen::Known(database()),
            droplets: Seen::Known(vec![old]),
            firewall: Seen::Known(Some(Firewall {
                id: "firewall-1".into(),
                name: wanted.name,
                rules: wanted.rules,
                tags: vec![wanted.tag],
            })),
            sizes: Seen::Known(vec![size("s-2vcpu-2gb", 18.0), size("s-4vcpu-8gb", 48.0)]),
            account: Seen::Known(Account { status: "active".into(), droplet_limit: Some(25) }),
            health: BTreeMap::from([(ID, Health::Ok)]),
            probe: Some(Probe::Accepted),
            search: None,
        };
        World { desired, state, seen }
    }

    /// The settled world without any droplet, now or ever.
    pub fn without_droplets() -> World {
        let mut world = World::settled();
        world.remove(ID);
        world.db().workers.clear();
        world.state.supervisor = Default::default();
        world
    }

    pub fn railway(&mut self) -> &mut RailwayView {
        match &mut self.seen.railway {
            Seen::Known(view) => view,
            Seen::Unknown { .. } => panic!("Railway is unknown here"),
        }
    }

    pub fn db(&mut self) -> &mut DatabaseView {
        match &mut self.seen.database {
            Seen::Known(view) => view,
            Seen::Unknown { .. } => panic!("the database is unknown here"),
        }
    }

    pub fn droplets(&mut self) -> &mut Vec<Droplet> {
        match &mut self.seen.droplets {
            Seen::Known(droplets) => droplets,
            Seen::Unknown { .. } => panic!("the droplets are unknown here"),
        }
    }

    pub fn droplet(&mut self, id: u64) -> &mut Droplet {
        self.droplets().iter_mut().find(|d| d.id == id).expect("the droplet exists")
    }

    pub fn record(&mut self, id: u64) -> &mut DropletRecord {
        self.state.supervisor.droplets.get_mut(&id).expect("the droplet is recorded")
    }

    /// A droplet that is gone from DigitalOcean.
    pub fn remove(&mut self, id: u64) {
        self.droplets().retain(|d| d.id != id);
        self.seen.health.remove(&id);
    }

    /// One more droplet, as desired now, that has not answered yet.
    pub fn add(&mut self, id: u64, name: &str) {
        let (spec, at) = (spec(&self.desired), self.seen.at);
        self.droplets().push(droplet(id, name, &spec, at));
        self.set_health(id, false);
    }

    /// Whether it answers on :8020.
    pub fn set_health(&mut self, id: u64, ok: bool) {
        let health = if ok { Health::Ok } else { Health::Failed("connection refused".into()) };
        self.seen.health.insert(id, health);
    }

    pub fn set_heartbeat(&mut self, name: &str, age: Option<f64>) {
        self.db().workers.insert(name.to_owned(), Worker { heartbeat_age_seconds: age });
    }

    /// It answers and its heartbeat is fresh, or neither.
    pub fn set_serving(&mut self, id: u64, name: &str, serving: bool) {
        self.set_health(id, serving);
        self.set_heartbeat(name, if serving { Some(5.0) } else { Some(3_600.0) });
    }

    pub fn kill(&mut self) {
        self.set_serving(ID, NAME, false);
    }

    /// The desired size changes, so that the droplet there is differs from it.
    pub fn resize(&mut self) {
        self.desired.size = "s-4vcpu-8gb".into();
    }

    pub fn intent(&mut self, name: &str, id: Option<u64>, acknowledged: bool) {
        let at = self.seen.at;
        self.state.supervisor.sequence = 2;
        self.state.supervisor.creates.push(at);
        self.state.intents.push(Intent {
            key: "create".into(),
            what: IntentKind::CreateDroplet { name: name.into(), id },
            at,
            acknowledged: acknowledged.then_some(at),
        });
    }

    pub fn later(&mut self, by: SignedDuration) {
        self.seen.at += by;
    }

    /// One cycle, as the controller runs it.
    pub fn cycle(&mut self) -> Cycle {
        digest(&self.desired, &mut self.state, &self.seen);
        let plan = plan(&self.desired, &self.state, &self.seen);
        Cycle { conditions: settle(plan.findings.clone(), &[], self.seen.at), plan }
    }

    /// The last of `n` cycles, `apart` from each other; nothing is applied.
    pub fn cycles(&mut self, n: u32, apart: SignedDuration) -> Cycle {
        for _ in 1..n {
            self.cycle();
            self.later(apart);
        }
        self.cycle()
    }
}

pub struct Cycle {
    pub plan: Plan,
    pub conditions: Vec<Condition>,
}

impl Cycle {
    pub fn finding(&self, kind: ConditionType) -> &Finding {
        self.plan.findings.iter().find(|f| f.kind == kind).expect("every condition is found")
    }

    #[track_caller]
    pub fn expect(&self, kind: ConditionType, status: Status, reason: Reason) -> &Finding {
        let finding = self.finding(kind);
        assert_eq!((finding.status, finding.reason), (status, reason), "{finding:?}");
        finding
    }

    #[track_caller]
    pub fn expect_false(&self, kind: ConditionType, reason: Reason) -> &Finding {
        self.expect(kind, Status::False, reason)
    }

    #[track_caller]
    pub fn expect_true(&self, kind: ConditionType) -> &Finding {
        self.expect(kind, Status::True, Reason::AsDesired)
    }

    pub fn healthy(&self) -> bool {
        healthy(&self.conditions)
    }

    pub fn actions(&self) -> Vec<&Action> {
        self.plan.actions.iter().map(|p| &p.action).collect()
    }

    /// What is planned, in words.
    pub fn texts(&self) -> Vec<String> {
        self.actions().iter().map(|a| a.to_string()).collect()
    }

    pub fn creates(&self) -> Vec<(&str, &DropletSpec)> {
        let actions = self.plan.actions.iter();
        actions
            .filter_map(|planned| match &planned.action {
                Action::CreateDroplet { name, spec, .. } => Some((name.as_str(), spec.as_ref())),
                _ => None,
            })
            .collect()
    }

    pub fn deletes(&self) -> Vec<u64> {
        let id = |a: &Action| match a {
            Action::DeleteDroplet { id, .. } => Some(*id),
            _ => None,
        };
        self.actions().into_iter().filter_map(id).collect()
    }

    pub fn reboots(&self) -> Vec<u64> {
        let id = |a: &Action| match a {
            Action::RebootDroplet { id, .. } => Some(*id),
            _ => None,
        };
        self.actions().into_iter().filter_map(id).collect()
    }

    #[track_caller]
    pub fn expect_nothing_planned(&self) {
        assert!(self.plan.actions.is_empty(), "{:?}", self.texts());
    }

    #[track_caller]
    pub fn expect_held_by(&self, by: &str) {
        assert!(self.plan.held.iter().any(|h| h.by == by), "not held by {by}: {:?}", self.plan.held);
    }
}
