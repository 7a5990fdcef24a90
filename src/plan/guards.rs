//! Guards on creating: each holds a droplet back and says so, rather than let money run away.

use super::action::Action;
use super::backed_off;
use super::condition::Reason;
use super::desired::Desired;
use super::droplets::View;
use super::observation::{Observation, Seen};
use super::prices::{self, Unsold};
use super::state::State;

/// What holds a create.
#[derive(Debug)]
pub struct Hold {
    pub by: String,
    pub why: String,
    /// The condition's reason, when the hold says more than "not deployed".
    pub reason: Option<Reason>,
    /// Looked at again within seconds, because it passes without anybody's help.
    pub ends_by_itself: bool,
}

impl Hold {
    fn by(by: &str, why: impl Into<String>) -> Hold {
        Hold { by: by.into(), why: why.into(), reason: Some(Reason::Held), ends_by_itself: false }
    }

    fn soon(mut self) -> Hold {
        self.ends_by_itself = true;
        self
    }
}

/// The price of the droplet in USD a month, or what holds it: first what only a person can change.
pub fn may_create(
    desired: &Desired,
    state: &State,
    seen: &Observation,
    firewall_ready: bool,
    existing: &[View<'_>],
    action: &Action,
) -> Result<f64, Hold> {
    if let Seen::Known(account) = &seen.account {
        if account.status == "locked" {
            return Err(Hold::by("DigitalOcean account", "the account is locked: see the DigitalOcean console"));
        }
        if account.droplet_limit == Some(0) {
            return Err(Hold::by(
                "DigitalOcean account",
                "the account's droplet limit is 0: request a higher one in the DigitalOcean account's settings",
            ));
        }
    }
    let price = affordable(desired, seen)?;
    if !firewall_ready {
        return Err(Hold::by("FirewallReady", "no droplet is made before its firewall stands"));
    }
    if let Some(until) = state.others_settled_at(desired.times.create_settle)
        && until > seen.at
    {
        let why = format!(
            "another controller acted here before; what it created last may not be listed yet, so nothing is created before {until}"
        );
        return Err(Hold::by("CREATE_SETTLE", why).soon());
    }
    if let Some((failure, until)) = backed_off(state, &action.key(), seen.at) {
        let why = format!("failed {} times, tried again after {until}: {}", failure.attempts, failure.error);
        return Err(Hold { reason: Some(Reason::ChangeFailed), ..Hold::by("back-off", why) });
    }
    if let Some(until) = state.supervisor.not_before.filter(|until| *until > seen.at) {
        let why = format!(
            "{} new droplets in a row did not become healthy; the next is made after {until}",
            state.supervisor.failed_creates
        );
        return Err(Hold { reason: Some(Reason::ReplacementFailed), ..Hold::by("back-off", why) });
    }
    let limits = &desired.limits;
    if existing.len() as u32 >= limits.max_droplets {
        let names: Vec<_> = existing.iter().map(|v| v.droplet.name.as_str()).collect();
        let going = existing.iter().any(View::is_going);
        let fix = if going { "one is going" } else { "raise MAX_DROPLETS, or delete one" };
        let why = format!("{} of at most {} exist ({}): {fix}", existing.len(), limits.max_droplets, names.join(", "));
        let hold = Hold::by("MAX_DROPLETS", why);
        return Err(if going { hold.soon() } else { hold });
    }
    if state.supervisor.creates.len() as u32 >= limits.max_creates_per_hour {
        let why = format!(
            "{} of at most {} creates were sent within the last hour: look at why they fail; the next comes within the \
             hour, or after raising it",
            state.supervisor.creates.len(),
            limits.max_creates_per_hour
        );
        return Err(Hold::by("MAX_CREATES_PER_HOUR", why));
    }
    Ok(price)
}

/// An unknown price is not a low one.
fn affordable(desired: &Desired, seen: &Observation) -> Result<f64, Hold> {
    match &seen.sizes {
        Seen::Known(sizes) => {
            prices::affordable(desired, sizes).map_err(|Unsold { variable, why }| Hold::by(variable, why))
        }
        Seen::Unknown { reason } => {
            Err(Hold::by("MAX_MONTHLY_USD", format!("the prices could not be read: {reason}")).soon())
        }
    }
}
