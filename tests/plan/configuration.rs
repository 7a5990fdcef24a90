//! `ConfigurationReady`: whole or not at all, and read anew in every cycle.

use crate::world::*;
use ops_controller::plan::condition::{ConditionType, Reason, Status};
use ops_controller::plan::observation::{Lookup, Seen};
use ops_controller::plan::secret::Secret;

const KIND: ConditionType = ConditionType::ConfigurationReady;

#[test]
fn defect_7_a_partial_configuration_makes_no_droplet_and_keeps_the_old_one() {
    let cases: [(Reason, Perturb); 5] = [
        (Reason::VariableMissing, |w| w.railway().managed_secret = None),
        (Reason::VariableMissing, |w| w.railway().managed_secret = Some(Secret::new(""))),
        (Reason::VariableMissing, |w| w.railway().api_origin = None),
        (Reason::OriginUnreachable, |w| w.railway().api_origin = Some("http://localhost:3030".into())),
        (Reason::ServiceAmbiguous, |w| {
            let matches = vec!["web-1".into(), "web-2".into()];
            w.railway().webapp = Lookup::Ambiguous { wanted: "web".into(), matches };
        }),
    ];
    for (reason, perturb) in cases {
        let mut world = World::settled();
        perturb(&mut world);
        let cycle = world.cycle();
        cycle.expect_nothing_planned();
        cycle.expect_false(KIND, reason);
        cycle.expect(ConditionType::SupervisorDeployed, Status::Unknown, Reason::WaitingForOther);
        assert!(!cycle.healthy());
    }
}

#[test]
fn defect_7_what_was_missing_once_is_read_again() {
    let mut world = World::settled();
    let whole = world.seen.railway.clone();
    world.seen.railway = Seen::unknown("502");
    world.cycle().expect(KIND, Status::Unknown, Reason::CouldNotLook);
    world.seen.railway = whole;
    assert!(world.cycle().healthy());
}

#[test]
fn api_origin_comes_before_app_origin_and_an_empty_one_does_not_count() {
    let mut world = World::settled();
    world.railway().app_origin = Some("https://app.example.com".into());
    assert!(world.cycle().expect_true(KIND).message.ends_with(ORIGIN));
    world.railway().api_origin = Some(String::new());
    assert!(world.cycle().expect_true(KIND).message.ends_with("https://app.example.com"));
}

#[test]
fn a_sealed_secret_can_be_given_here() {
    let mut world = World::settled();
    world.railway().managed_secret = None;
    world.desired.managed_secret = Some(Secret::new(MANAGED_SECRET));
    assert!(world.cycle().healthy());
}

#[test]
fn a_deployment_without_registry_is_fine_and_an_ambiguous_one_replaces_nothing() {
    let mut world = World::settled();
    let matches = vec!["registry-1".into(), "registry-2".into()];
    world.railway().registry = Lookup::Ambiguous { wanted: "registry".into(), matches };
    world.railway().registry_domain = None;
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    assert!(cycle.expect_false(KIND, Reason::ServiceAmbiguous).message.contains("REGISTRY_SERVICE_NAME"));
    let mut world = World::without_droplets();
    world.railway().registry = Lookup::Missing { wanted: "registry".into(), present: vec![] };
    world.railway().registry_domain = None;
    assert_eq!(world.cycle().creates()[0].1.supervisor.registry_domain, None);
}
