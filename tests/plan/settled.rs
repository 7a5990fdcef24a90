//! The first fact of a planner: where nothing is to be done, nothing is planned.

use crate::world::*;
use ops_controller::plan::condition::{ConditionType, Status};
use ops_controller::plan::observation::Seen;

#[test]
fn a_settled_world_plans_nothing_and_every_condition_is_true() {
    let mut world = World::settled();
    let cycle = world.cycle();
    assert!(cycle.plan.is_settled(), "{:?} {:?}", cycle.texts(), cycle.plan.held);
    assert!(cycle.healthy() && !cycle.plan.in_progress);
    let kinds: Vec<_> = cycle.plan.findings.iter().map(|f| f.kind).collect();
    assert_eq!(kinds, ConditionType::ALL);
    for kind in ConditionType::ALL {
        cycle.expect_true(kind);
    }
}

#[test]
fn a_settled_world_stays_settled() {
    let mut world = World::settled();
    for _ in 0..2_000 {
        let cycle = world.cycle();
        assert!(cycle.plan.is_settled() && cycle.healthy() && !cycle.plan.in_progress);
        world.later(minutes(1));
    }
}

#[test]
fn defect_1_a_dead_supervisor_or_database_is_not_healthy() {
    let mut world = World::settled();
    world.kill();
    assert!(!world.cycle().healthy());
    let mut world = World::settled();
    world.seen.database = Seen::unknown("connection refused");
    assert!(!world.cycle().healthy());
}

#[test]
fn what_other_projects_own_is_never_named_in_a_plan() {
    let mut world = World::settled();
    world.resize();
    let cycle = world.cycle();
    for (name, spec) in cycle.creates() {
        assert_eq!(name, NEXT);
        assert!(spec.tags().contains(&world.desired.identity_tag()));
    }
    assert_eq!(cycle.finding(ConditionType::SupervisorDeployed).status, Status::False);
}

#[test]
fn defect_17_environments_with_the_same_first_characters_have_their_own_marks() {
    let (one, mut other) = (desired(), desired());
    other.environment_id = "b2c3d4e5-1111-4111-8111-111111111111".into();
    assert_ne!(one.identity_tag(), other.identity_tag());
    assert_ne!(one.firewall_name(), other.firewall_name());
}
