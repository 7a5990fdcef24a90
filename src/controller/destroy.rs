//! Takes down everything of ours: droplets, firewall, tag. Nothing else is looked at twice.

use crate::clients::{ClientError, Writers};
use crate::plan::desired::Desired;
use crate::plan::observation::{Droplet, Firewall};
use crate::plan::state::{IntentKind, State};
use jiff::Timestamp;
use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// A deletion is asynchronous; beyond this, something is wrong at the provider.
const GONE_BY: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What would be deleted.
#[derive(Debug)]
pub struct Inventory {
    pub droplets: Vec<Droplet>,
    pub firewall: Option<Firewall>,
}

impl Inventory {
    pub fn is_empty(&self) -> bool {
        self.droplets.is_empty() && self.firewall.is_none()
    }
}

/// Looks. An error means that nothing is known, and then nothing is deleted. A list may lag behind:
/// droplets that the state knows of are asked for by their ids as well.
pub async fn inventory(writers: &Writers, desired: &Desired, state: &State) -> Result<Inventory, ClientError> {
    let look = writers.digitalocean.look();
    let tag = desired.identity_tag();
    let mut droplets = look.droplets_by_tag(&tag).await?;
    for id in state.supervisor.droplets.keys() {
        if !droplets.iter().any(|d| d.id == *id) {
            droplets.extend(look.droplet(*id).await?);
        }
    }
    Ok(Inventory {
        // The listing is by tag already; held against the droplets' own words all the same.
        droplets: droplets.into_iter().filter(|d| d.tags.contains(&tag)).collect(),
        firewall: look.firewall(&desired.firewall_name()).await?.filter(|f| f.tags.contains(&tag)),
    })
}

/// A create whose outcome is open may still become a droplet, which would then bill unseen: its name
/// and when it was sent.
pub fn unsettled_create<'a>(
    state: &'a State,
    desired: &Desired,
    inventory: &Inventory,
    now: Timestamp,
) -> Option<(&'a str, Timestamp)> {
    let sent = state.intents.iter().filter_map(|intent| match &intent.what {
        IntentKind::CreateDroplet { name, .. } => Some((name.as_str(), intent.at)),
        _ => None,
    });
    let known = state.supervisor.droplets.values().filter(|r| r.deleted_at.is_none());
    let known = known.map(|record| (record.name.as_str(), record.first_seen));
    let settle = crate::plan::signed(desired.times.create_settle);
    let is_there = |name: &str| inventory.droplets.iter().any(|d| d.name == name);
    sent.chain(known).find(|(name, at)| now.duration_since(*at) < settle && !is_there(name))
}

/// What a teardown is about to do, or has just done.
#[derive(Debug)]
pub enum Step<'a> {
    /// All that will be deleted; nothing was yet.
    Found(&'a Inventory),
    Deleting(&'a Droplet),
    Gone(&'a Droplet),
    FirewallDeleted(&'a Firewall),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Found(inventory) => {
                write!(f, "of ours:")?;
                for droplet in &inventory.droplets {
                    let Droplet { name, id, size, region, .. } = droplet;
                    write!(f, "\n  droplet {name} ({id}), {size}, {region}")?;
                }
                inventory.firewall.iter().try_for_each(|firewall| write!(f, "\n  firewall {}", firewall.name))
            }
            Step::Deleting(droplet) => write!(f, "deleting droplet {} ({})", droplet.name, droplet.id),
            Step::Gone(droplet) => write!(f, "droplet {} is gone", droplet.name),
            Step::FirewallDeleted(firewall) => write!(f, "deleted firewall {}", firewall.name),
        }
    }
}

/// Writes a step into the state, so that the next teardown does not wait for a droplet that this one
/// deleted.
fn note(state: &mut State, step: &Step, now: Timestamp) {
    let Step::Deleting(droplet) = step else { return };
    let is_its_create =
        |what: &IntentKind| matches!(what, IntentKind::CreateDroplet { name, .. } if *name == droplet.name);
    state.intents.retain(|intent| !is_its_create(&intent.what));
    if let Some(record) = state.supervisor.droplets.get_mut(&droplet.id) {
        record.deleted_at = Some(now);
    }
}

/// How a teardown ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing of ours was there; a tag that an earlier teardown left is gone, too.
    Nothing,
    /// Something of ours may still appear: then nothing was deleted, or all but the tag, by which it is
    /// found again.
    Unsettled(String),
    /// Nothing was deleted: whoever heard of what was found did not want it.
    Declined,
    Destroyed,
}

/// The whole teardown. `step` hears of each step, and says whether to go on: that counts for
/// [`Step::Found`], before anything is deleted. What was deleted is noted in the state, also when an
/// error ends it; to save the state is the caller's.
pub async fn take_down(
    writers: &Writers,
    desired: &Desired,
    state: &mut State,
    now: Timestamp,
    mut step: impl FnMut(&Step) -> bool,
) -> Result<Outcome, ClientError> {
    let inventory = inventory(writers, desired, state).await?;
    if let Some((name, at)) = unsettled_create(state, desired, &inventory, now) {
        let why = format!("the create of droplet {name} was sent at {at} and is not settled");
        return Ok(Outcome::Unsettled(why));
    }
    if let Some(until) = state.others_settled_at(desired.times.create_settle).filter(|until| *until > now) {
        let why = format!(
            "another controller, whose state file is not this one, acted here before, and what it created last may \
             not be listed before {until}"
        );
        return Ok(Outcome::Unsettled(why));
    }
    if inventory.is_empty() {
        return Ok(take_tag_away(writers, desired).await?.unwrap_or(Outcome::Nothing));
    }
    if !step(&Step::Found(&inventory)) {
        return Ok(Outcome::Declined);
    }
    destroy(writers, &inventory, |done| {
        step(&done);
        note(state, &done, now);
    })
    .await?;
    Ok(take_tag_away(writers, desired).await?.unwrap_or(Outcome::Destroyed))
}

/// Last of all, and only when nothing carries it: a droplet that no listing shows yet would lose its
/// mark with the tag, and bill where nobody finds it again.
async fn take_tag_away(writers: &Writers, desired: &Desired) -> Result<Option<Outcome>, ClientError> {
    let tag = desired.identity_tag();
    match writers.digitalocean.look().tagged(&tag).await? {
        None => Ok(None),
        Some(0) => writers.digitalocean.delete_tag(&tag).await.map(|()| None),
        Some(count) => {
            Ok(Some(Outcome::Unsettled(format!("nothing of ours is listed, and tag {tag} is carried by {count}"))))
        }
    }
}

/// Deletes by id and waits until the droplets are gone; then the firewall.
async fn destroy(writers: &Writers, inventory: &Inventory, mut did: impl FnMut(Step)) -> Result<(), ClientError> {
    let digitalocean = &writers.digitalocean;
    let deadline = Instant::now() + GONE_BY;
    let mut left: Vec<&Droplet> = inventory.droplets.iter().collect();
    let mut asked: Vec<u64> = Vec::new();
    while !left.is_empty() {
        let mut still = Vec::new();
        for droplet in left {
            if !asked.contains(&droplet.id) {
                match digitalocean.delete_droplet(droplet.id).await {
                    Ok(_) => {
                        did(Step::Deleting(droplet));
                        asked.push(droplet.id);
                    }
                    // Busy with another event: asked again in the next round.
                    Err(ClientError::Refused { message, .. }) if message.contains("pending event") => {}
                    Err(error) => return Err(error),
                }
            }
            match digitalocean.look().droplet(droplet.id).await? {
                Some(_) => still.push(droplet),
                None => did(Step::Gone(droplet)),
            }
        }
        left = still;
        if Instant::now() > deadline {
            let names: Vec<_> = left.iter().map(|d| d.name.as_str()).collect();
            return Err(ClientError::NoAnswer {
                provider: "DigitalOcean",
                message: format!("still there after {} s: {}", GONE_BY.as_secs(), names.join(", ")),
            });
        }
        if !left.is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    if let Some(firewall) = &inventory.firewall {
        digitalocean.delete_firewall(&firewall.id).await?;
        did(Step::FirewallDeleted(firewall));
    }
    Ok(())
}
