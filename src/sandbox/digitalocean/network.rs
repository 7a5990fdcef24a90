//! Cloud firewalls as the account holds them: rules, whom they cover, and what is still pending.

use super::model::Droplet;
use super::world::World;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// One firewall; a test may edit it as somebody would in the web console.
#[derive(Debug, Clone)]
pub struct Firewall {
    pub id: String,
    pub name: String,
    pub inbound_rules: Vec<Value>,
    pub outbound_rules: Vec<Value>,
    pub droplet_ids: Vec<u64>,
    pub tags: Vec<String>,
    pub(super) created_at: String,
    pub(super) changed: Instant,
    /// Droplets that the last change has released.
    pub(super) released: Vec<u64>,
}

impl Firewall {
    pub fn covers(&self, droplet: &Droplet) -> bool {
        self.droplet_ids.contains(&droplet.id) || droplet.tags.iter().any(|t| self.tags.contains(t))
    }

    /// As the API shows it. A change, and a droplet that has just come, take `apply` to arrive.
    pub fn json(&self, world: &World, apply: Duration, now: Instant) -> Value {
        let mut pending = Vec::new();
        for droplet in world.existing().filter(|d| self.covers(d)) {
            if self.changed.max(droplet.created) + apply > now {
                pending.push(json!({"droplet_id": droplet.id, "removing": false, "status": "waiting"}));
            }
        }
        let is_settled = self.changed + apply <= now;
        if !is_settled {
            let removing = |id: &u64| json!({"droplet_id": id, "removing": true, "status": "waiting"});
            pending.extend(self.released.iter().map(removing));
        }
        let status = if is_settled && pending.is_empty() { "succeeded" } else { "waiting" };
        json!({
            "id": self.id, "name": self.name, "status": status, "created_at": self.created_at,
            "inbound_rules": self.inbound_rules, "outbound_rules": self.outbound_rules,
            "droplet_ids": self.droplet_ids, "tags": self.tags, "pending_changes": pending,
        })
    }
}
