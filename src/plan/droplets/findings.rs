//! `SupervisorReachable` and `SupervisorConnected`: of the droplet that does, or is to do, the service.

use super::{OK_STREAK, View, is_connected};
use crate::plan::condition::{ConditionType, Finding, Reason};
use crate::plan::desired::Desired;
use crate::plan::observation::{Health, Observation, Seen};
use crate::plan::readable_duration;
use jiff::SignedDuration;

pub fn reachable(desired: &Desired, seen: &Observation, current: Option<&View<'_>>) -> Finding {
    const KIND: ConditionType = ConditionType::SupervisorReachable;
    let Some(view) = current else {
        return Finding::no(KIND, Reason::WaitingForOther, "there is no droplet to reach yet");
    };
    let name = &view.droplet.name;
    let Some(ip) = &view.droplet.ip else {
        return Finding::no(KIND, Reason::DropletBooting, format!("droplet {name} has no public address yet"));
    };
    let streak = view.record.map_or(0, |r| r.ok_streak);
    let connected = is_connected(desired, seen, view.droplet);
    match seen.health.get(&view.droplet.id) {
        None => Finding::unknown(KIND, format!("http://{ip}:8020/health was not looked at")),
        Some(Health::Ok) if streak >= OK_STREAK => {
            Finding::yes(KIND, format!("http://{ip}:8020/health answered 200 in the last {streak} looks"))
        }
        Some(Health::Ok) => Finding::no(
            KIND,
            Reason::HealthCheckSettling,
            format!("http://{ip}:8020/health answered 200 in {streak} of {OK_STREAK} looks in a row"),
        ),
        Some(Health::Failed(why)) if connected == Some(true) => Finding::no(
            KIND,
            Reason::ProbeBlocked,
            format!(
                "heartbeats of {name} arrive, but http://{ip}:8020/health does not answer from here ({why}): \
                 is this machine within SUPERVISOR_HEALTH_SOURCES?"
            ),
        ),
        Some(Health::Failed(why)) if !view.has_served() => Finding::no(
            KIND,
            Reason::DropletBooting,
            format!(
                "http://{ip}:8020/health does not answer yet ({why}); on the droplet: tail /var/log/cloud-init-output.log"
            ),
        ),
        Some(Health::Failed(why)) => {
            let looks = view.record.map_or(0, |r| r.failed_looks);
            let message = format!(
                "http://{ip}:8020/health: {why} ({looks} failed looks); on the droplet: docker ps, docker logs trigger-supervisor-1"
            );
            Finding::no(KIND, Reason::HealthCheckFailed, message)
        }
    }
}

pub fn connected(desired: &Desired, seen: &Observation, current: Option<&View<'_>>) -> Finding {
    const KIND: ConditionType = ConditionType::SupervisorConnected;
    let database = match &seen.database {
        Seen::Known(database) => database,
        Seen::Unknown { reason } => {
            return Finding::unknown(KIND, reason);
        }
    };
    if database.worker_groups.is_none() {
        return Finding::no(
            KIND,
            Reason::MigrationsPending,
            "the table \"WorkerInstance\" does not exist yet: the webapp's migrations have not run",
        );
    }
    let Some(view) = current else {
        return Finding::no(KIND, Reason::WaitingForOther, "there is no supervisor to connect yet");
    };
    let name = &view.droplet.name;
    match database.workers.get(name).and_then(|w| w.heartbeat_age_seconds) {
        None => Finding::no(
            KIND,
            Reason::NoHeartbeat,
            format!("{name} has not sent a heartbeat: the first comes 30 s after it has connected with its token"),
        ),
        Some(age) if age < -desired.times.heartbeat_stale_after.as_secs_f64() => Finding::unknown(
            KIND,
            format!("the last heartbeat of {name} is dated in the future: the clocks of webapp and database differ"),
        ),
        Some(age) if age <= desired.times.heartbeat_stale_after.as_secs_f64() => Finding::yes(
            KIND,
            format!("last heartbeat of {name} {} ago", readable_duration(SignedDuration::from_secs(age as i64))),
        ),
        Some(age) => Finding::no(
            KIND,
            Reason::HeartbeatStale,
            format!("last heartbeat of {name} {} ago", readable_duration(SignedDuration::from_secs(age as i64))),
        ),
    }
}

/// The same two conditions from a cheap look: one probe, one heartbeat. `None`: it could not be read.
pub fn cheap_findings(desired: &Desired, name: &str, health: &Health, heartbeat: Option<Option<f64>>) -> Vec<Finding> {
    let reachable = match health {
        Health::Ok => Finding::yes(ConditionType::SupervisorReachable, format!("{name} answered the last cheap look")),
        Health::Failed(why) => {
            let message = format!("{name} did not answer the last cheap look: {why}");
            Finding::no(ConditionType::SupervisorReachable, Reason::HealthCheckFailed, message)
        }
    };
    let stale = desired.times.heartbeat_stale_after.as_secs_f64();
    const KIND: ConditionType = ConditionType::SupervisorConnected;
    let connected = match heartbeat {
        Some(Some(age)) if (-stale..=stale).contains(&age) => Finding::yes(KIND, format!("{name} sends heartbeats")),
        Some(_) => Finding::no(KIND, Reason::HeartbeatStale, format!("{name} has sent no fresh heartbeat")),
        None => Finding::unknown(KIND, "the database could not be asked for the heartbeat"),
    };
    vec![reachable, connected]
}
