//! One observation: all sources at once, each with its own deadline, Unknown where a look failed.
//!
//! Some things change rarely and cost a request each: firewall, sizes and account are read in
//! rotation and remembered in between, so that a healthy cycle costs one request per provider.

use super::search;
use crate::clients::{ClientError, Readers};
use crate::plan::configuration::{self, Configuration};
use crate::plan::desired::Desired;
use crate::plan::observation::{Account, Droplet, Firewall, Health, Observation, Probe, RailwayView, Seen, Size};
use crate::plan::secret::Secret;
use crate::plan::state::{IntentKind, State};
use crate::plan::token::{self, Standing};
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A source that has not answered by then is Unknown in this cycle.
const SOURCE_DEADLINE: Duration = Duration::from_secs(45);
/// While something is in progress, cycles come every few seconds; Railway's hourly budget would not
/// last, and its answer hardly changes within this.
const RAILWAY_FRESH: SignedDuration = SignedDuration::from_secs(30);
/// One of firewall, sizes and account is read in every eighth cycle: with sizes on two pages, that is
/// a sixth of a request for each cycle.
const ROTATION: u64 = 8;

/// What the observer remembers between cycles. Lost on restart: then everything is read anew.
#[derive(Default)]
pub struct Memory {
    railway: Option<(Timestamp, RailwayView)>,
    firewall: Option<Option<Firewall>>,
    sizes: Option<Vec<Size>>,
    account: Option<Account>,
    cycles: u64,
}

impl Memory {
    /// The firewall was changed by us, or may have been: look again.
    pub fn forget_firewall(&mut self) {
        self.firewall = None;
    }

    pub fn forget_railway(&mut self) {
        self.railway = None;
    }

    /// The prices were not right, or a create was refused: look again.
    pub fn forget_account(&mut self) {
        self.sizes = None;
        self.account = None;
    }
}

/// Reads the world. `state` is as the last cycle left it.
pub async fn observe(
    readers: &Readers,
    desired: &Desired,
    state: &State,
    memory: &mut Memory,
    at: Timestamp,
) -> Observation {
    memory.cycles += 1;
    let due = Due::of(state, memory, desired, at);
    let (railway, database, droplets, firewall, sizes, account) = tokio::join!(
        railway(readers, state, memory.railway.as_ref().filter(|_| !due.railway)),
        within(readers, "PostgreSQL", async { readers.postgres.look().await }),
        within(readers, "DigitalOcean", droplets(readers, desired, state)),
        remembered(readers, due.firewall, &memory.firewall, readers.digitalocean.firewall(&due.firewall_name)),
        remembered(readers, due.sizes, &memory.sizes, readers.digitalocean.sizes()),
        remembered(readers, due.account, &memory.account, readers.digitalocean.account()),
    );
    if let (true, Seen::Known(view)) = (due.railway, &railway) {
        memory.railway = Some((at, view.clone()));
    }
    memory.firewall = firewall.known().cloned();
    memory.sizes = sizes.known().cloned();
    memory.account = account.known().cloned();
    let mut seen =
        Observation { railway, database, droplets, firewall, sizes, account, ..Observation::nothing(at, "") };
    let (health, probe, search) = tokio::join!(
        health(readers, &seen),
        probe(readers, desired, state, &seen),
        search(readers, desired, state, &seen),
    );
    seen.health = health;
    seen.probe = probe;
    seen.search = search;
    // A token found just now is proven in the same cycle.
    if seen.probe.is_none() {
        seen.probe = probe_found(readers, desired, state, &seen).await;
    }
    seen
}

/// What is read in this cycle besides droplets and database.
struct Due {
    railway: bool,
    firewall: bool,
    firewall_name: String,
    sizes: bool,
    account: bool,
}

impl Due {
    fn of(state: &State, memory: &Memory, desired: &Desired, at: Timestamp) -> Due {
        let turn = memory.cycles.is_multiple_of(ROTATION).then_some((memory.cycles / ROTATION) % 3);
        let interval = crate::plan::signed(desired.times.check_interval);
        let fresh = RAILWAY_FRESH.min(interval / 2);
        // A manual token is never cached, and nothing at Railway moves because of it.
        let is_searching = state.token.is_none() && desired.manual_token.is_none();
        let railway_moves = state.restart.is_some() || is_searching;
        Due {
            railway: railway_moves || memory.railway.as_ref().is_none_or(|(read, _)| at.duration_since(*read) >= fresh),
            firewall: memory.firewall.is_none() || turn == Some(0),
            firewall_name: desired.firewall_name(),
            sizes: memory.sizes.is_none() || turn == Some(1),
            account: memory.account.is_none() || turn == Some(2),
        }
    }
}

async fn within<T>(readers: &Readers, source: &str, look: impl Future<Output = Result<T, ClientError>>) -> Seen<T> {
    match tokio::time::timeout(SOURCE_DEADLINE, look).await {
        Ok(Ok(value)) => Seen::Known(value),
        Ok(Err(error)) => {
            let explained = readers.remedies.explain(&error);
            tracing::warn!(source, %error, "could not look: {explained}");
            Seen::unknown(explained.to_string())
        }
        Err(_) => {
            tracing::warn!(source, "could not look within {} s", SOURCE_DEADLINE.as_secs());
            Seen::unknown(format!("{source}: no answer within {} s", SOURCE_DEADLINE.as_secs()))
        }
    }
}

async fn railway(readers: &Readers, state: &State, fresh: Option<&(Timestamp, RailwayView)>) -> Seen<RailwayView> {
    match fresh {
        Some((_, view)) => Seen::Known(view.clone()),
        None => within(readers, "Railway", readers.railway.observe(&state.railway_ids)).await,
    }
}

async fn remembered<T: Clone>(
    readers: &Readers,
    due: bool,
    memory: &Option<T>,
    look: impl Future<Output = Result<T, ClientError>>,
) -> Seen<T> {
    match memory {
        Some(value) if !due => Seen::Known(value.clone()),
        _ => within(readers, "DigitalOcean", look).await,
    }
}

/// The tag's listing, completed: a droplet that we know of and that is not listed is asked for by its
/// id, and an unsettled create by its name. A listing alone never proves absence.
async fn droplets(readers: &Readers, desired: &Desired, state: &State) -> Result<Vec<Droplet>, ClientError> {
    let tag = desired.identity_tag();
    let mut all = readers.digitalocean.droplets_by_tag(&tag).await?;
    let listed: BTreeSet<u64> = all.iter().map(|d| d.id).collect();
    let mut wanted: BTreeSet<u64> = state.supervisor.droplets.keys().copied().collect();
    for intent in &state.intents {
        if let IntentKind::CreateDroplet { name, id } = &intent.what {
            wanted.extend(id);
            let named = readers.digitalocean.droplets_by_name(name).await?;
            // Names are not unique: only what carries our mark is ours. A tag may come a moment later
            // than its droplet, so a droplet of this very create counts by its id, too.
            all.extend(named.into_iter().filter(|d| d.tags.contains(&tag) || Some(d.id) == *id));
        }
    }
    for id in wanted.difference(&listed) {
        all.extend(readers.digitalocean.droplet(*id).await?);
    }
    all.sort_by_key(|d| d.id);
    all.dedup_by_key(|d| d.id);
    Ok(all)
}

async fn health(readers: &Readers, seen: &Observation) -> BTreeMap<u64, Health> {
    let droplets = seen.droplets.known().map(Vec::as_slice).unwrap_or_default();
    let looks = droplets.iter().filter_map(|d| {
        let ip = d.ip.as_ref()?;
        Some(async move { (d.id, readers.trigger.health(ip).await) })
    });
    join_all(looks).await.into_iter().collect()
}

/// The token that stands and the configuration that goes with it, when the webapp may be asked.
fn to_probe(desired: &Desired, state: &State, seen: &Observation) -> Option<(Configuration, Standing)> {
    let (configuration, _) = configuration::read(desired, &seen.railway);
    let configuration = configuration?;
    let standing = token::standing(desired, state, &seen.database);
    let Standing::Accepted { token, .. } = &standing else { return None };
    let inputs = token::probe_inputs(token, &configuration);
    token::may_probe(state, &inputs, seen.at).then_some((configuration, standing))
}

async fn probe(readers: &Readers, desired: &Desired, state: &State, seen: &Observation) -> Option<Probe> {
    let (configuration, standing) = to_probe(desired, state, seen)?;
    let Standing::Accepted { token, .. } = standing else { return None };
    Some(readers.trigger.probe(&configuration.api_url, &token, &configuration.managed_secret).await)
}

/// The same for a token that this cycle's search or rotation brought.
async fn probe_found(readers: &Readers, desired: &Desired, state: &State, seen: &Observation) -> Option<Probe> {
    let mut after = state.clone();
    crate::plan::digest(desired, &mut after, seen);
    match after.token == state.token {
        true => None,
        false => probe(readers, desired, &after, seen).await,
    }
}

async fn search(
    readers: &Readers,
    desired: &Desired,
    state: &State,
    seen: &Observation,
) -> Option<crate::plan::observation::Search> {
    if !token::wants_search(desired, state, &seen.database, seen.at) {
        return None;
    }
    let webapp = seen.railway.known()?.webapp.found()?.id.clone();
    let groups = seen.database.known().and_then(|d| d.worker_groups.as_deref()).unwrap_or_default();
    let is_known = |token: &Secret| token::known_group(groups, token).is_some();
    Some(search::run(&readers.railway, &webapp, &state.search, is_known).await)
}
