//! The lease in PostgreSQL: a row of `ops.lease`, for controllers that share no folder.
//!
//! Each step is one short statement on one row. What has run out is judged by the database's clock
//! alone. Nothing is concluded from a connection: a lease is lost when its row says so, or when it
//! could not be renewed until its deadline.

use super::LeaseError;
use super::term::{Holder, Pace};
use crate::clients::fence::{Fenced, Grant, uptime};
use crate::config::Config;
use crate::runs::schema::{self, Address, MIGRATE_TIMEOUT};
use crate::runs::told;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row};
use std::time::Duration;

/// Longer is no state of a server on which a lease could be kept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a step could not be done, without address and password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(String);

/// The row, as a controller sees it. Its connection is kept; after any error it is made anew.
pub struct Database {
    address: Address,
    /// Several deployments may share a database.
    name: String,
    connection: Option<PgConnection>,
    migrated: bool,
}

/// How an attempt to take it ended.
pub enum Attempt {
    Taken(Box<Term>, Option<Before>),
    Held(Holder),
}

/// The term before ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    pub epoch: u64,
    /// How long its holder has surely not acted.
    pub over_for: Duration,
}

impl Database {
    /// `None` when no database is configured.
    pub fn of(config: &Config) -> Result<Option<Database>, LeaseError> {
        let Some(url) = &config.ops_database_url else { return Ok(None) };
        let address = Address::from_url(url.expose(), "ops-controller").map_err(|_| LeaseError::Url)?;
        let name = format!("controller:{}", config.desired.identity_tag());
        Ok(Some(Database { address, name, connection: None, migrated: false }))
    }

    /// Tries once, with the tables made first.
    pub async fn attempt(&mut self, holder: &str, pace: Pace) -> Result<Attempt, Trouble> {
        if !self.migrated {
            self.migrate().await?;
        }
        // Measured before the row is touched, so that its deadline is never later than the row's.
        let before = uptime();
        let name = self.name.clone();
        let row = self.within(pace.renewed_every(), async |c| take(c, &name, holder, pace).await).await?;
        match row {
            Tried::Taken { epoch, before: earlier } => {
                let grant =
                    Grant::new(format!("the database's lease (epoch {epoch})"), before + pace.holds(), || Ok(()));
                let (address, name) = (self.address.clone(), self.name.clone());
                // Without this connection: it belongs to this runtime, and the lease is renewed in another.
                self.connection = None;
                let database = Database { address, name, connection: None, migrated: true };
                let term = Term { database, holder: holder.to_owned(), epoch, grant, pace };
                Ok(Attempt::Taken(Box::new(term), earlier))
            }
            Tried::Held(holder) => Ok(Attempt::Held(holder)),
        }
    }

    /// Brings the schema `ops` up to date; returns how many migrations are in force.
    pub async fn migrate(&mut self) -> Result<usize, Trouble> {
        let done = self.within(MIGRATE_TIMEOUT, async |c| Ok(schema::migrate(c).await?)).await?;
        // With what was set for it.
        self.connection = None;
        self.migrated = true;
        Ok(done)
    }

    /// For `doctor`: what stands in the way, without changing anything.
    pub async fn check(&mut self) -> Result<Option<String>, Trouble> {
        self.within(CONNECT_TIMEOUT, async |c| {
            let sql = "select current_user::text, current_database()::text, pg_is_in_recovery(),
                              case when to_regnamespace('ops') is null
                                   then has_database_privilege(current_database(), 'create')
                                   else has_schema_privilege('ops', 'create, usage') end";
            let row = sqlx::query(sql).fetch_one(c).await?;
            let (role, database): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let (standby, may): (bool, bool) = (row.try_get(2)?, row.try_get(3)?);
            Ok(match (standby, may) {
                (true, _) => Some("this server is a standby: use the primary".to_owned()),
                (_, false) => Some(format!(
                    "role {role} may not make the schema ops: `grant create on database \"{database}\" to \"{role}\"`"
                )),
                _ => None,
            })
        })
        .await
    }

    /// One piece of work with a deadline over all of it, connecting included. The server gives it up
    /// at the same time, so that nothing of it happens later.
    async fn within<T>(
        &mut self,
        limit: Duration,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Failure>,
    ) -> Result<T, Trouble> {
        let done = tokio::time::timeout(limit, async {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.address.options().connect().await.map_err(Failure::Connection)?,
            };
            // `set` rather than startup parameters: poolers refuse unknown ones.
            let millis = limit.as_millis().max(1);
            let session =
                format!("set statement_timeout = {millis}; set lock_timeout = {millis}; set timezone = 'UTC'");
            connection.execute(AssertSqlSafe(session)).await?;
            let result = work(&mut connection).await?;
            Ok::<_, Failure>((connection, result))
        })
        .await;
        match done {
            Ok(Ok((connection, result))) => {
                self.connection = Some(connection);
                Ok(result)
            }
            Ok(Err(failure)) => Err(failure.told(&self.address)),
            Err(_) => Err(Trouble(self.address.why_silent(limit))),
        }
    }
}

enum Tried {
    Taken { epoch: u64, before: Option<Before> },
    Held(Holder),
}

async fn take(c: &mut PgConnection, name: &str, holder: &str, pace: Pace) -> Result<Tried, Failure> {
    sqlx::query("insert into ops.lease (name) values ($1) on conflict (name) do nothing")
        .bind(name)
        .execute(&mut *c)
        .await?;
    // Of two at once, the second waits for the row and then sees that it has not run out.
    let sql = "update ops.lease as l
               set holder = $2, epoch = l.epoch + 1, since = now(), renewed_at = now(),
                   expires_at = now() + make_interval(secs => $3)
               from (select name, epoch, expires_at from ops.lease where name = $1 for update) as before
               where l.name = before.name and (before.expires_at is null or before.expires_at < now())
               returning l.epoch, extract(epoch from now() - before.expires_at)::float8";
    let taken = sqlx::query(sql).bind(name).bind(holder).bind(pace.taken_after().as_secs_f64());
    if let Some(row) = taken.fetch_optional(&mut *c).await? {
        let epoch = number(row.try_get(0)?);
        let over_for: Option<f64> = row.try_get(1)?;
        let over_for = over_for.and_then(|s| Duration::try_from_secs_f64(s.max(0.0)).ok());
        let before = over_for.map(|over_for| Before { epoch: epoch.saturating_sub(1), over_for });
        return Ok(Tried::Taken { epoch, before });
    }
    let row = sqlx::query("select coalesce(holder, 'nobody'), epoch, since::text from ops.lease where name = $1")
        .bind(name)
        .fetch_one(c)
        .await?;
    let since: Option<String> = row.try_get(2)?;
    Ok(Tried::Held(Holder {
        name: row.try_get(0)?,
        epoch: number(row.try_get(1)?),
        since: since.unwrap_or_else(|| "never".to_owned()),
    }))
}

fn number(epoch: i64) -> u64 {
    u64::try_from(epoch).unwrap_or_default()
}

enum Failure {
    Connection(sqlx::Error),
    Sql(sqlx::Error),
    Migration(sqlx::migrate::MigrateError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Failure {
        Failure::Sql(error)
    }
}

impl From<sqlx::migrate::MigrateError> for Failure {
    fn from(error: sqlx::migrate::MigrateError) -> Failure {
        Failure::Migration(error)
    }
}

impl Failure {
    fn told(&self, address: &Address) -> Trouble {
        Trouble(match self {
            Failure::Connection(error) => address.why_unreachable(error),
            Failure::Sql(error) => told(error),
            Failure::Migration(error) => schema::migration_told(error),
        })
    }
}

/// A lease that is held.
pub struct Term {
    database: Database,
    holder: String,
    epoch: u64,
    grant: Grant,
    pace: Pace,
}

impl Term {
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Within `limit`. `Ok(Err)`: the lease is lost.
    pub async fn renew(&mut self, limit: Duration) -> Result<Result<(), Fenced>, Trouble> {
        let before = uptime();
        let seconds = self.pace.taken_after().as_secs_f64();
        let (name, holder, epoch) = (self.database.name.clone(), self.holder.clone(), self.epoch);
        let now = self
            .database
            .within(limit, async |c| {
                let sql = "update ops.lease
                           set renewed_at = now(), expires_at = now() + make_interval(secs => $4)
                           where name = $1 and holder = $2 and epoch = $3 and expires_at >= now()";
                let ours = sqlx::query(sql).bind(&name).bind(&holder).bind(signed(epoch)).bind(seconds);
                if ours.execute(&mut *c).await?.rows_affected() == 1 {
                    return Ok(None);
                }
                let now = sqlx::query("select epoch from ops.lease where name = $1").bind(&name);
                Ok(Some(match now.fetch_optional(c).await? {
                    Some(row) => number(row.try_get(0)?),
                    None => 0,
                }))
            })
            .await?;
        Ok(match now {
            None => self.grant.extend(before + self.pace.holds()),
            Some(now) if now > epoch => {
                Err(Fenced::new(format!("another controller took over (epoch {now}, ours was {epoch})")))
            }
            Some(_) => Err(Fenced::new(format!("the database's lease (epoch {epoch}) ran out"))),
        })
    }

    /// Gives it back, so that another one takes over at once.
    pub async fn release(mut self, limit: Duration) -> Result<(), Trouble> {
        self.grant.end(Fenced::new(format!("the database's lease (epoch {}) was given back", self.epoch)));
        let (name, holder, epoch) = (self.database.name.clone(), self.holder.clone(), self.epoch);
        self.database
            .within(limit, async |c| {
                let sql = "update ops.lease set expires_at = greatest(renewed_at, now())
                           where name = $1 and holder = $2 and epoch = $3 and expires_at > now()";
                sqlx::query(sql).bind(name).bind(holder).bind(signed(epoch)).execute(c).await?;
                Ok(())
            })
            .await
    }
}

fn signed(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}
