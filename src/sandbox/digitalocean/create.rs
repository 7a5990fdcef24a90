//! `POST /v2/droplets`: every check the provider makes, in its words, and the ways its answer is lost.

use super::account::{KEY_FINGERPRINT, KEY_ID};
use super::answer::{Answer, Outcome};
use super::api::Api;
use super::catalog::{REGIONS, image_named};
use super::model::NewDroplet;
use super::schema::{Field, Kind, optional, required, text, texts};
use super::tags::is_tag;
use crate::sandbox::faults::Break;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

const DROPLET: [Field; 17] = [
    optional("name", Kind::Text),
    optional("names", Kind::Texts),
    optional("region", Kind::Text),
    required("size", Kind::Text),
    required("image", Kind::Reference),
    optional("ssh_keys", Kind::References),
    optional("backups", Kind::Flag),
    optional("backup_policy", Kind::Object),
    optional("ipv6", Kind::Flag),
    optional("monitoring", Kind::Flag),
    optional("tags", Kind::Texts),
    optional("user_data", Kind::Text),
    optional("private_networking", Kind::Flag),
    optional("volumes", Kind::Texts),
    optional("vpc_uuid", Kind::Text),
    optional("with_droplet_agent", Kind::Flag),
    optional("public_networking", Kind::Flag),
];
const MAX_NAMES: usize = 10;
const MAX_NAME: usize = 255;
const MAX_USER_DATA: usize = 64 * 1024;
const DEFAULT_VPC: &str = "760e09ef-dc84-11e8-981e-3cfdfeaae000";

impl Api<'_> {
    pub fn create_droplets(&mut self) -> Outcome {
        self.need("droplet:create")?;
        self.need("image:read")?;
        let body = self.body(&DROPLET)?;
        let names = names(&body)?;
        let template = self.template(&body)?;
        let room = self.options.droplet_limit as usize;
        if self.world.existing().count() + names.len() > room {
            let text = "creating this/these droplet(s) will exceed your droplet limit";
            return Err(Answer::unprocessable(text));
        }
        let mut created = Vec::new();
        for name in names {
            let never_healthy = self.faults.take(Break::NewDropletNeverHealthy);
            let new = NewDroplet { name, never_healthy, ..template.clone() };
            // Only a host without loopback addresses fails here.
            created.push(self.world.create(new, self.now).map_err(|_| Answer::server_error())?);
        }
        Ok(self.on_its_way(self.created_answer(&body, &created)))
    }

    /// The droplets exist; whether the client learns it is another matter.
    fn on_its_way(&self, mut answer: Answer) -> Answer {
        if self.faults.take(Break::Create504) {
            return Answer::gateway(StatusCode::GATEWAY_TIMEOUT);
        }
        answer.lost = self.faults.take(Break::CreateResponseLost);
        answer
    }

    fn created_answer(&self, body: &Map<String, Value>, created: &[(u64, u64)]) -> Answer {
        let droplets: Vec<Value> = created
            .iter()
            .filter_map(|(droplet, _)| self.world.droplets.get(droplet))
            .map(|d| self.droplet_json(d))
            .collect();
        let link = |action: &u64| {
            let href = format!("{}/v2/actions/{action}", self.base_url);
            json!({"id": action, "rel": "create", "href": href})
        };
        let links = json!({"actions": created.iter().map(|(_, action)| link(action)).collect::<Vec<_>>()});
        let body = if body.contains_key("names") {
            json!({"droplets": droplets, "links": links})
        } else {
            json!({"droplet": droplets.first(), "links": links})
        };
        Answer::json(StatusCode::ACCEPTED, body)
    }

    /// Everything of the new droplets but their names.
    fn template(&mut self, body: &Map<String, Value>) -> Result<NewDroplet, Answer> {
        self.check_keys(body)?;
        let tags = self.new_tags(body)?;
        let size = text(body, "size");
        let region = self.region_for(text(body, "region"), size)?;
        let image = body.get("image").and_then(image_named);
        let image =
            image.ok_or_else(|| Answer::unprocessable("You specified an invalid image for Droplet creation."))?;
        let user_data = text(body, "user_data");
        if user_data.len() > MAX_USER_DATA {
            return Err(Answer::unprocessable("User data is too long (maximum is 65536 bytes)"));
        }
        let vpc_uuid = match text(body, "vpc_uuid") {
            "" => DEFAULT_VPC,
            uuid => {
                self.need("vpc:read")?;
                uuid
            }
        };
        Ok(NewDroplet {
            tags,
            size: size.to_owned(),
            region: region.to_owned(),
            image: image.to_owned(),
            vpc_uuid: vpc_uuid.to_owned(),
            features: features(body),
            user_data: user_data.into(),
            ..NewDroplet::default()
        })
    }

    fn check_keys(&mut self, body: &Map<String, Value>) -> Result<(), Answer> {
        let Some(keys) = body.get("ssh_keys").and_then(Value::as_array).filter(|k| !k.is_empty()) else {
            return Ok(());
        };
        self.need("ssh_key:read")?;
        let is_known = |k: &&Value| k.as_u64() == Some(KEY_ID) || k.as_str() == Some(KEY_FINGERPRINT);
        match keys.iter().find(|k| !is_known(k)) {
            None => Ok(()),
            Some(key) => {
                let text = format!("{key} are invalid key identifiers for Droplet creation.");
                Err(Answer::unprocessable(text))
            }
        }
    }

    fn new_tags(&self, body: &Map<String, Value>) -> Result<Vec<String>, Answer> {
        let tags = texts(body, "tags");
        if !tags.is_empty() {
            self.need("tag:create")?;
        }
        match tags.iter().find(|t| !is_tag(t)) {
            None => Ok(tags),
            Some(tag) => Err(Answer::unprocessable(format!("Tag name {tag} contains invalid characters"))),
        }
    }

    /// The region itself, or for a prefix like `nyc` and for none the first that sells the size.
    fn region_for(&self, asked: &str, size: &str) -> Result<&'static str, Answer> {
        let mut matching = REGIONS.iter().filter(|r| r.slug.starts_with(asked)).peekable();
        if matching.peek().is_none() {
            return Err(Answer::unprocessable("You specified an invalid region for Droplet creation."));
        }
        let Some(first) = matching.clone().find(|r| r.available) else {
            return Err(Answer::unprocessable("Region is not available"));
        };
        self.sold(size, first.slug)?;
        Ok(first.slug)
    }

    /// Refuses a size that does not exist or is not sold in this region.
    pub fn sold(&self, size: &str, region: &str) -> Result<(), Answer> {
        match self.catalog.size(size) {
            None => Err(Answer::unprocessable("You specified an invalid size for Droplet creation.")),
            Some(size) if size.regions.contains(&region) => Ok(()),
            Some(_) => Err(Answer::unprocessable("Size is not available in this region.")),
        }
    }
}

/// One `name` or up to ten `names`, never both; they need not be unique.
fn names(body: &Map<String, Value>) -> Result<Vec<String>, Answer> {
    let names = match (body.get("name"), body.get("names")) {
        (Some(Value::String(name)), None) => vec![name.clone()],
        (None, Some(_)) => texts(body, "names"),
        (None, None) => return Err(Answer::unprocessable("Name can't be blank")),
        _ => return Err(Answer::unprocessable("name and names cannot be combined")),
    };
    if names.is_empty() || names.len() > MAX_NAMES {
        return Err(Answer::unprocessable("names must hold between 1 and 10 names"));
    }
    if names.iter().all(|n| is_hostname(n)) {
        return Ok(names);
    }
    let text = "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -)";
    Err(Answer::unprocessable(text))
}

fn is_hostname(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    name.len() <= MAX_NAME && name.chars().all(allowed) && name.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn features(body: &Map<String, Value>) -> Vec<&'static str> {
    let is_on = |name: &str| body.get(name).and_then(Value::as_bool);
    let mut features = vec!["private_networking"];
    if is_on("with_droplet_agent") != Some(false) {
        features.push("droplet_agent");
    }
    for name in ["monitoring", "backups", "ipv6"] {
        if is_on(name) == Some(true) {
            features.push(name);
        }
    }
    features
}
