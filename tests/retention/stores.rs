//! Objects and their rows: which go together, which apart, and what a store that says no keeps.

use crate::world::{DEADLINE, World, gone, kept};
use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use ops_controller::clients::Seam;
use ops_controller::clients::seam::Point;
use ops_controller::runner::prune::{self, Report};
use sqlx::Executor;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

const PAST: &str = "now() - interval '1 hour'";

#[tokio::test]
async fn what_has_expired_goes_from_the_store_and_the_books_and_what_is_gone_already_counts() {
    let world = World::new().await;
    world.ended("run-1", 1).await;
    let old = world.stored("run-1", "log", PAST).await;
    let gone_before = world.stored("run-1", "evidence", PAST).await;
    let young = world.stored("run-1", "manifest", "now() + interval '1 hour'").await;
    std::fs::remove_file(world.files().join(&gone_before)).expect("removed");
    let report = world.prune().await;
    assert_eq!((gone(&report), kept(&report)), ("artifacts 2".to_owned(), String::new()));
    assert!(!world.has(&old) && world.has(&young));
    assert_eq!(world.ask("select string_agg(artifact_key, ' ') from ops.artifacts").await, "manifest");
    assert_eq!(world.runs().await, ["run-1"]);
}

#[tokio::test]
async fn what_others_wrote_into_the_books_is_forgotten_and_nothing_is_deleted_for_it() {
    let world = World::new().await;
    world.ended("run-mine", 1).await;
    world.ended("run-other", 1).await;
    let other = world.stored("run-other", "log", "null").await;
    let secret = world.folder.path().join("secret");
    std::fs::write(&secret, "kept").expect("written");
    let paths = [
        other.as_str(),
        "../secret",
        secret.to_str().expect("UTF-8"),
        ".store",
        "shop/shop-dev/run-mine/../run-other/log",
        "s3://kept/below/shop/shop-dev/run-mine/e",
        "ghcr.io/org/shop@sha256:00",
    ];
    for (n, path) in paths.iter().enumerate() {
        world.recorded("run-mine", &format!("k{n}"), path, None, PAST).await;
    }
    assert_eq!(gone(&world.prune().await), format!("artifacts {}", paths.len()));
    assert!(world.has(&other) && world.has(".store") && secret.exists());
    assert_eq!(world.count("artifacts").await, 1);
}

/// As rows are that were written before stores were recorded: on another machine's disk it may well lie.
#[tokio::test]
async fn of_what_has_no_recorded_store_only_what_was_found_counts_as_gone() {
    let world = World::new().await;
    world.ended("run-1", 1000).await;
    let path = world.stored("run-1", "log", PAST).await;
    world.recorded("run-1", "image", "shop/shop-dev/run-1/image", None, PAST).await;
    world.execute("update ops.artifacts set store = null").await;
    let report = world.prune().await;
    assert_eq!(gone(&report), "artifacts 1", "the one that lay here");
    assert!(!world.has(&path));
    assert!(kept(&report).contains("artifacts 1: its store was not recorded, and it is not in this one"), "{report:?}");
    assert_eq!((world.count("artifacts").await, world.runs().await), (1, vec!["run-1".to_owned()]));
}

/// What everything looks like from a machine whose folder is another one, or none yet.
#[tokio::test]
async fn what_lies_elsewhere_is_not_taken_for_gone() {
    let mut world = World::new().await;
    world.ended("run-1", 1000).await;
    let path = world.stored("run-1", "log", PAST).await;
    world.recorded("run-1", "image", "ghcr.io/org/shop", None, PAST).await;
    let home = world.folder;
    world.folder = tempfile::tempdir().expect("a folder");
    let report = world.prune().await;
    assert_eq!(gone(&report), "artifacts 1", "the one for which no store is needed");
    let told = kept(&report);
    assert!(
        told.contains("is none of this machine's") && told.contains("runs 1: its artifacts are not gone"),
        "{told}"
    );
    assert!(!world.files().exists(), "looking makes no store");
    // Something is stored there since, by a run of its own.
    world.ended("run-2", 1).await;
    world.stored("run-2", "log", "null").await;
    let told = kept(&world.prune().await);
    assert!(told.contains("it lies in another store, folder-"), "{told}");
    assert_eq!((world.count("artifacts").await, world.runs().await.len()), (2, 2));
    world.folder = home;
    assert_eq!(gone(&world.prune().await), "artifacts 1, runs 1");
    assert!(!world.has(&path));
}

#[tokio::test]
async fn a_store_that_refuses_one_object_keeps_its_row_and_run_and_gives_up_the_others() {
    let world = World::new().await;
    world.ended("run-1", 1000).await;
    world.ended("run-2", 1000).await;
    // What cannot be removed like a file: a folder that is not empty.
    let stuck = world.stored("run-1", "log", "now() - interval '2 days'").await;
    std::fs::remove_file(world.files().join(&stuck)).expect("removed");
    std::fs::create_dir_all(world.files().join(&stuck).join("x")).expect("made");
    for key in ["a", "b"] {
        world.stored("run-2", key, PAST).await;
    }
    let report = world.prune().await;
    assert_eq!(gone(&report), "artifacts 2, runs 1");
    assert_eq!(kept(&report), "artifacts 1: its store did not say that it is gone\nruns 1: its artifacts are not gone");
    assert!(report.trouble.expect("a reason").contains(&stuck));
    assert_eq!(world.runs().await, ["run-1"]);
    std::fs::remove_dir_all(world.files().join(&stuck)).expect("removed");
    assert_eq!(gone(&world.prune().await), "artifacts 1, runs 1");
}

type Calls = Arc<Mutex<Vec<String>>>;

/// A bucket that answers every removal so.
async fn bucket(status: u16, body: &'static str) -> (String, Calls) {
    let calls = Calls::default();
    let heard = calls.clone();
    let app = Router::new().fallback(async move |method: Method, uri: Uri| match method {
        Method::DELETE => {
            heard.lock().expect("no test panics here").push(uri.path().to_owned());
            (StatusCode::from_u16(status).expect("a status"), [("etag", "e")], body)
        }
        _ => (StatusCode::OK, [("etag", "e")], ""),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    (format!("http://{address}"), calls)
}

#[tokio::test]
async fn a_bucket_is_believed_when_it_says_removed_or_no_such_key_and_not_otherwise() {
    for (status, body, is_gone) in [
        (204, "", true),
        (404, "<Error><Code>NoSuchKey</Code></Error>", true),
        (404, "<Error><Code>NoSuchBucket</Code></Error>", false),
        (404, "<html>nothing here</html>", false),
        (403, "<Error><Code>AccessDenied</Code></Error>", false),
    ] {
        let mut world = World::new().await;
        let (url, calls) = bucket(status, body).await;
        world.in_bucket(url);
        world.ended("run-1", 1000).await;
        let path = world.stored("run-1", "log", "null").await;
        let report = world.prune().await;
        assert_eq!(*calls.lock().expect("no test panics here"), [format!("/kept/below/{path}")], "{status} {body}");
        let expected = if is_gone { "artifacts 1, runs 1" } else { "" };
        assert_eq!(gone(&report), expected, "{status} {body}");
        assert_eq!(report.trouble.is_none(), is_gone, "{:?}", report.trouble);
        assert_eq!(world.count("runs").await, i64::from(!is_gone));
        assert!(!format!("{report:?}").contains("not-a-real-key"));
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_not_asked_for_the_rest_and_everything_else_goes_on() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nobody = format!("http://{}", closed.local_addr().expect("an address"));
    drop(closed);
    let (overloaded, calls) = bucket(503, "").await;
    tokio::join!(unanswered(nobody), unanswered(overloaded));
    let mut asked = calls.lock().expect("no test panics here").clone();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 20, "those that were asked for at once, however often");
}

async fn unanswered(endpoint: String) {
    let mut world = World::new().await;
    world.in_bucket(endpoint);
    world.ended("run-1", 1000).await;
    world.ended("run-2", 1000).await;
    for n in 0..50 {
        let key = format!("k{n:02}");
        let path = format!("shop/shop-dev/run-1/{key}");
        world.recorded("run-1", &key, &path, Some("s3://kept/below"), PAST).await;
    }
    let report = world.prune().await;
    assert_eq!(gone(&report), "runs 1");
    assert!(kept(&report).contains("artifacts 50: its store did not say that it is gone"), "{}", kept(&report));
    let trouble = report.trouble.expect("a reason");
    assert!(trouble.contains("ARTIFACT_STORE s3://kept/below, shop/shop-dev/run-1/k"), "{trouble}");
    assert_eq!((world.count("artifacts").await, world.runs().await), (50, vec!["run-1".to_owned()]));
}

/// A seam that stands still at a removal, and tells when it does.
fn stops(at: Point) -> (Seam, Arc<Notify>) {
    let reached = Arc::new(Notify::new());
    let told = reached.clone();
    let seam = Seam::new(move |point| {
        let (told, is_it) = (told.clone(), point == at);
        async move {
            if is_it {
                told.notify_one();
                std::future::pending::<()>().await;
            }
        }
    });
    (seam, reached)
}

#[tokio::test]
async fn killed_between_the_object_and_its_row_the_row_is_left_and_goes_the_next_time() {
    let world = World::new().await;
    world.ended("run-1", 1000).await;
    let path = world.stored("run-1", "log", "null").await;
    let (seam, reached) = stops(Point::After(format!("remove {path}")));
    let store = world.store_with(&seam);
    let mut report = Report::default();
    tokio::select! {
        done = prune::prune(&world.address, world.days, Some(&store), &mut report) => panic!("{done:?}"),
        () = reached.notified() => {}
        () = tokio::time::sleep(DEADLINE) => panic!("it never came to that"),
    }
    assert!(!world.has(&path));
    assert_eq!((world.count("artifacts").await, world.count("runs").await), (1, 1));
    // Its session ends a moment later, and with it its word that it is at it.
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let mut report = Report::default();
    while prune::prune(&world.address, world.days, Some(&world.store()), &mut report).await != Ok(true) {
        assert!(tokio::time::Instant::now() < deadline, "the dead one is still at it");
    }
    assert_eq!(gone(&report), "artifacts 1, runs 1");
}

#[tokio::test]
async fn while_an_object_is_removed_its_run_is_not_queued_again_and_no_other_run_waits() {
    let world = World::new().await;
    world.ended_as("run-1", "custom", "failed", 1000).await;
    let path = world.stored("run-1", "log", "null").await;
    let (seam, reached) = stops(Point::Before(format!("remove {path}")));
    let store = world.store_with(&seam);
    let mut report = Report::default();
    let pruning = prune::prune(&world.address, world.days, Some(&store), &mut report);
    let meanwhile = async {
        reached.notified().await;
        let mut c = world.c().await;
        c.execute("set lock_timeout = '100ms'").await.expect("set");
        let again = c.execute("select ops.requeue_run('run-1', 'olga')").await.expect_err("held");
        assert!(again.to_string().contains("lock timeout"), "{again}");
        for sql in [
            "select ops.enqueue('custom')",
            "select ops.claim_runs('w1', '{custom}', 10, '1 minute')",
            "select ops.renew_runs(array_agg(run_id::text), array_agg(lease_token), '1 minute') from ops.runs where status = 'claimed'",
            "select ops.rescue_runs()",
        ] {
            c.execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        assert_eq!(world.ask("select count(*) from ops.runs where status = 'claimed'").await, "1");
        // And nobody else does the same.
        let mut other = Report::default();
        let done = prune::prune(&world.address, world.days, Some(&world.store()), &mut other).await;
        assert_eq!(done, Ok(false));
    };
    tokio::select! {
        done = pruning => panic!("{done:?}"),
        done = tokio::time::timeout(DEADLINE, meanwhile) => done.expect("in time"),
    }
    assert!(world.has(&path));
}
