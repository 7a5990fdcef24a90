//! One writer at a time: the lease that a controller must hold to change anything.
//!
//! It has two homes. The *folder* of the state file is always leased: it guards that file, and keeps
//! two controllers on one folder apart. With `OPS_DATABASE_URL` set, a row in *PostgreSQL* is leased
//! as well: it keeps controllers on different machines apart. Who has all of them acts; all others
//! stand by. Each taking has an epoch, one higher than the last, and every write passes a fence
//! ([`crate::clients::fence`]) that closes when a lease ran out or another epoch has begun.

mod database;
mod folder;
mod keeper;
mod term;

use super::store::Store;
use crate::clients::{Fence, machine};
use crate::config::Config;
use crate::telemetry::metrics;
pub use folder::Term as FolderLease;

use database::Database;
use folder::Folder;
use jiff::Timestamp;
use keeper::{Kept, Term};
use std::path::PathBuf;
use std::time::Duration;
use term::{Holder, Pace};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Error)]
pub enum LeaseError {
    #[error("the folder of the state file, {path}: {source} (STATE_FILE must be in a folder that this user may write)")]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("the lease of {home} is held by {holder}")]
    Held { home: &'static str, holder: String },
    #[error("OPS_DATABASE_URL is not a PostgreSQL URL")]
    Url,
    #[error("the ops database (OPS_DATABASE_URL): {0}")]
    Database(#[from] database::Trouble),
    #[error("a lease cannot be renewed: {0}")]
    Thread(std::io::Error),
}

impl LeaseError {
    fn held(home: &'static str, holder: Option<&Holder>) -> LeaseError {
        let holder = holder.map_or_else(|| "another controller".to_owned(), Holder::to_string);
        LeaseError::Held { home, holder }
    }
}

/// A name for people that no other process has: the machine, what runs there, and a random word.
fn holder_name(what: &str) -> String {
    format!("{}/{what}-{}", machine::hostname(), machine::word())
}

/// One that wants to act. It keeps what it has: with the folder's lease it waits for the database's.
pub struct Candidate {
    name: String,
    pace: Pace,
    folder: Folder,
    database: Option<Database>,
    kept: Vec<Kept>,
}

/// How an attempt ended.
pub enum Attempt {
    Active(Tenure),
    /// Somebody else acts, or nobody can tell.
    Standby {
        why: String,
        /// By another controller; else it is not known whether anybody has it.
        is_held: bool,
    },
}

/// All leases are held. Nothing keeps them but their candidate.
#[derive(Clone)]
pub struct Tenure {
    fence: Fence,
    over: Vec<CancellationToken>,
    /// The database's epoch, when there is a database.
    pub database_epoch: Option<u64>,
    /// The database's epoch before ours, and since when its holder has surely not acted.
    pub predecessor: Option<(u64, Timestamp)>,
}

impl Tenure {
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Waits until it is over, and says why.
    pub async fn over(&self) -> String {
        let all = self.over.iter().map(|over| Box::pin(over.cancelled()));
        futures_util::future::select_all(all).await;
        match self.fence.check() {
            Err(fenced) => fenced.to_string(),
            // The thread that renewed it ended without a word.
            Ok(()) => "a lease is not renewed any more".to_owned(),
        }
    }
}

/// What a tenure needs to hold on to: nothing of the configuration besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    identity: String,
    database: Option<crate::plan::secret::Secret>,
    lease_time: Duration,
}

impl Terms {
    pub fn of(config: &Config) -> Terms {
        Terms {
            identity: config.desired.identity_tag(),
            database: config.ops_database_url.clone(),
            lease_time: config.lease_time,
        }
    }
}

impl Candidate {
    /// `what` tells people which program it is: `daemon`, `once`.
    pub fn new(config: &Config, store: &Store, what: &str) -> Result<Candidate, LeaseError> {
        Ok(Candidate {
            name: holder_name(what),
            pace: Pace::new(config.lease_time),
            folder: Folder::new(store.clone()),
            database: Database::of(config)?,
            kept: Vec::new(),
        })
    }

    pub fn look_every(&self) -> Duration {
        self.pace.looked_at_every()
    }

    /// Takes what it does not have yet, as far as that is to be had now.
    pub async fn attempt(&mut self) -> Result<Attempt, LeaseError> {
        let is_held = |kept: &Kept| kept.grant().check().map_or_else(|fenced| fenced.is_for_now(), |()| true);
        self.kept.retain(|kept| !kept.over().is_cancelled() && is_held(kept));
        if !self.has("folder") {
            // The file comes first and goes last: without it nothing could be written down.
            self.kept.clear();
            match self.folder.attempt(&self.name, self.pace)? {
                folder::Attempt::Taken(term) => self.keep(Term::Folder(term))?,
                folder::Attempt::Held(holder) => return Ok(standby(LeaseError::held("the folder", holder.as_ref()))),
            }
        }
        let mut predecessor = None;
        if let Some(database) = &mut self.database {
            // One that is still kept would be one whose folder was lost and taken again.
            self.kept.retain(|kept| kept.home() == "folder");
            match database.attempt(&self.name, self.pace).await {
                Ok(database::Attempt::Taken(term, before)) => {
                    predecessor = before.map(|b| (b.epoch, Timestamp::now() - crate::plan::signed(b.over_for)));
                    self.keep(Term::Database(term))?;
                }
                Ok(database::Attempt::Held(holder)) => {
                    return Ok(standby(LeaseError::held("the database", Some(&holder))));
                }
                Err(trouble) => {
                    let why = format!(
                        "the ops database (OPS_DATABASE_URL) cannot be used: {trouble}; nothing is done without its lease"
                    );
                    return Ok(Attempt::Standby { why, is_held: false });
                }
            }
        }
        metrics::set_active(true);
        Ok(Attempt::Active(Tenure {
            fence: Fence::granted(self.kept.iter().map(|kept| kept.grant().clone()).collect()),
            over: self.kept.iter().map(|kept| kept.over().clone()).collect(),
            database_epoch: self.kept.iter().find(|kept| kept.home() == "database").map(Kept::epoch),
            predecessor,
        }))
    }

    /// Cancelled when the folder's lease is over; `None` while it is not held.
    pub fn folder_over(&self) -> Option<&CancellationToken> {
        self.kept.iter().find(|kept| kept.home() == "folder").map(Kept::over)
    }

    fn has(&self, home: &str) -> bool {
        self.kept.iter().any(|kept| kept.home() == home)
    }

    fn keep(&mut self, term: Term) -> Result<(), LeaseError> {
        let kept = Kept::keep(term, self.pace).map_err(LeaseError::Thread)?;
        tracing::info!(
            home = kept.home(),
            epoch = kept.epoch(),
            holder = self.name,
            "took the {}'s lease (epoch {})",
            kept.home(),
            kept.epoch()
        );
        self.kept.push(kept);
        Ok(())
    }

    /// Gives everything back, so that another one takes over at once; the folder last.
    pub async fn release(mut self) {
        metrics::set_active(false);
        while let Some(kept) = self.kept.pop() {
            kept.release().await;
        }
    }
}

fn standby(held: LeaseError) -> Attempt {
    Attempt::Standby { why: format!("{held}; this one takes over when that ends"), is_held: true }
}

/// Whether the ops database can be used, for `doctor`: `Ok(None)` when it can. `None`: not set.
pub async fn check_database(config: &Config) -> Option<Result<Option<String>, LeaseError>> {
    match Database::of(config) {
        Ok(None) => None,
        Ok(Some(mut database)) => Some(database.check().await.map_err(LeaseError::Database)),
        Err(error) => Some(Err(error)),
    }
}
