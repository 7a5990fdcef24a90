//! An idle runner hears of new runs, and finds them by itself when it does not.

use crate::store::{Steps, Store, quick};
use std::time::Duration;
use tokio::time::Instant;

const LISTENS: &str = "select exists (select from ops.idle_runners)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_runner_is_told_and_does_not_wait_for_its_poll() {
    let store = Store::new().await;
    let mut options = quick("one");
    options.poll = Duration::from_secs(3600);
    let runner = store.runner(options, vec![("a", Steps::default().kind())]);
    for _ in 0..3 {
        store.until("it listens", LISTENS).await;
        // After its last look by itself, only a notice brings it.
        let since = "select since < now() - interval '300 ms' from ops.idle_runners";
        store.until("it waits", since).await;
        let run = store.queue_kind("a").await;
        store.until_status(&run, "success").await;
    }
    runner.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_notices_it_looks_by_itself() {
    let store = Store::new().await;
    let runner = store.runner(quick("one"), vec![("a", Steps::default().kind())]);
    store.until("it listens", LISTENS).await;
    // As if every notice were lost.
    store.execute("alter table ops.runs disable trigger runs_are_queued").await;
    let began = Instant::now();
    let run = store.queue_kind("a").await;
    store.until_status(&run, "success").await;
    eprintln!("found by itself after {:?}", began.elapsed());
    runner.end().await;
}

#[tokio::test]
async fn nobody_is_notified_while_nobody_listens() {
    let store = Store::new().await;
    let mut listener = sqlx::postgres::PgListener::connect_with(&store.address.pool(1)).await.expect("a listener");
    listener.listen("ops_runs").await.expect("listens");
    store.queue_kind("a").await;
    store.execute("notify ops_runs, 'the end'").await;
    let first = listener.recv().await.expect("a notice");
    assert_eq!(first.payload(), "the end", "the first notice is the test's own");
}
