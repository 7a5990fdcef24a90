//! Phases: checkpoints, tries, deadlines, and those that go side by side.

use crate::store::{Steps, Store, broken, done, quick};
use ops_controller::runner::kind::{Phase, PhaseError, Work};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Barrier;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_attempt_goes_on_after_the_last_completed_phase() {
    let store = Store::new().await;
    let (first, second) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (firsts, seconds) = (first.clone(), second.clone());
    let kind = Steps::default()
        .phase("first", move |_| done(json!({ "made": firsts.fetch_add(1, Ordering::SeqCst) })))
        .phase("second", move |context| match seconds.fetch_add(1, Ordering::SeqCst) {
            0 => broken(PhaseError::transient("not yet")),
            _ => done(context.output_of("first")),
        })
        .kind();
    let run = store.queue_kind("steps").await;
    store.execute("update ops.runs set backoff_seconds = 0").await;
    let runner = store.runner(quick("one"), vec![("steps", kind)]);
    store.until_status(&run, "success").await;
    assert_eq!((first.load(Ordering::SeqCst), second.load(Ordering::SeqCst)), (1, 2));
    let phases = ops_controller::runs::look::phases(&mut store.c().await, &run).await.expect("phases");
    assert_eq!(phases[1].output, Some(json!({ "made": 0 })), "the checkpoint was there in the second attempt");
    assert_eq!((phases[0].tries, phases[1].tries), (1, 2));
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phase_with_retries_is_tried_again_within_its_attempt() {
    let store = Store::new().await;
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    let phase = Phase { retries: 1, ..Phase::new("flaky", crate::store::DEADLINE) };
    let kind = Steps::default()
        .with(phase, move |_| match counted.fetch_add(1, Ordering::SeqCst) {
            0 => broken(PhaseError::transient("not yet")),
            _ => done(json!(null)),
        })
        .kind();
    let run = store.queue_kind("steps").await;
    let runner = store.runner(quick("one"), vec![("steps", kind)]);
    assert_eq!(store.until_status(&run, "success").await.attempt, 1);
    assert_eq!(tries.load(Ordering::SeqCst), 2);
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phase_that_takes_too_long_fails_by_its_deadline() {
    let store = Store::new().await;
    let phase = Phase::new("slow", Duration::from_millis(50));
    let kind = Steps::default().with(phase, |_| Box::pin(std::future::pending())).kind();
    let run = store.queue_kind("steps").await;
    store.execute("update ops.runs set max_attempts = 1").await;
    let runner = store.runner(quick("one"), vec![("steps", kind)]);
    let ended = store.until_status(&run, "failed").await;
    assert_eq!(ended.error.as_deref(), Some("Phase slow failed: it took longer than 0.05 s"));
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn phases_beside_each_other_run_at_once_and_keep_what_each_has_done() {
    let store = Store::new().await;
    // Neither passes without the other.
    let both = Arc::new(Barrier::new(2));
    let (left, right) = (both.clone(), both);
    let beside = Phase { beside_previous: true, ..Phase::new("right", crate::store::DEADLINE) };
    let kind = Steps::default()
        .phase("left", move |_| meets(&left, Ok(json!(null))))
        .with(beside, move |_| meets(&right, Err(PhaseError::failed("no"))))
        .phase("after", |_| done(json!(null)))
        .kind();
    let run = store.queue_kind("steps").await;
    let runner = store.runner(quick("one"), vec![("steps", kind)]);
    let ended = store.until_status(&run, "failed").await;
    assert_eq!(ended.error.as_deref(), Some("Phase right failed: no"));
    let phases = ops_controller::runs::look::phases(&mut store.c().await, &run).await.expect("phases");
    let seen: Vec<(&str, &str)> = phases.iter().map(|p| (p.name.as_str(), p.status.as_str())).collect();
    assert_eq!(seen, [("left", "success"), ("right", "failed")]);
    runner.end().await;
}

fn meets(both: &Arc<Barrier>, then: Result<Value, PhaseError>) -> Work<'static> {
    let both = both.clone();
    Box::pin(async move {
        both.wait().await;
        then
    })
}
