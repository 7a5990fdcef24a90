//! What a runner tells: log lines and metrics. There is one series for each kind of run, up to a bound.

use super::finish::Work;
use super::prune::Report;
use crate::runs::control::Depth;
use crate::runs::troubles::Troubles;
use crate::runs::{Claimed, Ended, Outcome, RunsError};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// More are not measured: whoever may queue may make up names.
const MOST_KINDS: usize = 100;

const CLAIMED: &str = "ops_controller_runs_claimed_total";
const WAITED: &str = "ops_controller_run_waited_seconds";
const FINISHED: &str = "ops_controller_runs_finished_total";
const TOOK: &str = "ops_controller_run_seconds";
const RESCUED: &str = "ops_controller_runs_rescued_total";
const LOST: &str = "ops_controller_run_leases_lost_total";
const DUE: &str = "ops_controller_queue_due";
const LATER: &str = "ops_controller_queue_later";
const HELD: &str = "ops_controller_queue_held";
const PRUNED: &str = "ops_controller_pruned_total";
const OLDEST: &str = "ops_controller_queue_oldest_seconds";
const DATABASE_UP: &str = "ops_controller_ops_database_up";
const STORE_UP: &str = "ops_controller_artifact_store_up";

/// Kinds whose depths are shown.
static NAMED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
const DATABASE: &str = "OPS_DATABASE_URL";
const STORE: &str = "ARTIFACT_STORE";

/// Names and their meaning, for `/metrics`.
pub fn describe() {
    describe_counter!(CLAIMED, "runs claimed by this runner, by kind");
    describe_histogram!(WAITED, Unit::Seconds, "from when a run was due to its claim");
    describe_counter!(FINISHED, "attempts ended by this runner, by kind and the status that followed");
    describe_histogram!(TOOK, Unit::Seconds, "from an attempt's claim to its end");
    describe_counter!(RESCUED, "runs whose runner was not heard of in time, by the status that followed");
    describe_counter!(LOST, "leases that this runner lost while it worked");
    describe_counter!(PRUNED, "what this runner removed because it was past its time, by what it was");
    describe_gauge!(DUE, "runs queued and due, by kind");
    describe_gauge!(LATER, "runs queued for later, by kind");
    describe_gauge!(HELD, "runs claimed or running, by kind");
    describe_gauge!(OLDEST, Unit::Seconds, "since when the oldest run that is due waits, by kind");
    describe_gauge!(
        DATABASE_UP,
        "1 when the ops database gave this process's runner its last answer, 0 when it did not"
    );
    describe_gauge!(STORE_UP, "1 when something could be written to the artifact store, read and deleted, else 0");
    // Counted from the start, so that the first one shows as an increase.
    counter!(LOST).increment(0);
}

pub fn claimed(runs: &[Claimed]) {
    for run in runs {
        counter!(CLAIMED, "kind" => run.kind.clone()).increment(1);
        histogram!(WAITED, "kind" => run.kind.clone()).record(run.waited.as_secs_f64());
    }
}

/// `status`: what the run is now, as the database says.
pub fn ended(ended: &Ended, status: &str, work: &Work) {
    counter!(FINISHED, "kind" => work.kind.clone(), "status" => status.to_owned()).increment(1);
    histogram!(TOOK, "kind" => work.kind.clone()).record(work.took.as_secs_f64());
    let (run, kind, seconds) = (&ended.run_id, &work.kind, work.took.as_secs_f64());
    match &ended.outcome {
        Outcome::Failed(error) | Outcome::Retry(error) if status == "queued" => {
            tracing::warn!(%run, %kind, %error, "{kind} {run} failed after {seconds:.1} s, another attempt follows: {error}");
        }
        Outcome::Failed(error) | Outcome::Retry(error) => {
            tracing::error!(%run, %kind, %error, "{kind} {run} {status} after {seconds:.1} s: {error}");
        }
        _ if work.had_phases => tracing::info!(%run, %kind, "{kind} {run} {status} after {seconds:.1} s"),
        _ => tracing::debug!(%run, %kind, "{kind} {run} {status}"),
    }
}

pub fn lost(run: &str, why: &str) {
    counter!(LOST).increment(1);
    tracing::warn!(%run, "the lease of {run} is lost: {why}");
}

pub fn rescued(runs: &[(String, String)]) {
    for (run, status) in runs {
        counter!(RESCUED, "status" => status.clone()).increment(1);
        tracing::warn!(%run, %status, "rescued {run}, whose runner was not heard of in time: it is {status}");
    }
}

/// What a pass over everything that is past its time came to.
pub fn pruned(report: &Report) {
    for (sort, count) in report.gone() {
        counter!(PRUNED, "what" => sort).increment(count);
    }
    if report.has_removed() {
        tracing::info!("past their time and gone: {}", report.told());
    }
    if let Some(trouble) = &report.trouble {
        tracing::warn!("what has expired stays for now: {trouble}");
    }
}

/// Of the kinds that the database has named so far, also of those of which nothing is left.
pub fn depths(depths: &[Depth]) {
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    let room = MOST_KINDS.saturating_sub(named.len());
    named.extend(depths.iter().map(|depth| depth.kind.clone()).take(room));
    for kind in named.iter().filter(|kind| !depths.iter().any(|depth| depth.kind == **kind)) {
        for name in [DUE, LATER, HELD, OLDEST] {
            gauge!(name, "kind" => kind.clone()).set(0.0);
        }
    }
    // Counts below 2^53: exact.
    #[allow(clippy::cast_precision_loss)]
    for depth in depths.iter().filter(|depth| named.contains(&depth.kind)) {
        gauge!(DUE, "kind" => depth.kind.clone()).set(depth.due as f64);
        gauge!(LATER, "kind" => depth.kind.clone()).set(depth.later as f64);
        gauge!(HELD, "kind" => depth.kind.clone()).set(depth.held as f64);
        gauge!(OLDEST, "kind" => depth.kind.clone()).set(depth.oldest_seconds);
    }
}

/// The queue's depths are not known any more: NaN, which is not shown.
pub fn database_is_away(troubles: &Troubles, error: &RunsError) {
    gauge!(DATABASE_UP).set(0.0);
    troubles.found(DATABASE, format!("the runner inside cannot work: {error}"));
    for kind in NAMED.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        for name in [DUE, LATER, HELD, OLDEST] {
            gauge!(name, "kind" => kind.clone()).set(f64::NAN);
        }
    }
}

pub fn database_is_there(troubles: &Troubles) {
    gauge!(DATABASE_UP).set(1.0);
    if troubles.passed(DATABASE) {
        tracing::info!("the ops database answers again");
    }
}

/// `why`: with the fix.
pub fn store_is_away(troubles: &Troubles, why: &str, kinds: &[String]) {
    gauge!(STORE_UP).set(0.0);
    let what = format!("no runs of {} are claimed: {why}", kinds.join(", "));
    if troubles.found(STORE, what.clone()) {
        tracing::error!("{what}");
    } else {
        tracing::debug!("{what}");
    }
}

pub fn store_is_there(troubles: &Troubles, kinds: &[String]) {
    gauge!(STORE_UP).set(1.0);
    if troubles.passed(STORE) {
        tracing::info!("the artifact store works again: runs of {} are claimed", kinds.join(", "));
    }
}
