//! What holds in every world, however it is perturbed.

use crate::world::*;
use ops_controller::plan::observation::{Health, Lookup, Probe, Seen};
use ops_controller::plan::plan;
use ops_controller::plan::state::Condemned;
use proptest::prelude::*;

/// Perturbations that may come together, each by its number.
fn perturb(world: &mut World, which: u8, n: u64) {
    let (at, name) = (world.seen.at, format!("trigger-supervisor-b2c3d4e5-{}", n + 2));
    match which {
        0 => world.seen.railway = Seen::unknown("502"),
        1 => world.seen.database = Seen::unknown("timed out"),
        2 => world.seen.droplets = Seen::unknown("429"),
        3 => world.seen.probe = Some(Probe::Unreachable("502".into())),
        4 => world.seen.firewall = Seen::Known(None),
        5 => world.resize(),
        6 => world.desired.trigger_version = "v9.9.9".into(),
        7 => world.desired.limits.max_droplets = (n % 4) as u32 + 1,
        8 => world.desired.limits.max_deletes_per_cycle = (n % 3) as u32,
        9 => world.intent(NEXT, None, n.is_multiple_of(2)),
        10 => world.state.supervisor.droplets.clear(),
        11 => world.seen.sizes = Seen::unknown("429"),
        _ => {
            let Seen::Known(_) = world.seen.droplets else { return };
            if matches!(world.seen.database, Seen::Unknown { .. }) {
                return;
            }
            let id = 8_000 + n;
            world.add(id, &name);
            let mut record = served_record(&name, at);
            match which {
                12 => {}
                13 => world.state.supervisor.droplets.extend([(id, record)]),
                14 => {
                    world.set_serving(id, &name, true);
                    world.state.supervisor.droplets.insert(id, record);
                }
                15 => {
                    record.condemned = Some(Condemned { at, reason: "it never served".into() });
                    record.in_service_since = None;
                    world.state.supervisor.droplets.insert(id, record);
                }
                16 => {
                    record.deleted_at = Some(at - seconds(n as i64 * 7));
                    world.state.supervisor.droplets.insert(id, record);
                }
                _ => world.droplet(id).tags.retain(|t| !t.starts_with("ops-spec-")),
            }
        }
    }
}

fn worlds() -> impl Strategy<Value = World> {
    prop::collection::vec((0_u8..18, 0_u64..16), 0..8).prop_map(|perturbations| {
        let mut world = World::settled();
        for (which, n) in perturbations {
            let id = 8_000 + n;
            let known = world.seen.droplets.known().is_some_and(|d| d.iter().any(|d| d.id == id));
            if which < 12 || !known {
                perturb(&mut world, which, n);
            }
        }
        world
    })
}

/// Surely in service, as a reader of the world would say it.
fn serving(world: &World) -> Vec<u64> {
    let (Seen::Known(droplets), Seen::Known(db)) = (&world.seen.droplets, &world.seen.database) else { return vec![] };
    let fresh = |name: &str| db.workers.get(name).and_then(|w| w.heartbeat_age_seconds).is_some_and(|a| a < 90.0);
    let answers = |id: &u64| world.seen.health.get(id) == Some(&Health::Ok);
    let steady = |id: &u64| world.state.supervisor.droplets.get(id).is_some_and(|r| r.ok_streak >= 3);
    droplets.iter().filter(|d| answers(&d.id) && steady(&d.id) && fresh(&d.name)).map(|d| d.id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn at_most_one_droplet_is_created_and_none_without_a_look_or_while_one_is_looked_for(mut world in worlds()) {
        let cycle = world.cycle();
        let seen = &world.seen;
        let blind = seen.droplets.known().is_none() || seen.database.known().is_none()
            || seen.railway.known().is_none() || seen.sizes.known().is_none();
        let allowed = usize::from(!blind && world.state.intents.is_empty());
        prop_assert!(cycle.creates().len() <= allowed, "{:?}", cycle.texts());
        let exist = seen.droplets.known().map_or(0, Vec::len) + cycle.creates().len();
        prop_assert!(cycle.creates().is_empty() || exist <= world.desired.limits.max_droplets as usize);
    }

    #[test]
    fn deletions_are_capped_and_leave_one_that_serves(mut world in worlds()) {
        let cycle = world.cycle();
        let serving = serving(&world);
        let told = |id: &u64| world.state.supervisor.droplets.get(id).is_some_and(|r| r.deleted_at.is_some());
        let deletes = cycle.deletes();
        let new = deletes.iter().filter(|id| !told(id)).count();
        prop_assert!(new <= world.desired.limits.max_deletes_per_cycle as usize, "{:?}", cycle.texts());
        let left = serving.iter().filter(|id| !deletes.contains(id)).count();
        prop_assert!(serving.is_empty() || left > 0, "{:?} of {serving:?}", cycle.texts());
        prop_assert!(deletes.is_empty() || world.seen.droplets.known().is_some());
    }

    #[test]
    fn the_same_world_gives_the_same_plan_and_a_digested_state_is_enough(mut world in worlds()) {
        let first = world.cycle();
        let again = plan(&world.desired, &world.state, &world.seen);
        prop_assert_eq!(format!("{:?}", first.plan), format!("{again:?}"));
    }

    #[test]
    fn a_plan_with_something_to_do_is_not_healthy_and_no_text_shows_a_secret(mut world in worlds()) {
        let cycle = world.cycle();
        prop_assert!(!cycle.healthy() || cycle.plan.is_settled(), "{:?} {:?}", cycle.texts(), cycle.plan.held);
        let text = format!("{:?} {:?} {:?} {:?}", cycle.plan, cycle.texts(), cycle.conditions, world.desired);
        prop_assert!(!text.contains("CANARY"));
    }
}

#[test]
fn the_perturbations_reach_what_they_are_for() {
    let mut world = World::settled();
    perturb(&mut world, 14, 3);
    assert_eq!(serving(&world), [ID, 8_003]);
    assert!(matches!(world.railway().webapp, Lookup::Found(_)));
}
