//! What is claimed, and in which order.

use crate::store::{Steps, Store, done, quick};
use ops_controller::runs::control::{self, Actor};
use ops_controller::runs::queue::{self, RunnerId};
use ops_controller::runs::{Ended, NewRun, Outcome, RunsError};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const LEASE: Duration = Duration::from_secs(60);

async fn claim(store: &Store, limit: usize) -> Vec<String> {
    let me = RunnerId("me".to_owned());
    let claimed = queue::claim(&mut store.c().await, &me, &["a".to_owned(), "b".to_owned()], limit, LEASE).await;
    claimed.expect("claimed").into_iter().map(|run| run.run_id).collect()
}

fn a() -> NewRun {
    NewRun::of_kind("a")
}

#[tokio::test]
async fn the_most_urgent_come_first_then_the_oldest_and_none_before_its_time() {
    let store = Store::new().await;
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let future = store.enqueue(&NewRun { priority: 1, run_at: Some(later), ..a() }).await.run_id;
    let low = store.enqueue(&NewRun { priority: 9, ..a() }).await.run_id;
    let first = store.enqueue(&a()).await.run_id;
    let second = store.enqueue(&a()).await.run_id;
    let urgent = store.enqueue(&NewRun { priority: 1, ..NewRun::of_kind("b") }).await.run_id;
    assert_eq!(claim(&store, 1).await, [urgent]);
    assert_eq!(claim(&store, 1).await, [first]);
    assert_eq!(claim(&store, 1).await, [second]);
    assert_eq!(claim(&store, 10).await, [low]);
    assert_eq!(claim(&store, 10).await, [""; 0], "nothing is left, and {future} is not due");
}

#[tokio::test]
async fn an_idempotency_key_queues_once_and_refuses_to_mean_something_else() {
    let store = Store::new().await;
    let keyed = NewRun { idempotency_key: Some("k".to_owned()), ..a() };
    let first = store.enqueue(&keyed).await;
    let again = store.enqueue(&keyed).await;
    assert_eq!((first.run_id.as_str(), first.is_new, again.is_new), (again.run_id.as_str(), true, false));
    // Phases of a custom run stand in its metadata.
    for other in
        [NewRun { input: json!({ "x": 1 }), ..keyed.clone() }, NewRun { metadata: json!({ "x": 1 }), ..keyed.clone() }]
    {
        let refused = queue::enqueue(&mut store.c().await, &other).await.map_err(RunsError::from);
        let is_told = matches!(&refused, Err(RunsError::Conflict(why)) if why.contains("used for another run"));
        assert!(is_told, "{refused:?}");
    }
    assert_eq!(store.count("select count(*) from ops.runs").await, 1);
}

#[tokio::test]
async fn of_runs_with_the_same_concurrency_key_one_is_claimed_however_many_ask() {
    let store = Arc::new(Store::new().await);
    for _ in 0..20 {
        store.enqueue(&NewRun { concurrency_key: Some("door".to_owned()), ..a() }).await;
    }
    let free = store.enqueue(&a()).await.run_id;
    let askers = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { claim(&store, 30).await })
    });
    let mut got = Vec::new();
    for asker in askers.collect::<Vec<_>>() {
        got.extend(asker.await.expect("no panic"));
    }
    got.extend(claim(&store, 30).await);
    assert!(got.contains(&free));
    assert_eq!(got.len(), 2, "one with the key, and the one without: {got:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_with_the_same_key_follow_each_other_and_never_overlap() {
    let store = Store::new().await;
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = most.clone();
    let kind = Steps::default()
        .phase("through the door", move |_| {
            let (inside, most) = (inside.clone(), counted.clone());
            Box::pin(async move {
                most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                Ok(json!(null))
            })
        })
        .kind();
    for _ in 0..30 {
        store.enqueue(&NewRun { concurrency_key: Some("door".to_owned()), ..a() }).await;
    }
    let one = store.runner(quick("one"), vec![("a", kind.clone())]);
    let two = store.runner(quick("two"), vec![("a", kind)]);
    store.until("all went through", "select count(*) = 30 from ops.runs where status = 'success'").await;
    assert_eq!(most.load(Ordering::SeqCst), 1);
    one.end().await;
    two.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_kind_is_not_claimed_until_it_is_resumed() {
    let store = Store::new().await;
    let mut c = store.c().await;
    assert!(control::pause_kind(&mut c, "a", Actor("somebody"), Some("a look")).await.expect("paused"));
    assert!(!control::pause_kind(&mut c, "a", Actor("somebody"), None).await.expect("paused"));
    let paused = store.queue_kind("a").await;
    let kinds = vec![("a", Steps::default().phase("p", |_| done(json!(null))).kind()), ("b", Steps::default().kind())];
    let runner = store.runner(quick("one"), kinds);
    let other = store.queue_kind("b").await;
    store.until_status(&other, "success").await;
    assert_eq!(store.run(&paused).await.status, "queued");
    let depths = control::depths(&mut c).await.expect("depths");
    assert_eq!((depths[0].kind.as_str(), depths[0].due, depths[0].paused), ("a", 1, true));
    assert!(control::resume_kind(&mut c, "a", Actor("somebody")).await.expect("resumed"));
    store.until_status(&paused, "success").await;
    runner.end().await;
}

/// A planner that believes in a long list reads the whole table: 20 claims a second.
#[tokio::test]
async fn a_claim_from_a_long_queue_reads_a_few_rows_of_it() {
    let store = Store::new().await;
    store.execute("insert into ops.runs (kind) select 'a' from generate_series(1, 30000)").await;
    // Statistics are as they happen to be: never looked at, and just looked at.
    for sql in ["select 1", "analyze ops.runs"] {
        store.execute(sql).await;
        store.execute("select pg_stat_reset()").await;
        assert_eq!(claim(&store, 10).await.len(), 10);
        let read = "select coalesce(seq_tup_read, 0) from pg_stat_user_tables where relname = 'runs'";
        store
            .until("the statistics have come", "select n_tup_upd >= 10 from pg_stat_user_tables where relname = 'runs'")
            .await;
        assert_eq!(store.count(read).await, 0, "after {sql}, the table was read from its beginning");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_one_kind_does_not_starve_another_of_the_same_urgency() {
    let store = Store::new().await;
    let begun = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kind = |name: &'static str| {
        let begun = begun.clone();
        Steps::default()
            .phase("p", move |_| {
                begun.lock().expect("no test panics here").push(name);
                done(json!(null))
            })
            .kind()
    };
    store.execute("insert into ops.runs (kind) select 'a' from generate_series(1, 200)").await;
    let late = store.queue_kind("b").await;
    let mut options = quick("one");
    options.concurrency = 1;
    let runner = store.runner(options, vec![("a", kind("a")), ("b", kind("b"))]);
    store.until_status(&late, "success").await;
    let before = begun.lock().expect("no test panics here").iter().position(|name| *name == "b");
    runner.end().await;
    assert!(before.is_some_and(|before| before < 100), "{before:?} runs of the other kind came first");
}

/// Claims that share keys race for them: none of them may fail for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_that_race_for_the_same_keys_never_fail() {
    let store = Arc::new(Store::new().await);
    store
        .execute(
            "insert into ops.runs (kind, concurrency_key) select 'a', 'k' || (i % 5) from generate_series(1, 400) as i",
        )
        .await;
    let askers = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let (mut c, me) = (store.c().await, RunnerId("me".to_owned()));
            let mut done = 0;
            loop {
                let claimed = queue::claim(&mut c, &me, &["a".to_owned()], 3, LEASE).await.expect("no claim fails");
                let ended: Vec<Ended> = claimed
                    .iter()
                    .map(|run| Ended {
                        run_id: run.run_id.clone(),
                        lease_token: run.lease_token,
                        outcome: Outcome::Success(None),
                    })
                    .collect();
                done += queue::finish(&mut c, &ended).await.expect("finished").len();
                let left = "select count(*) from ops.runs where status <> 'success'";
                if claimed.is_empty() && store.count(left).await == 0 {
                    return done;
                }
            }
        })
    });
    let mut done = 0;
    for asker in askers.collect::<Vec<_>>() {
        done += asker.await.expect("no panic");
    }
    assert_eq!(done, 400);
}
