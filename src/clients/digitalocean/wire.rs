//! DigitalOcean's answers as they come: only the fields that are used, enums open, absence allowed.

use crate::plan::action::FirewallSpec;
use crate::plan::firewall::normalise;
use crate::plan::observation::{self, DropletStatus, Rule, Rules};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

/// A page of a listing.
pub trait Page {
    fn has_next(&self) -> bool;
}

#[derive(Deserialize)]
pub struct OneTag {
    pub tag: Tag,
}

#[derive(Deserialize)]
pub struct Tag {
    pub resources: TagResources,
}

#[derive(Deserialize)]
pub struct TagResources {
    pub count: u64,
}

#[derive(Deserialize, Default)]
pub struct Links {
    #[serde(default)]
    pages: Pages,
}

#[derive(Deserialize, Default)]
struct Pages {
    next: Option<String>,
}

macro_rules! page {
    ($name:ident, $field:ident, $item:ty) => {
        #[derive(Deserialize)]
        pub struct $name {
            pub $field: Vec<$item>,
            #[serde(default)]
            links: Links,
        }
        impl Page for $name {
            fn has_next(&self) -> bool {
                self.links.pages.next.is_some()
            }
        }
    };
}

page!(Droplets, droplets, Droplet);
page!(Firewalls, firewalls, Firewall);
page!(Sizes, sizes, Size);

/// Only how many there are.
#[derive(Deserialize)]
pub struct Count {
    pub meta: Meta,
}

#[derive(Deserialize)]
pub struct Meta {
    pub total: u64,
}

#[derive(Deserialize)]
pub struct OneDroplet {
    pub droplet: Droplet,
}

/// The answer to a create: the id is all that can be relied on.
#[derive(Deserialize)]
pub struct Accepted {
    pub droplet: Identified,
}

#[derive(Deserialize)]
pub struct Identified {
    pub id: u64,
}

#[derive(Deserialize)]
pub struct Droplet {
    id: u64,
    name: String,
    status: String,
    #[serde(default)]
    size_slug: String,
    #[serde(default)]
    region: Region,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    networks: Networks,
    created_at: Timestamp,
}

#[derive(Deserialize, Default)]
struct Region {
    #[serde(default)]
    slug: String,
}

#[derive(Deserialize, Default)]
struct Networks {
    #[serde(default)]
    v4: Vec<Network>,
}

#[derive(Deserialize)]
struct Network {
    #[serde(default)]
    ip_address: String,
    #[serde(rename = "type", default)]
    kind: String,
}

impl Droplet {
    pub fn convert(self) -> observation::Droplet {
        // The list holds private and public addresses in no promised order.
        let public = self.networks.v4.into_iter().find(|n| n.kind == "public" && !n.ip_address.is_empty());
        observation::Droplet {
            id: self.id,
            name: self.name,
            status: match self.status.as_str() {
                "new" => DropletStatus::New,
                "active" => DropletStatus::Active,
                "off" => DropletStatus::Off,
                "archive" => DropletStatus::Archive,
                _ => DropletStatus::Other,
            },
            size: self.size_slug,
            region: self.region.slug,
            tags: self.tags,
            ip: public.map(|n| n.ip_address),
            created_at: self.created_at,
        }
    }
}

#[derive(Deserialize)]
pub struct Firewall {
    id: String,
    pub name: String,
    #[serde(default)]
    inbound_rules: Vec<WireRule>,
    #[serde(default)]
    outbound_rules: Vec<WireRule>,
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct WireRule {
    protocol: String,
    #[serde(default)]
    ports: String,
    #[serde(default, alias = "destinations")]
    sources: Ends,
}

/// One side of a rule: plain addresses, and kinds of others that we never set.
#[derive(Deserialize, Default)]
struct Ends {
    #[serde(default)]
    addresses: Option<Vec<String>>,
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

impl Firewall {
    pub fn convert(self) -> observation::Firewall {
        let rules = |list: Vec<WireRule>| list.into_iter().map(WireRule::convert).collect();
        observation::Firewall {
            id: self.id,
            name: self.name,
            rules: normalise(Rules { inbound: rules(self.inbound_rules), outbound: rules(self.outbound_rules) }),
            tags: self.tags.unwrap_or_default(),
        }
    }
}

impl WireRule {
    fn convert(self) -> Rule {
        let others = self.sources.others.values().any(|v| v.as_array().is_some_and(|list| !list.is_empty()));
        Rule {
            protocol: self.protocol,
            ports: self.ports,
            addresses: self.sources.addresses.unwrap_or_default(),
            others,
        }
    }
}

pub fn firewall_body(spec: &FirewallSpec) -> Value {
    let rules = |list: &[Rule], end: &str| -> Vec<Value> {
        list.iter()
            .map(|r| json!({ "protocol": r.protocol, "ports": r.ports, end: { "addresses": r.addresses } }))
            .collect()
    };
    json!({
        "name": spec.name,
        "inbound_rules": rules(&spec.rules.inbound, "sources"),
        "outbound_rules": rules(&spec.rules.outbound, "destinations"),
        "tags": [spec.tag],
    })
}

#[derive(Deserialize)]
pub struct Size {
    slug: String,
    price_monthly: f64,
    #[serde(default)]
    available: bool,
    #[serde(default)]
    regions: Vec<String>,
}

impl Size {
    pub fn convert(self) -> observation::Size {
        observation::Size {
            slug: self.slug,
            price_monthly: self.price_monthly,
            available: self.available,
            regions: self.regions,
        }
    }
}

#[derive(Deserialize)]
pub struct OneAccount {
    pub account: Account,
}

#[derive(Deserialize)]
pub struct Account {
    #[serde(default)]
    status: String,
    droplet_limit: Option<u64>,
}

impl Account {
    pub fn convert(self) -> observation::Account {
        observation::Account { status: self.status, droplet_limit: self.droplet_limit }
    }
}
