//! `WalLevelLogical`: one restart per confirmed change, and none in vain.

use crate::world::*;
use ops_controller::plan::action::Action;
use ops_controller::plan::condition::{ConditionType, Reason};
use ops_controller::plan::observation::{DeploymentStatus, Lookup, Seen, Service};
use ops_controller::plan::state::{Failure, RestartRecord};

const KIND: ConditionType = ConditionType::WalLevelLogical;

/// wal_level is replica and nothing has been done about it.
fn replica() -> World {
    let mut world = World::settled();
    world.db().wal_level.value = "replica".into();
    world.db().wal_level_in_file = None;
    world
}

/// The same, with logical stored.
fn stored() -> World {
    let mut world = replica();
    world.db().wal_level_in_file = Some("logical".into());
    world
}

fn asked(world: &mut World, asks: u32) {
    let started_before = world.db().started_at;
    world.state.restart = Some(RestartRecord { started_before, asked_at: world.seen.at, asks, started_after: None });
}

fn webapp(world: &mut World) -> &mut Service {
    match &mut world.railway().webapp {
        Lookup::Found(service) => service,
        _ => unreachable!("it is there"),
    }
}

#[test]
fn a_wrong_wal_level_is_set_first_and_not_restarted_for() {
    let mut world = replica();
    let cycle = world.cycle();
    assert_eq!(cycle.actions(), [&Action::AlterSystemWalLevel]);
    cycle.expect_false(KIND, Reason::InProgress);
    assert!(cycle.plan.in_progress);
}

#[test]
fn a_stored_wal_level_is_restarted_for_once() {
    for mut world in [stored(), replica()] {
        world.db().wal_level.pending_restart = true;
        let started_at = world.db().started_at;
        let cycle = world.cycle();
        let wanted = Action::RestartPostgres { deployment_id: "postgres-deployment".into(), started_at };
        assert_eq!(cycle.actions(), [&wanted]);
        asked(&mut world, 1);
        let cycle = world.cycles(9, minutes(1));
        cycle.expect_nothing_planned();
        cycle.expect_false(KIND, Reason::InProgress);
    }
}

#[test]
fn another_value_in_the_file_costs_no_restart() {
    let mut world = replica();
    world.db().wal_level.pending_restart = true;
    world.db().wal_level_in_file = Some("minimal".into());
    assert_eq!(world.cycle().actions(), [&Action::AlterSystemWalLevel]);
}

#[test]
fn defect_18_a_restart_that_did_not_help_is_never_repeated() {
    let mut world = stored();
    asked(&mut world, 1);
    world.db().started_at = world.seen.at;
    for _ in 0..300 {
        let cycle = world.cycle();
        cycle.expect_nothing_planned();
        cycle.expect_false(KIND, Reason::RestartDidNotHelp);
        world.later(minutes(1));
    }
}

#[test]
fn defect_18_a_restart_that_does_not_come_is_asked_for_three_times_and_no_more() {
    let mut world = stored();
    let mut asks = 0;
    for _ in 0..300 {
        if !world.cycle().plan.actions.is_empty() {
            asks += 1;
            asked(&mut world, asks);
        }
        world.later(minutes(1));
    }
    assert_eq!(asks, 3);
    world.cycle().expect_false(KIND, Reason::ChangeFailed);
}

#[test]
fn a_restart_that_helped_is_forgotten() {
    let mut world = World::settled();
    asked(&mut world, 2);
    world.db().started_at = world.seen.at;
    world.cycle().expect_true(KIND);
    assert_eq!(world.state.restart, None);
}

#[test]
fn the_database_may_be_away_while_it_restarts() {
    let mut world = stored();
    asked(&mut world, 1);
    world.seen.database = Seen::unknown("connection refused");
    world.seen.probe = None;
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    assert!(cycle.plan.in_progress);
}

#[test]
fn defect_18_a_command_line_setting_is_never_touched() {
    let mut world = stored();
    world.db().wal_level.source = "command line".into();
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect_false(KIND, Reason::CommandLineOverrides);
}

#[test]
fn a_standby_missing_privileges_and_full_limits_are_said_before_anything_is_touched() {
    let cases: [(Reason, Perturb); 4] = [
        (Reason::PrivilegeMissing, |w| w.db().in_recovery = true),
        (Reason::PrivilegeMissing, |w| w.db().role.may_alter_system = false),
        (Reason::LimitTooLow, |w| w.db().max_wal_senders = 0),
        (Reason::LimitTooLow, |w| w.db().max_replication_slots = 0),
    ];
    for (reason, perturb) in cases {
        for mut world in [replica(), stored()] {
            perturb(&mut world);
            let cycle = world.cycle();
            cycle.expect_nothing_planned();
            cycle.expect_false(KIND, reason);
        }
    }
}

#[test]
fn no_restart_while_the_webapp_boots_or_migrates() {
    let cases: [Perturb; 4] = [
        |w| webapp(w).active[0].booting = true,
        |w| webapp(w).latest.as_mut().expect("a deployment").status = DeploymentStatus::InFlight,
        |w| webapp(w).latest.as_mut().expect("a deployment").booting = true,
        |w| w.db().task_run = None,
    ];
    for perturb in cases {
        let mut world = stored();
        perturb(&mut world);
        let cycle = world.cycle();
        cycle.expect_nothing_planned();
        cycle.expect_false(KIND, Reason::WebappBooting);
        cycle.expect_held_by("booting webapp");
    }
}

#[test]
fn defect_21_tables_that_do_not_exist_yet_hold_no_restart_without_a_webapp() {
    let mut world = stored();
    world.db().task_run = None;
    webapp(&mut world).active.clear();
    webapp(&mut world).latest = None;
    assert!(matches!(world.cycle().actions()[..], [Action::RestartPostgres { .. }]));
}

#[test]
fn a_postgres_that_cannot_be_found_or_does_not_run_is_not_restarted() {
    let missing = Lookup::Missing { wanted: "Postgres".into(), present: vec![] };
    let two = Lookup::Ambiguous { wanted: "Postgres".into(), matches: vec!["a".into(), "b".into()] };
    for (lookup, reason) in [(missing, Reason::ServiceNotFound), (two, Reason::ServiceAmbiguous)] {
        let mut world = stored();
        world.railway().postgres = lookup;
        let cycle = world.cycle();
        cycle.expect_nothing_planned();
        cycle.expect_false(KIND, reason);
        cycle.expect_held_by("DB_SERVICE_NAME");
    }
    let mut world = stored();
    world.seen.railway = Seen::unknown("502");
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect_false(KIND, Reason::CouldNotLook);
}

#[test]
fn a_refused_restart_or_setting_backs_off_in_the_servers_words() {
    for mut world in [stored(), replica()] {
        let key = world.cycle().actions()[0].key();
        let failure = Failure { attempts: 2, at: world.seen.at, error: "not allowed here".into() };
        world.state.failures.insert(key, failure);
        let cycle = world.cycle();
        cycle.expect_nothing_planned();
        assert!(cycle.expect_false(KIND, Reason::ChangeFailed).message.contains("not allowed here"));
        world.later(seconds(59));
        world.cycle().expect_nothing_planned();
        world.later(seconds(1));
        assert_eq!(world.cycle().actions().len(), 1);
    }
}
