//! `ReplicaIdentityFull` and `PublicationReady`: looked into, not only at their names.

use crate::world::*;
use ops_controller::plan::action::Action;
use ops_controller::plan::condition::{ConditionType, Reason};
use ops_controller::plan::observation::Publication;
use ops_controller::plan::replication::PUBLICATION;

const KIND: ConditionType = ConditionType::PublicationReady;
const IDENTITY: ConditionType = ConditionType::ReplicaIdentityFull;

type Repair = fn(&mut Publication);

fn publication(world: &mut World) -> &mut Publication {
    world.db().publication.as_mut().expect("a publication")
}

#[test]
fn every_replica_identity_but_full_is_set() {
    for identity in ['d', 'n', 'i'] {
        let mut world = World::settled();
        world.db().task_run.as_mut().expect("a table").replica_identity = identity;
        let cycle = world.cycle();
        assert_eq!(cycle.actions(), [&Action::SetReplicaIdentityFull]);
        cycle.expect_false(IDENTITY, Reason::IdentityNotFull);
    }
}

#[test]
fn a_missing_publication_is_created() {
    let mut world = World::settled();
    world.db().publication = None;
    let cycle = world.cycle();
    assert_eq!(cycle.actions(), [&Action::CreatePublication { name: PUBLICATION.into() }]);
    cycle.expect_false(KIND, Reason::PublicationMissing);
}

#[test]
fn defect_22_a_publication_without_the_table_or_an_operation_is_repaired() {
    let name = || PUBLICATION.to_owned();
    let cases: [(Vec<Action>, Repair); 5] = [
        (vec![Action::AddTableToPublication { name: name() }], |p| p.has_table = false),
        (vec![Action::SetPublicationOperations { name: name() }], |p| p.inserts = false),
        (vec![Action::SetPublicationOperations { name: name() }], |p| p.updates = false),
        (vec![Action::SetPublicationOperations { name: name() }], |p| p.deletes = false),
        (
            vec![Action::AddTableToPublication { name: name() }, Action::SetPublicationOperations { name: name() }],
            |p| (p.has_table, p.deletes) = (false, false),
        ),
    ];
    for (wanted, perturb) in cases {
        let mut world = World::settled();
        perturb(publication(&mut world));
        let cycle = world.cycle();
        assert_eq!(cycle.actions(), wanted.iter().collect::<Vec<_>>());
        cycle.expect_false(KIND, Reason::PublicationIncomplete);
    }
}

#[test]
fn tables_that_do_not_exist_yet_are_waited_for() {
    let mut world = World::settled();
    world.db().task_run = None;
    world.db().publication = None;
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect_false(KIND, Reason::MigrationsPending);
    cycle.expect_false(IDENTITY, Reason::MigrationsPending);
}

#[test]
fn what_the_role_does_not_own_or_a_standby_holds_is_not_touched() {
    let cases: [Perturb; 3] = [
        |w| {
            w.db().task_run.as_mut().expect("a table").owned = false;
            publication(w).owned = false;
        },
        |w| w.db().in_recovery = true,
        |w| {
            w.db().task_run.as_mut().expect("a table").owned = false;
            w.db().publication = None;
        },
    ];
    for perturb in cases {
        let mut world = World::settled();
        world.db().task_run.as_mut().expect("a table").replica_identity = 'd';
        publication(&mut world).has_table = false;
        perturb(&mut world);
        let cycle = world.cycle();
        cycle.expect_nothing_planned();
        cycle.expect_false(KIND, Reason::PrivilegeMissing);
        cycle.expect_false(IDENTITY, Reason::PrivilegeMissing);
    }
}

#[test]
fn without_the_right_to_create_in_the_database_no_publication_is_tried() {
    let mut world = World::settled();
    world.db().publication = None;
    world.db().role.may_create_in_database = false;
    let cycle = world.cycle();
    cycle.expect_nothing_planned();
    cycle.expect_false(KIND, Reason::PrivilegeMissing);
}
