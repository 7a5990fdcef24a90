//! DigitalOcean: the token and its reading scopes, the account and its limit, the size and its price.
//!
//! Scopes that only change things cannot be tried without changing something: a create that is
//! refused for one names it in `why`.

use super::Check;
use crate::clients::{ClientError, Readers};
use crate::plan::desired::Desired;
use crate::plan::observation::{Account, Droplet};
use crate::plan::prices::{self, Unsold};

pub async fn check(desired: &Desired, readers: &Readers) -> Vec<Check> {
    let client = &readers.digitalocean;
    let mut checks = Vec::new();
    let account = match client.account().await {
        Ok(account) => Some(account),
        Err(error) => {
            checks.push(Check::refused(readers, &error));
            // One scope less says nothing of the others; anything else would only be said again.
            if !matches!(error, ClientError::Forbidden { .. }) {
                return checks;
            }
            None
        }
    };
    let ours = match client.droplets_by_tag(&desired.identity_tag()).await {
        Ok(ours) => {
            checks.push(Check::ok("droplet:read", format!("{} droplets of ours", ours.len())));
            Some(ours)
        }
        Err(error) => {
            checks.push(Check::refused(readers, &error));
            None
        }
    };
    if let (Some(account), Some(ours)) = (&account, &ours) {
        let check = match client.droplet_count().await {
            Ok(count) => room(account, count, ours),
            Err(error) => Check::refused(readers, &error),
        };
        checks.insert(0, check);
    }
    checks.push(match client.firewall(&desired.firewall_name()).await {
        Ok(Some(_)) => Check::ok("firewall:read", "our firewall exists"),
        Ok(None) => Check::ok("firewall:read", "no firewall of ours yet"),
        Err(error) => Check::refused(readers, &error),
    });
    checks.push(match client.sizes().await {
        Ok(sizes) => match prices::affordable(desired, &sizes) {
            Ok(usd) => {
                Check::ok("SUPERVISOR_SIZE", format!("{} in {} costs {usd} USD a month", desired.size, desired.region))
            }
            Err(Unsold { variable, why }) => Check::bad(variable, why),
        },
        Err(error) => Check::refused(readers, &error),
    });
    checks.extend(predecessor(desired, readers).await);
    checks
}

/// Whether the account lets one more droplet be made.
fn room(account: &Account, count: u64, ours: &[Droplet]) -> Check {
    const WHAT: &str = "DigitalOcean account";
    const FIX: &str = "delete one that is not needed, or request a higher limit in the DigitalOcean account's settings";
    if account.status == "locked" {
        return Check::bad(WHAT, "is locked: see the DigitalOcean console");
    }
    let status = &account.status;
    match account.droplet_limit {
        None => Check::ok(WHAT, format!("{status}, {count} droplets, limit unknown")),
        Some(limit) if count < limit => Check::ok(WHAT, format!("{status}, {count} of at most {limit} droplets")),
        Some(limit) if ours.is_empty() => {
            Check::bad(WHAT, format!("{count} of at most {limit} droplets exist, so no supervisor can be made: {FIX}"))
        }
        // A replacement is made before the old one goes.
        Some(limit) => Check::ok(
            WHAT,
            format!("{status}, {count} of at most {limit} droplets: enough now, too few for a replacement ({FIX})"),
        ),
    }
}

async fn predecessor(desired: &Desired, readers: &Readers) -> Option<Check> {
    let old = readers.digitalocean.droplets_by_tag(&desired.predecessor_tag()).await.ok()?;
    let names: Vec<_> = old.iter().map(|d| format!("{} ({})", d.name, d.id)).collect();
    let fix = "they are never touched by this program: delete them in the console once the new supervisor serves";
    let detail = format!("droplets of the predecessor still bill: {}; {fix}", names.join(", "));
    (!old.is_empty()).then(|| Check::bad("predecessor", detail))
}
