//! `runs`, `token` and `migrate` as a person or a script meets them: the real program, a real database.

#[path = "support/binary.rs"]
mod binary;
#[path = "support/postgres.rs"]
mod postgres;

use binary::{Environment, Running};
use ops_controller::runs::schema::Address;
use ops_controller::runs::tokens;
use ops_controller::sandbox::github::{GitHub, GitHubOptions};
use ops_controller::sandbox::postgres::Cluster;
use serde_json::Value;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PLACES: &str = "
    insert into ops.projects (project_id, name) values ('shop', 'Shop');
    insert into ops.environments (env_id, project_id, env_type) values ('shop-dev', 'shop', 'dev');
    insert into ops.runners (runner_id, worker_id, hostname, pid, kinds, concurrency, version)
        values ('w1-1', 'w1', 'host', 7, '{build,mail}', 3, '1');
";
const BUILD: [&str; 10] =
    ["runs", "queue", "--project", "shop", "--env", "dev", "--sha", "abc123", "--ref", "refs/heads/main"];

/// A database of one test, and an environment that names it and nothing else.
struct World {
    env: Environment,
    address: Address,
    name: String,
    server: Arc<Cluster>,
}

impl World {
    async fn empty() -> World {
        World::like("template0").await
    }

    async fn start() -> World {
        World::like(postgres::MIGRATED).await
    }

    async fn like(template: &str) -> World {
        let server = postgres::server(PLACES).await;
        let name = postgres::database(&server, template).await;
        let url = postgres::url(&server, &name);
        let env = Environment::new([("OPS_DATABASE_URL".to_owned(), url.clone())]);
        World { env, address: Address::from_url(&url, "test").expect("an address"), name, server }
    }

    async fn execute(&self, sql: &str) {
        let mut c = self.address.connect().await.expect("a connection");
        c.execute(AssertSqlSafe(sql.to_owned())).await.expect(sql);
    }

    async fn ask(&self, sql: &str) -> String {
        let mut c = self.address.connect().await.expect("a connection");
        let row = c.fetch_one(AssertSqlSafe(format!("select ({sql})::text"))).await.expect(sql);
        row.get::<Option<String>, _>(0).unwrap_or_default()
    }

    /// Queues a build; its id.
    async fn build(&self) -> String {
        self.env.run(&BUILD).await.expect_code(0).out.trim().to_owned()
    }

    async fn claim(&self, id: &str) {
        self.execute("select ops.claim_runs('w1', '{build,mail}', 1, '1 hour')").await;
        self.execute(&format!("select ops.begin_phase('{id}', 1, 'build_image', 1)")).await;
    }

    async fn end(&self, id: &str, outcome: &str) {
        let error = if outcome == "failed" { "'no such image'" } else { "null" };
        let (ids, outcomes) = (format!("'{{{id}}}', '{{1}}'"), format!("'{{{outcome}}}', '{{null}}'"));
        self.execute(&format!("select ops.finish_runs({ids}, {outcomes}, array[{error}]::text[])")).await;
    }
}

/// Nothing is queued by looking, and without a database the one thing that is missing is named.
#[tokio::test]
async fn looking_changes_nothing_and_only_the_database_is_needed() {
    let none = Environment::default();
    for command in [&["migrate"][..], &["runs", "list"], &["runs", "show", "run-1"], &["token", "list"]] {
        let ended = none.run(command).await.expect_code(78).expect_text("  OPS_DATABASE_URL is required");
        assert!(ended.out.is_empty() && !ended.err.contains("DIGITALOCEAN"), "{}", ended.err);
    }
    let world = World::empty().await;
    world.env.run(&["runs", "list"]).await.expect_code(1).expect_text("run `ops-controller migrate`");
    world.env.run(&["migrate"]).await.expect_code(0).expect_text("schema ops is up to date (10 migrations)");
    let listed = world.env.run(&["runs", "list"]).await.expect_code(0);
    assert_eq!(listed.out, "RUN  KIND  FOR  STATUS  TRY  QUEUED  FINISHED  PHASE  ERROR\n");
    world.env.run(&["runs", "show", "run-1"]).await.expect_code(1).expect_text("there is no run run-1");
    world.env.run(&["runs", "logs", "run-1"]).await.expect_code(1).expect_text("there is no run run-1");
    world.env.run(&["runs", "logs", "-f", "run-1"]).await.expect_code(1).expect_text("there is no run run-1");
    world.env.run(&["runs", "wait", "run-1"]).await.expect_code(1).expect_text("there is no run run-1");
    assert_eq!(world.ask("(select count(*) from ops.runs) + (select count(*) from ops.audit_log)").await, "0");
    let misspelt = Environment::default().with("OPS_DATABSE_URL", "postgresql://ops:canary-pass@127.0.0.1:1/ops");
    let ended = misspelt.run(&["runs", "list"]).await.expect_code(78);
    ended.expect_text("OPS_DATABSE_URL is set, which nobody reads: rename it");
    let down = Environment::default().with("OPS_DATABASE_URL", "postgresql://ops:canary-pass@127.0.0.1:1/ops");
    for command in [&["migrate"][..], &["runs", "list"], &["runs", "wait", "run-1"], &["token", "list"]] {
        let ended = down.run(command).await.expect_code(1).expect_text("the ops database");
        let ended = ended.expect_text("check host and port in OPS_DATABASE_URL (127.0.0.1:1)");
        assert!(!ended.all().contains("canary"), "{}", ended.all());
    }
}

#[tokio::test]
async fn a_build_is_queued_by_the_documented_arguments_once_for_its_key() {
    let world = World::start().await;
    let with = |more: &[&'static str]| BUILD.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>();
    let first = world.env.run(&with(&["--metadata", r#"{"by": "ci"}"#, "--key", "push 17"])).await.expect_code(0);
    let id = first.out.trim();
    assert!(id.starts_with("run-") && first.out.lines().count() == 1, "{}", first.out);
    let again = world.env.run(&with(&["--key", "push 17"])).await.expect_code(0).expect_text("queued before");
    assert_eq!(again.out.trim(), id);
    let row = world.ask("select array_agg(row(kind, env_id, git_sha, metadata)) from ops.runs").await;
    assert!(row.contains("build,shop-dev,abc123") && row.contains("ci"), "{row}");
    let json = world.env.run(&with(&["--json"])).await.expect_code(0).out;
    assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON")["is_new"], true);
}

#[tokio::test]
async fn a_run_of_a_kind_is_queued_when_somebody_knows_the_kind() {
    let world = World::start().await;
    let mail = ["runs", "queue", "--kind", "mail", "--input", r#"{"to": "x"}"#, "--priority", "2"];
    world.env.run(&mail).await.expect_code(0);
    assert_eq!(world.ask("select input ->> 'to' || priority from ops.runs").await, "x2");
    let mial = ["runs", "queue", "--kind", "mial"];
    world
        .env
        .run(&mial)
        .await
        .expect_code(64)
        .expect_text("backup, build, custom, mail, restore")
        .expect_text("--force");
    world.env.run(&["runs", "queue", "--kind", "mial", "--force"]).await.expect_code(0);
    assert_eq!(world.ask("select count(*) from ops.runs").await, "2");
    let metadata = r#"{"phases": [{"name": "a", "uses": "command",
        "with": {"program": "p", "arguments": ["${env_id}"]}}]}"#;
    let there = ["runs", "queue", "--kind", "custom", "--project", "shop", "--env", "dev", "--metadata", metadata];
    let queued = world.env.run(&there).await.expect_code(0);
    assert!(queued.out.starts_with("run-") && queued.out.lines().count() == 1 && queued.err == "queued\n");
    let place = "select project_id || ' ' || env_id from ops.runs where kind = 'custom'";
    assert_eq!(world.ask(place).await, "shop shop-dev");
}

#[tokio::test]
async fn what_does_not_fit_is_named_and_not_queued() {
    let world = World::start().await;
    for (arguments, said) in [
        (&["runs", "queue"][..], "--project"),
        (&["runs", "queue"], "--env <ENV>"),
        (&["runs", "queue"], "runs queue --kind KIND"),
        (&["runs", "queue", "--project", "shop"], "--env"),
        (&["runs", "queue", "--project", "shop", "--env", "dev"], "--sha"),
        (&["runs", "queue", "--kind", "mail", "--project", "shop"], "--env"),
        (&["runs", "queue", "--kind", "mail", "--env", "dev"], "--project"),
        (&["runs", "queue", "--kind", "mail", "--sha", "abc123"], "--sha"),
        (
            &["runs", "queue", "--kind", "mail", "--project", "shop", "--env", "prod"],
            "Environment prod not found for project shop",
        ),
        (&["runs", "queue", "--kind", "backup", "--force"], "ops.create_backup"),
        (&["runs", "queue", "--kind", "restore", "--force"], "ops.restore_backup"),
        (&["runs", "queue", "--kind", "mail", "--input", "{"], "--input is no JSON"),
        (&["runs", "queue", "--kind", "mail", "--input", "[]"], "--input must be an object"),
        (&["runs", "queue", "--kind", "mail", "--priority", "10"], "--priority must be"),
        (&["runs", "queue", "--kind", "mail", "--run-at", "soon"], "--run-at must be"),
        (&["runs", "queue", "--kind", "build"], "it is queued by --project, --env, --sha and --ref"),
        (
            &["runs", "queue", "--project", "shop", "--env", "dev", "--sha", "x", "--ref", "main"],
            "error: --sha must be",
        ),
        (&["runs", "queue", "--kind", "custom"], "error: --metadata: phases is required"),
        (&["runs", "queue", "--kind", "custom", "--metadata", r#"{"phase": []}"#], "did you mean phases?"),
        (&["runs", "queue", "--kind", "custom", "--metadata", r#"{"phases": []}"#], "and not an empty one"),
        (
            &[
                "runs",
                "queue",
                "--kind",
                "custom",
                "--metadata",
                r#"{"phases": [{"with": {"arguments": ["${git_sha}"]}}]}"#,
            ],
            "phases[0].with.arguments has ${git_sha}, which has no value here: there are ${run_id}",
        ),
        (&["runs", "queue", "--kind", "mail'; --"], "kind must be"),
        (&["runs", "list", "--status", "done"], "must be queued"),
        (&["runs", "list", "--limit", "0"], "1..=200"),
        (&["runs", "wait", "run-1", "--timeout", "x"], "must be seconds"),
        (&["runs", "wait", "run-1", "--interval", "0"], "must be seconds"),
    ] {
        world.env.run(arguments).await.expect_code(64).expect_text(said);
    }
    let nowhere = BUILD.map(|argument| if argument == "shop" { "nothing" } else { argument });
    world.env.run(&nowhere).await.expect_code(64).expect_text("Project nothing does not exist");
    let smokee: Vec<_> = BUILD.into_iter().chain(["--metadata", r#"{"smokee": {}, "by": "ci"}"#]).collect();
    world.env.run(&smokee).await.expect_code(64).expect_text("--metadata: smokee is not known; did you mean smoke?");
    assert_eq!(world.ask("select count(*) from ops.runs").await, "0");
}

#[tokio::test]
async fn lists_are_tables_for_people_and_json_for_programs() {
    let world = World::start().await;
    let (first, second) = (world.build().await, world.build().await);
    world.env.run(&["runs", "cancel", &first, "--reason", "a mistake"]).await.expect_code(0);
    let listed = world.env.run(&["runs", "list"]).await.expect_code(0).out;
    let lines: Vec<_> = listed.lines().collect();
    assert!(lines.len() == 3 && lines[1].starts_with(&second) && lines[2].contains("cancelled"), "{listed}");
    let column = lines[0].find("KIND").expect("a head");
    assert!(lines[1..].iter().all(|line| line[column..].starts_with("build ")), "{listed}");
    let one = world.env.run(&["runs", "list", "--status", "cancelled", "--json"]).await.expect_code(0).out;
    let page: Value = serde_json::from_str(&one).expect("JSON");
    assert_eq!((page["runs"].as_array().map(Vec::len), &page["runs"][0]["error"]), (Some(1), &"a mistake".into()));
    let page = world.env.run(&["runs", "list", "--limit", "1"]).await.expect_code(0);
    assert!(page.err.contains(&format!("--before {second}")), "{}", page.err);
    let rest = world.env.run(&["runs", "list", "--before", &second, "--project", "shop", "--kind", "build"]).await;
    assert!(rest.out.contains(&first) && !rest.out.contains(&second), "{}", rest.out);
}

#[tokio::test]
async fn a_run_is_shown_with_all_that_belongs_to_it_and_no_escape_sequence() {
    let world = World::start().await;
    let id = world.build().await;
    world.claim(&id).await;
    world
        .execute(&format!("select ops.note_event('{id}', 1, 'warn', E'red \\x1b[31m', '{{\"a\": 1}}', 'build_image')"))
        .await;
    world.end(&id, "failed").await;
    world
        .execute(&format!(
            "insert into ops.artifacts (run_id, artifact_key, artifact_type, storage_path)
             values ('{id}', 'log', 'logs', 'file:///x/log')"
        ))
        .await;
    let shown = world.env.run(&["runs", "show", &id]).await.expect_code(0).out;
    for text in ["no such image", "build_image", "w1", "file:///x/log", "Run queued", "red \\u{1b}[31m", "1 of 3"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "{shown}");
    let json = world.env.run(&["runs", "show", &id, "--json"]).await.expect_code(0).out;
    let whole: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&whole["run"]["status"], &whole["attempts"][0]["outcome"]), (&"failed".into(), &"failed".into()));
    let logs = world.env.run(&["runs", "logs", &id]).await.expect_code(0).out;
    assert_eq!(logs.lines().count(), 5, "{logs}");
    let lines = world.env.run(&["runs", "logs", &id, "--json"]).await.expect_code(0).out;
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|event| event["seq"].is_i64())));
}

#[tokio::test]
async fn cancel_and_retry_say_what_became_of_the_run() {
    let world = World::start().await;
    let id = world.build().await;
    world.env.run(&["runs", "retry", &id]).await.expect_code(1).expect_text("is queued");
    let cancelled = world.env.run(&["runs", "cancel", &id]).await.expect_code(0);
    assert_eq!((cancelled.out, cancelled.err.as_str()), (format!("{id}\n"), "cancelled\n"));
    let again = world.env.run(&["runs", "retry", &id]).await.expect_code(0);
    assert_eq!((again.out, again.err.as_str()), (format!("{id}\n"), "queued\n"));
    world.claim(&id).await;
    let told = world.env.run(&["runs", "cancel", &id]).await.expect_code(0);
    assert!(told.out == format!("{id}\n") && told.err.starts_with("cancelling: it is running"), "{}", told.err);
    world.env.run(&["runs", "cancel", "run-0"]).await.expect_code(1).expect_text("Run run-0 does not exist");
    let actor = world.ask("select min(actor) from ops.audit_log").await;
    assert!(actor.contains('@'), "{actor}");
}

#[tokio::test]
async fn a_kind_is_paused_and_resumed_and_a_misspelt_one_is_not() {
    let world = World::start().await;
    world.env.run(&["runs", "queue", "--kind", "mail"]).await.expect_code(0);
    world.env.run(&["kinds", "pause", "mial"]).await.expect_code(64).expect_text("mail, restore");
    let pause = ["kinds", "pause", "mail", "--reason", "too many"];
    let paused = world.env.run(&pause).await.expect_code(0);
    assert_eq!((paused.out.as_str(), paused.err.as_str()), ("mail\n", "paused\n"));
    world.env.run(&pause).await.expect_code(0).expect_text("it was paused before");
    assert_eq!(world.ask("select kind || ': ' || reason from ops.paused_kinds").await, "mail: too many");
    let listed = world.env.run(&["kinds", "list"]).await.expect_code(0).out;
    let line: Vec<_> = listed.lines().nth(1).expect("a kind").split_whitespace().collect();
    assert!(line[..4] == ["mail", "1", "0", "0"] && line.ends_with(&["paused"]), "{listed}");
    world.env.run(&["kinds", "resume", "mail"]).await.expect_code(0).expect_text("resumed\n");
    world.env.run(&["kinds", "resume", "mail"]).await.expect_code(0).expect_text("it was not paused");
    let json = world.env.run(&["kinds", "list", "--json"]).await.expect_code(0).out;
    let kinds: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&kinds[0]["kind"], &kinds[0]["paused"]), (&"mail".into(), &false.into()));
    assert_eq!(world.ask("select count(*) from ops.audit_log where actor like '%@%'").await, "2");
}

#[tokio::test]
async fn what_touches_production_is_decided_by_a_second_person() {
    let world = World::start().await;
    world.execute("insert into ops.environments (env_id, project_id, env_type) values ('live', 'shop', 'prod')").await;
    let backup = world.ask("select backup_id from ops.create_backup('shop', 'dev', 'daily')").await;
    let backups = world.env.run(&["backups", "list", "--env-id", "shop-dev"]).await.expect_code(0).out;
    assert!(backups.lines().count() == 2 && backups.contains(&backup) && backups.contains("daily"), "{backups}");
    assert_eq!(world.env.run(&["backups", "list", "--env-id", "live"]).await.expect_code(0).out.lines().count(), 1);
    let asked = async || {
        let restore =
            world.ask(&format!("select restore_id from ops.restore_backup('{backup}', 'live', 'olga')")).await;
        let id = world.ask(&format!("select approval_id from ops.approvals where resource_id = '{restore}'")).await;
        (restore, id)
    };
    let (restore, id) = asked().await;
    let listed = world.env.run(&["approvals", "list"]).await.expect_code(0).out;
    let made =
        world.ask("select to_char(created_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') from ops.backups").await;
    for text in [&*id, &restore, "olga", "pending", "live", &backup, &format!("{made}Z")] {
        assert!(listed.contains(text), "{text}: {listed}");
    }
    let waits = world.env.run(&["restores", "list", "--env-id", "live"]).await.expect_code(0).out;
    for text in [&*restore, "live", "pending", &backup, "olga", &id] {
        assert!(waits.contains(text), "{text}: {waits}");
    }
    let elsewhere = world.env.run(&["restores", "list", "--env-id", "shop-dev", "--json"]).await.expect_code(0).out;
    assert_eq!(elsewhere, "[]\n");
    world.env.run(&["approvals", "approve", &id]).await.expect_code(64).expect_text("--by");
    let own = world.env.run(&["approvals", "approve", &id, "--by", "Olga"]).await;
    own.expect_code(1).expect_text("a second person must give it");
    world.env.run(&["approvals", "deny", "appr-0", "--by", "adam"]).await.expect_code(1).expect_text("does not exist");
    let queued = "select count(*) from ops.runs where kind = 'restore'";
    assert_eq!(world.ask(queued).await, "0");
    let given = world.env.run(&["approvals", "approve", &id, "--by", "adam"]).await.expect_code(0);
    assert_eq!((given.out, given.err.as_str()), (format!("{id}\n"), "approved\n"));
    assert_eq!(world.ask(queued).await, "1");
    for (by, whose) in [("adam", "it was approved before, by you\n"), ("eve", "it was approved before, by adam\n")] {
        let again = world.env.run(&["approvals", "approve", &id, "--by", by]).await.expect_code(0);
        assert_eq!((again.out, again.err.as_str()), (format!("{id}\n"), whose));
    }
    let (restore, id) = asked().await;
    let denied = world.env.run(&["approvals", "deny", &id, "--by", "adam", "--reason", "not today"]).await;
    assert_eq!(denied.expect_code(0).out, format!("{id}\n"));
    let status = format!("select status from ops.restores where restore_id = '{restore}'");
    assert_eq!(world.ask(&status).await, "cancelled");
    let (_, id) = asked().await;
    world.execute(&format!("update ops.approvals set expires_at = now() where approval_id = '{id}'")).await;
    let late = world.env.run(&["approvals", "approve", &id, "--by", "adam"]).await.expect_code(1);
    assert!(late.out.is_empty() && late.err.contains("it ran out before it was decided"), "{}", late.err);
    assert_eq!(world.env.run(&["approvals", "list"]).await.expect_code(0).out.lines().count(), 1, "nothing waits");
    let all = world.env.run(&["approvals", "list", "--all", "--json"]).await.expect_code(0).out;
    let all: Value = serde_json::from_str(&all).expect("JSON");
    let statuses: Vec<_> = all.as_array().expect("a list").iter().map(|a| a["status"].clone()).collect();
    assert_eq!(statuses, ["expired", "denied", "approved"]);
    assert_eq!(all[1]["reason"], "not today");
}

async fn until_printed(world: &World, waiting: &mut Running, what: &str, sql: &str) {
    let deadline = Instant::now() + binary::DEADLINE;
    while world.ask(sql).await != "true" {
        assert!(!waiting.has_ended(), "it ended before {what}");
        assert!(Instant::now() < deadline, "never {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Somebody asks the database besides us.
const IS_ASKED: &str = "select exists (select from pg_stat_activity
    where application_name = 'ops-controller' and datname = current_database() and query like '%ops.run%')";

#[tokio::test]
async fn wait_ends_with_the_run_and_prints_where_its_first_artifact_lies() {
    let world = World::start().await;
    let id = world.build().await;
    let mut waiting = world.env.start(&["runs", "wait", &id, "--interval", "0.05"]);
    until_printed(&world, &mut waiting, "it waits", IS_ASKED).await;
    world.claim(&id).await;
    for (key, path) in [("b", "file:///x/first"), ("a", "file:///x/second")] {
        let row = format!("('{id}', '{key}', 'logs', '{path}')");
        let insert = "insert into ops.artifacts (run_id, artifact_key, artifact_type, storage_path) values";
        world.execute(&format!("{insert} {row}")).await;
    }
    assert!(!waiting.has_ended());
    world.end(&id, "success").await;
    let ended = waiting.output().await.expect_code(0);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("file:///x/first\n", ""));
    let plain = world.build().await;
    world.claim(&plain).await;
    world.end(&plain, "success").await;
    assert_eq!(world.env.run(&["runs", "wait", &plain]).await.expect_code(0).out, "success\n");
}

#[tokio::test]
async fn wait_fails_with_the_run_and_with_the_time_and_shows_the_last_events() {
    let world = World::start().await;
    let id = world.build().await;
    let late = world.env.run(&["runs", "wait", &id, "--timeout", "0.3", "--interval", "0.1"]).await.expect_code(1);
    assert!(late.out.is_empty() && late.err.contains("not finished after 0.3 s: it is queued"), "{}", late.err);
    assert!(late.err.contains("Run queued"), "{}", late.err);
    world.claim(&id).await;
    for n in 0..5 {
        world.execute(&format!("select ops.note_event('{id}', 1, 'info', 'step {n}', '{{}}', null)")).await;
    }
    world.end(&id, "failed").await;
    let failed = world.env.run(&["runs", "wait", &id]).await.expect_code(1);
    assert!(failed.out.is_empty() && failed.err.contains("failed: no such image"), "{}", failed.err);
    assert_eq!(failed.err.lines().count(), 6, "the last five events: {}", failed.err);
    assert!(failed.err.contains("step 1") && !failed.err.contains("step 0"), "{}", failed.err);
    let cancelled = world.build().await;
    world.env.run(&["runs", "cancel", &cancelled]).await.expect_code(0);
    world.env.run(&["runs", "wait", &cancelled]).await.expect_code(1).expect_text("cancelled");
}

/// The database is away for those who ask, by another name.
async fn rename(world: &World, from: &str, to: &str) {
    let mut c = world.server.connect_options().database("postgres").connect().await.expect("a connection");
    let deadline = Instant::now() + binary::DEADLINE;
    loop {
        let end = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{from}'");
        c.execute(AssertSqlSafe(end)).await.expect("ended");
        match c.execute(AssertSqlSafe(format!("alter database {from} rename to {to}"))).await {
            Ok(_) => return,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

#[tokio::test]
async fn who_waits_is_told_once_that_the_database_is_away_and_once_that_it_is_back() {
    let world = World::start().await;
    let id = world.build().await;
    world.claim(&id).await;
    let commands = [&["runs", "wait", &*id, "--interval", "0.05"][..], &["runs", "logs", "-f", &id]];
    let folder = tempfile::tempdir().expect("a folder");
    let started = commands.map(|arguments| {
        let path = folder.path().join(arguments[1]);
        let out = std::fs::File::create(&path).expect("a file");
        (path, world.env.start_printing_to(arguments, out))
    });
    let ask_each = "select count(distinct pid) >= 2 from pg_stat_activity
        where application_name = 'ops-controller' and datname = current_database() and query like '%ops.run%'";
    let [(wait, mut waiting), (logs, mut following)] = started;
    until_printed(&world, &mut waiting, "both ask", ask_each).await;
    let until_said = async |said: &str| {
        let deadline = Instant::now() + binary::DEADLINE;
        while ![&wait, &logs].iter().all(|path| std::fs::read_to_string(path).expect("a file").contains(said)) {
            assert!(Instant::now() < deadline, "never {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    rename(&world, &world.name, "gone").await;
    until_said("it is waited for").await;
    rename(&world, "gone", &world.name).await;
    until_said("the ops database is back").await;
    world.end(&id, "success").await;
    for (path, running) in [(&wait, &mut waiting), (&logs, &mut following)] {
        running.output().await.expect_code(0);
        let said = std::fs::read_to_string(path).expect("a file");
        for once in ["it is waited for", "is back"] {
            assert_eq!(said.matches(once).count(), 1, "{said}");
        }
    }
}

#[tokio::test]
async fn the_phase_that_failed_is_shown_and_why_and_what_an_attempt_before_has_said() {
    let world = World::start().await;
    let id = world.build().await;
    world.claim(&id).await;
    world.execute(&format!("select ops.begin_phase('{id}', 1, 'beside', 2)")).await;
    world.execute(&format!("select ops.end_phase('{id}', 1, 'build_image', 'failed', null, 'boom')")).await;
    world.execute(&format!("select ops.end_phase('{id}', 1, 'beside', 'success', '{{}}', null)")).await;
    world.execute(&format!("update ops.runs set backoff_seconds = 0 where run_id = '{id}'")).await;
    world.end(&id, "retry").await;
    world.execute(&format!("update ops.runs set error = 'no room' where run_id = '{id}'")).await;
    world.execute("select ops.claim_runs('w1', '{build}', 1, '1 hour')").await;
    let shown = world.env.run(&["runs", "show", &id]).await.expect_code(0).out;
    assert!(shown.contains("\nlast error       no room") && !shown.contains("\nerror "), "{shown}");
    assert!(!shown.contains("not before"), "{shown}");
    let error = format!("array['{}']::text[]", "Phase build_image failed: ".to_owned() + &"long ".repeat(40));
    world.execute(&format!("select ops.finish_runs('{{{id}}}', '{{2}}', '{{failed}}', '{{null}}', {error})")).await;
    let shown = world.env.run(&["runs", "show", &id]).await.expect_code(0).out;
    assert!(
        shown.contains("\nerror            Phase build_image failed: long long") && !shown.contains("not before"),
        "{shown}"
    );
    let listed = world.env.run(&["runs", "list"]).await.expect_code(0).out;
    let line = listed.lines().nth(1).expect("a run");
    assert!(line.contains("build_image  long long") && line.ends_with('…') && line.len() < 250, "{listed}");
    let queued = world.ask("select to_char(queued_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') from ops.runs").await;
    assert!(line.contains(&format!("{queued}Z")), "{listed}");
}

#[tokio::test]
async fn a_backup_that_failed_has_its_run_and_no_path_and_a_token_whose_time_is_over_is_marked() {
    let world = World::start().await;
    let backup = world.ask("select backup_id from ops.create_backup('shop', 'dev', 'manual')").await;
    let run = world.ask("select run_id from ops.backups").await;
    world.env.run(&["runs", "cancel", &run]).await.expect_code(0);
    let listed = world.env.run(&["backups", "list"]).await.expect_code(0).out;
    let line = listed.lines().nth(1).expect("a backup");
    assert!(line.starts_with(&backup) && line.contains(&run) && line.ends_with("  -"), "{listed}");
    assert!(!line.contains("pending"), "{listed}");
    world.env.run(&["token", "create", "--name", "old", "--scope", "admin", "--expires", "1h"]).await.expect_code(0);
    world
        .execute("update ops.api_tokens set created_at = now() - interval '2 h', expires_at = now() - interval '1 h'")
        .await;
    let listed = world.env.run(&["token", "list"]).await.expect_code(0).out;
    assert!(listed.lines().nth(1).is_some_and(|line| line.contains("  expired 2")), "{listed}");
}

#[tokio::test]
async fn logs_can_be_followed_to_the_end() {
    let world = World::start().await;
    let id = world.build().await;
    let mut following = world.env.start(&["runs", "logs", "-f", &id]);
    until_printed(&world, &mut following, "it follows", IS_ASKED).await;
    world.claim(&id).await;
    world.end(&id, "success").await;
    let ended = following.output().await.expect_code(0);
    let told = ["Run queued", "Run claimed by worker", "Starting phase: build_image", "Run finished: success"];
    let lines: Vec<_> = ended.out.lines().collect();
    assert!(lines.len() == 4 && lines.iter().zip(told).all(|(line, told)| line.contains(told)), "{}", ended.out);
}

#[tokio::test]
async fn a_token_is_shown_once_on_standard_output_alone_and_only_its_hash_is_kept() {
    let world = World::start().await;
    let create =
        ["token", "create", "--name", "ci", "--scope", "runs:read", "--scope", "runs:write", "--expires", "90d"];
    let made = world.env.run(&create).await.expect_code(0);
    let secret = made.out.trim();
    assert!(tokens::is_well_formed(secret) && made.out.lines().count() == 1, "{}", made.out);
    assert!(!made.err.contains(secret));
    let kept = world.ask("select t::text from ops.api_tokens t").await;
    assert!(!kept.contains(&secret[4..]), "{kept}");
    let mut c = world.address.connect().await.expect("a connection");
    let found = tokens::find(&mut c, &tokens::digest(secret)).await.expect("an answer").expect("the token");
    assert_eq!((found.name.as_str(), found.scopes.len()), ("ci", 2));
    world.env.run(&create).await.expect_code(1).expect_text("a token named ci is in use");
    let listed = world.env.run(&["token", "list"]).await.expect_code(0).out;
    assert!(listed.contains("runs:read,runs:write") && !listed.contains(&secret[4..]), "{listed}");
    let json = world.env.run(&["token", "list", "--json"]).await.expect_code(0).out;
    let days = "select extract(day from expires_at - created_at) from ops.api_tokens";
    assert_eq!((json.contains("\"ci\""), world.ask(days).await.as_str()), (true, "90"));
    world.env.run(&["token", "revoke", "ci"]).await.expect_code(0).expect_text("revoked ci");
    assert_eq!(tokens::find(&mut c, &tokens::digest(secret)).await.expect("an answer"), None);
    world.env.run(&["token", "revoke", "ci"]).await.expect_code(1).expect_text("there is no token named ci");
    assert!(!world.env.run(&["token", "list"]).await.expect_code(0).out.contains("ci "));
    for (arguments, said) in [
        (&["token", "create", "--name", "x"][..], "--scope"),
        (&["token", "create", "--name", "x", "--scope", "root"], "runs:read, runs:write, runner, admin"),
        (&["token", "create", "--name", "x", "--scope", "admin", "--expires", "90"], "90d"),
        (&["token", "create", "--name", " ", "--scope", "admin"], "name is given"),
    ] {
        world.env.run(arguments).await.expect_code(64).expect_text(said);
    }
}

#[tokio::test]
async fn a_database_that_takes_connections_and_says_nothing_is_called_that() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let place = silent.local_addr().expect("an address");
    let env = Environment::default().with("OPS_DATABASE_URL", format!("postgresql://ops:canary-pass@{place}/ops"));
    for command in [&["runs", "list"][..], &["migrate"]] {
        let ended = env.run(command).await.expect_code(1);
        let ended = ended.expect_text(&format!("no answer within 5.0 s from {place} of OPS_DATABASE_URL"));
        assert!(!ended.all().contains("canary"), "{}", ended.all());
    }
}

#[tokio::test]
async fn a_run_that_waits_for_nobody_is_said_to() {
    let world = World::start().await;
    world.execute("update ops.runners set last_seen = now()").await;
    let id = world.build().await;
    let nobody = "no living runner works on build";
    let wait = ["runs", "wait", &id, "--timeout", "1", "--interval", "1"];
    for command in [&["kinds", "list"][..], &["runs", "show", &id], &wait] {
        let ended = world.env.run(command).await;
        assert!(!ended.all().contains(nobody), "somebody does: {}", ended.all());
    }
    for gone in ["stopped_at = now()", "stopped_at = null, last_seen = now() - interval '3 minutes'"] {
        world.execute(&format!("update ops.runners set {gone}")).await;
        for command in [&["kinds", "list"][..], &["runs", "show", &id], &wait] {
            world.env.run(command).await.expect_text(nobody);
        }
        let kinds = world.env.run(&["kinds", "list", "--json"]).await.expect_code(0).out;
        assert_eq!(serde_json::from_str::<Value>(&kinds).expect("JSON")[0]["runners"], 0);
    }
}

#[tokio::test]
async fn doctor_checks_a_runner_that_has_no_controller_beside_it() {
    let world = World::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let good = world.env.run(&["doctor"]).await.expect_code(0);
    for text in ["ok  OPS_DATABASE_URL: PostgreSQL at 127.0.0.1:", "ok  schema ops: up to date", "works on custom; "] {
        assert!(good.out.contains(text), "{}", good.out);
    }
    assert!(!good.all().contains("DIGITALOCEAN"), "{}", good.all());
    let target = world.env.get("OPS_DATABASE_URL").to_owned();
    let full = world.env.clone().with("TARGET_DATABASE_URL", &target);
    let kept = folder.path().join("kept");
    std::fs::create_dir(&kept).expect("made");
    let full = full.with("ARTIFACT_STORE", kept.display().to_string()).with("RUNNER_COMMANDS", "true=/bin/true");
    let good = full.run(&["doctor"]).await.expect_code(0);
    for what in ["ARTIFACT_STORE", "TARGET_DATABASE_URL", "pg_dump", "pg_restore", "RUNNER_COMMANDS", "RUNNER_KINDS"] {
        assert!(good.out.contains(&format!("ok  {what}: ")), "{what}: {}", good.out);
    }
    assert_eq!(std::fs::read_dir(&kept).expect("the store").count(), 0, "nothing is left behind");
    for (name, value, told) in [
        (
            "OPS_DATABASE_URL",
            "postgresql://ops:canary-pass@127.0.0.1:1/ops",
            "BAD OPS_DATABASE_URL: the ops database: ",
        ),
        ("TARGET_DATABASE_URL", "postgresql://ops:canary-pass@127.0.0.1:1/ops", "BAD TARGET_DATABASE_URL: "),
        ("ARTIFACT_STORE", "/proc/none/kept", "BAD ARTIFACT_STORE: /proc/none/kept cannot be made"),
        ("RUNNER_COMMANDS", "x=/no/such/program", "BAD RUNNER_COMMANDS: has x=/no/such/program, which does not exist"),
        ("RUNNER_KINDS", "buidl", "BAD RUNNER_KINDS: names buidl; there are "),
        ("RUNNER_CONCURENCY", "3", "BAD RUNNER_CONCURENCY: is not a variable"),
        ("GITHUB_TOKEN", "canary-token", "BAD GitHub: "),
    ] {
        let one = full.clone().with("GITHUB_API_URL", "http://127.0.0.1:1").with(name, value);
        let ended = one.run(&["doctor"]).await.expect_code(1).expect_text(told).expect_text("1 of ");
        assert!(!ended.all().contains("canary"), "{}", ended.all());
    }
}

/// The simulated one, which refuses what it does not know.
#[tokio::test]
async fn doctor_says_whether_github_takes_the_token() {
    let world = World::start().await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let github = GitHub::start(GitHubOptions::default()).await.expect("GitHub");
    let env = world.env.clone().with("GITHUB_API_URL", github.url()).with("ARTIFACT_STORE", "/tmp");
    let right = env.clone().with("GITHUB_TOKEN", github.options().token.clone());
    right.run(&["doctor"]).await.expect_code(0).expect_text("ok  GITHUB_TOKEN: accepted by ");
    let wrong = env.with("GITHUB_TOKEN", "canary-token").run(&["doctor"]).await.expect_code(1);
    let wrong = wrong.expect_text("BAD GITHUB_TOKEN: missing, wrong, expired or revoked");
    assert!(!wrong.all().contains("canary"), "{}", wrong.all());
}
