//! The schema `ops`: how it is reached, and how it is brought up to date.

use super::{RunsError, told};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Executor, Row};
use std::str::FromStr;
use std::time::Duration;

/// Tables are made once, and may wait for another program that makes them.
pub const MIGRATE_TIMEOUT: Duration = Duration::from_secs(30);
/// A statement here touches a few rows by an index; what takes longer has gone wrong.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How the database is reached; the URL is never shown.
#[derive(Clone)]
pub struct Address(PgConnectOptions);

impl Address {
    /// From a URL that the configuration has checked.
    pub fn from_url(url: &str, application: &str) -> Result<Address, RunsError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_| RunsError::Invalid("OPS_DATABASE_URL cannot be read as a PostgreSQL address".to_owned()))?;
        Ok(Address(options.disable_statement_logging().application_name(application)))
    }

    pub fn options(&self) -> &PgConnectOptions {
        &self.0
    }

    /// Host and port, which may be shown; nothing else of it may.
    pub fn place(&self) -> String {
        match self.0.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", self.0.get_host(), self.0.get_port()),
        }
    }

    pub async fn connect(&self) -> Result<PgConnection, RunsError> {
        self.connect_for(STATEMENT_TIMEOUT).await
    }

    /// For questions that are given up after this time: the server gives them up then, too, so that
    /// nothing of them happens later.
    pub async fn connect_for(&self, limit: Duration) -> Result<PgConnection, RunsError> {
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, async {
            let mut connection = self.0.connect().await.map_err(|error| self.unreachable(&error))?;
            let set = connection.execute(sqlx::AssertSqlSafe(session(limit))).await;
            set.map(|_| connection).map_err(|error| self.failed(error))
        });
        opened.await.map_err(|_| self.silent(CONNECT_TIMEOUT))?
    }

    fn unreachable(&self, error: &sqlx::Error) -> RunsError {
        RunsError::Unavailable(self.why_unreachable(error))
    }

    /// Why it cannot be connected to, and what to do.
    pub fn why_unreachable(&self, error: &sqlx::Error) -> String {
        let place = self.place();
        let code = match error {
            sqlx::Error::Database(error) => error.code().map(|code| code.into_owned()).unwrap_or_default(),
            _ => String::new(),
        };
        let told = told(error);
        match code.as_str() {
            "" => format!(
                "{told}; check host and port in OPS_DATABASE_URL ({place}), and that it accepts connections from here"
            ),
            "3D000" => format!("{told} at {place}: correct the name at the end of OPS_DATABASE_URL"),
            code if code.starts_with("28") => format!(
                "PostgreSQL at {place} refused the user or password: correct both in OPS_DATABASE_URL (percent-encode \
                 special characters in the password)"
            ),
            _ => format!("PostgreSQL at {place} of OPS_DATABASE_URL: {told}"),
        }
    }

    /// A question that failed; when it was not the question's fault, with the place.
    pub(super) fn failed(&self, error: sqlx::Error) -> RunsError {
        match RunsError::from(error) {
            RunsError::Unavailable(why) => {
                RunsError::Unavailable(format!("{why} ({} of OPS_DATABASE_URL)", self.place()))
            }
            refused => refused,
        }
    }

    /// It takes connections, perhaps, and says nothing.
    pub(super) fn silent(&self, limit: Duration) -> RunsError {
        RunsError::Unavailable(self.why_silent(limit))
    }

    pub fn why_silent(&self, limit: Duration) -> String {
        format!("no answer within {:.1} s from {} of OPS_DATABASE_URL", limit.as_secs_f64(), self.place())
    }

    /// Connects when it is first used. `largest`: connections at once.
    pub fn pool(&self, largest: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(largest)
            .acquire_timeout(CONNECT_TIMEOUT)
            .idle_timeout(Duration::from_secs(60))
            // A statement on a dead connection fails just as well, and one on a live one is not slowed.
            .test_before_acquire(false)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute(sqlx::AssertSqlSafe(session(STATEMENT_TIMEOUT))).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(self.0.clone())
    }

    /// Brings the schema up to date; returns how many migrations are in force. On a thread of its own,
    /// because the migrator's future cannot be sent to another one.
    pub async fn migrate(&self) -> Result<usize, RunsError> {
        let (address, runtime) = (self.clone(), tokio::runtime::Handle::current());
        let work = move || runtime.block_on(tokio::time::timeout(MIGRATE_TIMEOUT, address.migrate_here()));
        let waited = |_| RunsError::Unavailable(format!("its tables were not made within {MIGRATE_TIMEOUT:?}"));
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| RunsError::Unavailable("its tables were not made, see the log".to_owned()))?.map_err(waited)?
    }

    async fn migrate_here(&self) -> Result<usize, RunsError> {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.0.connect()).await;
        let connected = connected.map_err(|_| self.silent(CONNECT_TIMEOUT))?;
        let mut c = connected.map_err(|error| self.unreachable(&error))?;
        migrate(&mut c).await.map_err(|e| RunsError::Unavailable(migration_told(&e)))
    }
}

/// `set` rather than startup parameters: poolers refuse unknown ones. Without just-in-time compilation,
/// which pays for reports and costs a claim from a long queue a tenth of a second.
fn session(limit: Duration) -> String {
    let millis = limit.as_millis().max(1);
    format!("set statement_timeout = {millis}; set lock_timeout = {millis}; set timezone = 'UTC'; set jit = off")
}

/// The program's migrations, on a connection that is not used for anything else afterwards.
pub async fn migrate(c: &mut PgConnection) -> Result<usize, sqlx::migrate::MigrateError> {
    // Whoever is frozen in here holds a lock on the migrations; the server ends its session.
    for setting in ["idle_session_timeout", "idle_in_transaction_session_timeout"] {
        sqlx::query("select set_config(name, $2, false) from pg_settings where name = $1")
            .bind(setting)
            .bind(format!("{}s", MIGRATE_TIMEOUT.as_secs()))
            .execute(&mut *c)
            .await?;
    }
    // `create schema if not exists` asks for the right to create even where there is nothing to do.
    let there: bool = sqlx::query("select to_regnamespace('ops') is not null").fetch_one(&mut *c).await?.try_get(0)?;
    if !there {
        // Another program may make it at this moment.
        c.execute("create schema if not exists ops").await?;
    }
    let mut migrator = migrator();
    // An older program that is put back must not be locked out by what a newer one has added.
    migrator.set_ignore_missing(true);
    // Beside our tables: another program in the same database has a table of that name in `public`.
    migrator.dangerous_set_table_name("ops._sqlx_migrations");
    migrator.run(c).await?;
    Ok(migrator.iter().count())
}

fn migrator() -> sqlx::migrate::Migrator {
    sqlx::migrate!("./migrations")
}

/// How far the schema has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Migrations in force, and those that this program has.
    pub applied: i64,
    pub known: i64,
    /// What must be done by hand before the rest can be applied.
    pub hindrance: Option<String>,
}

pub async fn state(c: &mut PgConnection) -> Result<State, sqlx::Error> {
    // Of the catalog: whoever may not use the schema may not ask for its tables by name.
    let sql = "select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                              where n.nspname = 'ops' and c.relname = '_sqlx_migrations'), current_user::text, current_database()::text,
                      pg_is_in_recovery(),
                      case when to_regnamespace('ops') is null
                           then has_database_privilege(current_database(), 'create')
                           else has_schema_privilege('ops', 'create, usage') end";
    let row = sqlx::query(sql).fetch_one(&mut *c).await?;
    let (role, database): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    let (is_standby, may): (bool, bool) = (row.try_get(3)?, row.try_get(4)?);
    let hindrance = match (is_standby, may) {
        (true, _) => Some("this server is a standby: use the primary".to_owned()),
        (_, false) => Some(format!(
            "role {role} may not make the schema ops: `grant create on database \"{database}\" to \"{role}\"`"
        )),
        _ => None,
    };
    let applied = match row.try_get::<bool, _>(0)? && hindrance.is_none() {
        true => {
            sqlx::query("select count(*) from ops._sqlx_migrations where success").fetch_one(c).await?.try_get(0)?
        }
        false => 0,
    };
    let known = i64::try_from(migrator().iter().count()).unwrap_or(i64::MAX);
    Ok(State { applied, known, hindrance })
}

/// Without address and password.
pub fn migration_told(error: &sqlx::migrate::MigrateError) -> String {
    use sqlx::migrate::MigrateError;
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            format!("its tables could not be made: {}", told(error))
        }
        error => format!("its tables could not be made: {error}"),
    }
}
