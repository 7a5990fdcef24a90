//! How runs end: well, badly, again, cancelled, or handed back.

use crate::store::{Steps, Store, broken, done, quick};
use ops_controller::runner::kind::PhaseError;
use ops_controller::runs::control::{self, Actor};
use ops_controller::runs::{NewRun, RunsError};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_without_work_leaves_the_database_as_it_is() {
    let store = Store::new().await;
    let runner = store.runner(quick("idle"), vec![("nothing", Steps::default().kind())]);
    store.until("it listens", "select exists (select from ops.idle_runners)").await;
    let other = store.queue_kind("another").await;
    runner.end().await;
    assert_eq!(store.run(&other).await.status, "queued", "a kind that it does not know is not touched");
    assert_eq!(store.messages(&other).await, ["Run queued"]);
    assert_eq!(store.count("select count(*) from ops.run_events").await, 1);
    assert_eq!(store.count("select count(*) from ops.idle_runners").await, 0, "it said goodbye");
    assert_eq!(store.count("select count(*) from ops.runners where stopped_at is not null").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_goes_through_its_phases_and_tells_of_each() {
    let store = Store::new().await;
    let run = store.queue_kind("two").await;
    let kind = Steps::default()
        .phase("first", |_| done(json!({ "n": 1 })))
        .phase("second", |context| done(json!({ "n": context.output_of("first")["n"].as_i64().unwrap_or(0) + 1 })))
        .kind();
    let runner = store.runner(quick("one"), vec![("two", kind)]);
    let ended = store.until_status(&run, "success").await;
    let claimed_by = ended.claimed_by.clone();
    assert_eq!(claimed_by.as_deref(), Some(runner.id.as_str()));
    assert_eq!(ended.output, Some(json!({ "phases_completed": ["first", "second"] })));
    assert_eq!(
        store.messages(&run).await,
        [
            "Run queued",
            "Run claimed by worker",
            "Starting phase: first",
            "Completed phase: first",
            "Starting phase: second",
            "Completed phase: second",
            "Run finished: success"
        ]
    );
    assert_eq!(store.outcomes(&run).await, [Some("success".to_owned())]);
    let phases = ops_controller::runs::look::phases(&mut store.c().await, &run).await.expect("phases");
    assert_eq!(phases[1].output, Some(json!({ "n": 2 })));
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_help_is_tried_again_later_and_what_cannot_is_not() {
    let store = Store::new().await;
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let flaky = Steps::default()
        .phase("call", move |_| match counted.fetch_add(1, Ordering::SeqCst) {
            0 => broken(PhaseError::transient("the line was busy")),
            _ => done(json!(null)),
        })
        .kind();
    let hopeless = Steps::default().phase("call", |_| broken(PhaseError::failed("no such number"))).kind();
    let busy = Steps::default().phase("call", |_| broken(PhaseError::transient("busy again"))).kind();
    store.execute("alter table ops.runs alter column backoff_seconds set default 0.2").await;
    let runner = store.runner(quick("one"), vec![("flaky", flaky), ("hopeless", hopeless), ("busy", busy)]);

    let flaky = store.queue_kind("flaky").await;
    let hopeless = store.queue_kind("hopeless").await;
    let busy = store.enqueue(&NewRun { max_attempts: 2, ..NewRun::of_kind("busy") }).await.run_id;

    let ended = store.until_status(&flaky, "success").await;
    assert_eq!((ended.attempt, ended.summary.error), (2, None));
    assert_eq!(store.outcomes(&flaky).await, [Some("retry".to_owned()), Some("success".to_owned())]);
    let ended = store.until_status(&hopeless, "failed").await;
    assert_eq!(ended.attempt, 1, "an attempt that cannot help is not made");
    assert_eq!(ended.error.as_deref(), Some("Phase call failed: no such number"));
    let ended = store.until_status(&busy, "failed").await;
    assert_eq!(ended.attempt, 2, "all attempts are spent");
    let told = store.messages(&busy).await;
    assert!(told.contains(&"Run failed, another attempt follows".to_owned()), "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("Run finished: failed"));

    // A dead run is looked at, and queued again by a person.
    let status = control::requeue(&mut store.c().await, &busy, Actor("somebody")).await.expect("queued again");
    assert_eq!(status, "queued");
    let ended = store.until_status(&busy, "failed").await;
    assert_eq!(ended.attempt, 3);
    let refused = control::requeue(&mut store.c().await, &flaky, Actor("somebody")).await.map_err(RunsError::from);
    assert!(matches!(refused, Err(RunsError::Conflict(_))), "{refused:?}");
    runner.end().await;
}

/// A provider's outage outlasts some seconds; what was lost with its runner has waited for its lease.
#[tokio::test]
async fn what_failed_is_tried_again_after_half_a_minute_and_what_was_lost_at_once() {
    let store = Store::new().await;
    let waits = "select ceil(extract(epoch from run_at - now()))::bigint from ops.runs";
    for (ends, between) in [
        (
            "select ops.finish_runs(array[run_id], array[1]::bigint[], array['retry'], array[null::jsonb], array['busy']) from ops.runs",
            14..=30,
        ),
        ("update ops.runs set lease_expires_at = now() - interval '1 s'; select ops.rescue_runs()", 0..=1),
    ] {
        store.queue_kind("call").await;
        store.execute("select ops.claim_runs('one', array['call'], 1, interval '1 minute')").await;
        store.execute(ends).await;
        let seconds = store.count(waits).await;
        assert!(between.contains(&seconds), "{seconds} s");
        store.execute("delete from ops.runs").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_reaches_the_phase_that_runs() {
    let store = Store::new().await;
    let began = Arc::new(Notify::new());
    let begun = began.clone();
    let endless = Steps::default()
        .phase("wait", move |context| {
            let begun = begun.clone();
            Box::pin(async move {
                begun.notify_one();
                let why = context.told_to_stop().await;
                Err(PhaseError::transient(format!("{why:?}")))
            })
        })
        .phase("never", |_| done(json!(null)))
        .kind();
    let runner = store.runner(quick("one"), vec![("endless", endless)]);
    let run = store.queue_kind("endless").await;
    began.notified().await;
    let waiting = store.enqueue(&NewRun { run_at: Some(later()), ..NewRun::of_kind("endless") }).await.run_id;
    let mut c = store.c().await;
    let status = control::cancel(&mut c, &run, Actor("somebody"), Some("not needed")).await.expect("told");
    assert_eq!(status, "running", "it is told, and ends itself");
    let ended = store.until_status(&run, "cancelled").await;
    assert_eq!(ended.error.as_deref(), Some("not needed"));
    assert!(!store.messages(&run).await.contains(&"Starting phase: never".to_owned()));
    let status = control::cancel(&mut c, &waiting, Actor("somebody"), None).await.expect("cancelled");
    assert_eq!(status, "cancelled", "what nobody has is cancelled at once");
    assert_eq!(store.count("select count(*) from ops.audit_log where action = 'run.cancelled'").await, 2);
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_is_stopped_lets_phases_end_and_hands_the_rest_back_unspent() {
    let store = Store::new().await;
    let (began, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, gone_on) = (began.clone(), go_on.clone());
    let patient = Steps::default()
        .phase("finishes", move |_| {
            let (begun, gone_on) = (begun.clone(), gone_on.clone());
            Box::pin(async move {
                begun.notify_one();
                gone_on.notified().await;
                Ok(json!(null))
            })
        })
        .kind();
    let stubborn = Steps::default().phase("never ends", |_| Box::pin(std::future::pending())).kind();
    let mut options = quick("one");
    options.concurrency = 2;
    options.grace = std::time::Duration::from_millis(300);
    let runner = store.runner(options, vec![("patient", patient), ("stubborn", stubborn)]);
    let patient = store.queue_kind("patient").await;
    began.notified().await;
    let stubborn = store.queue_kind("stubborn").await;
    store.until_status(&stubborn, "running").await;
    let waiting = store.queue_kind("stubborn").await;
    runner.stop.cancel();
    go_on.notify_one();
    runner.end().await;
    assert_eq!(store.run(&patient).await.status, "success");
    let back = store.run(&stubborn).await;
    assert_eq!((back.status.as_str(), back.attempt, back.claimed_by.as_deref()), ("queued", 0, None));
    assert_eq!(store.outcomes(&stubborn).await, [Some("handed_back".to_owned())]);
    assert_eq!(store.run(&waiting).await.status, "queued");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_defect_of_one_kind_costs_its_run_and_nothing_else() {
    let store = Store::new().await;
    let faulty = Steps::default().phase("fails", |_| Box::pin(async { panic!("a defect") })).kind();
    let fine = Steps::default().phase("works", |_| done(json!(null))).kind();
    let mut options = quick("one");
    options.concurrency = 1;
    let runner = store.runner(options, vec![("faulty", faulty), ("fine", fine)]);
    let faulty = store.queue_kind("faulty").await;
    store.until_status(&faulty, "failed").await;
    let fine = store.queue_kind("fine").await;
    store.until_status(&fine, "success").await;
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_that_cannot_be_stored_fails_its_run_alone() {
    let store = Store::new().await;
    struct Huge;
    impl ops_controller::runner::kind::Kind for Huge {
        fn phases(
            &self,
            _: &ops_controller::runs::Claimed,
        ) -> Result<Vec<ops_controller::runner::kind::Phase>, String> {
            Ok(Vec::new())
        }
        fn work<'a>(&'a self, _: &'a ops_controller::runner::kind::Context) -> ops_controller::runner::kind::Work<'a> {
            done(json!(null))
        }
        fn output(&self, _: &serde_json::Map<String, serde_json::Value>) -> Option<serde_json::Value> {
            Some(json!("x".repeat(2 << 20)))
        }
    }
    let huge = store.queue_kind("huge").await;
    let small = store.queue_kind("small").await;
    let runner = store.runner(quick("one"), vec![("huge", Arc::new(Huge)), ("small", Steps::default().kind())]);
    let ended = store.until_status(&huge, "failed").await;
    assert!(ended.summary.error.is_some_and(|e| e.contains("could not be stored") && e.contains("document is small")));
    store.until_status(&small, "success").await;
    runner.end().await;
}

fn later() -> jiff::Timestamp {
    jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)
}
