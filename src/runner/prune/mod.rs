//! Removes what is past its time: events, artifacts, runs, backups, and the history of what people did.
//!
//! What may go says the database, each time anew; here is the order, and the store. An object goes before its
//! row, in a transaction that holds the row, so a runner that is killed in between leaves a row whose object is
//! gone, and the next one removes that. What this module refuses: to take "could not look" for "is gone", to
//! delete an object at a path that is not its own, and to touch what waits or is under way.

mod fate;
mod look;
mod told;

pub use look::look;
pub use told::{Kept, Report};

use super::kind::PhaseError;
use super::store::Store;
use super::{Shared, report};
use crate::config::Retention;
use crate::runs::RunsError;
use crate::runs::retention::{self, After, Of, PastArtifact, PastBackup, PastRun};
use crate::runs::schema::Address;
use fate::Fate;
use futures_util::future::join_all;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use std::sync::Arc;
use std::time::Duration;

/// For all of it; what is left goes the next time.
const PASS: Duration = Duration::from_secs(45 * 60);
/// No statement takes nearly that long.
const STATEMENT: Duration = Duration::from_secs(30);
/// Looked at in one statement.
const PAGE: i32 = 100;
/// Removed from the store in one transaction, all at once.
const AT_ONCE: usize = 20;
/// Deleted by one statement.
const ROWS: i32 = 1000;
const EVENTS: i32 = 10_000;

const HAS_ARTIFACTS: &str = "its artifacts are not gone";
const NO_WORD: &str = "its store did not say that it is gone";

const ELSEWHERE: &str = "its store was not recorded, and it is not in this one";

/// While somebody else is at it, who may have another store than we.
const AGAIN: Duration = Duration::from_secs(60);

/// One pass of a runner, told in its log and metrics.
pub(super) async fn now_and_then(shared: Arc<Shared>) {
    let mut report = Report::default();
    let (days, store) = (shared.options.retention, shared.store.as_deref());
    let pass = async {
        while !prune(&shared.address, days, store, &mut report).await? {
            tokio::time::sleep(AGAIN.min(shared.options.prune_every)).await;
        }
        Ok::<_, RunsError>(())
    };
    let done = tokio::time::timeout(PASS, pass).await;
    report::pruned(&report);
    match done {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "not all that is past its time could be removed: {error}"),
        Err(_) => tracing::info!("more is past its time than goes in {} minutes", PASS.as_secs() / 60),
    }
}

/// One pass. False: somebody else is at it. What went stands in the report, also where it ends with an error.
pub async fn prune(
    address: &Address,
    days: Retention,
    store: Option<&Store>,
    report: &mut Report,
) -> Result<bool, RunsError> {
    // Of its own: with it, the word that we are at it is given back, however this ends.
    let c = address.connect_for(STATEMENT).await?;
    let name = store.and_then(Store::identity);
    let mut pass = Pass { c, days, store, name, report, is_silent: false };
    if !retention::begin(&mut pass.c).await? {
        return Ok(false);
    }
    retention::expire_approvals(&mut pass.c).await?;
    pass.events().await?;
    pass.expired().await?;
    pass.runs().await?;
    pass.backups().await?;
    pass.history().await?;
    retention::end(&mut pass.c).await?;
    let _ = pass.c.close().await;
    Ok(true)
}

/// Those that may go; of the others is told why.
fn doomed(page: &[PastRun], report: &mut Report) -> Vec<String> {
    let kept = page.iter().filter_map(|run| Some((run, run.kept_for.as_ref()?)));
    kept.for_each(|(run, why)| report.stays("runs", why, &run.run_id));
    page.iter().filter(|run| run.kept_for.is_none()).map(|run| run.run_id.clone()).collect()
}

struct Pass<'a> {
    c: PgConnection,
    days: Retention,
    store: Option<&'a Store>,
    /// What the store is called; `None`: there is none that can be asked.
    name: Option<String>,
    report: &'a mut Report,
    /// The store does not answer, and is not asked any more. One that refuses is: what is refused once must not
    /// stand in the way of all that comes after it.
    is_silent: bool,
}

impl Pass<'_> {
    async fn events(&mut self) -> Result<(), sqlx::Error> {
        loop {
            let gone = retention::delete_events(&mut self.c, self.days.event_days, EVENTS).await?;
            self.report.went("events", gone);
            if gone == 0 {
                return Ok(());
            }
        }
    }

    async fn expired(&mut self) -> Result<(), sqlx::Error> {
        let mut after = After::nothing();
        loop {
            let page = retention::artifacts(&mut self.c, self.days.run_days, Of::Expired(&after), PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = After { at: last.expires_at.clone().unwrap_or_default(), id: last.artifact_id.clone() };
            self.artifacts(page).await?;
        }
    }

    async fn runs(&mut self) -> Result<(), sqlx::Error> {
        let mut after = After::nothing();
        loop {
            let page = retention::runs(&mut self.c, self.days.run_days, &after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = After { at: last.finished_at.clone(), id: last.run_id.clone() };
            let doomed = doomed(&page, self.report);
            let mut artifact = String::new();
            loop {
                let of = Of::Runs(&doomed, &artifact);
                let mut some = retention::artifacts(&mut self.c, self.days.run_days, of, PAGE).await?;
                let Some(last) = some.last() else { break };
                artifact.clone_from(&last.artifact_id);
                // What has expired was tried in this pass already.
                some.retain(|artifact| !artifact.has_expired);
                self.artifacts(some).await?;
            }
            let mut left = doomed.len();
            loop {
                let (runs, events) = retention::delete_runs(&mut self.c, &doomed, self.days.run_days, EVENTS).await?;
                self.report.went("runs", runs);
                self.report.went("events", events);
                left = left.saturating_sub(usize::try_from(runs).unwrap_or_default());
                if events < i64::from(EVENTS) {
                    break;
                }
            }
            if left > 0 {
                for run in retention::stuck(&mut self.c, &doomed).await? {
                    self.report.stays("runs", HAS_ARTIFACTS, &run);
                }
            }
        }
    }

    /// Removes those that may go, each object before its row.
    async fn artifacts(&mut self, page: Vec<PastArtifact>) -> Result<(), sqlx::Error> {
        let mut going = Vec::new();
        for artifact in page {
            match fate::of_artifact(&artifact, self.name.as_deref()) {
                Fate::Kept(why) => self.report.stays("artifacts", &why, &artifact.artifact_id),
                fate => going.push((artifact.artifact_id, fate)),
            }
        }
        for some in going.chunks(AT_ONCE) {
            let ids: Vec<String> = some.iter().map(|(id, _)| id.clone()).collect();
            let mut transaction = self.c.begin().await?;
            let held = retention::hold_artifacts(&mut transaction, &ids, self.days.run_days).await?;
            let some = some.iter().filter(|(id, _)| held.contains(id));
            let store = self.store.filter(|_| !self.is_silent);
            let removed = join_all(some.map(|(id, fate)| remove(store, id, fate))).await;
            let mut gone = Vec::new();
            for (id, removed) in removed {
                match removed {
                    Ok(()) => gone.push(id.to_owned()),
                    Err(why) => refused(self.report, &mut self.is_silent, "artifacts", id, why),
                }
            }
            let count = retention::delete_artifacts(&mut transaction, &gone).await?;
            transaction.commit().await?;
            self.report.went("artifacts", count);
        }
        Ok(())
    }

    async fn backups(&mut self) -> Result<(), sqlx::Error> {
        let mut after = String::new();
        loop {
            let page = retention::backups(&mut self.c, self.days.run_days, &after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.backup_id);
            for backup in page {
                self.backup(&backup).await?;
            }
        }
    }

    async fn backup(&mut self, backup: &PastBackup) -> Result<(), sqlx::Error> {
        let id = &backup.backup_id;
        let fate = fate::of_backup(backup, self.name.as_deref());
        if let Fate::Kept(why) = &fate {
            self.report.stays("backups", why, id);
            return Ok(());
        }
        let mut transaction = self.c.begin().await?;
        if !retention::hold_backup(&mut transaction, id, self.days.run_days).await? {
            return Ok(());
        }
        let store = self.store.filter(|_| !self.is_silent);
        match remove(store, id, &fate).await.1 {
            Ok(()) => {
                retention::delete_backup(&mut transaction, id).await?;
                transaction.commit().await?;
                self.report.went("backups", 1);
            }
            Err(why) => refused(self.report, &mut self.is_silent, "backups", id, why),
        }
        Ok(())
    }

    async fn history(&mut self) -> Result<(), sqlx::Error> {
        loop {
            let gone = retention::delete_history(&mut self.c, self.days.audit_days, ROWS).await?;
            if gone.is_empty() {
                return Ok(());
            }
            for (sort, count) in gone {
                self.report.went(&sort, count);
            }
        }
    }
}

/// Why nothing is known of an object.
enum Silence {
    Refused(String),
    /// Nor would the next one be answered.
    NoAnswer(String),
    /// The store is not asked any more in this pass.
    NotAsked,
    /// Nobody recorded its store, and it is not in ours.
    Elsewhere,
}

async fn remove<'a>(store: Option<&Store>, id: &'a str, fate: &Fate) -> (&'a str, Result<(), Silence>) {
    let (path, gone_is_enough) = match fate {
        Fate::Row => return (id, Ok(())),
        Fate::Kept(why) => return (id, Err(Silence::Refused(why.clone()))),
        Fate::Object(path) => (path, true),
        Fate::Found(path) => (path, false),
    };
    let Some(store) = store else { return (id, Err(Silence::NotAsked)) };
    let removed = match store.remove(path).await {
        Ok(was_there) if was_there || gone_is_enough => Ok(()),
        Ok(_) => Err(Silence::Elsewhere),
        Err(PhaseError::Transient(why)) => Err(Silence::NoAnswer(why)),
        Err(error) => Err(Silence::Refused(error.to_string())),
    };
    (id, removed)
}

fn refused(report: &mut Report, is_silent: &mut bool, what: &str, id: &str, why: Silence) {
    let told = if matches!(why, Silence::Elsewhere) { ELSEWHERE } else { NO_WORD };
    report.stays(what, told, id);
    *is_silent |= matches!(why, Silence::NoAnswer(_));
    if let Silence::Refused(why) | Silence::NoAnswer(why) = why {
        report.trouble.get_or_insert(why);
    }
}
