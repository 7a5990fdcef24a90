//! Renews one lease in a thread of its own, so that no busy or blocked cycle can starve it.
//!
//! It also ends the lease: given back when it is asked to, lost when somebody else has it or when
//! its deadline came without a renewal.

use super::term::Pace;
use super::{database, folder};
use crate::clients::fence::{Fenced, Grant};
use crate::telemetry::metrics;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Giving back is a courtesy: without it the next one waits for the deadline.
const RELEASE_TIMEOUT: Duration = Duration::from_millis(700);

/// A lease at one of its homes.
pub enum Term {
    Folder(folder::Term),
    Database(Box<database::Term>),
}

impl Term {
    fn grant(&self) -> &Grant {
        match self {
            Term::Folder(term) => term.grant(),
            Term::Database(term) => term.grant(),
        }
    }

    /// As it is labelled in metrics and named in logs.
    fn home(&self) -> &'static str {
        match self {
            Term::Folder(_) => "folder",
            Term::Database(_) => "database",
        }
    }

    fn epoch(&self) -> u64 {
        match self {
            Term::Folder(term) => term.epoch(),
            Term::Database(term) => term.epoch(),
        }
    }

    /// `Err`: could not be renewed this time.
    async fn renew(&mut self, limit: Duration) -> Result<Result<(), Fenced>, String> {
        match self {
            Term::Folder(term) => term.renew().map_err(|e| e.to_string()),
            Term::Database(term) => term.renew(limit).await.map_err(|e| e.to_string()),
        }
    }

    async fn release(self) {
        match self {
            Term::Folder(term) => drop(term),
            Term::Database(term) => {
                if let Err(error) = term.release(RELEASE_TIMEOUT).await {
                    tracing::warn!(%error, "the database's lease could not be given back; it runs out by itself");
                }
            }
        }
    }
}

/// A lease that is being renewed. Dropped, it is given back without being waited for.
pub struct Kept {
    home: &'static str,
    epoch: u64,
    grant: Grant,
    stop: CancellationToken,
    /// Cancelled when the lease is lost or given back.
    over: CancellationToken,
}

impl Kept {
    pub fn keep(term: Term, pace: Pace) -> std::io::Result<Kept> {
        let (home, epoch, grant) = (term.home(), term.epoch(), term.grant().clone());
        let (stop, over) = (CancellationToken::new(), CancellationToken::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (until_stopped, ended) = (stop.clone(), over.clone());
        std::thread::Builder::new().name(format!("lease-{home}")).spawn(move || {
            // However it ends, also by a panic: nobody may wait for a lease that nobody renews.
            let _ended = ended.drop_guard();
            runtime.block_on(renew(term, pace, until_stopped));
        })?;
        metrics::set_lease_epoch(home, Some(epoch));
        Ok(Kept { home, epoch, grant, stop, over })
    }

    pub fn home(&self) -> &'static str {
        self.home
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    pub fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// Gives it back and waits for that, briefly.
    pub async fn release(self) {
        self.stop.cancel();
        let _ = tokio::time::timeout(RELEASE_TIMEOUT, self.over.cancelled()).await;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.grant.end(Fenced::new(format!("the {}'s lease (epoch {}) was given back", self.home, self.epoch)));
        self.stop.cancel();
        metrics::set_lease_epoch(self.home, None);
    }
}

async fn renew(mut term: Term, pace: Pace, stop: CancellationToken) {
    let grant = term.grant().clone();
    let mut pause = pace.renewed_every();
    let mut said = false;
    loop {
        // At the deadline at the latest: its passing is to be noticed, too.
        tokio::select! {
            biased;
            () = stop.cancelled() => return term.release().await,
            () = tokio::time::sleep(pause.min(grant.left())) => {}
        }
        if grant.check().is_err_and(|fenced| !fenced.is_for_now()) {
            return;
        }
        let limit = pace.renewed_every().min(grant.left());
        let done = tokio::select! {
            biased;
            () = stop.cancelled() => return term.release().await,
            done = tokio::time::timeout(limit, term.renew(limit)) => done,
        };
        let home = term.home();
        match done.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(Ok(())) => {
                if std::mem::take(&mut said) {
                    tracing::info!(home, "the {home}'s lease is renewed again");
                }
                pause = pace.renewed_every();
            }
            Ok(Err(lost)) => {
                grant.end(lost);
                return;
            }
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    let left = grant.left().as_secs_f64();
                    tracing::warn!(
                        home,
                        error,
                        "the {home}'s lease could not be renewed ({error}); it holds for {left:.1} s more"
                    );
                }
                pause = pace.tried_again_after();
            }
        }
    }
}
