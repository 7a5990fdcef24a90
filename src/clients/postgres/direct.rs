//! The server itself: a fresh connection for each question, and its errors in our words.
//!
//! Deadlines on connecting, on every statement and on locks: a restarted server leaves no dead
//! connection behind, and nothing waits for ever.

use super::look;
use super::{Change, PROVIDER, Server};
use crate::clients::error::ClientError;
use crate::clients::fence::Fence;
use crate::plan::observation::DatabaseView;
use crate::plan::replication::PUBLICATION;
use crate::plan::secret::Secret;
use futures_util::future::BoxFuture;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use std::str::FromStr;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Direct {
    options: Option<PgConnectOptions>,
}

impl Direct {
    pub fn new(url: Option<&Secret>) -> Result<Direct, ClientError> {
        Ok(Direct { options: url.map(|url| parse_url(url.expose())).transpose()? })
    }

    /// One piece of work on a connection of its own; with a fence it may write, and asks it first.
    async fn session<T>(
        &self,
        what: &str,
        fence: Option<&Fence>,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, ClientError> {
        let mut connection = self.connect(fence.is_none()).await?;
        fence.map_or(Ok(()), Fence::check)?;
        let result = work(&mut connection).await.map_err(|e| failed(what, &e))?;
        // The work is done; a farewell that fails changes nothing.
        let _ = connection.close().await;
        Ok(result)
    }

    async fn connect(&self, read_only: bool) -> Result<PgConnection, ClientError> {
        let options = self
            .options
            .as_ref()
            .ok_or(ClientError::NotSent { provider: PROVIDER, message: "DATABASE_URL is not set".into() })?;
        let options = options.clone().application_name("ops-controller");
        let mut connection = match tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await {
            Ok(connected) => connected.map_err(|e| not_connected(&e))?,
            Err(_) => {
                let message = format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
                return Err(ClientError::NotSent { provider: PROVIDER, message });
            }
        };
        // `set` rather than startup parameters: poolers refuse unknown ones.
        let mut session = "set statement_timeout = '10s'; set lock_timeout = '3s'; set timezone = 'UTC'".to_owned();
        if read_only {
            session.push_str("; set default_transaction_read_only = on");
        }
        connection.execute(AssertSqlSafe(session)).await.map_err(|e| failed("open a session", &e))?;
        Ok(connection)
    }

    async fn execute(&self, change: Change, fence: &Fence) -> Result<(), ClientError> {
        let sql = statement(change);
        self.session(change.what(), Some(fence), async |c| c.execute(AssertSqlSafe(sql)).await.map(|_| ())).await
    }

    async fn rotate(&self, group_id: &str, old_hash: &str, new_hash: &str, fence: &Fence) -> Result<bool, ClientError> {
        const SQL: &str = "update \"WorkerGroupToken\" t \
             set \"tokenHash\" = $3, \"updatedAt\" = now() at time zone 'utc' \
             from \"WorkerInstanceGroup\" g \
             where g.id = $1 and t.id = g.\"tokenId\" and t.\"tokenHash\" = $2";
        self.session("rotate the worker token", Some(fence), async |c| {
            let done = sqlx::query(SQL).bind(group_id).bind(old_hash).bind(new_hash).execute(c).await?;
            Ok(done.rows_affected() == 1)
        })
        .await
    }
}

impl Server for Direct {
    fn look(&self) -> BoxFuture<'_, Result<DatabaseView, ClientError>> {
        Box::pin(self.session("look at the database", None, look::look))
    }

    fn heartbeat_age<'a>(&'a self, worker: &'a str) -> BoxFuture<'a, Result<Option<f64>, ClientError>> {
        Box::pin(self.session("read the heartbeat", None, async |c| look::heartbeat_age(c, worker).await))
    }

    fn change<'a>(&'a self, change: Change, fence: &'a Fence) -> BoxFuture<'a, Result<(), ClientError>> {
        Box::pin(self.execute(change, fence))
    }

    fn rotate_token<'a>(
        &'a self,
        group_id: &'a str,
        old_hash: &'a str,
        new_hash: &'a str,
        fence: &'a Fence,
    ) -> BoxFuture<'a, Result<bool, ClientError>> {
        Box::pin(self.rotate(group_id, old_hash, new_hash, fence))
    }
}

fn statement(change: Change) -> String {
    match change {
        Change::WalLevelLogical => "alter system set wal_level = 'logical'".to_owned(),
        Change::Reload => "select pg_reload_conf()".to_owned(),
        Change::ReplicaIdentityFull => "alter table public.\"TaskRun\" replica identity full".to_owned(),
        Change::CreatePublication => format!(
            "create publication {PUBLICATION} for table public.\"TaskRun\" with (publish = 'insert, update, delete')"
        ),
        Change::AddTableToPublication => format!("alter publication {PUBLICATION} add table public.\"TaskRun\""),
        Change::SetPublicationOperations => {
            format!("alter publication {PUBLICATION} set (publish = 'insert, update, delete')")
        }
    }
}

/// All of the URL counts: percent-encoding, sslmode, options. Errors never quote it.
fn parse_url(url: &str) -> Result<PgConnectOptions, ClientError> {
    let bad = |message: &str| ClientError::NotSent { provider: PROVIDER, message: message.to_owned() };
    let options = PgConnectOptions::from_str(url).map_err(|_| bad("DATABASE_URL is not a PostgreSQL URL"))?;
    // Statement logging would print SQL with values.
    Ok(options.disable_statement_logging())
}

fn not_connected(error: &sqlx::Error) -> ClientError {
    match error {
        sqlx::Error::Database(e) if e.code().as_deref().is_some_and(|c| c.starts_with("28")) => {
            ClientError::Unauthorized { provider: PROVIDER, message: "user or password".into() }
        }
        sqlx::Error::Database(e) => ClientError::NotSent { provider: PROVIDER, message: e.message().to_owned() },
        sqlx::Error::Io(e) => ClientError::NotSent { provider: PROVIDER, message: e.to_string() },
        sqlx::Error::Tls(_) => {
            ClientError::NotSent { provider: PROVIDER, message: "TLS could not be agreed on (sslmode)".into() }
        }
        _ => ClientError::NotSent { provider: PROVIDER, message: "the connection failed".into() },
    }
}

/// The server's own words for a refusal; anything else is an outcome that must be looked for.
fn failed(what: &str, error: &sqlx::Error) -> ClientError {
    match error {
        sqlx::Error::Database(e) if e.code().as_deref() == Some("42501") => {
            ClientError::Forbidden { provider: PROVIDER, message: format!("{what}: {}", e.message()) }
        }
        sqlx::Error::Database(e) => {
            ClientError::Refused { provider: PROVIDER, status: 0, message: format!("{what}: {}", e.message()) }
        }
        sqlx::Error::Io(e) => ClientError::NoAnswer { provider: PROVIDER, message: format!("{what}: {e}") },
        // Shapes of rows and protocol states; they hold no values of ours.
        other => ClientError::NoAnswer { provider: PROVIDER, message: format!("{what}: {other}") },
    }
}
