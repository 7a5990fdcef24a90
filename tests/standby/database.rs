//! The lease in PostgreSQL: without its database nobody acts, and what it guards.

use crate::pair::{Home, LEASE, Pair, SCHEDULING};
use crate::support::quick;
use ops_controller::sandbox::Options;
use ops_controller::sandbox::faults::Break;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_database_it_acts_until_its_deadline_and_again_when_that_is_back() {
    let mut pair = Pair::new(Home::Database).await;
    let ops = pair.ops.take().expect("a database");
    ops.stop().await.expect("stopped");
    let one = pair.start("one").await;
    let status = one.program.until("says why", crate::support::DEADLINE, |s| s["mode_reason"].is_string()).await;
    assert_eq!(status["mode"], "standby");
    let why = status["mode_reason"].as_str().expect("a reason");
    assert!(why.contains("OPS_DATABASE_URL") && why.contains("nothing is done without its lease"), "{why}");
    one.assert_ready().await;
    assert_eq!(one.writes(), Vec::<String>::new());
    ops.start().await.expect("started");
    one.until_healthy().await;

    let at = Instant::now();
    ops.stop().await.expect("stopped");
    let down = at.elapsed();
    one.until_mode("standby").await;
    let acted = at.elapsed();
    eprintln!("the ops database went down: it acted {acted:?} more (LEASE_TIME {LEASE:?})");
    assert!(acted > LEASE / 2, "one failed renewal is no reason to stop: {acted:?}");
    assert!(acted < LEASE + down + SCHEDULING, "{acted:?}");
    assert!(one.program.log().contains("ran out") && one.program.log().contains("nothing is written"));
    let written = one.writes();
    pair.world.sandbox.cause(Break::DropletDeleted).expect("caused");
    one.assert_ready().await;
    assert_eq!(one.writes(), written, "it healed without its lease");

    ops.start().await.expect("started");
    let status = one.until_healthy().await;
    assert_eq!(status["held"].as_array().map(Vec::len), Some(0), "{status:#}");
    pair.one_droplet().await;
    assert_eq!(pair.world.creates(), 2);
    assert!(!one.program.log().contains(&pair.world.sandbox.webapp.token()), "a secret in the log");
    assert!(!one.program.log().contains(ops.password()), "the password in the log");
    one.ends_well().await;
    pair.stop().await;
}

/// A create that the dead one sent, which no listing shows yet, and of which the other one's journal
/// knows nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_create_of_the_dead_one_that_is_not_listed_yet_is_waited_for() {
    let lag = Duration::from_secs(6);
    let mut pair = Pair::with(Home::Database, Options { list_lag: lag, ..quick() }).await;
    pair.world.set("CREATE_SETTLE", "9s");
    let first = pair.start("first").await;
    first.ocean.hold("POST", "/v2/droplets");
    first.until_mode("active").await;
    let second = pair.start("second").await;
    pair.world.sandbox.faults.during(Break::ListLag, Duration::from_secs(600));
    first.ocean.until_held().await;
    let sent = Instant::now();
    first.program.signal(libc::SIGKILL);
    second.until_mode("active").await;
    assert!(sent.elapsed() < lag, "the takeover came too late to prove anything");
    let held = |s: &serde_json::Value| s["held"].to_string().contains("another controller acted here before");
    second.program.until("holding its create", crate::support::DEADLINE, held).await;
    second.until_healthy().await;
    assert_eq!(pair.world.creates(), 1, "the droplet of the dead one is taken on");
    pair.one_droplet().await;
    second.ends_well().await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_restarts_on_its_own_folder_goes_on_with_its_journal() {
    let mut pair = Pair::new(Home::Database).await;
    pair.world.set("CREATE_SETTLE", "10m");
    // It acts, but comes to no create.
    pair.world.sandbox.faults.during(Break::DropletListFailing, Duration::from_secs(600));
    let first = pair.start("one").await;
    first.some_cycles_later(3).await;
    first.program.signal(libc::SIGKILL);
    assert_eq!(pair.world.creates(), 0);
    pair.world.sandbox.faults.clear(Break::DropletListFailing);
    // The same name is the same folder.
    let again = pair.start("one").await;
    again.until_healthy().await;
    assert_eq!(pair.world.creates(), 1, "its own journal says that nothing is under way, so nothing is waited for");
    again.ends_well().await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_refuses_what_no_lease_can_be() {
    let mut pair = Pair::new(Home::Database).await;
    let one = pair.start("one").await;
    one.until_mode("active").await;
    one.ends_well().await;
    let ops = pair.ops.take().expect("a database");
    let mut connection = ops.connect().await.expect("a connection");
    let mut refused = async |statement: &'static str| {
        sqlx::raw_sql(statement).execute(&mut connection).await.expect_err(statement).to_string()
    };
    for (statement, word) in [
        ("update ops.lease set epoch = epoch - 1", "never falls"),
        ("delete from ops.lease", "never falls"),
        ("update ops.lease set holder = ''", "lease_holder_is_named"),
        ("update ops.lease set holder = null", "lease_is_whole"),
        ("update ops.lease set expires_at = since - interval '1 second'", "lease_times_follow"),
        ("insert into ops.lease (name, epoch) values ('x', 1)", "lease_is_whole"),
        ("insert into ops.lease (name) values ('')", "lease_name_is_given"),
    ] {
        let text = refused(statement).await;
        assert!(text.contains(word), "{statement}: {text}");
    }
    let tables: Vec<String> = sqlx::query_scalar(
        "select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema') order by 1",
    )
    .fetch_all(&mut connection)
    .await
    .expect("the tables");
    assert_eq!(tables, ["ops._sqlx_migrations", "ops.lease"], "nothing of ours lies elsewhere");
    pair.stop().await;
}
