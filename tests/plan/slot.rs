//! Defect 24: the slot is watched, warned of and never dropped.

use crate::world::*;
use ops_controller::plan::condition::{ConditionType, Reason};
use ops_controller::plan::observation::Slot;

const KIND: ConditionType = ConditionType::ReplicationSlotHealthy;

fn slot(world: &mut World) -> &mut Slot {
    world.db().slot.as_mut().expect("a slot")
}

#[test]
fn an_inactive_missing_or_fat_slot_warns_and_stays_healthy() {
    let cases: [(Reason, Perturb); 5] = [
        (Reason::SlotMissing, |w| w.db().slot = None),
        (Reason::SlotInactive, |w| slot(w).active = false),
        (Reason::SlotRetainsWal, |w| slot(w).wal_status = "unreserved".into()),
        (Reason::SlotRetainsWal, |w| slot(w).retained_bytes = (1 << 30) + 1),
        (Reason::LimitTooLow, |w| {
            w.db().slot = None;
            w.db().wal_senders_used = 10;
        }),
    ];
    for (reason, perturb) in cases {
        let mut world = World::settled();
        perturb(&mut world);
        let cycle = world.cycle();
        assert!(cycle.expect_false(KIND, reason).advisory);
        cycle.expect_nothing_planned();
        assert!(cycle.healthy(), "{reason}");
    }
}

#[test]
fn a_lost_slot_is_not_healthy_and_is_not_dropped() {
    let mut world = World::settled();
    slot(&mut world).wal_status = "lost".into();
    let cycle = world.cycle();
    cycle.expect_false(KIND, Reason::SlotLost);
    cycle.expect_nothing_planned();
    assert!(!cycle.healthy());
}

/// The predecessor's defect 24.
#[test]
fn growth_is_forecast_until_the_volume_is_full() {
    let mut world = World::settled();
    world.desired.pg_volume_gb = Some(5);
    slot(&mut world).active = false;
    for minute in 0..=60 {
        slot(&mut world).retained_bytes = minute * (1 << 30) / 60;
        world.cycle();
        world.later(minutes(1));
    }
    let cycle = world.cycle();
    let message = &cycle.expect_false(KIND, Reason::SlotInactive).message;
    assert!(message.contains("growing by 1"), "{message}");
    assert!(message.contains("the volume is full in about"), "{message}");
}

#[test]
fn half_of_a_small_volume_is_worth_a_warning() {
    let mut world = World::settled();
    slot(&mut world).retained_bytes = 600 << 20;
    world.cycle().expect_true(KIND);
    world.desired.pg_volume_gb = Some(1);
    world.cycle().expect_false(KIND, Reason::SlotRetainsWal);
}

#[test]
fn samples_are_bounded_and_forgotten_with_the_slot() {
    let mut world = World::settled();
    world.cycles(500, minutes(1));
    assert!(world.state.slot_samples.len() <= 24, "{}", world.state.slot_samples.len());
    world.db().slot = None;
    world.cycle();
    assert!(world.state.slot_samples.is_empty());
}
