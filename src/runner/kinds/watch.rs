//! Looks whether the artifact store works before a run needs it, and again while the runner lives.
//!
//! A run that finds out at its end that nothing can be stored has built and deployed for nothing: so no
//! run that stores is claimed before something was written, read and deleted there.

use super::{Settings, needs};
use crate::runner::offer::Offer;
use crate::runner::{Kinds, report};
use crate::runs::troubles::Troubles;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// While it works.
const EVERY: Duration = Duration::from_secs(300);

/// Looks until it is stopped. What it yields changes to true when it has looked once.
pub fn watch_store(
    settings: Arc<Settings>,
    kinds: &Kinds,
    offer: Arc<Offer>,
    troubles: Troubles,
    stop: CancellationToken,
) -> watch::Receiver<bool> {
    let storing: Vec<String> = kinds.keys().filter(|kind| needs::STORING.contains(&kind.as_str())).cloned().collect();
    let (looked, has_looked) = watch::channel(storing.is_empty());
    if storing.is_empty() {
        return has_looked;
    }
    offer.hold(&storing, "ARTIFACT_STORE was not tried yet");
    tokio::spawn(async move {
        let mut pause = SHORTEST_PAUSE;
        while !stop.is_cancelled() {
            let next = match settings.store.probe().await {
                Ok(()) => {
                    report::store_is_there(&troubles, &storing);
                    offer.release(&storing);
                    pause = SHORTEST_PAUSE;
                    EVERY
                }
                Err(why) => {
                    report::store_is_away(&troubles, &why, &storing);
                    offer.hold(&storing, &why);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    pause / 2
                }
            };
            looked.send_replace(true);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(next) => {}
            }
        }
    });
    has_looked
}
