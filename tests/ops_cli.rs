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
use sqlx::{AssertSqlSafe, Executor, Row};
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
    _server: Arc<Cluster>,
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
        World { env, address: Address::from_url(&url, "test").expect("an address"), _server: server }
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
    world.env.run(&["migrate"]).await.expect_code(0).expect_text("schema ops is up to date (8 migrations)");
    let listed = world.env.run(&["runs", "list"]).await.expect_code(0);
    assert_eq!(listed.out, "RUN  KIND  FOR  STATUS  TRY  QUEUED  FINISHED  PHASE\n");
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
    let there = ["runs", "queue", "--kind", "custom", "--project", "shop", "--env", "dev"];
    world.env.run(&there).await.expect_code(0);
    let place = "select project_id || ' ' || env_id from ops.runs where kind = 'custom'";
    assert_eq!(world.ask(place).await, "shop shop-dev");
}

#[tokio::test]
async fn what_does_not_fit_is_named_and_not_queued() {
    let world = World::start().await;
    for (arguments, said) in [
        (&["runs", "queue"][..], "--project"),
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
        (&["runs", "queue", "--kind", "mail", "--input", "[]"], "input must be an object"),
        (&["runs", "queue", "--kind", "mail", "--priority", "10"], "priority must be"),
        (&["runs", "queue", "--kind", "mail", "--run-at", "soon"], "run_at must be"),
        (&["runs", "queue", "--kind", "build"], "git_sha"),
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
    assert_eq!(cancelled.out, format!("cancelled:{id}\n"));
    let again = world.env.run(&["runs", "retry", &id]).await.expect_code(0);
    assert_eq!(again.out, format!("queued:{id}\n"));
    world.claim(&id).await;
    world.env.run(&["runs", "cancel", &id]).await.expect_code(0).expect_text(&format!("cancelling:{id}"));
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
    assert_eq!(world.env.run(&pause).await.expect_code(0).out, "paused:mail\n");
    world.env.run(&pause).await.expect_code(0).expect_text("it was before");
    assert_eq!(world.ask("select kind || ': ' || reason from ops.paused_kinds").await, "mail: too many");
    let listed = world.env.run(&["kinds", "list"]).await.expect_code(0).out;
    let line: Vec<_> = listed.lines().nth(1).expect("a kind").split_whitespace().collect();
    assert!(line[..4] == ["mail", "1", "0", "0"] && line.ends_with(&["paused"]), "{listed}");
    assert_eq!(world.env.run(&["kinds", "resume", "mail"]).await.expect_code(0).out, "resumed:mail\n");
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
    for text in [&id, &restore, "olga", "pending"] {
        assert!(listed.contains(text), "{text}: {listed}");
    }
    world.env.run(&["approvals", "approve", &id]).await.expect_code(64).expect_text("--by");
    let own = world.env.run(&["approvals", "approve", &id, "--by", "Olga"]).await;
    own.expect_code(1).expect_text("a second person must give it");
    world.env.run(&["approvals", "deny", "appr-0", "--by", "adam"]).await.expect_code(1).expect_text("does not exist");
    let queued = "select count(*) from ops.runs where kind = 'restore'";
    assert_eq!(world.ask(queued).await, "0");
    let given = world.env.run(&["approvals", "approve", &id, "--by", "adam"]).await.expect_code(0);
    assert_eq!((given.out, world.ask(queued).await.as_str()), (format!("approved:{id}\n"), "1"));
    let (restore, id) = asked().await;
    let denied = world.env.run(&["approvals", "deny", &id, "--by", "adam", "--reason", "not today"]).await;
    assert_eq!(denied.expect_code(0).out, format!("denied:{id}\n"));
    let status = format!("select status from ops.restores where restore_id = '{restore}'");
    assert_eq!(world.ask(&status).await, "cancelled");
    let (_, id) = asked().await;
    world.execute(&format!("update ops.approvals set expires_at = now() where approval_id = '{id}'")).await;
    let late = world.env.run(&["approvals", "approve", &id, "--by", "adam"]).await.expect_code(1);
    assert_eq!(late.out, format!("expired:{id}\n"));
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
    assert_eq!(ended.out, "file:///x/first\n");
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
