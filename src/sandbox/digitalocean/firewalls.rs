//! `/v2/firewalls`: unique names, tags that must exist, and a PUT that replaces everything.

use super::answer::{Answer, Outcome};
use super::api::Api;
use super::network::Firewall;
use super::schema::{Field, Kind, numbers, optional, required, text, texts};
use super::world::date;
use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

const FIREWALL: [Field; 5] = [
    required("name", Kind::Text),
    optional("inbound_rules", Kind::Objects),
    optional("outbound_rules", Kind::Objects),
    optional("droplet_ids", Kind::Numbers),
    optional("tags", Kind::Texts),
];
const INBOUND: [Field; 3] =
    [required("protocol", Kind::Text), required("ports", Kind::Text), required("sources", Kind::Object)];
const OUTBOUND: [Field; 3] =
    [required("protocol", Kind::Text), required("ports", Kind::Text), required("destinations", Kind::Object)];
const TARGET: [Field; 5] = [
    optional("addresses", Kind::Texts),
    optional("tags", Kind::Texts),
    optional("droplet_ids", Kind::Numbers),
    optional("load_balancer_uids", Kind::Texts),
    optional("kubernetes_ids", Kind::Texts),
];
const MAX_TAGS: usize = 5;
const MAX_DROPLETS: usize = 10;
const MAX_RULES: usize = 50;
const MAX_ADDRESSES: usize = 1000;

impl Api<'_> {
    pub fn list_firewalls(&mut self) -> Outcome {
        self.need("firewall:read")?;
        let firewalls = self.world.firewalls.iter().map(|f| self.firewall_json(f)).collect();
        Ok(self.page()?.answer("firewalls", firewalls))
    }

    pub fn get_firewall(&mut self, id: &str) -> Outcome {
        self.need("firewall:read")?;
        let index = self.firewall_index(id)?;
        Ok(Answer::ok(json!({"firewall": self.firewall_json(&self.world.firewalls[index])})))
    }

    pub fn create_firewall(&mut self) -> Outcome {
        self.need("firewall:create")?;
        let mut firewall = self.asked_firewall()?;
        if self.world.firewalls.iter().any(|f| f.name == firewall.name) {
            return Err(Answer::conflict("duplicate name"));
        }
        firewall.id = self.world.ids.uuid();
        let json = self.firewall_json(&firewall);
        self.world.firewalls.push(firewall);
        Ok(Answer::json(StatusCode::ACCEPTED, json!({"firewall": json})))
    }

    pub fn replace_firewall(&mut self, id: &str) -> Outcome {
        self.need("firewall:update")?;
        self.need("droplet:read")?;
        let index = self.firewall_index(id)?;
        let mut new = self.asked_firewall()?;
        if self.world.firewalls.iter().any(|f| f.name == new.name && f.id != id) {
            return Err(Answer::conflict("duplicate name"));
        }
        let old = &self.world.firewalls[index];
        let released = self.world.existing().filter(|d| old.covers(d) && !new.covers(d));
        new.released = released.map(|d| d.id).collect();
        new.id.clone_from(&old.id);
        new.created_at.clone_from(&old.created_at);
        let json = self.firewall_json(&new);
        self.world.firewalls[index] = new;
        Ok(Answer::ok(json!({"firewall": json})))
    }

    pub fn delete_firewall(&mut self, id: &str) -> Outcome {
        self.need("firewall:delete")?;
        let index = self.firewall_index(id)?;
        self.world.firewalls.remove(index);
        Ok(Answer::no_content())
    }

    fn firewall_index(&self, id: &str) -> Result<usize, Answer> {
        self.world.firewalls.iter().position(|f| f.id == id).ok_or_else(Answer::not_found)
    }

    fn firewall_json(&self, firewall: &Firewall) -> Value {
        firewall.json(self.world, self.options.firewall_apply, self.now)
    }

    /// The firewall of the body: what it does not say is empty, not kept.
    fn asked_firewall(&mut self) -> Result<Firewall, Answer> {
        let body = self.body(&FIREWALL)?;
        let name = text(&body, "name").to_owned();
        if !is_firewall_name(&name) {
            return Err(Answer::unprocessable("name is invalid"));
        }
        let inbound_rules = self.rules(&body, "inbound_rules", "sources", &INBOUND)?;
        let outbound_rules = self.rules(&body, "outbound_rules", "destinations", &OUTBOUND)?;
        match inbound_rules.len() + outbound_rules.len() {
            0 => return Err(Answer::unprocessable("a firewall needs at least one rule")),
            rules if rules > MAX_RULES => {
                return Err(Answer::unprocessable("a firewall has at most 50 rules"));
            }
            _ => {}
        }
        let (droplet_ids, tags) = (numbers(&body, "droplet_ids"), texts(&body, "tags"));
        if droplet_ids.len() > MAX_DROPLETS {
            return Err(Answer::unprocessable("a firewall lists at most 10 droplets"));
        }
        if tags.len() > MAX_TAGS {
            return Err(Answer::unprocessable("a firewall has at most 5 tags"));
        }
        self.all_exist(&droplet_ids, &tags)?;
        Ok(Firewall {
            id: String::new(),
            name,
            inbound_rules,
            outbound_rules,
            droplet_ids,
            tags,
            created_at: date(&self.world.calendar, self.now),
            changed: self.now,
            released: Vec::new(),
        })
    }

    /// Unlike for a droplet, tags are not made on the fly here.
    fn all_exist(&self, droplets: &[u64], tags: &[String]) -> Result<(), Answer> {
        if let Some(tag) = tags.iter().find(|t| !self.world.tags.contains(*t)) {
            return Err(Answer::unprocessable(format!("tag {tag} does not exist")));
        }
        if let Some(id) = droplets.iter().find(|id| self.world.existing().all(|d| d.id != **id)) {
            return Err(Answer::unprocessable(format!("droplet {id} does not exist")));
        }
        Ok(())
    }

    fn rules(
        &mut self,
        body: &Map<String, Value>,
        list: &str,
        target: &str,
        fields: &[Field],
    ) -> Result<Vec<Value>, Answer> {
        let rules = body.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        rules.iter().map(|rule| self.rule(rule, target, fields)).collect()
    }

    /// The rule as the provider gives it back.
    fn rule(&mut self, rule: &Value, target: &str, fields: &[Field]) -> Result<Value, Answer> {
        let rule = self.part(rule, fields)?;
        let protocol = text(&rule, "protocol");
        // Sent as "all" or with icmp it comes back as "0", an endless difference for the careless.
        let ports = match (protocol, text(&rule, "ports")) {
            ("icmp", _) | ("tcp" | "udp", "all") => "0",
            ("tcp" | "udp", ports) if are_ports(ports) => ports,
            ("tcp" | "udp", _) => return Err(Answer::unprocessable("ports is invalid")),
            _ => return Err(Answer::unprocessable("protocol must be tcp, udp or icmp")),
        };
        let who = self.part(rule.get(target).unwrap_or(&Value::Null), &TARGET)?;
        let addresses = texts(&who, "addresses");
        if addresses.len() > MAX_ADDRESSES || !addresses.iter().all(|a| is_address(a)) {
            return Err(Answer::unprocessable("addresses is invalid"));
        }
        self.all_exist(&numbers(&who, "droplet_ids"), &texts(&who, "tags"))?;
        let is_filled = |v: &Value| v.as_array().is_some_and(|items| !items.is_empty());
        let who: Map<String, Value> = who.into_iter().filter(|(_, v)| is_filled(v)).collect();
        Ok(json!({"protocol": protocol, "ports": ports, target: who}))
    }
}

fn is_firewall_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    name.len() > 1 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(allowed)
}

/// One port, a range, or `0` for all of them.
fn are_ports(ports: &str) -> bool {
    match ports.split_once('-') {
        None => ports.parse::<u16>().is_ok(),
        Some((first, last)) => match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) => first < last,
            _ => false,
        },
    }
}

fn is_address(text: &str) -> bool {
    let (ip, bits) = match text.split_once('/') {
        None => (text, None),
        Some((ip, bits)) => (ip, Some(bits.parse::<u8>())),
    };
    match (ip.parse::<IpAddr>(), bits) {
        (Ok(_), None) => true,
        (Ok(IpAddr::V4(_)), Some(Ok(bits))) => bits <= 32,
        (Ok(IpAddr::V6(_)), Some(Ok(bits))) => bits <= 128,
        _ => false,
    }
}
