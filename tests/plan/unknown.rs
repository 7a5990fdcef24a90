//! Unknown is not absent: what could not be read is neither created, deleted nor healthy.

use crate::world::*;
use ops_controller::plan::condition::{ConditionType, Reason, Status};
use ops_controller::plan::observation::Seen;

fn blind(world: &mut World, source: &str) {
    match source {
        "railway" => world.seen.railway = Seen::unknown("timed out"),
        "database" => world.seen.database = Seen::unknown("timed out"),
        "droplets" => world.seen.droplets = Seen::unknown("timed out"),
        "firewall" => world.seen.firewall = Seen::unknown("timed out"),
        _ => world.seen.sizes = Seen::unknown("timed out"),
    }
    if matches!(source, "railway" | "database") {
        world.seen.probe = None;
    }
}

#[test]
fn nothing_is_created_or_deleted_while_a_source_is_unknown() {
    for source in ["railway", "database", "droplets", "firewall", "sizes"] {
        for mut world in [World::without_droplets(), World::settled()] {
            world.resize();
            blind(&mut world, source);
            let cycle = world.cycles(30, minutes(1));
            assert!(cycle.creates().is_empty() && cycle.deletes().is_empty(), "{source}: {:?}", cycle.texts());
            assert!(!cycle.healthy(), "{source}");
        }
    }
}

#[test]
fn surplus_droplets_stay_while_the_database_is_unknown() {
    let mut world = World::settled();
    world.add(NEXT_ID, NEXT);
    blind(&mut world, "database");
    world.cycle().expect_nothing_planned();
}

#[test]
fn defect_12_an_unreadable_listing_creates_nothing() {
    let mut world = World::without_droplets();
    blind(&mut world, "droplets");
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect(ConditionType::SupervisorDeployed, Status::Unknown, Reason::CouldNotLook);
}

#[test]
fn defect_13_one_failed_listing_forgets_no_droplet() {
    let mut world = World::settled();
    let droplets = world.seen.droplets.clone();
    blind(&mut world, "droplets");
    world.cycle();
    world.seen.droplets = droplets;
    world.later(minutes(1));
    assert!(world.cycle().healthy());
}

#[test]
fn a_database_that_cannot_be_read_never_counts_against_a_droplet() {
    let mut world = World::settled();
    world.kill();
    blind(&mut world, "database");
    world.cycles(60, minutes(1)).expect_nothing_planned();
    assert_eq!(world.record(ID).failed_looks, 0);
    assert_eq!(world.record(ID).condemned, None);
}

#[test]
fn an_unknown_account_holds_nothing() {
    let mut world = World::without_droplets();
    world.seen.account = Seen::unknown("403");
    assert_eq!(world.cycle().creates().len(), 1);
}

#[test]
fn prices_are_needed_only_to_create() {
    let mut world = World::settled();
    blind(&mut world, "sizes");
    assert!(world.cycle().healthy());
}
