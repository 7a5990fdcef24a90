//! A create whose outcome is not known is looked for, never repeated blindly.

use crate::world::*;
use ops_controller::plan::condition::{ConditionType, Reason};

const DEPLOYED: ConditionType = ConditionType::SupervisorDeployed;

#[test]
fn defect_15_a_lost_create_is_looked_for_until_it_settles_and_then_one_more_is_sent() {
    let mut world = World::without_droplets();
    world.intent(NAME, None, false);
    world.later(seconds(89));
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect_false(DEPLOYED, Reason::InProgress);
    assert!(cycle.plan.in_progress);
    world.later(seconds(1));
    let cycle = world.cycle();
    let names: Vec<_> = cycle.creates().iter().map(|c| c.0.to_owned()).collect();
    assert_eq!(names, ["trigger-supervisor-b2c3d4e5-3"], "one more, under a new name");
    assert!(world.state.intents.is_empty());
}

#[test]
fn a_lost_create_that_is_found_is_closed() {
    for id in [None, Some(ID)] {
        let mut world = World::without_droplets();
        world.intent(NAME, id, id.is_some());
        world.add(ID, NAME);
        world.later(seconds(5));
        let cycle = world.cycle();
        cycle.expect_nothing_planned();
        cycle.expect_false(DEPLOYED, Reason::DropletBooting);
        assert!(world.state.intents.is_empty());
    }
}

/// Found by the crash sweep: a read that lags behind hid a droplet that an earlier read had shown,
/// and another one was made.
#[test]
fn a_young_droplet_that_a_later_read_does_not_show_is_looked_for_before_anything_is_made() {
    let mut world = World::without_droplets();
    world.intent(NAME, Some(ID), true);
    world.add(ID, NAME);
    world.cycle().expect_false(DEPLOYED, Reason::DropletBooting);
    world.remove(ID);
    // It was made a minute ago.
    world.later(seconds(29));
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect_false(DEPLOYED, Reason::InProgress);
    world.later(seconds(1));
    assert_eq!(world.cycle().creates().len(), 1, "after that it is gone");
}

#[test]
fn a_new_droplet_whose_tags_do_not_show_yet_is_no_drifted_one() {
    let mut world = World::without_droplets();
    world.intent(NAME, Some(ID), true);
    world.add(ID, NAME);
    world.droplet(ID).tags.clear();
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect_false(DEPLOYED, Reason::DropletBooting);
    world.later(seconds(31));
    assert_eq!(world.cycle().creates().len(), 1, "after a minute and a half they should");
}

#[test]
fn an_unreadable_listing_settles_no_create() {
    let mut world = World::without_droplets();
    world.intent(NAME, None, false);
    world.seen.droplets = ops_controller::plan::observation::Seen::unknown("429");
    world.cycles(60, minutes(1)).expect_nothing_planned();
    assert_eq!(world.state.intents.len(), 1);
}

#[test]
fn an_accepted_create_that_vanishes_is_waited_for_longer_and_then_backs_off() {
    let mut world = World::without_droplets();
    world.intent(NAME, Some(ID), true);
    world.later(seconds(119));
    world.cycle().expect_false(DEPLOYED, Reason::InProgress);
    world.later(seconds(1));
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect_held_by("back-off");
    assert_eq!(world.state.supervisor.failed_creates, 1);
    world.later(minutes(2));
    assert_eq!(world.cycle().creates().len(), 1);
}

#[test]
fn a_pending_create_keeps_what_serves_from_counting_as_deployed() {
    let mut world = World::settled();
    world.intent(NEXT, None, false);
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect_false(DEPLOYED, Reason::InProgress);
    world.later(seconds(90));
    assert!(world.cycle().healthy());
}

#[test]
fn after_a_lost_state_file_the_droplets_that_exist_are_taken_up() {
    let mut world = World::settled();
    world.state.supervisor = Default::default();
    for _ in 0..3 {
        let cycle = world.cycle();
        cycle.expect_nothing_planned();
        world.later(seconds(5));
    }
    assert!(world.cycle().healthy());
    assert_eq!(world.state.supervisor.sequence, 1);
}

#[test]
fn a_droplet_that_somebody_deleted_is_made_anew_under_another_name() {
    let mut world = World::settled();
    world.cycle();
    world.remove(ID);
    let cycle = world.cycle();
    cycle.expect_false(DEPLOYED, Reason::DropletMissing);
    assert_eq!(cycle.creates()[0].0, NEXT);
    assert!(world.state.supervisor.droplets.is_empty());
}

#[test]
fn names_of_earlier_supervisors_are_not_used_again_after_a_lost_state_file() {
    let mut world = World::without_droplets();
    world.set_heartbeat("trigger-supervisor-b2c3d4e5-41", Some(2.0));
    world.set_heartbeat("trigger-supervisor-ffffffff-99", Some(2.0));
    assert_eq!(world.cycle().creates()[0].0, "trigger-supervisor-b2c3d4e5-42");
}
