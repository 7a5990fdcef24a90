//! What a story's runs meet: a database of their own, GitHub and Railway behind echoes, projects.

use super::echo::{Echo, WAYS};
use crate::binary::{DEADLINE, Environment};
use crate::canaries::{self, Canary};
use crate::world::World;
use ops_controller::runs::{NewRun, queue};
use ops_controller::sandbox::github::{GitHub, GitHubOptions};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub const SHA: &str = "0123456789abcdef0123456789abcdef01234567";
/// What a program's output is kept to, and how much of a token's end is to be just inside.
const KEPT: usize = 16 << 10;
const END: usize = 20;

/// A deployment of runs: what is its own is called by its name.
pub struct Runs<'a> {
    pub world: &'a World,
    pub name: &'static str,
    pub github: GitHub,
    github_echo: Echo,
    railway_echo: Echo,
    /// Repeats what it is sent, and tells all secrets of the configuration besides.
    pub service: Echo,
    pub env: Environment,
}

/// Secrets that users write into environments and runs: where they wrote them they stand.
pub fn of_users() -> Vec<Canary> {
    let names = [
        "header of a phase",
        "header of a hook",
        "header of a check",
        "address of a phase",
        "address of a hook",
        "variable of a service",
    ];
    names.iter().map(|name| canaries::of_users(name)).collect()
}

pub fn user(name: &str) -> String {
    let all = of_users();
    all.into_iter().find(|canary| canary.name == name).expect("a canary").value
}

impl<'a> Runs<'a> {
    /// The database is a copy of `ops`, which is migrated already.
    pub async fn new(world: &'a World, name: &'static str) -> Runs<'a> {
        let github = GitHubOptions { token: canaries::value("GITHUB_TOKEN"), ..GitHubOptions::default() };
        let github = GitHub::start(github).await.expect("GitHub");
        let github_echo = Echo::start(Some(github.url()), &[]).await;
        let railway_echo = Echo::start(Some(world.sandbox.railway.url()), &[]).await;
        // Those of the variables come first.
        let told = world.canaries.iter().take(canaries::of_variables().len());
        let told: Vec<String> = told.map(|canary| canary.value.clone()).collect();
        let service = Echo::start(None, &told).await;
        let target = format!("target_{name}");
        world.sandbox.postgres.create_role(&target, &canaries::value("TARGET_DATABASE_URL")).await.expect("a role");
        world.sql(&format!("create database shop_{name} owner {target}")).await;
        world.sql(&format!("create database ops_{name} template ops owner canary_ops")).await;
        let host = format!("127.0.0.1:{}", world.sandbox.postgres.port());
        let url = |variable: &str, role: &str, database: &str| {
            canaries::database_url(variable, role, &format!("{host}/{database}"))
        };
        let ops_url = url("OPS_DATABASE_URL", "canary_ops", &format!("ops_{name}"));
        let target_url = url("TARGET_DATABASE_URL", &target, "postgres");
        std::fs::create_dir_all(world.beside(name)).expect("a folder");
        let programs = programs(world, name);
        let env = world
            .env
            .clone()
            .with("OPS_DATABASE_URL", ops_url)
            .with("TARGET_DATABASE_URL", &target_url)
            .with("GITHUB_API_URL", &github_echo.url)
            .with("RAILWAY_API_URL", &railway_echo.url)
            .with("RUNNER_COMMANDS", programs)
            .with("OPS_PG_BIN", postgres_programs(world, name))
            .with("RUNNER_POLL_INTERVAL", "100ms")
            .with("RUNNER_CONCURRENCY", "40")
            .with("STATE_FILE", world.beside(&format!("{name}/state/state.json")).display().to_string())
            .with("ARTIFACT_STORE", world.beside(&format!("{name}/store")).display().to_string());
        let runs = Runs { world, name, github, github_echo, railway_echo, service, env };
        // The server itself tells the address and the password, as a driver in the database might.
        let password = canaries::value("TARGET_DATABASE_URL");
        runs.in_database(&format!("shop_{name}"), &format!(
            "create table people (id int); insert into people values (1); grant all on people to {target};
             alter table people owner to {target};
             create function tells() returns int language plpgsql as $f$ begin
                raise exception '%', 'no connection to {target_url} with {password}' using detail = '{password}'; end $f$;
             create function notes() returns int language plpgsql as $f$ begin
                raise warning '%', 'connected to {target_url} with {password}'; return 1; end $f$;
             alter function tells() owner to {target}; alter function notes() owner to {target};"
        ))
        .await;
        runs.execute("alter table ops.runs alter column backoff_seconds set default 0").await;
        runs
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        self.world.beside(&format!("{}/{name}", self.name))
    }

    /// Which echoes were heard, of whom.
    pub fn assert_echoes(&self, of_store: bool) {
        let of = |status: u16| WAYS.map(|way| format!("{status}-{way}"));
        let refused = || ["401-raw".to_owned()];
        assert_eq!(self.github_echo.seen(), BTreeSet::from(of(422)));
        let railway: BTreeSet<String> = of(200).into_iter().chain(refused()).collect();
        assert_eq!(self.railway_echo.seen(), railway);
        let store = of_store.then(|| "403-raw".to_owned());
        assert_eq!(self.service.seen(), railway.into_iter().chain(store).collect());
    }

    /// Where the service answers with all that it knows.
    pub fn echo(&self, status: u16, way: &str) -> String {
        format!("{}/echo-{status}-{way}", self.service.url)
    }

    pub fn railway(&self, service: &str) -> Value {
        let railway = &self.world.sandbox.railway;
        json!({ "railway": {
            "project_id": railway.project_id(), "environment_id": railway.environment_id(),
            "service": format!("{service}-{}", self.name),
        } })
    }

    pub fn workflow(&self, git_ref: &str) -> Value {
        json!({ "github": { "repository": "acme/app", "workflow": "build.yml", "ref": git_ref } })
    }

    /// A project with one environment.
    pub async fn project(&self, name: &str, config: Value) {
        let database = format!("shop_{}", self.name);
        self.execute(&format!(
            "insert into ops.projects (project_id, name) values ('{name}', '{name}');
             insert into ops.environments (env_id, project_id, env_type, db_name, config)
             values ('{name}-dev', '{name}', 'dev', '{database}', $config${config}$config$)"
        ))
        .await;
    }

    pub async fn build(&self, project: &str) -> String {
        self.ask(&format!("select run_id from ops.queue_run('{project}', 'dev', '{SHA}', 'main')")).await
    }

    pub async fn queue(&self, run: &NewRun) -> String {
        let mut c = self.connection(&format!("ops_{}", self.name)).await;
        let queued = queue::enqueue(&mut c, run).await.expect("queued");
        c.close().await.expect("closed");
        queued.run_id
    }

    async fn connection(&self, database: &str) -> PgConnection {
        self.world.sandbox.postgres.connect_options().database(database).connect().await.expect("a connection")
    }

    async fn in_database(&self, database: &str, sql: &str) {
        let mut c = self.connection(database).await;
        c.execute(AssertSqlSafe(sql.to_owned())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        c.close().await.expect("closed");
    }

    pub async fn execute(&self, sql: &str) {
        self.in_database(&format!("ops_{}", self.name), sql).await;
    }

    /// One text; empty for null.
    pub async fn ask(&self, sql: &str) -> String {
        let mut c = self.connection(&format!("ops_{}", self.name)).await;
        let row = c.fetch_one(AssertSqlSafe(format!("select ({sql})::text"))).await;
        let text = row.unwrap_or_else(|error| panic!("{sql}: {error}")).get::<Option<String>, _>(0);
        c.close().await.expect("closed");
        text.unwrap_or_default()
    }

    pub async fn until(&self, what: &str, sql: &str) {
        let deadline = Instant::now() + DEADLINE;
        while self.ask(sql).await != "true" {
            if Instant::now() > deadline {
                let runs =
                    "select string_agg(concat_ws(' ', run_id, kind, project_id, status, error), E'\n') from ops.runs";
                panic!("in {DEADLINE:?} not: {what}\n{}", self.ask(runs).await);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Everything in the database, as PostgreSQL's own program writes it.
    pub async fn dump(&self) -> Vec<u8> {
        let url = self.world.sandbox.postgres.url().replace("/railway", &format!("/ops_{}", self.name));
        let output = tokio::process::Command::new("pg_dump").args(["--inserts", "-d", &url]).output().await;
        let output = output.expect("pg_dump (package postgresql-client)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

fn script(world: &World, name: &str, text: &str) -> String {
    let path = world.file(name, &format!("#!/bin/sh\n{text}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

/// What PostgreSQL's programs were started with: everybody on the machine can see it.
pub const ARGUMENTS: &str = "arguments";

/// The real ones, which note how they are started.
fn postgres_programs(world: &World, name: &str) -> String {
    let folder = world.beside(&format!("{name}/bin"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let noted = world.beside(&format!("{name}/{ARGUMENTS}")).display().to_string();
    for program in ["pg_dump", "pg_restore"] {
        let real = format!("$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)/{program}");
        let text = format!("tr '\\000' ' ' < /proc/$$/cmdline >> {noted}; echo >> {noted}; exec {real} \"$@\"");
        script(world, &format!("{name}/bin/{program}"), &text);
    }
    folder.display().to_string()
}

/// Programs that tell what they should not.
fn programs(world: &World, name: &str) -> String {
    let read = "tr '\\000' '\\n' < /proc/$PPID/environ";
    let padding = KEPT - END;
    let scripts = [
        ("environment", format!("env; {read}")),
        ("breaks", format!("{read} >&2; {read} | grep ^GITHUB_TOKEN >&2; exit 3")),
        // Of a long output the end is kept, which here begins inside a token.
        ("long", format!("{read} | grep ^GITHUB_TOKEN= | tr -d '\\n'; head -c {padding} /dev/zero | tr '\\000' x")),
        ("image", format!("{read} > $OPS_RESULT")),
    ];
    let listed =
        scripts.map(|(program, text)| format!("{program}={}", script(world, &format!("{name}/{program}"), &text)));
    listed.join(",")
}
