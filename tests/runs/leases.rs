//! Leases: kept while the work runs, lost with whoever is not heard of, and refused when stale.

use crate::store::{Steps, Store, done, forgetful, quick};
use ops_controller::runs::queue::{self, RunnerId};
use ops_controller::runs::record::{self, Hold, PhaseEnd};
use ops_controller::runs::{Claimed, Ended, NewRun, Outcome};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

async fn claim_one(store: &Store, who: &str, lease: Duration) -> Claimed {
    let who = RunnerId(who.to_owned());
    let claimed = queue::claim(&mut store.c().await, &who, &["a".to_owned()], 1, lease).await.expect("claimed");
    claimed.into_iter().next().expect("a run")
}

fn ended(run: &Claimed) -> Vec<Ended> {
    let outcome = Outcome::Success(None);
    vec![Ended { run_id: run.run_id.clone(), lease_token: run.lease_token, outcome }]
}

#[tokio::test]
async fn who_comes_with_an_old_lease_changes_nothing() {
    let store = Store::new().await;
    let run = store.queue_kind("a").await;
    let mut c = store.c().await;
    let old = claim_one(&store, "old", Duration::ZERO).await;
    assert_eq!(queue::rescue(&mut c, 10).await.expect("rescued"), [(run.clone(), "queued".to_owned())]);
    store.execute("update ops.runs set run_at = now()").await;
    let new = claim_one(&store, "new", Duration::from_secs(60)).await;
    assert_eq!((new.attempt, new.lease_token), (2, 2));

    let before = store.run(&run).await;
    let hold = Hold { run_id: run.clone(), lease_token: old.lease_token };
    assert_eq!(queue::finish(&mut c, &ended(&old)).await.expect("asked"), []);
    let held = [(run.clone(), old.lease_token)];
    assert_eq!(queue::renew(&mut c, &held, Duration::from_secs(60)).await.expect("asked"), []);
    assert_eq!(queue::hand_back(&mut c, &held).await.expect("asked"), []);
    assert!(!record::begin_phase(&mut c, &hold, "p", 1).await.expect("asked"));
    assert!(!record::end_phase(&mut c, &hold, "p", &PhaseEnd::Success(json!(1))).await.expect("asked"));
    assert!(!record::event(&mut c, &hold, record::Level::Info, "late", &json!({}), None).await.expect("asked"));
    let name = record::ResourceName { provider: "p", kind: "k", name: "n" };
    assert_eq!(record::intend(&mut c, &hold, name, &json!({})).await.expect("asked"), None);
    assert_eq!(store.run(&run).await, before);
    assert_eq!(store.count("select count(*) from ops.run_phases").await, 0);

    assert_eq!(queue::finish(&mut c, &ended(&new)).await.expect("told"), [(run.clone(), "success".to_owned())]);
    assert_eq!(queue::finish(&mut c, &ended(&new)).await.expect("told"), [], "an end counts once");
    assert_eq!(store.outcomes(&run).await, [Some("lost".to_owned()), Some("success".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_takes_longer_than_a_lease_keeps_it() {
    let store = Store::new().await;
    let (began, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, gone_on) = (began.clone(), go_on.clone());
    let long = Steps::default()
        .phase("long", move |_| {
            let (begun, gone_on) = (begun.clone(), gone_on.clone());
            Box::pin(async move {
                begun.notify_one();
                gone_on.notified().await;
                Ok(json!(null))
            })
        })
        .kind();
    let run = store.queue_kind("a").await;
    let runner = store.runner(forgetful("one"), vec![("a", long)]);
    began.notified().await;
    // Renewed until well after the first lease.
    let sql = format!("select heartbeat_at > started_at + interval '2 seconds' from ops.runs where run_id = '{run}'");
    store.until("it was renewed", &sql).await;
    go_on.notify_one();
    store.until_status(&run, "success").await;
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_runner_vanished_is_done_by_another_one() {
    let store = Store::new().await;
    let began = Arc::new(Notify::new());
    let begun = began.clone();
    let stuck = Steps::default()
        .phase("p", move |_| {
            begun.notify_one();
            Box::pin(std::future::pending())
        })
        .kind();
    let run = store.queue_kind("a").await;
    let first = store.doomed(forgetful("first"), vec![("a", stuck)]);
    began.notified().await;
    first.vanishes();
    store.execute("update ops.runs set backoff_seconds = 0, max_attempts = 100").await;
    let second =
        store.runner(forgetful("second"), vec![("a", Steps::default().phase("p", |_| done(json!(null))).kind())]);
    let ended = store.until_status(&run, "success").await;
    assert_eq!(ended.claimed_by.as_deref(), Some(second.id.as_str()));
    assert!(ended.attempt >= 2, "the first attempt was spent");
    let told = store.messages(&run).await;
    assert!(told.contains(&"Run rescued: its worker was not heard of in time".to_owned()), "{told:?}");
    second.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_on_a_run_that_somebody_put_back_is_ended() {
    let store = Store::new().await;
    let (began, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, tell) = (began.clone(), dropped.clone());
    struct Tells(Arc<Notify>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let stuck = Steps::default()
        .phase("p", move |_| {
            let (begun, tells) = (begun.clone(), Tells(tell.clone()));
            Box::pin(async move {
                let _tells = tells;
                begun.notify_one();
                std::future::pending().await
            })
        })
        .kind();
    let run = store.queue_kind("a").await;
    let runner = store.runner(forgetful("one"), vec![("a", stuck)]);
    began.notified().await;
    // As the documented statement for stuck runs does; for an hour, so that nobody claims it again.
    store.execute("update ops.runs set status = 'queued', claimed_by = null, run_at = now() + interval '1 hour'").await;
    tokio::time::timeout(crate::store::DEADLINE, dropped.notified()).await.expect("the work was ended");
    assert_eq!(store.run(&run).await.status, "queued");
    assert_eq!(store.outcomes(&run).await, [Some("reset".to_owned())]);
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_database_loses_nothing() {
    let store = Store::alone().await;
    let (began, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, gone_on) = (began.clone(), go_on.clone());
    let kind = Steps::default()
        .phase("p", move |_| {
            let (begun, gone_on) = (begun.clone(), gone_on.clone());
            Box::pin(async move {
                begun.notify_one();
                gone_on.notified().await;
                Ok(json!(null))
            })
        })
        .kind();
    let run = store.queue_kind("a").await;
    let runner = store.runner(quick("one"), vec![("a", kind), ("b", Steps::default().kind())]);
    began.notified().await;
    store.cluster.stop().await.expect("stopped");
    // Its end cannot be told now.
    go_on.notify_one();
    store.cluster.start().await.expect("started");
    let ended = store.until_status(&run, "success").await;
    assert_eq!(ended.attempt, 1, "the same attempt went on");
    let after = store.queue_kind("b").await;
    store.until_status(&after, "success").await;
    runner.end().await;
}

#[tokio::test]
async fn a_lost_run_without_attempts_left_fails_and_stands_in_nobodys_way() {
    let store = Store::new().await;
    let mut c = store.c().await;
    let spent = store.enqueue(&NewRun { max_attempts: 1, ..NewRun::of_kind("a") }).await.run_id;
    claim_one(&store, "gone", Duration::ZERO).await;
    let other = store.queue_kind("a").await;
    claim_one(&store, "gone", Duration::ZERO).await;
    let mut rescued = queue::rescue(&mut c, 10).await.expect("rescued");
    rescued.sort();
    let mut expected = vec![(spent.clone(), "failed".to_owned()), (other, "queued".to_owned())];
    expected.sort();
    assert_eq!(rescued, expected);
    let run = store.run(&spent).await;
    assert_eq!(run.error.as_deref(), Some("its runner gone was not heard of in time"));
    assert_eq!(queue::rescue(&mut c, 10).await.expect("asked"), []);
}

#[tokio::test]
async fn a_bystanders_event_does_not_lengthen_the_lease_of_our_own_runner() {
    let store = Store::new().await;
    let run = store.queue_kind("a").await;
    claim_one(&store, "external", Duration::from_secs(1)).await;
    store.execute(&format!("select ops.append_event('{run}', 'info', 'alive')")).await;
    let long = "select lease_expires_at > now() + interval '20 minutes' from ops.runs";
    store.until("who is no runner of ours is given time by its events", long).await;
    let other = store.queue_kind("a").await;
    store
        .execute(
            "insert into ops.runners (runner_id, worker_id, hostname, pid, kinds, concurrency, version)
             values ('ours', 'ours', 'host', 1, '{a}', 1, '1')",
        )
        .await;
    claim_one(&store, "ours", Duration::from_secs(1)).await;
    store.execute(&format!("select ops.append_event('{other}', 'info', 'alive')")).await;
    let short = format!(
        "select count(*) from ops.runs where run_id = '{other}' and lease_expires_at < now() + interval '2 seconds'"
    );
    assert_eq!(store.count(&short).await, 1);
}
