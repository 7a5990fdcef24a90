//! The firewall: its name is unique in an account, so a second one cannot come to be.

use super::{Applier, Done};
use crate::plan::action::FirewallSpec;

impl Applier<'_> {
    pub(super) async fn create_firewall(&self, spec: &FirewallSpec) -> Done {
        let digitalocean = &self.writers.digitalocean;
        match digitalocean.look().firewall(&spec.name).await {
            Err(error) => return Done::failed(format!("could not look before creating: {}", self.explain(&error))),
            Ok(Some(_)) => return Done::superseded("the firewall exists by now"),
            Ok(None) => {}
        }
        if let Err(error) = digitalocean.create_tag(&spec.tag).await {
            return self.refused(&error);
        }
        match digitalocean.create_firewall(spec).await {
            Ok(request_id) => Done::applied(request_id),
            Err(error) => self.refused(&error),
        }
    }

    pub(super) async fn update_firewall(&self, id: &str, spec: &FirewallSpec) -> Done {
        let digitalocean = &self.writers.digitalocean;
        match digitalocean.look().firewall(&spec.name).await {
            Err(error) => return Done::failed(format!("could not look before repairing: {}", self.explain(&error))),
            Ok(None) => return Done::superseded("the firewall is gone"),
            Ok(Some(found)) if found.id != id => return Done::superseded("another firewall has the name by now"),
            Ok(Some(found)) if found.rules == spec.rules && found.tags.contains(&spec.tag) => return Done::already(),
            Ok(Some(_)) => {}
        }
        if let Err(error) = digitalocean.create_tag(&spec.tag).await {
            return self.refused(&error);
        }
        match digitalocean.update_firewall(id, spec).await {
            Ok(request_id) => Done::applied(request_id),
            Err(error) => self.refused(&error),
        }
    }
}
