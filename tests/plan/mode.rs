//! The healthy counter, auto-disable and what wakes a disabled controller.

use crate::world::*;
use ops_controller::plan::droplets::views;
use ops_controller::plan::mode::{CheapLook, Shown, begin, cheap_look, end, pause, shown};
use ops_controller::plan::state::Mode;

/// One cycle with its bookkeeping; whether it disabled the controller.
fn finish(world: &mut World) -> bool {
    let healthy = world.cycle().healthy();
    let World { desired, state, seen } = world;
    let wanted = spec(desired);
    let before = state.clone();
    let all = views(desired, &before, seen, Some(&wanted));
    end(desired, state, healthy, all.first(), seen)
}

fn disabled() -> World {
    let mut world = World::settled();
    world.desired.auto_disable = true;
    world.desired.healthy_cycles_before_disable = 1;
    assert!(finish(&mut world));
    world
}

#[test]
fn auto_disable_comes_after_so_many_healthy_cycles_in_a_row() {
    for wanted in [1, 3, 100] {
        let mut world = World::settled();
        world.desired.auto_disable = true;
        world.desired.healthy_cycles_before_disable = wanted;
        let cycles = (1..=200).find(|_| finish(&mut world));
        assert_eq!(cycles, Some(wanted));
        let Mode::Disabled { droplet: Some(watched), .. } = &world.state.mode else { panic!("{:?}", world.state.mode) };
        assert_eq!((watched.id, watched.name.as_str()), (ID, NAME));
    }
}

#[test]
fn defect_4_zero_cycles_count_as_one_and_an_unhealthy_one_never_disables() {
    let mut world = World::settled();
    world.desired.auto_disable = true;
    world.desired.healthy_cycles_before_disable = 0;
    world.kill();
    assert!(!finish(&mut world));
    world.set_serving(ID, NAME, true);
    world.record(ID).ok_streak = 10;
    assert!(finish(&mut world));
}

#[test]
fn defect_5_every_unhealthy_cycle_starts_the_count_again() {
    let mut world = World::settled();
    world.desired.auto_disable = true;
    finish(&mut world);
    finish(&mut world);
    let whole = world.seen.railway.clone();
    world.seen.railway = ops_controller::plan::observation::Seen::unknown("502");
    assert!(!finish(&mut world));
    assert_eq!(world.state.healthy_cycles, 0);
    world.seen.railway = whole;
    assert!(!finish(&mut world) && !finish(&mut world) && finish(&mut world));
}

#[test]
fn without_auto_disable_or_when_inactive_or_paused_nothing_disables() {
    let cases: [Perturb; 3] =
        [|w| w.desired.auto_disable = false, |w| w.desired.is_active = false, |w| pause(&mut w.state, w.seen.at)];
    for perturb in cases {
        let mut world = World::settled();
        world.desired.auto_disable = true;
        perturb(&mut world);
        assert!((0..10).all(|_| !finish(&mut world)));
    }
}

#[test]
fn defect_3_switching_is_active_off_and_on_wakes_and_a_mere_restart_does_not() {
    let mut world = disabled();
    assert_eq!(begin(&world.desired, &mut world.state), None);
    world.desired.is_active = false;
    assert_eq!(begin(&world.desired, &mut world.state), None);
    assert_eq!(shown(&world.desired, &world.state), Shown::Inactive);
    world.desired.is_active = true;
    assert!(begin(&world.desired, &mut world.state).is_some());
    assert_eq!((&world.state.mode, world.state.healthy_cycles), (&Mode::Active, 0));
}

#[test]
fn a_changed_wish_wakes_and_a_changed_pace_does_not() {
    let mut world = disabled();
    world.desired.times.check_interval *= 2;
    world.desired.limits.max_droplets = 3;
    assert_eq!(begin(&world.desired, &mut world.state), None);
    world.resize();
    assert!(begin(&world.desired, &mut world.state).is_some());
    assert_eq!(shown(&world.desired, &world.state), Shown::Active);
}

#[test]
fn a_changed_wish_does_not_end_a_pause() {
    let mut world = World::settled();
    pause(&mut world.state, world.seen.at);
    world.resize();
    assert_eq!(begin(&world.desired, &mut world.state), None);
    assert_eq!(shown(&world.desired, &world.state), Shown::Paused);
}

#[test]
fn a_dead_supervisor_wakes_after_three_looks_and_unknown_never_does() {
    let mut world = disabled();
    let mut look = |look| cheap_look(&world.desired, &mut world.state, look);
    assert!((0..100).all(|_| !look(CheapLook::Unknown)));
    assert!(!look(CheapLook::Dead) && !look(CheapLook::Dead) && !look(CheapLook::Unknown));
    assert!(!look(CheapLook::Alive), "one answer starts the count again");
    assert!(!look(CheapLook::Dead) && !look(CheapLook::Dead) && look(CheapLook::Dead));
    assert_eq!(world.state.mode, Mode::Active);
}

#[test]
fn a_cheap_look_means_nothing_to_an_active_controller() {
    let mut world = World::settled();
    assert!((0..10).all(|_| !cheap_look(&world.desired, &mut world.state, CheapLook::Dead)));
}
