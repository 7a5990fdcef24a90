//! `/v2/droplets`: reading, deleting and acting on droplets, and `/v2/actions`.

use super::answer::{Answer, Outcome};
use super::api::Api;
use super::catalog::{disk_info, image_json, region_named};
use super::model::{Action, ActionKind, Droplet, State};
use super::schema::{Field, Kind, optional, required, text};
use crate::sandbox::faults::Break;
use axum::http::StatusCode;
use serde_json::{Value, json};

const ACTION: [Field; 3] = [required("type", Kind::Text), optional("size", Kind::Text), optional("disk", Kind::Flag)];
pub const PENDING_EVENT: &str = "Droplet already has a pending event.";

impl Api<'_> {
    pub fn list_droplets(&mut self) -> Outcome {
        self.need("droplet:read")?;
        let (tag, name) = (self.request.param("tag_name"), self.request.param("name"));
        if tag.is_some() {
            self.need("tag:read")?;
            if name.is_some() || self.request.param("type").is_some() {
                return Err(Answer::unprocessable("tag_name cannot be combined with name or type"));
            }
        }
        if self.faults.take(Break::DropletListFailing) {
            return Err(Answer::server_error());
        }
        let page = self.page()?;
        let is_lagging = self.faults.take(Break::ListLag);
        let wanted = |d: &&Droplet| {
            tag.is_none_or(|tag| d.has_tag(tag)) && name.is_none_or(|name| d.name.eq_ignore_ascii_case(name))
        };
        let shown = self.world.droplets.values().filter(|d| self.is_visible(d, is_lagging)).filter(wanted);
        Ok(page.answer("droplets", shown.map(|d| self.droplet_json(d)).collect()))
    }

    pub fn get_droplet(&mut self, id: &str) -> Outcome {
        self.need("droplet:read")?;
        let is_lagging = self.faults.take(Break::ListLag);
        let id: u64 = id.parse().map_err(|_| Answer::not_found())?;
        let droplet = self.world.droplets.get(&id).filter(|d| self.is_visible(d, is_lagging));
        let droplet = droplet.ok_or_else(Answer::not_found)?;
        Ok(Answer::ok(json!({"droplet": self.droplet_json(droplet)})))
    }

    pub fn delete_droplet(&mut self, id: &str) -> Outcome {
        self.need("droplet:delete")?;
        let id = self.idle_droplet(id)?;
        self.world.begin_delete(id, self.now);
        Ok(Answer::no_content())
    }

    pub fn act_on_droplet(&mut self, id: &str) -> Outcome {
        self.need("droplet:update")?;
        let body = self.body(&ACTION)?;
        if text(&body, "type") == "resize" {
            self.need("droplet:create")?;
        }
        let id = self.idle_droplet(id)?;
        let kind = self.possible_action(id, text(&body, "type"), text(&body, "size"))?;
        let action = self.world.act(id, kind, self.now);
        let action = self.world.actions.get(&action).ok_or_else(Answer::server_error)?;
        Ok(Answer::json(StatusCode::CREATED, json!({"action": self.action_json(action)})))
    }

    pub fn get_action(&mut self, id: &str) -> Outcome {
        self.need("actions:read")?;
        let id: u64 = id.parse().map_err(|_| Answer::not_found())?;
        let action = self.world.actions.get(&id).ok_or_else(Answer::not_found)?;
        Ok(Answer::ok(json!({"action": self.action_json(action)})))
    }

    /// A droplet that exists and has no action running.
    fn idle_droplet(&mut self, id: &str) -> Result<u64, Answer> {
        let id = id.parse().map_err(|_| Answer::not_found())?;
        self.world.droplet_mut(id).ok_or_else(Answer::not_found)?;
        if self.world.has_pending_event(id) {
            return Err(Answer::unprocessable(PENDING_EVENT));
        }
        Ok(id)
    }

    fn possible_action(&mut self, id: u64, kind: &str, size: &str) -> Result<ActionKind, Answer> {
        let droplet = self.world.droplet_mut(id).ok_or_else(Answer::not_found)?;
        let is_off = droplet.state == State::Off;
        let off = "Droplet is already powered off.";
        match kind {
            "power_on" if !is_off => Err(Answer::unprocessable("Droplet is already powered on.")),
            "power_on" => Ok(ActionKind::PowerOn),
            "power_off" | "shutdown" | "reboot" if is_off => Err(Answer::unprocessable(off)),
            "power_off" => Ok(ActionKind::PowerOff),
            "shutdown" => Ok(ActionKind::Shutdown),
            "reboot" => Ok(ActionKind::Reboot),
            "power_cycle" => Ok(ActionKind::PowerCycle),
            "resize" if !is_off => Err(Answer::unprocessable("Droplet must be powered off to resize.")),
            "resize" => {
                let region = droplet.region.clone();
                self.sold(size, &region)?;
                Ok(ActionKind::Resize { size: size.to_owned() })
            }
            _ => Err(Answer::unprocessable(format!("{kind} is not a valid action type"))),
        }
    }

    /// While lists lag, the young are not there yet and the removed are there still.
    fn is_visible(&self, droplet: &Droplet, is_lagging: bool) -> bool {
        if !is_lagging {
            return droplet.exists();
        }
        droplet.created + self.options.list_lag <= self.now
            && droplet.removed.is_none_or(|at| at + self.options.list_lag > self.now)
    }

    /// As the API shows it. The user-data is never shown, and neither is what the token may not read.
    pub fn droplet_json(&self, droplet: &Droplet) -> Value {
        let (size, region) = (self.catalog.size(&droplet.size), region_named(droplet.region.as_str()));
        let (memory, vcpus, disk) = size.map_or((0, 0, 0), |s| (s.memory_mb, s.vcpus, s.disk_gb));
        let mut json = json!({
            "id": droplet.id, "name": droplet.name, "memory": memory, "vcpus": vcpus, "disk": disk,
            "disk_info": [disk_info(disk)], "locked": droplet.is_deleting() || !droplet.exists(),
            "status": droplet.state.name(), "kernel": null, "created_at": droplet.created_at,
            "features": droplet.features, "backup_ids": [], "next_backup_window": null,
            "snapshot_ids": [], "volume_ids": [], "image": null,
            "size": size.map(super::catalog::Catalog::size_json), "size_slug": droplet.size,
            "networks": {"v4": self.networks(droplet), "v6": []},
            "region": region.map(|r| self.catalog.region_json(r, !self.lacks("sizes:read"))),
        });
        if !self.lacks("image:read") {
            json["image"] = image_json(&droplet.image);
        }
        if !self.lacks("tag:read") {
            json["tags"] = json!(droplet.tags);
        }
        if !self.lacks("vpc:read") {
            json["vpc_uuid"] = json!(droplet.vpc_uuid);
        }
        json
    }

    /// Private first, and public only a moment after the droplet is active: never take the first.
    fn networks(&self, droplet: &Droplet) -> Vec<Value> {
        let Some(public_from) = droplet.address_due else {
            return Vec::new();
        };
        let [_, b, c, d] = droplet.ip.octets();
        let mut networks = vec![json!({
            "ip_address": format!("10.{b}.{c}.{d}"), "netmask": "255.255.0.0", "gateway": "nil", "type": "private",
        })];
        if public_from <= self.now {
            networks.push(json!({
                "ip_address": droplet.ip.to_string(), "netmask": "255.255.240.0",
                "gateway": format!("127.{b}.{c}.1"), "type": "public",
            }));
        }
        networks
    }

    fn action_json(&self, action: &Action) -> Value {
        let region = region_named(&action.region).map(|r| self.catalog.region_json(r, true));
        json!({
            "id": action.id, "status": action.status, "type": action.kind.name(),
            "started_at": action.started_at, "completed_at": action.completed_at,
            "resource_id": action.droplet, "resource_type": "droplet",
            "region": region, "region_slug": action.region,
        })
    }
}
