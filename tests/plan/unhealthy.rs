//! Wait, reboot once, replace: what happens to a supervisor that is out of service.

use crate::world::*;
use ops_controller::plan::action::Action;
use ops_controller::plan::condition::{ConditionType, Reason};
use ops_controller::plan::observation::{DropletStatus, Probe};
use ops_controller::plan::state::Failure;

#[test]
fn two_failed_looks_are_waited_for_and_the_third_reboots() {
    let mut world = World::settled();
    world.kill();
    for _ in 0..2 {
        let cycle = world.cycle();
        cycle.expect_nothing_planned();
        assert!(cycle.plan.in_progress && !cycle.healthy());
        world.later(seconds(5));
    }
    let cycle = world.cycle();
    assert_eq!(cycle.reboots(), [ID]);
    assert_eq!(cycle.actions().len(), 1);
}

#[test]
fn one_good_look_starts_the_count_again() {
    let mut world = World::settled();
    world.kill();
    world.cycles(2, seconds(5));
    world.set_serving(ID, NAME, true);
    world.cycles(3, seconds(5));
    world.kill();
    world.later(seconds(5));
    world.cycles(2, seconds(5)).expect_nothing_planned();
}

#[test]
fn a_rebooted_droplet_has_its_boot_time_and_is_not_rebooted_again() {
    let mut world = World::settled();
    world.kill();
    world.cycles(3, seconds(5));
    world.record(ID).rebooted_at = Some(world.seen.at);
    for _ in 0..9 {
        world.later(minutes(1));
        let cycle = world.cycle();
        cycle.expect_nothing_planned();
        cycle.expect_false(ConditionType::SupervisorDeployed, Reason::DropletBooting);
    }
}

#[test]
fn a_droplet_that_its_reboot_did_not_heal_is_replaced_new_first() {
    let mut world = World::settled();
    world.kill();
    world.cycles(3, seconds(5));
    world.record(ID).rebooted_at = Some(world.seen.at);
    world.later(minutes(10));
    let cycle = world.cycle();
    assert_eq!(cycle.creates().len(), 1);
    assert!(cycle.deletes().is_empty() && cycle.reboots().is_empty());
}

#[test]
fn a_healed_droplet_may_be_rebooted_anew_when_it_fails_later() {
    let mut world = World::settled();
    world.kill();
    world.cycles(3, seconds(5));
    world.record(ID).rebooted_at = Some(world.seen.at);
    world.set_serving(ID, NAME, true);
    // It has served for longer than a boot may take: the reboot has helped.
    world.later(minutes(11));
    assert!(world.cycles(3, seconds(5)).healthy());
    world.kill();
    assert_eq!(world.cycles(3, minutes(1)).reboots(), [ID]);
}

#[test]
fn a_droplet_that_fails_again_soon_after_its_reboot_is_replaced_not_rebooted_for_ever() {
    let mut world = World::settled();
    world.kill();
    world.cycles(3, seconds(5));
    world.record(ID).rebooted_at = Some(world.seen.at);
    world.set_serving(ID, NAME, true);
    world.later(minutes(2));
    assert!(world.cycles(3, seconds(5)).healthy());
    world.kill();
    assert!(world.cycles(3, minutes(1)).reboots().is_empty());
    world.later(minutes(8));
    let cycle = world.cycle();
    assert!(cycle.reboots().is_empty());
    assert_eq!(cycle.creates().len(), 1);
}

#[test]
fn a_reboot_that_is_refused_backs_off_and_after_three_refusals_the_droplet_is_replaced() {
    let mut world = World::settled();
    world.kill();
    world.cycles(3, seconds(5));
    let key = Action::RebootDroplet { id: ID, name: NAME.into() }.key();
    let refused = |attempts, at| Failure { attempts, at, error: "422".into() };
    world.state.failures.insert(key.clone(), refused(2, world.seen.at));
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect_held_by("back-off");
    world.state.failures.insert(key, refused(3, world.seen.at));
    assert_eq!(world.cycle().creates().len(), 1);
}

#[test]
fn a_fresh_heartbeat_with_a_failing_probe_never_reboots() {
    let mut world = World::settled();
    world.set_health(ID, false);
    let cycle = world.cycles(100, minutes(1));
    cycle.expect_nothing_planned();
    cycle.expect_false(ConditionType::SupervisorReachable, Reason::ProbeBlocked);
    assert!(!cycle.plan.in_progress);
}

#[test]
fn a_webapp_that_is_down_never_reboots_an_answering_supervisor() {
    let mut world = World::settled();
    world.set_heartbeat(NAME, Some(3_600.0));
    world.seen.probe = Some(Probe::Unreachable("502".into()));
    let cycle = world.cycles(100, minutes(1));
    cycle.expect_nothing_planned();
    assert!(!cycle.plan.in_progress, "nothing passes soon");
}

#[test]
fn after_an_outage_of_the_webapp_the_next_heartbeat_is_waited_for() {
    let mut world = World::settled();
    world.set_heartbeat(NAME, Some(600.0));
    world.seen.probe = Some(Probe::Unreachable("502".into()));
    world.cycles(10, minutes(1));
    world.seen.probe = Some(Probe::Accepted);
    world.later(seconds(5));
    world.cycles(15, seconds(5)).expect_nothing_planned();
    assert_eq!(world.record(ID).failed_looks, 0);
}

#[test]
fn a_supervisor_that_answers_and_lost_its_session_is_rebooted() {
    let mut world = World::settled();
    world.set_heartbeat(NAME, Some(600.0));
    assert_eq!(world.cycles(3, minutes(1)).reboots(), [ID]);
}

#[test]
fn a_webapp_that_was_down_says_nothing_about_a_new_droplet() {
    let mut world = World::without_droplets();
    world.add(ID, NAME);
    world.seen.probe = Some(Probe::Unreachable("502".into()));
    world.cycles(20, minutes(1));
    world.seen.probe = Some(Probe::Accepted);
    world.later(seconds(5));
    world.cycle();
    assert_eq!(world.record(ID).condemned, None);
}

#[test]
fn defect_2_a_droplet_that_is_switched_off_is_not_deployed_for_long() {
    let mut world = World::settled();
    world.droplet(ID).status = DropletStatus::Off;
    world.kill();
    let cycle = world.cycles(3, minutes(1));
    assert_eq!(cycle.reboots(), [ID]);
    cycle.expect_false(ConditionType::SupervisorDeployed, Reason::HealthCheckFailed);
}
