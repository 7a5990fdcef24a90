//! Searches the webapp's logs for the worker token: every deployment, oldest first, in two passes.
//!
//! The first pass asks Railway for lines with the prefix. Whether its filter looks into attributes
//! is not documented, so a second pass reads the hour after each deployment's start unfiltered: the
//! bootstrap block is printed when the server starts. Both are bounded in pages for each cycle; a
//! search that is not finished goes on in the next one.

use crate::clients::ClientError;
use crate::clients::railway::{DeploymentRef, LOG_PAGE, Reader};
use crate::plan::logs::Harvest;
use crate::plan::observation::Search;
use crate::plan::secret::Secret;
use crate::plan::state::SearchState;
use jiff::SignedDuration;
use std::time::Duration;
use tokio::time::Instant;

/// Log requests in one cycle: a search must not eat the hour's budget.
const REQUESTS_PER_CYCLE: usize = 25;
/// A slow Railway must not keep the cycle from healing the rest.
const TIME_PER_CYCLE: Duration = Duration::from_secs(30);
/// Pages of one window; a webapp that prints more than this within an hour is read in part.
const PAGES: usize = 5;
/// The bootstrap prints at the server's start, which migrations can delay.
const BOOT_WINDOW: SignedDuration = SignedDuration::from_mins(60);
const FILTER: &str = "\"tr_wgt_\"";

/// How much of a window was read.
enum Read {
    Whole,
    InPart,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Filtered,
    BootWindow,
}

impl Pass {
    /// How a finished window is remembered.
    fn window(self, id: &str) -> String {
        match self {
            Pass::Filtered => format!("{id} (all lines with the token's prefix)"),
            Pass::BootWindow => format!("{id} (first hour, all lines)"),
        }
    }
}

/// Goes on where the state says the last cycle stopped.
pub async fn run(
    railway: &Reader,
    webapp_id: &str,
    before: &SearchState,
    is_known: impl Fn(&Secret) -> bool,
) -> Search {
    let begun = Instant::now();
    // A search that had finished begins anew.
    let searched = if before.finished_at.is_some() { Vec::new() } else { before.windows.clone() };
    let mut search = Search { searched, ..Search::default() };
    let mut deployments = match railway.deployments(webapp_id).await {
        Ok(deployments) => deployments,
        Err(error) => {
            search.error = Some(error.to_string());
            return search;
        }
    };
    deployments.reverse();
    let mut harvest = Harvest::default();
    let mut left = REQUESTS_PER_CYCLE;
    for pass in [Pass::Filtered, Pass::BootWindow] {
        for deployment in &deployments {
            let window = pass.window(&deployment.id);
            if search.searched.iter().any(|done| done.starts_with(&window)) {
                continue;
            }
            if left == 0 || begun.elapsed() > TIME_PER_CYCLE {
                search.found = harvest.tokens();
                return search;
            }
            match read(railway, deployment, pass, &mut harvest, &mut left).await {
                Ok(Read::Whole) => search.searched.push(window),
                Ok(Read::InPart) => search.searched.push(format!("{window}, newest {} lines only", PAGES * LOG_PAGE)),
                Err(error) => {
                    search.found = harvest.tokens();
                    search.error = Some(error.to_string());
                    return search;
                }
            }
        }
        search.found = harvest.tokens();
        // A token that the database does not know proves nothing about the others.
        if search.found.iter().any(&is_known) {
            break;
        }
    }
    search.complete = true;
    search
}

/// One window of one deployment, page by page back in time.
async fn read(
    railway: &Reader,
    deployment: &DeploymentRef,
    pass: Pass,
    harvest: &mut Harvest,
    left: &mut usize,
) -> Result<Read, ClientError> {
    let (filter, start, mut end) = match pass {
        Pass::Filtered => (Some(FILTER), None, None),
        Pass::BootWindow => {
            let end = deployment.created_at + BOOT_WINDOW;
            (None, Some(deployment.created_at.to_string()), Some(end.to_string()))
        }
    };
    for _ in 0..PAGES {
        *left = left.saturating_sub(1);
        let page = railway.harvest_logs(&deployment.id, filter, (start.as_deref(), end.as_deref()), harvest).await?;
        // Railway answers one line more than asked for; fewer means that the window is read.
        if page.lines < LOG_PAGE || page.oldest.is_none() || page.oldest == end {
            return Ok(Read::Whole);
        }
        end = page.oldest;
    }
    Ok(Read::InPart)
}
