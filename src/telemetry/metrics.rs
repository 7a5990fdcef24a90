//! Prometheus metrics: their names, their meaning, and how they are set.
//!
//! Names and labels are a promise to those who alert on them. Labels come from closed lists, so the
//! number of series is bounded. There is no push: `/metrics` renders the handle.

use crate::plan::condition::{Condition, ConditionType, Status};
use crate::plan::mode::Shown;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::sync::OnceLock;
use std::time::Duration;

const CONDITION: &str = "ops_controller_condition";
const HEALTHY: &str = "ops_controller_healthy";
const HEALTHY_CYCLES: &str = "ops_controller_healthy_cycles";
const MODE: &str = "ops_controller_mode";
const CYCLES: &str = "ops_controller_cycles_total";
const CYCLE_SECONDS: &str = "ops_controller_cycle_seconds";
const ACTIONS: &str = "ops_controller_actions_total";
const PROVIDER_REQUESTS: &str = "ops_controller_provider_requests_total";
const PROVIDER_REMAINING: &str = "ops_controller_provider_remaining";
const DROPLETS: &str = "ops_controller_droplets";
const ACTIVE: &str = "ops_controller_active";
const LEASE_EPOCH: &str = "ops_controller_lease_epoch";
const LEASES_LOST: &str = "ops_controller_leases_lost_total";
const SLOT_RETAINED: &str = "ops_controller_slot_retained_bytes";
const BUILD_INFO: &str = "ops_controller_build_info";

/// A cycle that only looks takes well under a second; one with provider calls, seconds; the last
/// bucket is past every deadline of a single call.
const CYCLE_BUCKETS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// The beginning of the names of what is known of the queue.
const QUEUE: &str = "ops_controller_queue_";

/// How long runs wait and take: from a trivial one that is picked up at once to a long build.
const RUN_SECONDS: &str = "ops_controller_run_";
const RUN_BUCKETS: [f64; 12] = [0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0];

const STATUSES: [(Status, &str); 3] = [(Status::True, "True"), (Status::False, "False"), (Status::Unknown, "Unknown")];
const MODES: [Shown; 5] = [Shown::Active, Shown::Inactive, Shown::Paused, Shown::Disabled, Shown::Standby];

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the recorder for the process; called again it returns the same handle. The caller renders
/// it, and calls `run_upkeep` now and then, or histograms keep every sample.
pub fn install() -> PrometheusHandle {
    HANDLE
        .get_or_init(|| {
            let recorder = recorder();
            let handle = recorder.handle();
            // Fails when a test has already installed its own; this one then stays empty.
            let _ = metrics::set_global_recorder(recorder);
            describe();
            handle
        })
        .clone()
}

/// Everything as text. How deep a queue is that cannot be looked at is not shown: a sum over several
/// runners is not spoilt by the one that lost its database.
pub fn render(handle: &PrometheusHandle) -> String {
    handle.run_upkeep();
    let text = handle.render();
    let is_unknown = |line: &&str| line.starts_with(QUEUE) && line.ends_with(" NaN");
    if !text.lines().any(|line| is_unknown(&line)) {
        return text;
    }
    text.lines().filter(|line| !is_unknown(line)).flat_map(|line| [line, "\n"]).collect()
}

fn recorder() -> PrometheusRecorder {
    let builder = PrometheusBuilder::new();
    // The only error is an empty list of buckets.
    builder
        .set_buckets_for_metric(Matcher::Full(CYCLE_SECONDS.to_owned()), &CYCLE_BUCKETS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Prefix(RUN_SECONDS.to_owned()), &RUN_BUCKETS))
        .unwrap_or_else(|_| PrometheusBuilder::new())
        .build_recorder()
}

fn describe() {
    describe_gauge!(CONDITION, "1 for the status that the condition has, 0 for the others");
    describe_gauge!(HEALTHY, "1 when every required condition is True in the last cycle");
    describe_gauge!(HEALTHY_CYCLES, "healthy cycles in a row");
    describe_gauge!(MODE, "1 for the mode that the controller is in, 0 for the others");
    describe_counter!(CYCLES, "cycles finished since the start");
    describe_histogram!(CYCLE_SECONDS, Unit::Seconds, "how long a cycle took");
    describe_counter!(ACTIONS, "actions tried, by kind and result");
    describe_counter!(PROVIDER_REQUESTS, "requests sent to the provider since the start");
    describe_gauge!(PROVIDER_REMAINING, "requests that the provider still grants; NaN when it has not said");
    describe_gauge!(DROPLETS, "droplets of ours; NaN when they could not be counted");
    describe_gauge!(SLOT_RETAINED, Unit::Bytes, "WAL that the replication slot retains; NaN when unknown");
    describe_gauge!(ACTIVE, "1 while every lease is held, 0 on a standby");
    describe_gauge!(LEASE_EPOCH, "epoch of the lease that is held; NaN while it is not");
    describe_counter!(LEASES_LOST, "how often a lease was lost while acting");
    // Counted from the start, so that the first one shows as an increase.
    counter!(LEASES_LOST).increment(0);
    describe_gauge!(BUILD_INFO, "always 1; the label has the version");
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// Every type with every status: a condition that is gone shows 0 everywhere instead of its last word.
pub fn set_conditions(conditions: &[Condition]) {
    for kind in ConditionType::ALL {
        let status = conditions.iter().find(|c| c.kind == kind).map(|c| c.status);
        for (candidate, label) in STATUSES {
            let value = one_if(status == Some(candidate));
            gauge!(CONDITION, "type" => kind.to_string(), "status" => label).set(value);
        }
    }
}

pub fn set_health(healthy: bool, cycles_in_a_row: u32) {
    gauge!(HEALTHY).set(one_if(healthy));
    gauge!(HEALTHY_CYCLES).set(f64::from(cycles_in_a_row));
}

pub fn set_mode(mode: Shown) {
    for candidate in MODES {
        gauge!(MODE, "mode" => candidate.to_string()).set(one_if(candidate == mode));
    }
}

pub fn cycle_finished(took: Duration) {
    counter!(CYCLES).increment(1);
    histogram!(CYCLE_SECONDS).record(took.as_secs_f64());
}

/// `action` and `result` are names of variants: their number bounds the number of series.
pub fn action_finished(action: &'static str, result: &'static str) {
    counter!(ACTIONS, "action" => action, "result" => result).increment(1);
}

/// From the provider's budget: requests sent by this process, and what its headers said is left.
pub fn set_provider(provider: &'static str, requests: u64, remaining: Option<u64>) {
    counter!(PROVIDER_REQUESTS, "provider" => provider).absolute(requests);
    gauge!(PROVIDER_REMAINING, "provider" => provider).set(or_unknown(remaining));
}

pub fn set_droplets(count: Option<u64>) {
    gauge!(DROPLETS).set(or_unknown(count));
}

pub fn set_slot_retained_bytes(bytes: Option<u64>) {
    gauge!(SLOT_RETAINED).set(or_unknown(bytes));
}

/// Whether this instance acts.
pub fn set_active(active: bool) {
    gauge!(ACTIVE).set(one_if(active));
}

/// `home` is `folder` or `database`.
pub fn set_lease_epoch(home: &'static str, epoch: Option<u64>) {
    gauge!(LEASE_EPOCH, "home" => home).set(or_unknown(epoch));
}

pub fn lease_lost() {
    counter!(LEASES_LOST).increment(1);
}

fn one_if(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

/// Unknown is not zero: NaN matches no alert threshold, and shows as a gap.
fn or_unknown(value: Option<u64>) -> f64 {
    // Exact up to 2^53, which no count or size here reaches.
    value.map_or(f64::NAN, |v| v as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::condition::Reason;
    use jiff::Timestamp;

    /// What `act` leaves in a recorder of its own.
    fn rendered(act: impl FnOnce()) -> String {
        let recorder = recorder();
        metrics::with_local_recorder(&recorder, || {
            describe();
            act();
        });
        recorder.handle().render()
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }

    #[test]
    fn a_condition_is_one_in_its_status_and_zero_in_the_others() {
        let condition = Condition {
            kind: ConditionType::FirewallReady,
            status: Status::False,
            reason: Reason::FirewallMissing,
            message: String::new(),
            last_transition_time: Timestamp::UNIX_EPOCH,
            advisory: false,
        };
        let text = rendered(|| set_conditions(&[condition]));
        has(&text, "ops_controller_condition{type=\"FirewallReady\",status=\"False\"} 1");
        has(&text, "ops_controller_condition{type=\"FirewallReady\",status=\"True\"} 0");
        has(&text, "ops_controller_condition{type=\"WorkerTokenReady\",status=\"Unknown\"} 0");
    }

    #[test]
    fn a_queue_that_cannot_be_looked_at_is_not_shown_and_comes_back() {
        let recorder = recorder();
        let depth = |value: f64| {
            metrics::with_local_recorder(&recorder, || {
                gauge!("ops_controller_queue_due", "kind" => "build").set(value);
                set_droplets(None);
            });
            render(&recorder.handle())
        };
        has(&depth(3.0), "ops_controller_queue_due{kind=\"build\"} 3");
        let away = depth(f64::NAN);
        assert!(!away.contains("ops_controller_queue_due{"), "{away}");
        has(&away, "ops_controller_droplets NaN");
        has(&depth(0.0), "ops_controller_queue_due{kind=\"build\"} 0");
    }

    #[test]
    fn a_mode_replaces_the_one_before() {
        let text = rendered(|| {
            set_mode(Shown::Active);
            set_mode(Shown::Paused);
        });
        has(&text, "ops_controller_mode{mode=\"active\"} 0");
        has(&text, "ops_controller_mode{mode=\"paused\"} 1");
    }

    #[test]
    fn cycles_actions_and_requests_are_counted() {
        let text = rendered(|| {
            set_health(true, 7);
            cycle_finished(Duration::from_millis(300));
            action_finished("create_droplet", "applied");
            set_provider("railway", 12, None);
            set_provider("railway", 13, Some(900));
            set_droplets(Some(1));
            set_active(true);
            set_lease_epoch("folder", Some(8));
            lease_lost();
        });
        for line in [
            "ops_controller_healthy 1",
            "ops_controller_healthy_cycles 7",
            "ops_controller_cycles_total 1",
            "ops_controller_cycle_seconds_bucket{le=\"0.25\"} 0",
            "ops_controller_cycle_seconds_bucket{le=\"0.5\"} 1",
            "ops_controller_actions_total{action=\"create_droplet\",result=\"applied\"} 1",
            "ops_controller_provider_requests_total{provider=\"railway\"} 13",
            "ops_controller_provider_remaining{provider=\"railway\"} 900",
            "ops_controller_droplets 1",
            "ops_controller_active 1",
            "ops_controller_lease_epoch{home=\"folder\"} 8",
            "ops_controller_leases_lost_total 1",
        ] {
            has(&text, line);
        }
        has(&text, &format!("ops_controller_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn what_is_unknown_is_not_zero() {
        let text = rendered(|| {
            set_droplets(None);
            set_slot_retained_bytes(None);
        });
        has(&text, "ops_controller_droplets NaN");
        has(&text, "ops_controller_slot_retained_bytes NaN");
    }

    #[test]
    fn installing_twice_gives_the_same_handle() {
        install();
        set_droplets(Some(2));
        assert!(install().render().contains("ops_controller_droplets"));
    }
}
