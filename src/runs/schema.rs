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

    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.connect_for(STATEMENT_TIMEOUT).await
    }

    /// For questions that are given up after this time: the server gives them up then, too, so that
    /// nothing of them happens later.
    pub async fn connect_for(&self, limit: Duration) -> Result<PgConnection, sqlx::Error> {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.0.connect()).await;
        let mut connection = connected.map_err(|_| sqlx::Error::PoolTimedOut)??;
        connection.execute(sqlx::AssertSqlSafe(session(limit))).await?;
        Ok(connection)
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
        let connected = self.0.connect().await;
        let mut c = connected.map_err(|e| RunsError::Unavailable(format!("it cannot be reached: {}", told(&e))))?;
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
    let mut migrator = sqlx::migrate!("./migrations");
    // An older program that is put back must not be locked out by what a newer one has added.
    migrator.set_ignore_missing(true);
    // Beside our tables: another program in the same database has a table of that name in `public`.
    migrator.dangerous_set_table_name("ops._sqlx_migrations");
    migrator.run(c).await?;
    Ok(migrator.iter().count())
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
