//! Keeps the leases of what runs, frees what others have left, and has old things removed now and then.
//!
//! A lease that could not be renewed in time counts as lost from our own deadline on, which is before
//! the database's: two runners never work on one run, unless one of them was frozen in the middle.

use super::held::{Holding, Stop};
use super::{Shared, prune, report};
use crate::clients::fence::uptime;
use crate::runs::line::Line;
use crate::runs::{control, queue};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

const RESCUED_AT_ONCE: i32 = 100;
const RESCUES_IN_A_ROW: u32 = 10;
/// After the start, so that a runner that is often restarted prunes, too.
const FIRST_PRUNES_AFTER: Duration = Duration::from_secs(300);
const MEASURES_EVERY: Duration = Duration::from_secs(15);

pub async fn keep(shared: Arc<Shared>, ended: CancellationToken) {
    let lease = shared.options.lease;
    // A question that takes longer than this is asked again, while there is time.
    let mut line = Line::new(shared.address.clone(), (lease / 6).clamp(Duration::from_millis(200), super::LINE_LIMIT));
    let mut ticks = interval((lease / 12).max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut due = Instant::now() + lease / 3;
    let mut prunes = Instant::now() + FIRST_PRUNES_AFTER.min(shared.options.prune_every);
    let mut pruning: Option<AbortOnDropHandle<()>> = None;
    let mut measures = Instant::now();
    let mut says = Instant::now() + control::SAYS_EVERY;
    // What the database knows of that; at first it may be what was claimed a moment before.
    let mut works_on: Option<Vec<String>> = None;
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            _ = ticks.tick() => {}
        }
        give_up_overdue(&shared);
        if Instant::now() >= due {
            // What fails is due again at the next tick.
            if renew(&shared, &mut line).await && rescue(&mut line).await {
                due = Instant::now() + lease / 3;
            }
        }
        let claimed = shared.claimed_kinds();
        if works_on.as_ref() != Some(&claimed) {
            let (id, kinds) = (shared.id.0.clone(), claimed.clone());
            let said = line.with(|c| Box::pin(async move { control::works_on(c, &id, &kinds).await })).await;
            if said.is_ok() && works_on.replace(claimed).is_some() {
                tracing::info!("runner {} {}", shared.id.0, shared.offer.told(shared.kinds.keys()));
            }
        }
        if Instant::now() >= says {
            says = Instant::now() + control::SAYS_EVERY;
            let processed = shared.processed.swap(0, Ordering::Relaxed);
            let id = shared.id.0.clone();
            let said = line.with(|c| Box::pin(async move { control::seen(c, &id, processed, false).await })).await;
            if said.is_err() {
                shared.processed.fetch_add(processed, Ordering::Relaxed);
            }
        }
        if Instant::now() >= measures {
            measures = Instant::now() + MEASURES_EVERY;
            // Not on our line: counting a long queue must not hold up the leases.
            let pool = shared.pool.clone();
            tokio::spawn(async move {
                if let Ok(mut c) = pool.acquire().await
                    && let Ok(depths) = control::depths(&mut c).await
                {
                    report::depths(&depths);
                }
            });
        }
        if Instant::now() >= prunes {
            prunes = Instant::now() + shared.options.prune_every;
            // On a connection of its own, and ended with us: the database forgets what was half done.
            if pruning.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
                pruning = Some(AbortOnDropHandle::new(tokio::spawn(prune::now_and_then(shared.clone()))));
            }
        }
    }
}

fn give_up_overdue(shared: &Shared) {
    for holding in shared.held.running() {
        if holding.grant.left().is_zero() && holding.stopped() != Some(Stop::Lost) {
            holding.stop(Stop::Lost);
            report::lost(&holding.hold.run_id, "its lease could not be renewed in time");
        }
    }
}

/// False: it is not known which are still ours.
async fn renew(shared: &Shared, line: &mut Line) -> bool {
    let running = shared.held.running();
    if running.is_empty() {
        return true;
    }
    let mut held: Vec<(String, i64)> = running.iter().map(|h| (h.hold.run_id.clone(), h.hold.lease_token)).collect();
    // Everybody locks rows in the same order.
    held.sort_unstable();
    let lease = shared.options.lease;
    let until = uptime() + lease / 10 * 9;
    let count = held.len();
    match line.with(|c| Box::pin(async move { queue::renew(c, &held, lease).await })).await {
        Ok(kept) => {
            report::database_is_there(&shared.troubles);
            let kept: HashMap<String, bool> = kept.into_iter().collect();
            running.iter().for_each(|holding| judge(shared, holding, kept.get(&holding.hold.run_id), until));
            true
        }
        Err(error) => {
            report::database_is_away(&shared.troubles, &error);
            tracing::warn!(%error, runs = count, "the leases of {count} runs could not be renewed: {error}");
            false
        }
    }
}

fn judge(shared: &Shared, holding: &Arc<Holding>, cancel_requested: Option<&bool>, until: Duration) {
    match cancel_requested {
        Some(cancel) => {
            // Too late: it may have been judged by its old deadline already.
            if holding.grant.extend(until).is_err() {
                holding.stop(Stop::Lost);
            } else if *cancel {
                holding.stop(Stop::Cancelled);
            }
        }
        // What ended while we asked is not there for a good reason.
        None if holding.is_ending.load(Ordering::Relaxed) || !shared.held.has(&holding.hold) => {}
        None => {
            holding.stop(Stop::Lost);
            report::lost(&holding.hold.run_id, "another runner has it, or somebody put it back");
        }
    }
}

/// False: there may be more to rescue.
async fn rescue(line: &mut Line) -> bool {
    // So many at a time that our own leases are not forgotten over others'.
    for _ in 0..RESCUES_IN_A_ROW {
        match line.with(|c| Box::pin(queue::rescue(c, RESCUED_AT_ONCE))).await {
            Ok(rescued) => {
                report::rescued(&rescued);
                if rescued.len() < usize::try_from(RESCUED_AT_ONCE).unwrap_or_default() {
                    return true;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "runs of lost runners could not be looked for: {error}");
                return false;
            }
        }
    }
    false
}
