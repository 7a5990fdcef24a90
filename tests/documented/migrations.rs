//! The migrations: on an empty database, again, by a role that may make no roles, by two at once; and
//! what they made survives a dump.

use crate::binary::DEADLINE;
use crate::server::{Db, cluster, migrate, psql, run};
use sqlx::{AssertSqlSafe, Executor};
use std::time::{Duration, Instant};

#[tokio::test]
async fn again_they_change_nothing() {
    let db = Db::new().await;
    // Without the time of the dump and its random words.
    let schema = async || {
        let dump = run("pg_dump", &["--restrict-key=x", "-d", &db.url()], "").await;
        let dump = if dump.ok { dump } else { run("pg_dump", &["-d", &db.url()], "").await };
        dump.well()
    };
    let before = schema().await;
    migrate(&db.url()).await.expect_code(0).expect_text("schema ops is up to date");
    assert!(schema().await == before, "the dump differs");
}

#[tokio::test]
async fn a_dump_with_leases_that_ran_out_is_restored_whole() {
    let mut db = Db::new().await;
    let run_id = db.claimed().await;
    db.claimed().await;
    db.ask(&format!("select ops.append_event('{run_id}', 'info', 'at work')")).await;
    db.lease_runs_out(&run_id).await;
    let backup = db.ask("select backup_id from ops.create_backup('shop', 'prod', 'daily')").await;
    db.ask(&format!("select ops.restore_backup('{backup}', 'shop-prod', 'olga')")).await;
    db.ask("update ops.approvals set expires_at = now(); update ops.backups set expires_at = now()").await;
    db.ask("select ops.create_token('ci', sha256('x'), '{admin}', 'olga', now() + interval '10 ms')").await;

    let dump = run("pg_dump", &["-d", &db.url()], "").await.well();
    let mut copy = Db::like("template0").await;
    psql(&copy.url(), &dump).await.well();
    for table in ["runs", "run_events", "backups", "restores", "approvals", "api_tokens", "project_members"] {
        let rows = format!("select md5(string_agg(t::text, ',' order by t::text)) from ops.{table} t");
        let row = db.ask(&rows).await;
        assert!(!row.is_empty());
        assert_eq!(copy.ask(&rows).await, row, "{table}");
    }
    assert_eq!(copy.ask("select run_id, status from ops.rescue_runs()").await, format!("{run_id}|queued"));
    migrate(&copy.url()).await.expect_code(0).expect_text("schema ops is up to date");
    assert_eq!(copy.person("vera").await.ask("select count(*) from ops.runs").await, "3", "policies came along");
}

/// On a server of its own: roles belong to all of a server, and here there must be none.
#[tokio::test]
async fn roles_are_made_once_for_the_server_by_whoever_may() {
    let server = cluster().await;
    let mut c = server.connect().await.expect("a connection");
    for sql in [
        "create role plain login",
        "create database plain owner plain",
        "create database first",
        "create database second",
    ] {
        c.execute(sql).await.expect(sql);
    }
    let url = |database: &str| server.url().replace("/migrated", &format!("/{database}"));
    let plain_url = server.url_as("plain", "any").replace("/migrated", "/plain");
    let roles = "select string_agg(rolname, ',' order by rolname) from pg_roles where rolname like 'ops!_%' escape '!'";

    // Who may make no roles gets everything else, closed.
    migrate(&plain_url).await.expect_code(0).expect_text("schema ops is up to date");
    assert_eq!(psql(&plain_url, roles).await.well(), "");
    migrate(&plain_url).await.expect_code(0).expect_text("schema ops is up to date");
    psql(
        &plain_url,
        "insert into ops.projects values ('p', 'P'); insert into ops.environments values ('p-dev', 'p', 'dev')",
    )
    .await
    .well();
    let queued = psql(&plain_url, "select status from ops.queue_run('p', 'dev', 'a', 'b')").await.well();
    assert_eq!(queued, "queued", "the owner works without the roles");

    // Who may make a schema, but nothing in `public`, where somebody has one of the names already.
    for sql in ["create role narrow login", "create database narrow", "grant create on database narrow to narrow"] {
        c.execute(sql).await.expect(sql);
    }
    psql(&url("narrow"), "create function list_projects() returns int language sql as 'select 1'").await.well();
    let narrow_url = server.url_as("narrow", "any").replace("/migrated", "/narrow");
    migrate(&narrow_url).await.expect_code(0).expect_text("schema ops is up to date");
    assert_eq!(psql(&narrow_url, "select * from ops.list_runs(); select list_projects()").await.well(), "1");

    // The roles of a Supabase, which opens to all of them whatever is made in `public`.
    c.execute("create role anon; create role authenticated; create role service_role").await.expect("roles");
    let opened =
        "alter default privileges in schema public grant execute on functions to anon, authenticated, service_role";
    psql(&url("first"), opened).await.well();

    // Somebody makes them in a transaction that is still open when another migration comes to it.
    c.execute("begin; create role ops_member nologin; create role ops_runner nologin").await.expect("roles");
    let (first_url, second_url) = (url("first"), url("second"));
    let both = async { tokio::join!(migrate(&first_url), migrate(&second_url)) };
    let commit = async {
        let waiting =
            "select count(*) from pg_stat_activity where datname in ('first', 'second') and wait_event_type = 'Lock'";
        let deadline = Instant::now() + DEADLINE;
        while sqlx::query_scalar::<_, i64>(AssertSqlSafe(waiting)).fetch_one(&mut c).await.expect("a count") < 2 {
            assert!(Instant::now() < deadline, "nobody waits for the roles");
            tokio::time::sleep(Duration::from_millis(10)).await;
            c.execute("select pg_stat_clear_snapshot()").await.expect("a fresh look");
        }
        c.execute("commit").await.expect("committed");
    };
    let ((first, second), ()) = tokio::join!(both, commit);
    first.expect_code(0).expect_text("schema ops is up to date");
    second.expect_code(0).expect_text("schema ops is up to date");
    c.execute("create role worker login in role ops_runner").await.expect("a role");
    let worker_url = |database: &str| server.url_as("worker", "any").replace("/migrated", &format!("/{database}"));
    psql(&worker_url("first"), "select * from ops.claim_next_run('w')").await.well();

    let lists = "select string_agg(r, ',' order by r) from unnest('{anon,authenticated,service_role}'::text[]) r
                 where has_function_privilege(r, 'public.list_runs(text, integer)', 'execute')";
    assert_eq!(psql(&first_url, lists).await.well(), "authenticated,service_role");

    // Theirs in the database that was migrated without them, once its owner says so.
    assert!(
        psql(&worker_url("plain"), "select * from ops.claim_next_run('w')").await.err.contains("permission denied")
    );
    psql(&plain_url, "select ops.apply_access()").await.well();
    let claimed = psql(&worker_url("plain"), "select project_id from ops.claim_next_run('w')").await.well();
    assert_eq!(claimed, "p");
    assert_eq!(
        psql(&worker_url("plain"), "select count(*) from ops.runs").await.well(),
        "1",
        "its policies are there, too"
    );
}
