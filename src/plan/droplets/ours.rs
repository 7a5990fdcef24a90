//! Which of the droplets that a listing shows are ours.
//!
//! The listing is asked for by tag and believed in nothing: a stranger in it would be counted, and
//! deleted as one too many.

use crate::plan::desired::Desired;
use crate::plan::observation::Droplet;
use crate::plan::state::{Intent, IntentKind, State};

/// Those with our tag. One known by its id counts without it: a tag may come a moment later than its droplet.
pub fn ours<'a>(desired: &Desired, state: &State, listed: &'a [Droplet]) -> Vec<&'a Droplet> {
    let tag = desired.identity_tag();
    let is_made_by = |intent: &Intent, made: u64| matches!(intent.what, IntentKind::CreateDroplet { id: Some(id), .. } if id == made);
    let is_known =
        |id| state.supervisor.droplets.contains_key(&id) || state.intents.iter().any(|intent| is_made_by(intent, id));
    listed.iter().filter(|d| d.tags.contains(&tag) || is_known(d.id)).collect()
}
