//! The dry run: what a pass would remove now, and what it would keep and why. It asks and changes nothing: its
//! session is read-only, and it does not ask the store for more than its name.

use super::fate::{self, Fate};
use super::{PAGE, Report};
use crate::config::Retention;
use crate::runs::retention::{self, After, Of};
use sqlx::postgres::PgConnection;
use std::collections::BTreeSet;

pub async fn look(c: &mut PgConnection, days: Retention, store: Option<&str>) -> Result<Report, sqlx::Error> {
    sqlx::query("set default_transaction_read_only = on").execute(&mut *c).await?;
    let mut report = Report::default();
    report.went("events", retention::count_events(c, days.event_days).await?);
    let mut after = After::nothing();
    loop {
        let page = retention::artifacts(c, days.run_days, Of::Expired(&after), PAGE).await?;
        let Some(last) = page.last() else { break };
        after = After { at: last.expires_at.clone().unwrap_or_default(), id: last.artifact_id.clone() };
        for artifact in &page {
            match fate::of_artifact(artifact, store) {
                Fate::Kept(why) => report.stays("artifacts", &why, &artifact.artifact_id),
                _ => report.went("artifacts", 1),
            }
        }
    }
    runs(c, days, store, &mut report).await?;
    let mut after = String::new();
    loop {
        let page = retention::backups(c, days.run_days, &after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.backup_id);
        for backup in &page {
            match fate::of_backup(backup, store) {
                Fate::Kept(why) => report.stays("backups", &why, &backup.backup_id),
                _ => report.went("backups", 1),
            }
        }
    }
    for (sort, count) in retention::count_history(c, days.audit_days).await? {
        report.went(&sort, count);
    }
    Ok(report)
}

async fn runs(
    c: &mut PgConnection,
    days: Retention,
    store: Option<&str>,
    report: &mut Report,
) -> Result<(), sqlx::Error> {
    let mut after = After::nothing();
    loop {
        let page = retention::runs(c, days.run_days, &after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = After { at: last.finished_at.clone(), id: last.run_id.clone() };
        let doomed = super::doomed(&page, report);
        let stuck = stuck(c, days, store, &doomed, report).await?;
        let going: Vec<String> = doomed.into_iter().filter(|id| !stuck.contains(id)).collect();
        report.went("runs", i64::try_from(going.len()).unwrap_or_default());
        report.went("events", retention::count_later_events(c, &going, days.event_days).await?);
        stuck.iter().for_each(|id| report.stays("runs", super::HAS_ARTIFACTS, id));
    }
}

/// Those of which something stays in a store.
async fn stuck(
    c: &mut PgConnection,
    days: Retention,
    store: Option<&str>,
    doomed: &[String],
    report: &mut Report,
) -> Result<BTreeSet<String>, sqlx::Error> {
    let mut stuck = BTreeSet::new();
    let mut after = String::new();
    loop {
        let page = retention::artifacts(c, days.run_days, Of::Runs(doomed, &after), PAGE).await?;
        let Some(last) = page.last() else { return Ok(stuck) };
        after.clone_from(&last.artifact_id);
        for artifact in page {
            // What has expired is counted already.
            match fate::of_artifact(&artifact, store) {
                Fate::Kept(why) => {
                    if !artifact.has_expired {
                        report.stays("artifacts", &why, &artifact.artifact_id);
                    }
                    stuck.insert(artifact.run_id);
                }
                _ if !artifact.has_expired => report.went("artifacts", 1),
                _ => {}
            }
        }
    }
}
