//! `FirewallReady`: exactly the wanted rules, bound to our tag.

use crate::world::*;
use ops_controller::plan::action::Action;
use ops_controller::plan::condition::{ConditionType, Reason};
use ops_controller::plan::firewall::{normalise, spec};
use ops_controller::plan::observation::{Firewall, Seen};
use ops_controller::plan::state::Failure;

const KIND: ConditionType = ConditionType::FirewallReady;

fn firewall(world: &mut World) -> &mut Firewall {
    match &mut world.seen.firewall {
        Seen::Known(Some(firewall)) => firewall,
        _ => unreachable!("it is there"),
    }
}

#[test]
fn a_missing_firewall_is_created() {
    let mut world = World::settled();
    world.seen.firewall = Seen::Known(None);
    let wanted = Action::CreateFirewall { spec: spec(&world.desired) };
    let cycle = world.cycle();
    assert_eq!(cycle.actions(), [&wanted]);
    cycle.expect_false(KIND, Reason::FirewallMissing);
}

#[test]
fn every_drift_of_the_firewall_is_repaired() {
    let cases: [Perturb; 5] = [
        |w| firewall(w).tags.clear(),
        |w| firewall(w).rules.inbound[0].ports = "1-65535".into(),
        |w| firewall(w).rules.inbound[0].others = true,
        |w| firewall(w).rules.outbound.clear(),
        |w| w.desired.health_sources = vec!["198.51.100.7/32".into()],
    ];
    for perturb in cases {
        let mut world = World::settled();
        perturb(&mut world);
        let wanted = Action::UpdateFirewall { id: "firewall-1".into(), spec: spec(&world.desired) };
        let cycle = world.cycle();
        assert_eq!(cycle.actions(), [&wanted]);
        cycle.expect_false(KIND, Reason::FirewallDrifted);
    }
}

#[test]
fn defects_30_and_32_only_health_is_open_and_ssh_only_with_keys() {
    let mut desired = desired();
    let ports = |d: &_| spec(d).rules.inbound.iter().map(|r| r.ports.clone()).collect::<Vec<_>>();
    assert_eq!(ports(&desired), ["8020"]);
    desired.ssh_keys = vec!["12:34".into()];
    assert_eq!(ports(&desired), ["22", "8020"]);
}

#[test]
fn all_ports_have_one_spelling() {
    let wanted = spec(&desired()).rules;
    let mut found = wanted.clone();
    for rule in &mut found.outbound {
        rule.ports = if rule.protocol == "icmp" { String::new() } else { "all".into() };
        rule.addresses.reverse();
    }
    found.outbound.reverse();
    assert_eq!(normalise(found), wanted);
}

#[test]
fn a_refused_change_backs_off_and_does_not_hurry() {
    let mut world = World::without_droplets();
    world.seen.firewall = Seen::Known(None);
    let key = world.cycle().actions()[0].key();
    let failure = Failure { attempts: 5, at: world.seen.at, error: "403 missing scope".into() };
    world.state.failures.insert(key, failure);
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect_held_by("back-off");
    assert!(cycle.expect_false(KIND, Reason::ChangeFailed).message.contains("missing scope"));
    assert!(!cycle.plan.in_progress);
}
