//! The lease in PostgreSQL: without its database nobody acts, and what it guards.

use crate::pair::{Home, LEASE, Pair, SCHEDULING};
use crate::support::{DEADLINE, eventually, quick};
use ops_controller::sandbox::Options;
use ops_controller::sandbox::faults::Break;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_database_it_acts_until_its_deadline_and_again_when_that_is_back() {
    let mut pair = Pair::new(Home::Database).await;
    let ops = pair.ops.take().expect("a database");
    ops.stop().await.expect("stopped");
    let one = pair.start("one").await;
    let status = one.program.until("says why", DEADLINE, |s| s["mode_reason"].is_string()).await;
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

/// Nobody restarts a daemon that stands by: what it waits for must be corrected while it runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_takes_a_corrected_database_up_and_a_bad_one_never_costs_the_lease() {
    let mut pair = Pair::new(Home::Database).await;
    let file = pair.world.beside("settings.env");
    let right = pair.ops.as_ref().expect("a database").url();
    let set = |url: &str| std::fs::write(&file, format!("OPS_DATABASE_URL={url}\n")).expect("written");
    set("postgresql://ops@127.0.0.1:1/ops");
    pair.world.set("ENV_FILE", &file.display().to_string());
    let one = pair.start("one").await;
    one.program.until("says why", DEADLINE, |s| s["mode_reason"].is_string()).await;
    set("mysql://canary@127.0.0.1:1/ops");
    one.program.signal(libc::SIGHUP);
    one.program.until_logged("the new configuration is refused").await;
    set(&right);
    one.program.signal(libc::SIGHUP);
    one.until_healthy().await;
    one.program.until_logged("for durable runs in force from the next start only: OPS_DATABASE_URL").await;

    set("postgresql://ops:canary@127.0.0.1:1/ops?sslmode=canary");
    one.program.signal(libc::SIGHUP);
    let refusals = || one.program.log().matches("the new configuration is refused").count();
    eventually("refused again", || refusals() == 2).await;
    one.some_cycles_later(3).await;
    let metrics = one.program.text("/metrics").await;
    assert!(metrics.contains("ops_controller_lease_epoch{home=\"database\"} 1"), "{metrics}");
    assert!(!one.program.log().contains("canary"), "{}", one.program.log());
    one.ends_well().await;
    set(&right);
    pair.stop().await;
}

/// A server that takes connections and never says a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_heard_while_the_lease_is_asked_for_and_a_client_is_slow() {
    let mut pair = Pair::new(Home::Folder).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = silent.local_addr().expect("an address");
    pair.world.set("OPS_DATABASE_URL", &format!("postgresql://ops@{address}/ops"));
    let mut one = pair.start("one").await;
    let asked = tokio::time::timeout(DEADLINE, silent.accept()).await.expect("in time").expect("a connection");
    let url = url::Url::parse(one.program.url()).expect("an address");
    let mut slow = tokio::net::TcpStream::connect(("127.0.0.1", url.port().expect("a port"))).await.expect("connected");
    slow.write_all(b"GET /status HTTP/1.1\r\nHost: x\r\n").await.expect("half a request");
    assert_eq!(one.program.get("/healthz").await, Some(200));
    let at = Instant::now();
    one.program.signal(libc::SIGTERM);
    let end = one.program.ended(Duration::from_secs(10)).await;
    eprintln!("stopped in the middle of an attempt after {:?}", at.elapsed());
    assert_eq!(end.code(), Some(0), "{}", one.program.log());
    assert!(at.elapsed() < Duration::from_secs(5), "{:?}", at.elapsed());
    drop((asked, slow));
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
    second.program.until("holding its create", DEADLINE, held).await;
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
    assert!(tables.iter().any(|table| table == "ops.lease"), "{tables:?}");
    assert!(tables.iter().all(|table| table.starts_with("ops.")), "nothing of ours lies elsewhere: {tables:?}");
    pair.stop().await;
}
