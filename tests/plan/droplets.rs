//! Booting, replacing, and what must go.

use crate::world::*;
use ops_controller::plan::action::Action;
use ops_controller::plan::condition::{ConditionType, Reason};
use ops_controller::plan::desired::RegistryLogin;
use ops_controller::plan::observation::{DropletStatus, Health};
use ops_controller::plan::secret::Secret;
use ops_controller::plan::state::{Condemned, Failure};

const DEPLOYED: ConditionType = ConditionType::SupervisorDeployed;

#[test]
fn without_a_droplet_one_is_created_as_desired() {
    let mut world = World::without_droplets();
    let cycle = world.cycle();
    assert_eq!(cycle.texts(), [format!("create droplet {NAME} (s-2vcpu-2gb, nyc1, ubuntu-24-04-x64)")]);
    assert_eq!(cycle.plan.actions[0].monthly_usd, Some(18.0));
    assert_eq!(cycle.creates()[0].1, &spec(&world.desired));
    assert!(cycle.plan.in_progress);
}

#[test]
fn a_droplet_within_its_boot_deadline_is_waited_for() {
    let mut world = World::without_droplets();
    world.add(ID, NAME);
    let cycle = world.cycles(9, minutes(1));
    cycle.expect_nothing_planned();
    cycle.expect_false(DEPLOYED, Reason::DropletBooting);
    assert!(cycle.plan.in_progress);
}

#[test]
fn one_that_does_not_serve_by_its_deadline_is_given_up_and_the_next_waits() {
    let mut world = World::without_droplets();
    world.add(ID, NAME);
    let cycle = world.cycles(10, minutes(1));
    cycle.expect_nothing_planned();
    cycle.expect_false(DEPLOYED, Reason::ReplacementFailed);
    cycle.expect_held_by("back-off");
    world.later(minutes(2));
    assert_eq!(world.cycle().creates().len(), 1, "after the pause the next one is made");
}

#[test]
fn a_droplet_that_never_gets_an_address_is_given_up_too() {
    let mut world = World::without_droplets();
    world.add(ID, NAME);
    world.droplet(ID).ip = None;
    world.droplet(ID).status = DropletStatus::New;
    world.seen.health.clear();
    world.cycles(10, minutes(1)).expect_false(DEPLOYED, Reason::ReplacementFailed);
}

#[test]
fn defect_2_a_droplet_that_fails_its_first_looks_is_not_deployed() {
    let mut world = World::without_droplets();
    world.add(ID, NAME);
    for _ in 0..5 {
        assert!(!world.cycle().healthy());
        world.later(seconds(5));
    }
}

#[test]
fn three_answers_and_a_heartbeat_make_a_droplet_serve() {
    let mut world = World::without_droplets();
    world.add(ID, NAME);
    world.set_serving(ID, NAME, true);
    assert!(!world.cycles(2, seconds(5)).healthy());
    world.later(seconds(5));
    assert!(world.cycle().healthy());
}

#[test]
fn defects_6_and_8_every_change_of_what_a_droplet_is_replaces_it_new_first() {
    let changes: [(&str, Perturb); 9] = [
        ("size", |w| w.desired.size = "s-4vcpu-8gb".into()),
        ("region", |w| w.desired.region = "fra1".into()),
        ("image", |w| w.desired.image = "ubuntu-26-04-x64".into()),
        ("version", |w| w.desired.trigger_version = "v4.6.0".into()),
        ("secret", |w| w.railway().managed_secret = Some(Secret::new("another"))),
        ("origin", |w| w.railway().api_origin = Some("https://new.example.com".into())),
        ("registry", |w| w.railway().registry_domain = None),
        ("registry login", |w| {
            let password = Secret::new("pull-password");
            w.desired.registry_login = Some(RegistryLogin { username: "puller".into(), password });
        }),
        ("token", |w| {
            w.desired.manual_token = Some(Secret::new(OTHER_TOKEN));
            w.db().worker_groups = Some(vec![group("bootstrap", TOKEN), group("other", OTHER_TOKEN)]);
        }),
    ];
    for (what, change) in changes {
        let mut world = World::settled();
        change(&mut world);
        let cycle = world.cycle();
        assert_eq!(cycle.creates().first().map(|c| c.0), Some(NEXT), "{what}");
        assert!(cycle.deletes().is_empty(), "{what}");
        cycle.expect_false(DEPLOYED, Reason::DropletDrifted);
        cycle.expect_true(ConditionType::SupervisorReachable);
    }
}

#[test]
fn a_changed_ssh_key_replaces_the_droplet_once_the_firewall_lets_ssh_in() {
    let mut world = World::settled();
    world.desired.ssh_keys = vec!["12:34".into()];
    let cycle = world.cycle();
    assert!(matches!(cycle.actions()[..], [Action::UpdateFirewall { .. }]));
    cycle.expect_held_by("FirewallReady");
}

#[test]
fn the_old_droplet_goes_only_when_the_new_one_serves() {
    let mut world = World::settled();
    world.resize();
    world.add(NEXT_ID, NEXT);
    world.cycle().expect_nothing_planned();
    world.set_health(NEXT_ID, true);
    world.later(seconds(5));
    world.cycles(5, seconds(5)).expect_nothing_planned();
    world.set_heartbeat(NEXT, Some(1.0));
    let cycle = world.cycle();
    assert_eq!(cycle.deletes(), [ID]);
    assert_eq!(cycle.plan.actions[0].monthly_usd, Some(-18.0));
    cycle.expect_false(DEPLOYED, Reason::SurplusDroplets);
}

#[test]
fn a_new_one_that_fails_is_removed_the_old_one_kept_and_the_pause_grows() {
    let mut world = World::settled();
    world.resize();
    let mut pauses = vec![];
    for id in [8001, 8002, 8003] {
        let name = format!("trigger-supervisor-b2c3d4e5-{id}");
        world.add(id, &name);
        world.set_heartbeat(&name, None);
        let cycle = world.cycles(10, minutes(1));
        assert_eq!(cycle.deletes(), [id]);
        pauses.push(world.state.supervisor.not_before.expect("a pause").duration_since(world.seen.at).as_secs());
        world.remove(id);
        world.cycle().expect_held_by("back-off");
    }
    assert_eq!(pauses, [120, 240, 480]);
}

#[test]
fn defect_16_of_two_that_serve_one_goes_and_of_three_one_in_each_cycle() {
    let mut world = World::settled();
    world.desired.limits.max_droplets = 3;
    for (id, name) in [(NEXT_ID, NEXT), (7003, "trigger-supervisor-b2c3d4e5-3")] {
        world.add(id, name);
        world.set_serving(id, name, true);
    }
    let cycle = world.cycles(3, seconds(5));
    assert_eq!(cycle.deletes(), [NEXT_ID]);
    cycle.expect_held_by("MAX_DELETES_PER_CYCLE");
}

#[test]
fn a_droplet_that_is_being_deleted_counts_until_it_is_gone() {
    let mut world = World::settled();
    world.add(NEXT_ID, NEXT);
    world.cycle();
    world.record(NEXT_ID).deleted_at = Some(world.seen.at);
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect_false(DEPLOYED, Reason::InProgress);
    world.remove(NEXT_ID);
    assert!(world.cycle().healthy());
}

#[test]
fn a_deletion_that_shows_no_effect_is_sent_again_unless_it_would_end_the_service() {
    let mut world = World::settled();
    world.add(NEXT_ID, NEXT);
    world.cycle();
    world.record(NEXT_ID).deleted_at = Some(world.seen.at);
    world.later(seconds(59));
    world.cycle().expect_nothing_planned();
    world.later(seconds(1));
    assert_eq!(world.cycle().deletes(), [NEXT_ID]);
    world.set_serving(NEXT_ID, NEXT, true);
    world.cycles(3, seconds(5));
    world.set_serving(ID, NAME, false);
    world.later(seconds(5));
    assert!(world.cycle().deletes().is_empty());
    // Nor when nobody could hear its heartbeat, or look.
    world.set_heartbeat(NEXT, Some(600.0));
    assert!(world.cycle().deletes().is_empty());
    world.seen.database = ops_controller::plan::observation::Seen::unknown("timed out");
    assert!(world.cycle().deletes().is_empty());
}

#[test]
fn a_refused_deletion_backs_off() {
    let mut world = World::settled();
    world.add(NEXT_ID, NEXT);
    let key = Action::DeleteDroplet { id: NEXT_ID, name: NEXT.into() }.key();
    let failure = Failure { attempts: 1, at: world.seen.at, error: "403".into() };
    world.state.failures.insert(key, failure);
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect_held_by("back-off");
    world.later(seconds(30));
    assert_eq!(world.cycle().deletes(), [NEXT_ID]);
}

#[test]
fn one_out_of_service_is_not_deployed_because_its_predecessor_still_serves() {
    let mut world = World::settled();
    world.resize();
    world.add(NEXT_ID, NEXT);
    world.state.supervisor.droplets.insert(NEXT_ID, served_record(NEXT, world.seen.at));
    world.set_heartbeat(NEXT, Some(91.0));
    let cycle = world.cycle();
    assert!(!cycle.healthy());
    cycle.expect_false(DEPLOYED, Reason::SurplusDroplets);
}

#[test]
fn with_all_slots_taken_the_one_that_answers_is_kept() {
    let mut world = World::settled();
    world.add(NEXT_ID, NEXT);
    world.kill();
    world.set_serving(NEXT_ID, NEXT, true);
    world.state.supervisor.droplets.clear();
    world.resize();
    assert_eq!(world.cycle().deletes(), [ID]);
}

#[test]
fn with_one_slot_a_serving_droplet_is_never_deleted_and_a_dead_one_makes_room() {
    let mut world = World::settled();
    world.desired.limits.max_droplets = 1;
    world.resize();
    let cycle = world.cycles(30, minutes(1));
    cycle.expect_nothing_planned();
    cycle.expect_held_by("MAX_DROPLETS");
    world.kill();
    assert_eq!(world.cycles(3, minutes(1)).deletes(), [ID]);
    world.remove(ID);
    assert_eq!(world.cycle().creates().len(), 1);
}

#[test]
fn a_booting_droplet_whose_probe_is_blocked_does_not_hurry_cycles_past_its_deadline() {
    let mut world = World::without_droplets();
    world.add(ID, NAME);
    world.seen.health.insert(ID, Health::Failed("timed out".into()));
    world.set_heartbeat(NAME, Some(1.0));
    let cycle = world.cycles(30, minutes(1));
    cycle.expect_nothing_planned();
    assert!(!cycle.plan.in_progress);
}

#[test]
fn a_dead_droplet_makes_room_when_the_other_one_stays_because_it_alone_answers() {
    let mut world = World::settled();
    world.resize();
    world.record(ID).deleted_at = Some(world.seen.at - minutes(10));
    world.add(NEXT_ID, NEXT);
    let mut record = served_record(NEXT, world.seen.at);
    record.condemned = Some(Condemned { at: world.seen.at, reason: "it stayed out of service".into() });
    world.state.supervisor.droplets.insert(NEXT_ID, record);
    assert_eq!(world.cycle().deletes(), [NEXT_ID]);
}

#[test]
fn strangers_in_a_listing_are_neither_counted_nor_deleted_nor_remembered() {
    let mut world = World::settled();
    for id in 1..=50 {
        world.add(id, &format!("stranger-{id}"));
        world.droplet(id).tags = vec!["ops-controller".into(), "another-identity".into()];
    }
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect_true(DEPLOYED);
    assert!(cycle.plan.held.is_empty(), "{:?}", cycle.plan.held);
    assert_eq!(world.state.supervisor.droplets.keys().collect::<Vec<_>>(), [&ID]);
}

#[test]
fn a_droplet_of_ours_counts_while_its_tag_has_not_come() {
    let mut world = World::without_droplets();
    world.intent(NEXT, Some(NEXT_ID), true);
    world.add(NEXT_ID, NEXT);
    let mark = world.desired.identity_tag();
    world.droplet(NEXT_ID).tags.retain(|tag| *tag != mark);
    world.cycle().expect_nothing_planned();
    assert!(world.state.supervisor.droplets.contains_key(&NEXT_ID));
    assert!(world.state.intents.is_empty(), "the create was found");
}
