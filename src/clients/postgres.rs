//! The watched database: one read-only look for each cycle, and a few small changes.
//!
//! What is asked is here; `direct` says it in SQL. Every question stands between two points of the
//! seam and has a deadline.

mod direct;
mod look;

use super::error::ClientError;
use super::fence::Fence;
use super::seam::{Point, Seam};
use crate::config::Config;
use crate::plan::observation::DatabaseView;
use direct::Direct;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

const PROVIDER: &str = "PostgreSQL";
const DEADLINE: Duration = Duration::from_secs(15);

/// A change of the database that is the same when made twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Takes effect at the next restart; kept in postgresql.auto.conf.
    WalLevelLogical,
    /// Makes `pending_restart` visible.
    Reload,
    /// Needs a short exclusive lock; a busy table makes it fail within the lock timeout.
    ReplicaIdentityFull,
    CreatePublication,
    AddTableToPublication,
    SetPublicationOperations,
}

impl Change {
    /// How the call is named in logs and at the seam.
    fn what(self) -> &'static str {
        match self {
            Change::WalLevelLogical => "set wal_level",
            Change::Reload => "reload the configuration",
            Change::ReplicaIdentityFull => "set replica identity",
            Change::CreatePublication => "create the publication",
            Change::AddTableToPublication | Change::SetPublicationOperations => "repair the publication",
        }
    }
}

/// A database server, as far as it is asked.
pub trait Server: Send + Sync {
    fn look(&self) -> BoxFuture<'_, Result<DatabaseView, ClientError>>;

    /// Seconds since this worker's last heartbeat; `None` when it never sent one.
    fn heartbeat_age<'a>(&'a self, worker: &'a str) -> BoxFuture<'a, Result<Option<f64>, ClientError>>;

    /// Asks the fence right before the statement.
    fn change<'a>(&'a self, change: Change, fence: &'a Fence) -> BoxFuture<'a, Result<(), ClientError>>;

    /// False: the group's hash was not the old one any more, and nothing was changed.
    fn rotate_token<'a>(
        &'a self,
        group_id: &'a str,
        old_hash: &'a str,
        new_hash: &'a str,
        fence: &'a Fence,
    ) -> BoxFuture<'a, Result<bool, ClientError>>;
}

#[derive(Clone)]
pub struct Reader {
    server: Arc<dyn Server>,
    seam: Seam,
}

/// The writing half.
#[derive(Clone)]
pub struct Writer {
    reader: Reader,
    fence: Fence,
}

impl Reader {
    pub fn new(config: &Config, seam: &Seam) -> Result<Reader, ClientError> {
        let server = match seam.outside() {
            None => Arc::new(Direct::new(config.database_url.as_ref())?),
            Some(outside) => outside.database(),
        };
        Ok(Reader { server, seam: seam.clone() })
    }

    /// Everything that a cycle needs of the database, read in one read-only session.
    pub async fn look(&self) -> Result<DatabaseView, ClientError> {
        self.ask("look at the database", self.server.look()).await
    }

    /// Whether this worker's heartbeat is at most this old: the cheap look of a disabled controller.
    /// `None` when it never sent one.
    pub async fn heartbeat_age(&self, worker: &str) -> Result<Option<f64>, ClientError> {
        self.ask("read the heartbeat", self.server.heartbeat_age(worker)).await
    }

    async fn ask<T>(&self, what: &str, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
        self.seam.reach(|| Point::Before(what.to_owned())).await;
        let done = tokio::time::timeout(DEADLINE, work).await.unwrap_or_else(|_| {
            let message = format!("{what}: no answer within {} s", DEADLINE.as_secs());
            Err(ClientError::NoAnswer { provider: PROVIDER, message })
        });
        self.seam.reach(|| Point::After(what.to_owned())).await;
        done.map_err(ClientError::clipped)
    }
}

impl Writer {
    pub fn new(reader: Reader, fence: &Fence) -> Writer {
        Writer { reader, fence: fence.clone() }
    }

    pub fn look(&self) -> &Reader {
        &self.reader
    }

    pub async fn change(&self, change: Change) -> Result<(), ClientError> {
        self.reader.ask(change.what(), self.reader.server.change(change, &self.fence)).await
    }

    /// Replaces a worker group's token hash, if it still is the one that was seen. False: it moved.
    pub async fn rotate_token(&self, group_id: &str, old_hash: &str, new_hash: &str) -> Result<bool, ClientError> {
        let work = self.reader.server.rotate_token(group_id, old_hash, new_hash, &self.fence);
        self.reader.ask("rotate the worker token", work).await
    }
}
