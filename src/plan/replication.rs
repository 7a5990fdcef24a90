//! `WalLevelLogical`, `ReplicaIdentityFull`, `PublicationReady`, `ReplicationSlotHealthy`.
//!
//! Looks before it touches: source of the setting, privileges, limits, booting webapps. A restart
//! is asked for once per confirmed change and proven by a new postmaster start time. The slot is
//! watched and never dropped.

mod slot;

use super::action::{Action, Held, Planned};
use super::condition::{ConditionType, Finding, Reason};
use super::desired::Desired;
use super::observation::{DatabaseView, DeploymentStatus, Lookup, Observation, RailwayView, Seen};
use super::state::{Failure, RestartRecord, State};
use super::{backed_off, readable_duration};
use jiff::{SignedDuration, Timestamp};

pub const PUBLICATION: &str = "task_runs_to_clickhouse_v1_publication";
pub const SLOT: &str = "task_runs_to_clickhouse_v1";

/// Asking again after a restart that did not come; then a person must look.
const MAX_RESTART_ASKS: u32 = 3;
#[derive(Debug, Default)]
pub struct Replication {
    pub findings: Vec<Finding>,
    pub actions: Vec<Planned>,
    pub held: Vec<Held>,
    pub in_progress: bool,
}

impl Replication {
    fn act(&mut self, state: &State, now: Timestamp, action: Action, reason: &str) -> Option<Failure> {
        match backed_off(state, &action.key(), now) {
            Some((failure, until)) => {
                self.held.push(Held {
                    action: action.to_string(),
                    by: "back-off".into(),
                    why: format!("failed {} times; tried again after {until}: {}", failure.attempts, failure.error),
                });
                Some(failure.clone())
            }
            None => {
                self.actions.push(Planned { action, reason: reason.to_owned(), monthly_usd: None });
                None
            }
        }
    }
}

/// Takes the restart's proof and the slot's growth into the state.
pub fn digest(state: &mut State, seen: &Observation) {
    let Some(db) = seen.database.known() else { return };
    if let Some(restart) = &mut state.restart {
        if db.started_at != restart.started_before && restart.started_after.is_none() {
            restart.started_after = Some(db.started_at);
        }
        if db.wal_level.value == "logical" {
            state.restart = None;
        }
    }
    slot::digest(state, seen.at, db.slot.as_ref());
}

pub fn plan(desired: &Desired, state: &State, seen: &Observation) -> Replication {
    let mut out = Replication::default();
    let db = match &seen.database {
        Seen::Known(db) => db,
        Seen::Unknown { reason } => {
            for kind in
                [ConditionType::WalLevelLogical, ConditionType::ReplicaIdentityFull, ConditionType::PublicationReady]
            {
                out.findings.push(Finding::unknown(kind, reason));
            }
            let slot = Finding::unknown(ConditionType::ReplicationSlotHealthy, reason);
            out.findings.push(slot.advisory());
            // Our own restart makes the database unreadable for a while: look again soon.
            out.in_progress = state.restart.as_ref().is_some_and(|r| r.started_after.is_none());
            return out;
        }
    };
    let wal = wal_level(desired, state, seen, db, &mut out);
    out.findings.push(wal);
    let identity = replica_identity(state, seen.at, db, &mut out);
    out.findings.push(identity);
    let publication = publication(state, seen.at, db, &mut out);
    out.findings.push(publication);
    out.findings.push(slot::finding(desired, state, db));
    out
}

fn wal_level(
    desired: &Desired,
    state: &State,
    seen: &Observation,
    db: &DatabaseView,
    out: &mut Replication,
) -> Finding {
    const KIND: ConditionType = ConditionType::WalLevelLogical;
    if db.wal_level.value == "logical" {
        return Finding::yes(KIND, "wal_level is logical");
    }
    if let Some(finding) = wal_level_impossible(db) {
        return finding;
    }
    let stored = match db.wal_level_in_file.as_deref() {
        Some(value) => value == "logical",
        // The file may not be read: a pending change is taken for ours.
        None => db.wal_level.pending_restart,
    };
    if !stored {
        let failure = out.act(
            state,
            seen.at,
            Action::AlterSystemWalLevel,
            &format!("wal_level is {} and must be logical", db.wal_level.value),
        );
        return match failure {
            Some(f) => Finding::no(
                KIND,
                Reason::ChangeFailed,
                format!(
                    "the server refused `alter system set wal_level`: {}; a managed service may offer its own switch for logical replication",
                    f.error
                ),
            ),
            None => {
                out.in_progress = true;
                Finding::no(
                    KIND,
                    Reason::InProgress,
                    format!("wal_level is {}; to be set to logical", db.wal_level.value),
                )
            }
        };
    }
    restart(desired, state, seen, db, out)
}

/// What no action of ours can change; said before anything is touched.
fn wal_level_impossible(db: &DatabaseView) -> Option<Finding> {
    const KIND: ConditionType = ConditionType::WalLevelLogical;
    if db.in_recovery {
        return Some(standby(KIND));
    }
    if db.wal_level.source == "command line" {
        let message = format!(
            "wal_level={} is given on the server's command line, which alter system cannot override: change the service's start \
             command to wal_level=logical and redeploy it; no restart is asked for",
            db.wal_level.value
        );
        return Some(Finding::no(KIND, Reason::CommandLineOverrides, message));
    }
    if db.max_wal_senders < 1 || db.max_replication_slots < 1 {
        let message = format!(
            "max_wal_senders={} and max_replication_slots={}: both must be at least 1 (the defaults are 10)",
            db.max_wal_senders, db.max_replication_slots
        );
        return Some(Finding::no(KIND, Reason::LimitTooLow, message));
    }
    if !db.role.may_alter_system {
        let message = format!(
            "role {} may not change wal_level: use a superuser in DATABASE_URL, or (PostgreSQL 15+) \
             `grant alter system on parameter wal_level to {}`; a managed service may have its own switch",
            db.role.name,
            identifier(&db.role.name)
        );
        return Some(Finding::no(KIND, Reason::PrivilegeMissing, message));
    }
    None
}

/// The setting is stored; one restart makes it true.
fn restart(desired: &Desired, state: &State, seen: &Observation, db: &DatabaseView, out: &mut Replication) -> Finding {
    const KIND: ConditionType = ConditionType::WalLevelLogical;
    let now = seen.at;
    if let Some(RestartRecord { started_after: Some(after), .. }) = &state.restart {
        let message = format!(
            "the server was restarted (up since {after}) and wal_level still is {}: another setting wins (see pg_file_settings); \
             no further restart is asked for",
            db.wal_level.value
        );
        return Finding::no(KIND, Reason::RestartDidNotHelp, message);
    }
    let asks = state.restart.as_ref().map_or(0, |r| r.asks);
    if let Some(asked) = &state.restart {
        let waited = now.duration_since(asked.asked_at);
        if waited < SignedDuration::try_from(desired.times.restart_deadline).unwrap_or(SignedDuration::MAX) {
            out.in_progress = true;
            let message = format!("restart asked for {} ago; waiting for a new postmaster", readable_duration(waited));
            return Finding::no(KIND, Reason::InProgress, message);
        }
        if asks >= MAX_RESTART_ASKS {
            let message = format!(
                "{asks} restarts were asked for and none came: restart the Postgres service in Railway by hand"
            );
            return Finding::no(KIND, Reason::ChangeFailed, message);
        }
    }
    let view = match &seen.railway {
        Seen::Known(view) => view,
        Seen::Unknown { reason } => {
            return hold(out, "could not look", &format!("Railway could not be read: {reason}"), Reason::CouldNotLook);
        }
    };
    let deployment_id = match restart_target(view) {
        Ok(id) => id,
        Err((reason, why)) => return hold(out, "DB_SERVICE_NAME", &why, reason),
    };
    if let Some(why) = webapp_booting(view, db) {
        out.in_progress = true;
        return hold(out, "booting webapp", &why, Reason::WebappBooting);
    }
    let action = Action::RestartPostgres { deployment_id, started_at: db.started_at };
    match out.act(state, now, action, "wal_level = logical is stored and needs a restart") {
        Some(failure) => {
            Finding::no(KIND, Reason::ChangeFailed, format!("Railway refused the restart: {}", failure.error))
        }
        None => {
            out.in_progress = true;
            Finding::no(KIND, Reason::RestartPending, "wal_level = logical is stored; Postgres is being restarted")
        }
    }
}

fn hold(out: &mut Replication, by: &str, why: &str, reason: Reason) -> Finding {
    out.held.push(Held { action: "restart Postgres through Railway".into(), by: by.into(), why: why.into() });
    let message = format!("wal_level = logical is stored and needs a restart, which is held: {why}");
    Finding::no(ConditionType::WalLevelLogical, reason, message)
}

/// The running deployment of the Postgres service.
fn restart_target(view: &RailwayView) -> Result<String, (Reason, String)> {
    let service = match &view.postgres {
        Lookup::Found(service) => service,
        other => {
            let finding = super::configuration::service_found(other, "DB_SERVICE_NAME").err();
            return Err(finding.map_or((Reason::ServiceNotFound, String::new()), |f| (f.reason, f.message)));
        }
    };
    let running = service.active.iter().find(|d| d.status == DeploymentStatus::Good);
    running.map(|d| d.id.clone()).ok_or_else(|| {
        (Reason::ServiceNotFound, format!("service {} has no running deployment; deploy it in Railway", service.name))
    })
}

/// A webapp whose first connection fails never acknowledges WAL until it is restarted, and one that
/// migrates would be cut in the middle; so a restart waits for it.
fn webapp_booting(view: &RailwayView, db: &DatabaseView) -> Option<String> {
    let service = view.webapp.found()?;
    let booting = service
        .latest
        .iter()
        .chain(&service.active)
        .find(|d| d.status == DeploymentStatus::InFlight || (d.status == DeploymentStatus::Good && d.booting));
    if let Some(deployment) = booting {
        return Some(format!("deployment {} of {} is booting", deployment.id, service.name));
    }
    let runs = service.active.iter().any(|d| d.status == DeploymentStatus::Good);
    (runs && db.task_run.is_none()).then(|| format!("{} runs and has not finished its migrations", service.name))
}

fn replica_identity(state: &State, now: Timestamp, db: &DatabaseView, out: &mut Replication) -> Finding {
    const KIND: ConditionType = ConditionType::ReplicaIdentityFull;
    let Some(table) = &db.task_run else { return migrations_pending(KIND) };
    if table.replica_identity == 'f' {
        return Finding::yes(KIND, "public.\"TaskRun\" has replica identity full");
    }
    if db.in_recovery {
        return standby(KIND);
    }
    if !table.owned {
        return not_owner(KIND, db, "public.\"TaskRun\"");
    }
    let failure = out.act(
        state,
        now,
        Action::SetReplicaIdentityFull,
        "without it, updates and deletes reach ClickHouse incomplete",
    );
    changing(KIND, Reason::IdentityNotFull, "the replica identity of public.\"TaskRun\" is not full", failure, out)
}

fn publication(state: &State, now: Timestamp, db: &DatabaseView, out: &mut Replication) -> Finding {
    const KIND: ConditionType = ConditionType::PublicationReady;
    let Some(table) = &db.task_run else { return migrations_pending(KIND) };
    let name = PUBLICATION.to_owned();
    let Some(publication) = &db.publication else {
        if db.in_recovery {
            return standby(KIND);
        }
        if !table.owned || !db.role.may_create_in_database {
            return not_owner(KIND, db, "public.\"TaskRun\", and the right to create in the database,");
        }
        let failure = out.act(state, now, Action::CreatePublication { name }, "the publication does not exist");
        return changing(KIND, Reason::PublicationMissing, "the publication does not exist", failure, out);
    };
    let publishes = publication.inserts && publication.updates && publication.deletes;
    if publication.has_table && publishes {
        return Finding::yes(KIND, format!("{PUBLICATION} publishes insert, update, delete of public.\"TaskRun\""));
    }
    if db.in_recovery {
        return standby(KIND);
    }
    if !publication.owned {
        return not_owner(KIND, db, PUBLICATION);
    }
    let mut failure = None;
    if !publication.has_table {
        let action = Action::AddTableToPublication { name: name.clone() };
        failure = out.act(state, now, action, "the publication lacks public.\"TaskRun\"");
    }
    if !publishes {
        let action = Action::SetPublicationOperations { name };
        failure = out.act(state, now, action, "the publication does not publish insert, update and delete").or(failure);
    }
    changing(KIND, Reason::PublicationIncomplete, "the publication lacks the table or an operation", failure, out)
}

fn changing(
    kind: ConditionType,
    reason: Reason,
    what: &str,
    failure: Option<Failure>,
    out: &mut Replication,
) -> Finding {
    match failure {
        Some(f) => {
            Finding::no(kind, Reason::ChangeFailed, format!("{what}, and the server refused the change: {}", f.error))
        }
        None => {
            out.in_progress = true;
            Finding::no(kind, reason, format!("{what}; to be repaired"))
        }
    }
}

fn migrations_pending(kind: ConditionType) -> Finding {
    let message = "public.\"TaskRun\" does not exist: the webapp's migrations have not run yet; waiting";
    Finding::no(kind, Reason::MigrationsPending, message)
}

/// Nothing can be changed there, and nothing is tried.
fn standby(kind: ConditionType) -> Finding {
    let message = "this server is a standby (in recovery): point DATABASE_URL at the primary";
    Finding::no(kind, Reason::PrivilegeMissing, message)
}

/// A role's name as SQL takes it.
pub fn identifier(name: &str) -> String {
    let plain = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn not_owner(kind: ConditionType, db: &DatabaseView, what: &str) -> Finding {
    let message = format!(
        "role {} does not own {what}: use the owner or a superuser in DATABASE_URL, or run as one: alter role {} superuser",
        db.role.name,
        identifier(&db.role.name)
    );
    Finding::no(kind, Reason::PrivilegeMissing, message)
}
