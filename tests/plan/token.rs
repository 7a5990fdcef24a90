//! Which token counts, where one is looked for, and when one is issued.

use crate::world::*;
use ops_controller::plan::action::Action;
use ops_controller::plan::condition::{ConditionType, Reason, Status};
use ops_controller::plan::observation::{Probe, Search, Seen};
use ops_controller::plan::secret::Secret;
use ops_controller::plan::state::{Failure, PendingToken, SearchState, TokenSource};
use ops_controller::plan::token::{may_probe, wants_search};

const KIND: ConditionType = ConditionType::WorkerTokenReady;

fn lost() -> World {
    let mut world = World::settled();
    world.state.token = None;
    world
}

/// Every window was searched.
fn searched(world: &mut World, found: &[&str]) {
    world.seen.search = Some(Search {
        found: found.iter().map(|t| Secret::new(*t)).collect(),
        searched: vec!["deployment 1".into()],
        complete: true,
        error: None,
    });
}

fn wants(world: &World) -> bool {
    wants_search(&world.desired, &world.state, &world.seen.database, world.seen.at)
}

#[test]
fn defect_6_the_manual_token_comes_before_the_cached_one() {
    let mut world = World::settled();
    world.desired.manual_token = Some(Secret::new(OTHER_TOKEN));
    world.db().worker_groups = Some(vec![group("bootstrap", TOKEN), group("other", OTHER_TOKEN)]);
    let cycle = world.cycle();
    assert!(cycle.expect_true(KIND).message.contains("TRIGGER_WORKER_TOKEN"));
    assert_eq!(cycle.creates()[0].1.supervisor.worker_token, Secret::new(OTHER_TOKEN));
}

#[test]
fn a_wrong_manual_token_is_reported_and_nothing_is_searched() {
    let mut world = World::settled();
    world.desired.manual_token = Some(Secret::new(OTHER_TOKEN));
    let cycle = world.cycle();
    cycle.expect_false(KIND, Reason::TokenRejected);
    cycle.expect_nothing_planned();
    assert!(!wants(&world));
}

#[test]
fn a_cached_token_that_the_database_no_longer_knows_is_dropped_and_looked_for() {
    let mut world = World::settled();
    world.db().worker_groups = Some(vec![group("bootstrap", OTHER_TOKEN)]);
    let cycle = world.cycle();
    cycle.expect_false(KIND, Reason::SearchingLogs);
    assert_eq!(world.state.token, None);
    assert!(wants(&world));
    cycle.expect_nothing_planned();
}

#[test]
fn an_unreadable_database_keeps_the_cached_token() {
    let mut world = World::settled();
    world.seen.database = Seen::unknown("timed out");
    world.cycle().expect(KIND, Status::Unknown, Reason::CouldNotLook);
    assert!(world.state.token.is_some() && !wants(&world));
}

#[test]
fn defect_9_only_a_found_token_that_the_database_knows_is_taken() {
    let mut world = lost();
    searched(&mut world, &[OTHER_TOKEN, TOKEN]);
    world.cycle().expect_true(KIND);
    let token = world.state.token.expect("a token");
    assert_eq!((token.value, token.source), (Secret::new(TOKEN), TokenSource::Logs));
}

#[test]
fn a_search_that_found_nothing_says_where_and_is_repeated_after_five_minutes() {
    let mut world = lost();
    assert!(wants(&world));
    searched(&mut world, &[]);
    let cycle = world.cycle();
    let message = &cycle.expect_false(KIND, Reason::TokenNotFound).message;
    assert!(message.contains("deployment 1") && message.contains("TRIGGER_WORKER_TOKEN"), "{message}");
    cycle.expect_nothing_planned();
    world.later(seconds(299));
    assert!(!wants(&world));
    world.later(seconds(1));
    assert!(wants(&world));
}

#[test]
fn a_search_under_way_hurries_and_one_that_cannot_look_does_not() {
    let mut world = lost();
    world.seen.search = Some(Search::default());
    assert!(world.cycle().plan.in_progress);
    world.seen.search = Some(Search { error: Some("429".into()), ..Search::default() });
    let cycle = world.cycle();
    assert!(!cycle.plan.in_progress);
    assert!(cycle.expect_false(KIND, Reason::SearchingLogs).message.contains("429"));
}

#[test]
fn a_refused_probe_is_not_repeated_for_ten_minutes_and_gives_no_droplet() {
    let mut world = World::without_droplets();
    world.seen.probe = Some(Probe::Rejected);
    let cycle = world.cycle();
    cycle.expect_false(KIND, Reason::ProbeRejected);
    cycle.expect_nothing_planned();
    let inputs = world.state.probe.clone().expect("an answer").inputs;
    world.seen.probe = None;
    world.later(seconds(599));
    assert!(!may_probe(&world.state, &inputs, world.seen.at));
    assert!(may_probe(&world.state, "another secret", world.seen.at));
    world.cycle().expect_false(KIND, Reason::ProbeRejected);
    world.later(seconds(1));
    assert!(may_probe(&world.state, &inputs, world.seen.at));
}

#[test]
fn a_webapp_that_cannot_be_asked_leaves_the_token_unknown() {
    let mut world = World::without_droplets();
    world.seen.probe = Some(Probe::Unreachable("connection refused".into()));
    let cycle = world.cycle();
    cycle.expect(KIND, Status::Unknown, Reason::CouldNotLook);
    cycle.expect_nothing_planned();
}

#[test]
fn a_token_without_configuration_waits_for_it() {
    let mut world = World::settled();
    world.railway().managed_secret = None;
    world.cycle().expect(KIND, Status::Unknown, Reason::WaitingForOther);
}

#[test]
fn a_database_without_worker_group_says_how_to_make_one() {
    let mut world = lost();
    world.desired.rotate_lost_token = true;
    world.db().worker_groups = Some(vec![]);
    let cycle = world.cycle();
    assert!(cycle.expect_false(KIND, Reason::TokenNotFound).message.contains("TRIGGER_BOOTSTRAP_ENABLED"));
    cycle.expect_nothing_planned();
    assert!(!wants(&world));
}

fn may_rotate() -> World {
    let mut world = lost();
    world.desired.rotate_lost_token = true;
    world.state.search = SearchState { finished_at: Some(world.seen.at), ..SearchState::default() };
    world
}

#[test]
fn a_lost_token_is_rotated_only_when_opted_in_and_searched_for() {
    let mut world = may_rotate();
    let old_hash = group("bootstrap", TOKEN).token_hash;
    let wanted = Action::RotateToken { group_id: "group-bootstrap".into(), group_name: "bootstrap".into(), old_hash };
    assert_eq!(world.cycle().actions(), [&wanted]);
    world.state.search = SearchState::default();
    world.cycle().expect_nothing_planned();
    let mut world = may_rotate();
    world.desired.rotate_lost_token = false;
    world.cycle().expect_nothing_planned();
}

#[test]
fn among_several_worker_groups_none_is_chosen_for_rotation() {
    let mut world = may_rotate();
    world.db().worker_groups = Some(vec![group("one", TOKEN), group("two", OTHER_TOKEN)]);
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    assert!(cycle.finding(KIND).message.contains("cannot choose"));
}

#[test]
fn a_refused_rotation_backs_off() {
    let mut world = may_rotate();
    let key = world.cycle().actions()[0].key();
    let failure = Failure { attempts: 1, at: world.seen.at, error: "permission denied".into() };
    world.state.failures.insert(key, failure);
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect_false(KIND, Reason::ChangeFailed);
    world.later(seconds(30));
    assert_eq!(world.cycle().actions().len(), 1);
}

#[test]
fn an_issued_token_whose_answer_was_lost_is_taken_when_the_database_knows_it() {
    let mut world = may_rotate();
    let issued_at = world.seen.at;
    world.state.pending_token =
        Some(PendingToken { value: Secret::new(OTHER_TOKEN), group_id: "group-bootstrap".into(), issued_at });
    world.db().worker_groups = Some(vec![group("bootstrap", OTHER_TOKEN)]);
    let cycle = world.cycle();
    cycle.expect_true(KIND);
    assert_eq!(world.state.pending_token, None);
    assert_eq!(world.state.token.map(|t| t.source), Some(TokenSource::Rotated));
}
