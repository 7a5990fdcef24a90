//! The self-hosted platform: a database that can be restarted, a webapp, its services at Railway.
//!
//! A plain state with due times; `advance` is the only place where time changes it. It copies what
//! the sandbox's real PostgreSQL and webapp do in the same situations.

use jiff::{SignedDuration, Timestamp};
use ops_controller::plan::desired::hex_sha256;
use ops_controller::plan::observation::{DatabaseView, Publication, Role, Setting, Slot, TaskRun, Worker, WorkerGroup};
use std::collections::BTreeMap;

pub const GROUP: &str = "group-1";
const MANAGED_SECRET: &str = "0123456789abcdef0123456789abcdef";
/// From the answer to a restart's request to the server's end, and from there to its return.
const RESTART_BEGINS: SignedDuration = SignedDuration::from_secs(2);
const RESTART_TAKES: SignedDuration = SignedDuration::from_secs(12);
/// The webapp tries its replication again this often.
const RESUBSCRIBE: SignedDuration = SignedDuration::from_secs(10);

#[derive(Debug, Clone)]
pub struct Platform {
    pub started_at: Timestamp,
    pub wal_level: &'static str,
    pub wal_level_in_file: Option<&'static str>,
    pub replica_identity: char,
    pub publication: Option<Publication>,
    slot_due: Option<Timestamp>,
    pub slot: bool,
    /// The hash of the one true worker token.
    pub token_hash: String,
    pub managed_secret: String,
    /// Variables of the webapp that are nobody else's affair.
    pub other_variables: Vec<(&'static str, String)>,
    /// What the webapp's first deployment printed.
    pub printed_token: Option<String>,
    heartbeats: BTreeMap<String, Timestamp>,
    restart_due: Option<Timestamp>,
    away_until: Option<Timestamp>,
    pub restarts: u32,
    pub restart_requests: u32,
    /// An outage that nobody asked for ends then.
    pub down_until: Option<Timestamp>,
}

/// What one machine would do if the webapp let it.
#[derive(Debug, Clone)]
pub struct Supervisor {
    pub name: String,
    pub token: String,
    pub managed_secret: String,
}

impl Platform {
    pub fn new(now: Timestamp, token: &str) -> Platform {
        Platform {
            started_at: now - SignedDuration::from_hours(100),
            wal_level: "replica",
            wal_level_in_file: None,
            replica_identity: 'd',
            publication: None,
            slot_due: None,
            slot: false,
            token_hash: hex_sha256(token.as_bytes()),
            managed_secret: MANAGED_SECRET.to_owned(),
            other_variables: Vec::new(),
            printed_token: Some(token.to_owned()),
            heartbeats: BTreeMap::new(),
            restart_due: None,
            away_until: None,
            restarts: 0,
            restart_requests: 0,
            down_until: None,
        }
    }

    pub fn advance(&mut self, now: Timestamp, supervisors: &[Supervisor]) {
        if self.restart_due.is_some_and(|due| due <= now) {
            self.away_until = self.restart_due.take().map(|due| due + RESTART_TAKES);
            self.slot_due = None;
        }
        if let Some(back) = self.away_until.filter(|back| *back <= now) {
            self.away_until = None;
            self.come_back(back);
        }
        if self.is_up(now) {
            self.subscribe(now);
            let accepted = supervisors.iter().filter(|s| self.accepts(&s.token, &s.managed_secret));
            let heard: Vec<_> = accepted.map(|s| (s.name.clone(), now)).collect();
            self.heartbeats.extend(heard);
        }
    }

    fn come_back(&mut self, at: Timestamp) {
        self.restarts += 1;
        self.started_at = at;
        self.wal_level = self.wal_level_in_file.unwrap_or("replica");
    }

    /// The webapp makes its slot when it can, and tries again when it could not.
    fn subscribe(&mut self, now: Timestamp) {
        let may = self.wal_level == "logical" && self.publication.as_ref().is_some_and(|p| p.has_table);
        match self.slot_due {
            _ if !may => self.slot_due = None,
            None => self.slot_due = Some(now + RESUBSCRIBE),
            Some(due) if due <= now => self.slot = true,
            Some(_) => {}
        }
    }

    pub fn is_up(&self, now: Timestamp) -> bool {
        self.away_until.is_none() && self.down_until.is_none_or(|until| until <= now)
    }

    pub fn accepts(&self, token: &str, managed_secret: &str) -> bool {
        managed_secret == self.managed_secret && hex_sha256(token.as_bytes()) == self.token_hash
    }

    /// Everything that replication needs; the slot is the webapp's affair.
    pub fn may_replicate(&self) -> bool {
        let publishes = |p: &Publication| p.has_table && p.inserts && p.updates && p.deletes;
        self.wal_level == "logical" && self.replica_identity == 'f' && self.publication.as_ref().is_some_and(publishes)
    }

    pub fn ask_for_restart(&mut self, now: Timestamp) {
        self.restart_requests += 1;
        self.restart_due.get_or_insert(now + RESTART_BEGINS);
    }

    /// A new server from a template, with the data but without the settings.
    pub fn lose_settings(&mut self) {
        self.wal_level = "replica";
        self.wal_level_in_file = None;
        self.slot = false;
        self.slot_due = None;
    }

    /// Somebody issued another token, and nobody printed it.
    pub fn lose_token(&mut self, token: &str) {
        self.token_hash = hex_sha256(token.as_bytes());
    }

    pub fn heartbeat_age(&self, worker: &str, now: Timestamp) -> Option<f64> {
        self.heartbeats.get(worker).map(|at| now.duration_since(*at).as_secs_f64())
    }

    pub fn view(&self, now: Timestamp) -> DatabaseView {
        let source = if self.wal_level == "logical" { "configuration file" } else { "default" };
        let slot = Slot {
            active: self.slot_due.is_some(),
            wal_status: "reserved".to_owned(),
            retained_bytes: 1 << 20,
            safe_bytes: None,
        };
        let worker = |at: &Timestamp| Worker { heartbeat_age_seconds: Some(now.duration_since(*at).as_secs_f64()) };
        DatabaseView {
            version: 150_018,
            started_at: self.started_at,
            in_recovery: false,
            role: Role {
                name: "postgres".to_owned(),
                superuser: true,
                replication: true,
                may_alter_system: true,
                may_create_in_database: true,
            },
            wal_level: Setting {
                value: self.wal_level.to_owned(),
                source: source.to_owned(),
                pending_restart: self.wal_level_in_file.is_some_and(|level| level != self.wal_level),
            },
            wal_level_in_file: self.wal_level_in_file.map(str::to_owned),
            max_wal_senders: 10,
            wal_senders_used: i32::from(slot.active && self.slot),
            max_replication_slots: 10,
            replication_slots_used: i32::from(self.slot),
            task_run: Some(TaskRun { replica_identity: self.replica_identity, owned: true }),
            publication: self.publication.clone(),
            slot: self.slot.then_some(slot),
            worker_groups: Some(vec![WorkerGroup {
                id: GROUP.to_owned(),
                name: "bootstrap".to_owned(),
                token_hash: self.token_hash.clone(),
            }]),
            workers: self.heartbeats.iter().map(|(name, at)| (name.clone(), worker(at))).collect(),
        }
    }
}
