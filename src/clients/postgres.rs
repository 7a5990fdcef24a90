//! The watched database: one read-only look for each cycle, and five small changes.
//!
//! A fresh connection each time, with deadlines on connecting, on every statement and on locks: a
//! restarted server leaves no dead connection behind, and nothing waits for ever.

mod look;

use super::error::ClientError;
use super::fence::Fence;
use super::seam::{Point, Seam};
use crate::config::Config;
use crate::plan::observation::DatabaseView;
use crate::plan::replication::PUBLICATION;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use std::str::FromStr;
use std::time::Duration;

const PROVIDER: &str = "PostgreSQL";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Clone)]
pub struct Reader {
    options: Option<PgConnectOptions>,
    seam: Seam,
    /// Closed, but for a writer's: a session that may write asks it first.
    fence: Fence,
}

/// The writing half.
#[derive(Clone)]
pub struct Writer {
    /// Its writing sessions are fenced.
    reader: Reader,
    look: Reader,
}

impl Reader {
    pub fn new(config: &Config, seam: &Seam) -> Result<Reader, ClientError> {
        let options = match &config.database_url {
            None => None,
            Some(url) => Some(parse_url(url.expose())?),
        };
        Ok(Reader { options, seam: seam.clone(), fence: Fence::closed() })
    }

    /// Everything that a cycle needs of the database, read in one read-only session.
    pub async fn look(&self) -> Result<DatabaseView, ClientError> {
        self.session("look at the database", true, look::look).await
    }

    /// Whether this worker's heartbeat is at most this old: the cheap look of a disabled controller.
    /// `None` when it never sent one.
    pub async fn heartbeat_age(&self, worker: &str) -> Result<Option<f64>, ClientError> {
        self.session("read the heartbeat", true, async |c| look::heartbeat_age(c, worker).await).await
    }

    /// One piece of work on a connection of its own, with a deadline over all of it.
    async fn session<T>(
        &self,
        what: &str,
        read_only: bool,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, ClientError> {
        self.seam.reach(|| Point::Before(what.to_owned())).await;
        let done = within(LOOK_TIMEOUT, what, async {
            let mut connection = self.connect(read_only).await?;
            if !read_only {
                self.fence.check()?;
            }
            let result = work(&mut connection).await.map_err(|e| failed(what, &e))?;
            // The work is done; a farewell that fails changes nothing.
            let _ = connection.close().await;
            Ok(result)
        })
        .await;
        self.seam.reach(|| Point::After(what.to_owned())).await;
        done
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
}

impl Writer {
    pub fn new(look: Reader, fence: &Fence) -> Writer {
        Writer { reader: Reader { fence: fence.clone(), ..look.clone() }, look }
    }

    pub fn look(&self) -> &Reader {
        &self.look
    }

    /// Takes effect at the next restart; kept in postgresql.auto.conf.
    pub async fn set_wal_level_logical(&self) -> Result<(), ClientError> {
        self.change("set wal_level", "alter system set wal_level = 'logical'").await?;
        // Makes `pending_restart` visible; without the right to reload, the file still counts.
        let _ = self.change("reload the configuration", "select pg_reload_conf()").await;
        Ok(())
    }

    /// Needs a short exclusive lock; a busy table makes it fail within the lock timeout.
    pub async fn set_replica_identity_full(&self) -> Result<(), ClientError> {
        self.change("set replica identity", "alter table public.\"TaskRun\" replica identity full").await
    }

    pub async fn create_publication(&self) -> Result<(), ClientError> {
        let sql = format!(
            "create publication {PUBLICATION} for table public.\"TaskRun\" with (publish = 'insert, update, delete')"
        );
        self.change("create the publication", &sql).await
    }

    pub async fn add_table_to_publication(&self) -> Result<(), ClientError> {
        self.change("repair the publication", &format!("alter publication {PUBLICATION} add table public.\"TaskRun\""))
            .await
    }

    pub async fn set_publication_operations(&self) -> Result<(), ClientError> {
        let sql = format!("alter publication {PUBLICATION} set (publish = 'insert, update, delete')");
        self.change("repair the publication", &sql).await
    }

    /// Replaces a worker group's token hash, if it still is the one that was seen. False: it moved.
    pub async fn rotate_token(&self, group_id: &str, old_hash: &str, new_hash: &str) -> Result<bool, ClientError> {
        const SQL: &str = "update \"WorkerGroupToken\" t \
             set \"tokenHash\" = $3, \"updatedAt\" = now() at time zone 'utc' \
             from \"WorkerInstanceGroup\" g \
             where g.id = $1 and t.id = g.\"tokenId\" and t.\"tokenHash\" = $2";
        self.reader
            .session("rotate the worker token", false, async |c| {
                let done = sqlx::query(SQL).bind(group_id).bind(old_hash).bind(new_hash).execute(c).await?;
                Ok(done.rows_affected() == 1)
            })
            .await
    }

    async fn change(&self, what: &str, sql: &str) -> Result<(), ClientError> {
        self.reader.session(what, false, async |c| c.execute(AssertSqlSafe(sql.to_owned())).await.map(|_| ())).await
    }
}

/// All of the URL counts: percent-encoding, sslmode, options. Errors never quote it.
fn parse_url(url: &str) -> Result<PgConnectOptions, ClientError> {
    let bad = |message: &str| ClientError::NotSent { provider: PROVIDER, message: message.to_owned() };
    let options = PgConnectOptions::from_str(url).map_err(|_| bad("DATABASE_URL is not a PostgreSQL URL"))?;
    // Statement logging would print SQL with values.
    Ok(options.disable_statement_logging())
}

async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let message = format!("{what}: no answer within {} s", limit.as_secs());
        Err(ClientError::NoAnswer { provider: PROVIDER, message })
    })
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
        other => {
            // Shapes of rows and protocol states; they hold no values of ours.
            ClientError::NoAnswer {
                provider: PROVIDER,
                message: format!("{what}: {}", super::http::clip(&other.to_string())),
            }
        }
    }
}

/// `true` when the relation exists in schema public.
async fn exists(connection: &mut PgConnection, table: &str) -> Result<bool, sqlx::Error> {
    let row = sqlx::query("select to_regclass($1) is not null")
        .bind(format!("public.\"{table}\""))
        .fetch_one(connection)
        .await?;
    row.try_get(0)
}
