//! The server that all tests share, and a database of it for each of them.

use crate::binary::{Ended, Environment};
use crate::postgres;
use ops_controller::sandbox::postgres::{Cluster, SUPERUSER};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row, ValueRef};
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// Two projects, their environments, people of each role in the first, and who logs in.
const PEOPLE: &str = "
    insert into ops.projects (project_id, name, repo_slug) values ('shop', 'Shop', 'org/shop'), ('bank', 'Bank', 'org/bank');
    insert into ops.environments (env_id, project_id, env_type, config) values
        ('shop-dev', 'shop', 'dev', '{}'), ('shop-staging', 'shop', 'staging', '{}'), ('shop-prod', 'shop', 'prod', '{}'),
        ('bank-dev', 'bank', 'dev', '{\"secret\": \"of the bank\"}');
    insert into ops.project_members (project_id, user_id, role_id) values
        ('shop', 'olga', 'owner'), ('shop', 'oleg', 'owner'), ('shop', 'adam', 'admin'), ('shop', 'dora', 'developer'),
        ('shop', 'vera', 'viewer'), ('shop', 'aude', 'auditor'), ('bank', 'otto', 'owner');
    create role gateway login in role ops_member;
    create role worker login in role ops_runner;
    create role stranger login;
";

/// A cluster for roles to be made in; everybody may log in.
pub async fn cluster() -> Cluster {
    Cluster::create(postgres::options()).await.expect("a PostgreSQL")
}

/// The program's own way to bring a database up to date.
pub async fn migrate(url: &str) -> Ended {
    let pairs = [("OPS_DATABASE_URL".to_owned(), url.to_owned())];
    Environment::new(pairs).run(&["migrate"]).await
}

/// A database of one test, and a session of its owner.
pub struct Db {
    pub server: Arc<Cluster>,
    pub name: String,
    session: Session,
}

impl Db {
    pub async fn new() -> Db {
        Db::like(postgres::MIGRATED).await
    }

    pub async fn like(template: &str) -> Db {
        let server = postgres::server(PEOPLE).await;
        let name = postgres::database(&server, template).await;
        let session = Session::of(server.connect_options().database(&name)).await;
        Db { server, name, session }
    }

    pub fn url(&self) -> String {
        self.url_of(SUPERUSER)
    }

    pub fn url_of(&self, role: &str) -> String {
        self.server
            .url_as(role, self.server.password())
            .replace(&format!("/{}", postgres::MIGRATED), &format!("/{}", self.name))
    }

    /// A session of somebody else.
    pub async fn login(&self, role: &str) -> Session {
        Session::of(self.server.connect_options().database(&self.name).username(role)).await
    }

    /// A session of the gateway that speaks for this person.
    pub async fn person(&self, user: &str) -> Session {
        let mut session = self.login("gateway").await;
        session.ask(&format!("select set_config('ops.user_id', '{user}', false)")).await;
        session
    }

    pub async fn ask(&mut self, sql: &str) -> String {
        self.session.ask(sql).await
    }

    pub async fn refused(&mut self, sql: &str) -> String {
        self.session.refused(sql).await
    }

    /// What psql does with this text, stopping at the first error.
    pub async fn psql(&self, sql: &str) -> Finished {
        psql(&self.url(), sql).await
    }

    /// Queues a build for shop's dev that takes no turns, so that a test may hold several; its id.
    pub async fn queued(&mut self) -> String {
        let run = self.ask("select run_id from ops.queue_run('shop', 'dev', 'abc123', 'refs/heads/main')").await;
        self.ask(&format!("update ops.runs set concurrency_key = null where run_id = '{run}'")).await;
        run
    }

    /// The same, claimed by `w1`.
    pub async fn claimed(&mut self) -> String {
        let run = self.queued().await;
        assert_eq!(self.ask("select run_id from ops.claim_next_run('w1')").await, run);
        run
    }

    /// Moves what a claim has left into the past.
    pub async fn lease_runs_out(&mut self, run: &str) {
        self.ask(&format!("update ops.runs set lease_expires_at = now() - interval '1 s' where run_id = '{run}'"))
            .await;
    }
}

pub struct Session(PgConnection);

impl Session {
    async fn of(options: PgConnectOptions) -> Session {
        Session(options.connect().await.expect("a connection"))
    }

    /// All rows of the statements, as `psql -At` prints them.
    pub async fn ask(&mut self, sql: &str) -> String {
        self.try_ask(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// `SQLSTATE: message` of the error that it ends with.
    pub async fn refused(&mut self, sql: &str) -> String {
        match self.try_ask(sql).await {
            Ok(rows) => panic!("{sql} was not refused: {rows}"),
            Err(error) => error,
        }
    }

    async fn try_ask(&mut self, sql: &str) -> Result<String, String> {
        let told = |error: sqlx::Error| match error.as_database_error() {
            Some(error) => format!("{}: {}", error.code().unwrap_or_default(), error.message()),
            None => error.to_string(),
        };
        let rows = self.0.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.map_err(told)?;
        // Unprepared statements answer in text, whatever the type.
        let field = |row: &sqlx::postgres::PgRow, i| {
            let value = row.try_get_raw(i).expect("a field");
            if value.is_null() { String::new() } else { value.as_str().expect("text").to_owned() }
        };
        let line = |row: &sqlx::postgres::PgRow| (0..row.len()).map(|i| field(row, i)).collect::<Vec<_>>().join("|");
        Ok(rows.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}

/// What psql left.
pub struct Finished {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl Finished {
    #[track_caller]
    pub fn well(self) -> String {
        assert!(self.ok, "psql: {}", self.err);
        self.out.trim().to_owned()
    }
}

pub async fn psql(url: &str, sql: &str) -> Finished {
    run("psql", &["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", url], sql).await
}

pub async fn run(program: &str, arguments: &[&str], input: &str) -> Finished {
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{program} (package postgresql-client): {e}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let write = async move {
        // A program that stops reading says why itself.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
    };
    let both = async { tokio::join!(write, child.wait_with_output()).1 };
    let output = tokio::time::timeout(crate::binary::DEADLINE, both).await.expect("in time").expect("its output");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Finished { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}
