//! Every reason can be provoked: the list is closed, so a new one does not compile until it is here.

use crate::world::*;
use ops_controller::plan::action::Action;
use ops_controller::plan::condition::{ConditionType, Reason, Status};
use ops_controller::plan::observation::{Account, Health, Lookup, Probe, Seen};
use ops_controller::plan::state::{Condemned, Failure, RestartRecord, SearchState};

/// The world in which a condition has this reason.
fn provoke(reason: Reason) -> (World, ConditionType) {
    use ConditionType as C;
    let mut w = World::settled();
    let kind = match reason {
        Reason::AsDesired => C::ConfigurationReady,
        Reason::CouldNotLook => {
            w.seen.railway = Seen::unknown("502");
            C::ConfigurationReady
        }
        Reason::WaitingForOther => {
            w.railway().managed_secret = None;
            C::SupervisorDeployed
        }
        Reason::InProgress => {
            w = World::without_droplets();
            w.intent(NAME, None, false);
            C::SupervisorDeployed
        }
        Reason::Held => {
            w = World::without_droplets();
            w.seen.account = Seen::Known(Account { status: "locked".into(), droplet_limit: None });
            C::SupervisorDeployed
        }
        Reason::ChangeFailed => {
            w.db().task_run.as_mut().expect("a table").replica_identity = 'd';
            let failure = Failure { attempts: 1, at: w.seen.at, error: "lock timeout".into() };
            w.state.failures.insert(Action::SetReplicaIdentityFull.key(), failure);
            C::ReplicaIdentityFull
        }
        Reason::ServiceNotFound => {
            w.railway().webapp = Lookup::Missing { wanted: "trigger.dev".into(), present: vec!["web".into()] };
            C::ConfigurationReady
        }
        Reason::ServiceAmbiguous => {
            let matches = vec!["registry-a".into(), "registry-b".into()];
            w.railway().registry = Lookup::Ambiguous { wanted: "registry".into(), matches };
            C::ConfigurationReady
        }
        Reason::VariableMissing => {
            w.railway().managed_secret = None;
            C::ConfigurationReady
        }
        Reason::OriginUnreachable => {
            w.railway().api_origin = Some("https://webapp.railway.internal".into());
            C::ConfigurationReady
        }
        Reason::MigrationsPending => {
            w.db().worker_groups = None;
            C::WorkerTokenReady
        }
        Reason::TokenRejected => {
            w.desired.manual_token = Some(ops_controller::plan::secret::Secret::new(OTHER_TOKEN));
            C::WorkerTokenReady
        }
        Reason::ProbeRejected => {
            w.seen.probe = Some(Probe::Rejected);
            C::WorkerTokenReady
        }
        Reason::TokenNotFound => {
            w.state.token = None;
            w.state.search = SearchState { finished_at: Some(w.seen.at), ..SearchState::default() };
            C::WorkerTokenReady
        }
        Reason::SearchingLogs => {
            w.state.token = None;
            C::WorkerTokenReady
        }
        Reason::CommandLineOverrides => {
            w.db().wal_level.value = "replica".into();
            w.db().wal_level.source = "command line".into();
            C::WalLevelLogical
        }
        Reason::PrivilegeMissing => {
            w.db().wal_level.value = "replica".into();
            w.db().role.may_alter_system = false;
            C::WalLevelLogical
        }
        Reason::RestartPending => {
            w.db().wal_level.value = "replica".into();
            C::WalLevelLogical
        }
        Reason::RestartDidNotHelp => {
            w.db().wal_level.value = "replica".into();
            w.state.restart = Some(RestartRecord {
                started_before: time("2026-01-01T00:00:00Z"),
                asked_at: w.seen.at,
                asks: 1,
                started_after: None,
            });
            C::WalLevelLogical
        }
        Reason::WebappBooting => {
            w.db().wal_level.value = "replica".into();
            let Lookup::Found(webapp) = &mut w.railway().webapp else { unreachable!("it is there") };
            webapp.active[0].booting = true;
            C::WalLevelLogical
        }
        Reason::LimitTooLow => {
            w.db().wal_level.value = "replica".into();
            w.db().max_wal_senders = 0;
            C::WalLevelLogical
        }
        Reason::IdentityNotFull => {
            w.db().task_run.as_mut().expect("a table").replica_identity = 'd';
            C::ReplicaIdentityFull
        }
        Reason::PublicationMissing => {
            w.db().publication = None;
            C::PublicationReady
        }
        Reason::PublicationIncomplete => {
            w.db().publication.as_mut().expect("a publication").deletes = false;
            C::PublicationReady
        }
        Reason::SlotMissing => {
            w.db().slot = None;
            C::ReplicationSlotHealthy
        }
        Reason::SlotInactive => {
            w.db().slot.as_mut().expect("a slot").active = false;
            C::ReplicationSlotHealthy
        }
        Reason::SlotRetainsWal => {
            w.db().slot.as_mut().expect("a slot").retained_bytes = 2 << 30;
            C::ReplicationSlotHealthy
        }
        Reason::SlotLost => {
            w.db().slot.as_mut().expect("a slot").wal_status = "lost".into();
            C::ReplicationSlotHealthy
        }
        Reason::FirewallMissing => {
            w.seen.firewall = Seen::Known(None);
            C::FirewallReady
        }
        Reason::FirewallDrifted => {
            w.desired.health_sources = vec!["198.51.100.7/32".into()];
            C::FirewallReady
        }
        Reason::DropletMissing => {
            w = World::without_droplets();
            C::SupervisorDeployed
        }
        Reason::DropletBooting => {
            w = World::without_droplets();
            w.add(ID, NAME);
            C::SupervisorDeployed
        }
        Reason::DropletDrifted => {
            w.resize();
            C::SupervisorDeployed
        }
        Reason::SurplusDroplets => {
            w.add(NEXT_ID, NEXT);
            C::SupervisorDeployed
        }
        Reason::ReplacementFailed => {
            w.kill();
            let at = w.seen.at;
            w.record(ID).condemned = Some(Condemned { at, reason: "it stayed out of service".into() });
            C::SupervisorDeployed
        }
        Reason::HealthCheckFailed => {
            w.kill();
            C::SupervisorReachable
        }
        Reason::HealthCheckSettling => {
            w.record(ID).ok_streak = 0;
            C::SupervisorReachable
        }
        Reason::ProbeBlocked => {
            w.seen.health.insert(ID, Health::Failed("timed out".into()));
            C::SupervisorReachable
        }
        Reason::NoHeartbeat => {
            w.set_heartbeat(NAME, None);
            C::SupervisorConnected
        }
        Reason::HeartbeatStale => {
            w.set_heartbeat(NAME, Some(91.0));
            C::SupervisorConnected
        }
    };
    (w, kind)
}

#[test]
fn every_reason_can_come_and_has_a_meaning() {
    for &reason in Reason::ALL {
        let (mut world, kind) = provoke(reason);
        let cycle = world.cycle();
        let finding = cycle.finding(kind);
        assert_eq!(finding.reason, reason, "{finding:?}");
        assert!(!finding.message.is_empty() && !reason.meaning().is_empty());
    }
}

#[test]
fn whatever_is_not_as_desired_is_not_healthy_unless_it_is_a_warning() {
    for &reason in Reason::ALL {
        let (mut world, kind) = provoke(reason);
        let cycle = world.cycle();
        let warning = matches!(reason, Reason::SlotMissing | Reason::SlotInactive | Reason::SlotRetainsWal);
        assert_eq!(cycle.healthy(), warning || reason == Reason::AsDesired, "{reason}");
        let finding = cycle.finding(kind);
        assert_eq!(finding.status == Status::True, reason == Reason::AsDesired, "{finding:?}");
        assert_eq!(finding.advisory, warning, "{finding:?}");
    }
}

#[test]
fn no_condition_message_action_or_hold_shows_a_secret() {
    for &reason in Reason::ALL {
        let (mut world, _) = provoke(reason);
        let cycle = world.cycle();
        let text = format!("{:?} {:?} {:?}", cycle.plan, cycle.texts(), world.seen);
        assert!(!text.contains("CANARY"), "{reason}");
    }
}
