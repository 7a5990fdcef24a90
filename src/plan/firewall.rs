//! `FirewallReady`: a cloud firewall bound to our identity tag, in front of every droplet of ours.
//!
//! Outside may reach `/health` (8020) and, only when SSH keys are set, 22. All outbound traffic is
//! allowed explicitly, because a firewall without outbound rules lets nothing out.

use super::action::{Action, FirewallSpec, Held, Planned};
use super::backed_off;
use super::condition::{ConditionType, Finding, Reason};
use super::desired::Desired;
use super::observation::{Firewall, Observation, Rule, Rules, Seen};
use super::state::State;

const KIND: ConditionType = ConditionType::FirewallReady;
const ANYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];
/// The supervisor's health port, as the platform fixes it.
pub const HEALTH_PORT: u16 = 8020;

#[derive(Debug)]
pub struct FirewallPlan {
    pub finding: Finding,
    pub action: Option<Planned>,
    pub held: Option<Held>,
}

impl FirewallPlan {
    pub fn is_ready(&self) -> bool {
        self.finding.status == super::condition::Status::True
    }
}

/// What is wanted.
pub fn spec(desired: &Desired) -> FirewallSpec {
    let mut inbound = vec![rule("tcp", &HEALTH_PORT.to_string(), &desired.health_sources)];
    if !desired.ssh_keys.is_empty() {
        inbound.push(rule("tcp", "22", &ANYWHERE));
    }
    let outbound = ["tcp", "udp", "icmp"].iter().map(|protocol| rule(protocol, "0", &ANYWHERE)).collect();
    FirewallSpec {
        name: desired.firewall_name(),
        tag: desired.identity_tag(),
        rules: normalise(Rules { inbound, outbound }),
    }
}

fn rule(protocol: &str, ports: &str, addresses: &[impl AsRef<str>]) -> Rule {
    Rule {
        protocol: protocol.into(),
        ports: ports.into(),
        addresses: addresses.iter().map(|a| a.as_ref().to_owned()).collect(),
        others: false,
    }
}

/// Sorted and without duplicates; "all" and an empty port range are spelt `0`, as the API answers.
pub fn normalise(mut rules: Rules) -> Rules {
    for list in [&mut rules.inbound, &mut rules.outbound] {
        for rule in list.iter_mut() {
            if rule.ports == "all" || rule.ports.is_empty() || rule.protocol == "icmp" {
                rule.ports = "0".into();
            }
            rule.addresses.sort();
            rule.addresses.dedup();
        }
        list.sort();
        list.dedup();
    }
    rules
}

pub fn plan(desired: &Desired, state: &State, seen: &Observation) -> FirewallPlan {
    let firewall = match &seen.firewall {
        Seen::Known(firewall) => firewall,
        Seen::Unknown { reason } => {
            let finding = Finding::unknown(KIND, reason);
            return FirewallPlan { finding, action: None, held: None };
        }
    };
    let spec = spec(desired);
    let (action, reason, what) = match firewall {
        None => (
            Action::CreateFirewall { spec: spec.clone() },
            Reason::FirewallMissing,
            format!("firewall {} does not exist", spec.name),
        ),
        Some(found) => match drift(found, &spec) {
            None => {
                let finding = Finding::yes(KIND, format!("firewall {} guards tag {}", spec.name, spec.tag));
                return FirewallPlan { finding, action: None, held: None };
            }
            Some(drift) => (
                Action::UpdateFirewall { id: found.id.clone(), spec: spec.clone() },
                Reason::FirewallDrifted,
                format!("firewall {}: {drift}", spec.name),
            ),
        },
    };
    match backed_off(state, &action.key(), seen.at) {
        Some((failure, until)) => FirewallPlan {
            finding: Finding::no(
                KIND,
                Reason::ChangeFailed,
                format!("{what}; DigitalOcean refused the change: {}", failure.error),
            ),
            held: Some(Held {
                action: action.to_string(),
                by: "back-off".into(),
                why: format!("failed {} times; tried again after {until}", failure.attempts),
            }),
            action: None,
        },
        None => FirewallPlan {
            finding: Finding::no(KIND, reason, format!("{what}; to be repaired")),
            action: Some(Planned { action, reason: what, monthly_usd: None }),
            held: None,
        },
    }
}

fn drift(found: &Firewall, spec: &FirewallSpec) -> Option<String> {
    if !found.tags.contains(&spec.tag) {
        return Some(format!("not bound to tag {}", spec.tag));
    }
    if found.rules.inbound != spec.rules.inbound {
        return Some("the inbound rules differ from what is wanted".into());
    }
    (found.rules.outbound != spec.rules.outbound).then(|| "the outbound rules differ from what is wanted".into())
}
