//! What holds a create back, and says so.

use crate::world::*;
use ops_controller::plan::action::Action;
use ops_controller::plan::condition::{ConditionType, Reason};
use ops_controller::plan::observation::{Account, Seen};
use ops_controller::plan::state::{Failure, State};

const DEPLOYED: ConditionType = ConditionType::SupervisorDeployed;

#[test]
fn every_guard_holds_a_create_and_names_itself() {
    let cases: [(&str, Reason, Perturb); 11] = [
        ("FirewallReady", Reason::Held, |w| w.seen.firewall = Seen::Known(None)),
        ("CREATE_SETTLE", Reason::Held, |w| w.state.others_acted_until = Some(w.seen.at - seconds(89))),
        ("MAX_CREATES_PER_HOUR", Reason::Held, |w| w.state.supervisor.creates = vec![w.seen.at; 3]),
        ("MAX_MONTHLY_USD", Reason::Held, |w| w.desired.limits.max_monthly_usd = 17.99),
        ("MAX_MONTHLY_USD", Reason::Held, |w| w.seen.sizes = Seen::unknown("429")),
        ("SUPERVISOR_SIZE", Reason::Held, |w| w.desired.size = "s-9vcpu".into()),
        ("SUPERVISOR_SIZE", Reason::Held, |w| {
            let mut sold_out = size("s-2vcpu-2gb", 18.0);
            sold_out.available = false;
            w.seen.sizes = Seen::Known(vec![sold_out]);
        }),
        ("SUPERVISOR_REGION", Reason::Held, |w| w.desired.region = "sgp1".into()),
        ("DigitalOcean account", Reason::Held, |w| {
            w.seen.account = Seen::Known(Account { status: "locked".into(), droplet_limit: Some(25) });
        }),
        ("DigitalOcean account", Reason::Held, |w| {
            w.seen.account = Seen::Known(Account { status: "active".into(), droplet_limit: Some(0) });
        }),
        ("back-off", Reason::ReplacementFailed, |w| w.state.supervisor.not_before = Some(w.seen.at + seconds(1))),
    ];
    for (by, reason, perturb) in cases {
        let mut world = World::without_droplets();
        perturb(&mut world);
        let cycle = world.cycle();
        assert!(cycle.creates().is_empty(), "{by}");
        cycle.expect_held_by(by);
        assert!(cycle.expect_false(DEPLOYED, reason).message.contains(by), "{by}");
    }
}

#[test]
fn what_another_controller_created_last_has_time_to_be_listed() {
    let mut world = World::without_droplets();
    world.state.others_acted_until = Some(world.seen.at);
    world.later(seconds(89));
    let cycle = world.cycle();
    assert!(cycle.creates().is_empty());
    assert!(cycle.plan.in_progress, "it passes by itself");
    world.later(seconds(1));
    assert_eq!(world.cycle().creates().len(), 1);
}

/// The one that took over restarts, or loses the lease and takes it again: by then the epoch before
/// its own is its own, and of the dead one's last create it knows as little as before.
#[test]
fn the_wait_for_another_ones_creates_outlives_a_restart_and_another_taking() {
    let mut world = World::without_droplets();
    let ended = world.seen.at;
    let saved = |state: &State| serde_json::to_string(state).expect("JSON");
    let before = saved(&world.state);
    world.state.take_over(Some(5), Some((4, ended)));
    let text = saved(&world.state);
    assert_ne!(text, before);
    world.state = serde_json::from_str(&text).expect("a state");
    world.state.take_over(Some(6), Some((5, ended + seconds(20))));
    world.later(seconds(89));
    assert!(world.cycle().creates().is_empty());
    // It passes by itself, and its own end puts nothing off.
    world.later(seconds(1));
    assert_eq!(world.cycle().creates().len(), 1);
    // Of two whose journals are not here, the later one counts.
    world.state.take_over(Some(9), Some((8, ended + seconds(100))));
    assert_eq!(world.state.others_acted_until, Some(ended + seconds(100)));
    let old: State = serde_json::from_str(&before).expect("a file without it");
    assert_eq!(old.others_acted_until, None);
}

#[test]
fn the_fuse_opens_again_an_hour_after_the_first_create() {
    let mut world = World::without_droplets();
    let now = world.seen.at;
    world.state.supervisor.creates = vec![now, now + minutes(10), now + minutes(20)];
    world.later(seconds(3_599));
    assert!(world.cycle().creates().is_empty());
    world.later(seconds(1));
    assert_eq!(world.cycle().creates().len(), 1);
}

#[test]
fn a_replacement_waits_for_room() {
    let mut world = World::settled();
    world.resize();
    world.add(NEXT_ID, NEXT);
    world.desired.size = "s-2vcpu-2gb".into();
    world.desired.trigger_version = "v4.6.0".into();
    let cycle = world.cycle();
    assert_eq!(cycle.deletes(), [NEXT_ID], "what is not wanted any more makes room");
    assert!(cycle.creates().is_empty());
    cycle.expect_held_by("MAX_DROPLETS");
}

#[test]
fn with_no_deletions_allowed_the_surplus_is_held() {
    let mut world = World::settled();
    world.add(NEXT_ID, NEXT);
    world.desired.limits.max_deletes_per_cycle = 0;
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect_held_by("MAX_DELETES_PER_CYCLE");
}

#[test]
fn a_refused_create_backs_off_whatever_the_next_name_is_and_a_corrected_one_does_not() {
    let mut world = World::without_droplets();
    let key = world.cycle().actions()[0].key();
    world.state.supervisor.sequence += 1;
    let failure = Failure { attempts: 1, at: world.seen.at, error: "invalid image".into() };
    world.state.failures.insert(key, failure);
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    assert!(cycle.expect_false(DEPLOYED, Reason::ChangeFailed).message.contains("invalid image"));
    world.desired.image = "ubuntu-26-04-x64".into();
    assert_eq!(world.cycle().creates().len(), 1);
}

#[test]
fn pauses_double_up_to_an_hour() {
    let mut world = World::without_droplets();
    let key = world.cycle().actions()[0].key();
    for (attempts, pause) in [(1, 30), (2, 60), (3, 120), (8, 3_600), (40, 3_600)] {
        let failure = Failure { attempts, at: world.seen.at, error: "422".into() };
        world.state.failures.insert(key.clone(), failure);
        world.later(seconds(pause - 1));
        assert!(world.cycle().creates().is_empty(), "{attempts}");
        world.later(seconds(1));
        assert_eq!(world.cycle().creates().len(), 1, "{attempts}");
    }
}

#[test]
fn no_droplet_of_an_unproven_token_is_made() {
    let mut world = World::without_droplets();
    world.seen.probe = None;
    world.cycle().expect_nothing_planned();
}

#[test]
fn only_deletions_destroy_and_every_action_names_its_resource() {
    let mut world = World::settled();
    world.resize();
    let spec = Box::new(spec(&world.desired));
    let create = Action::CreateDroplet { name: NEXT.into(), sequence: 2, spec };
    let reboot = Action::RebootDroplet { id: ID, name: NAME.into() };
    let delete = Action::DeleteDroplet { id: ID, name: NAME.into() };
    assert_eq!([&create, &reboot, &delete].map(Action::destroys), [false, false, true]);
    assert!(create.resource().contains(NEXT) && delete.resource().contains(NAME));
    assert_eq!(world.cycle().actions(), [&create]);
}
