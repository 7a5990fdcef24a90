//! `/v2/tags`: made before a firewall may name them, or along with a droplet.

use super::answer::{Answer, Outcome};
use super::api::Api;
use super::schema::{Field, Kind, required, text};
use axum::http::StatusCode;
use serde_json::{Value, json};

const TAG: [Field; 1] = [required("name", Kind::Text)];
const RESOURCES: [Field; 1] = [required("resources", Kind::Objects)];
const RESOURCE: [Field; 2] = [required("resource_id", Kind::Text), required("resource_type", Kind::Text)];
const MAX_TAG: usize = 255;

/// Letters, digits, `_`, `-` and `:`; nothing else, and no dot above all.
pub fn is_tag(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':');
    !name.is_empty() && name.len() <= MAX_TAG && name.chars().all(allowed)
}

impl Api<'_> {
    pub fn create_tag(&mut self) -> Outcome {
        self.need("tag:create")?;
        let body = self.body(&TAG)?;
        let name = text(&body, "name");
        if !is_tag(name) {
            return Err(Answer::bad_tag("Tag name contains invalid characters"));
        }
        let name = self.world.tag(name);
        Ok(Answer::json(StatusCode::CREATED, self.tag_json(&name)))
    }

    pub fn get_tag(&mut self, name: &str) -> Outcome {
        self.need("tag:read")?;
        self.existing_tag(name)?;
        Ok(Answer::ok(self.tag_json(name)))
    }

    /// Takes the tag from everything that carries it, firewalls included.
    pub fn delete_tag(&mut self, name: &str) -> Outcome {
        self.need("tag:delete")?;
        self.existing_tag(name)?;
        self.world.tags.remove(name);
        for droplet in self.world.droplets.values_mut() {
            droplet.tags.retain(|t| t != name);
        }
        for firewall in &mut self.world.firewalls {
            firewall.tags.retain(|t| t != name);
        }
        Ok(Answer::no_content())
    }

    pub fn tag_resources(&mut self, name: &str) -> Outcome {
        self.need("tag:create")?;
        self.need("droplet:update")?;
        self.existing_tag(name)?;
        let body = self.body(&RESOURCES)?;
        let resources = body.get("resources").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut droplets = Vec::new();
        for resource in &resources {
            droplets.push(self.tagged_droplet(resource)?);
        }
        for id in droplets {
            self.world.attach_tag(id, name);
        }
        Ok(Answer::no_content())
    }

    fn tagged_droplet(&mut self, resource: &Value) -> Result<u64, Answer> {
        let resource = self.part(resource, &RESOURCE)?;
        if text(&resource, "resource_type") != "droplet" {
            return Err(Answer::unprocessable("resource_type is invalid"));
        }
        let id = text(&resource, "resource_id").parse().map_err(|_| Answer::not_found())?;
        self.world.droplet_mut(id).map(|d| d.id).ok_or_else(Answer::not_found)
    }

    fn existing_tag(&self, name: &str) -> Result<(), Answer> {
        if self.world.tags.contains(name) { Ok(()) } else { Err(Answer::not_found()) }
    }

    fn tag_json(&self, name: &str) -> Value {
        let tagged: Vec<u64> = self.world.existing().filter(|d| d.has_tag(name)).map(|d| d.id).collect();
        let none = json!({"count": 0});
        let mut droplets = json!({"count": tagged.len()});
        if let Some(last) = tagged.last() {
            droplets["last_tagged_uri"] = format!("{}/v2/droplets/{last}", self.base_url).into();
        }
        let mut resources = droplets.clone();
        resources["droplets"] = droplets;
        for kind in ["images", "volumes", "volume_snapshots", "databases"] {
            resources[kind] = none.clone();
        }
        json!({"tag": {"name": name, "resources": resources}})
    }
}
