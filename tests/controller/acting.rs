//! Each action is done once, and not at all in a world that moved.

use crate::support::crash::{after, before};
use crate::support::{Driver, World};
use ops_controller::clients::Seam;
use ops_controller::clients::seam::Point;
use ops_controller::controller::status::Status;
use ops_controller::plan::action::Outcome;
use ops_controller::sandbox::faults::Break;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

type Meddling = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Somebody does this by hand at the first point that fits.
fn meddling(
    fits: impl Fn(&Point, &[Point]) -> bool + Send + Sync + 'static,
    by_hand: impl Fn() -> Meddling + Send + Sync + 'static,
) -> Seam {
    let state = Mutex::new((Vec::new(), false));
    Seam::new(move |point| {
        let mut state = state.lock().expect("the trace");
        let now = !state.1 && fits(&point, &state.0);
        state.1 |= now;
        state.0.push(point);
        let work = now.then(&by_hand);
        async move {
            if let Some(work) = work {
                work.await;
            }
        }
    })
}

/// The look right before an act: nothing else runs beside it.
fn look_before_acting(point: &Point, trace: &[Point], look: &str) -> bool {
    let calls = |p: &Point| matches!(p, Point::Before(_));
    let open =
        trace.iter().filter(|p| calls(p)).count() - trace.iter().filter(|p| matches!(p, Point::After(_))).count();
    *point == before(look) && open == 0 && !trace.is_empty()
}

fn outcome_of<'s>(status: &'s Status, action: &str) -> Option<&'s Outcome> {
    let actions = &status.cycle.as_ref()?.actions;
    actions.iter().find(|a| a.action.starts_with(action))?.outcome.as_ref()
}

async fn until_done(driver: &mut Driver, world: &World, action: &str) -> Outcome {
    let status = driver.until(world, "done", |s| outcome_of(s, action).is_some()).await;
    outcome_of(&status, action).expect("an outcome").clone()
}

/// The state as it was at every write is as good a start as any: all was done, nothing is repeated.
#[tokio::test]
async fn a_controller_with_an_old_state_repeats_no_action() {
    let world = World::booted().await;
    let copies = Arc::new(Mutex::new(Vec::new()));
    let (path, kept) = (world.state_file(), copies.clone());
    let seam = Seam::new(move |point| {
        if point == Point::Renamed {
            kept.lock().expect("copies").push(std::fs::read(&path).expect("a state file"));
        }
        std::future::ready(())
    });
    let mut first = world.open_with(world.config(), seam);
    first.until_settled(&world).await;
    drop(first);
    let restarts = world.sandbox.railway.restart_requests().len();
    world.forget_requests();
    let copies = std::mem::take(&mut *copies.lock().expect("copies"));
    assert!(copies.len() > 5, "{} writes are too few to be true", copies.len());
    for (n, copy) in copies.iter().enumerate() {
        std::fs::write(world.state_file(), copy).expect("an old state");
        world.open().until_settled(&world).await;
        assert_eq!(world.writes(), Vec::<String>::new(), "with the state of write {n}");
        assert_eq!(world.sandbox.railway.restart_requests().len(), restarts, "with the state of write {n}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_setting_that_somebody_else_made_meanwhile_is_already_done() {
    let world = World::booted().await;
    let cluster = world.sandbox.postgres.clone();
    let seam = meddling(
        |p, t| look_before_acting(p, t, "look at the database"),
        move || {
            let cluster = cluster.clone();
            Box::pin(async move {
                let mut connection = cluster.connect().await.expect("a connection");
                sqlx::raw_sql("alter system set wal_level = 'logical'").execute(&mut connection).await.expect("set");
            })
        },
    );
    let mut driver = world.open_with(world.config(), seam);
    assert_eq!(until_done(&mut driver, &world, "set wal_level").await, Outcome::AlreadyDone);
    driver.until_settled(&world).await;
    world.stop().await;
}

#[tokio::test]
async fn a_server_that_somebody_else_restarted_meanwhile_is_not_restarted_again() {
    let world = World::booted().await;
    let cluster = world.sandbox.postgres.clone();
    let seam = meddling(
        // The firewall is the last act of the first cycle; the second one begins with the restart.
        |p, t| t.contains(&after("create firewall")) && look_before_acting(p, t, "look at the database"),
        move || {
            let cluster = cluster.clone();
            Box::pin(async move { cluster.restart().await.expect("a restart") })
        },
    );
    let mut driver = world.open_with(world.config(), seam);
    assert_eq!(until_done(&mut driver, &world, "restart Postgres").await, Outcome::AlreadyDone);
    assert_eq!(world.sandbox.railway.restart_requests().len(), 0);
    driver.until_settled(&world).await;
    world.stop().await;
}

/// 14: two controllers raced between the check and the create.
#[tokio::test]
async fn a_droplet_of_ours_that_appeared_meanwhile_supersedes_the_create() {
    let world = World::booted().await;
    let (cloud, tag) = (world.sandbox.digitalocean.clone(), world.identity_tag().to_owned());
    let seam = meddling(
        |p, t| look_before_acting(p, t, "list droplets by tag"),
        move || {
            cloud.add_droplet("made-by-another", &[&tag]).expect("a droplet");
            Box::pin(std::future::ready(()))
        },
    );
    let mut driver = world.open_with(world.config(), seam);
    let outcome = until_done(&mut driver, &world, "create droplet").await;
    assert!(matches!(outcome, Outcome::Superseded { .. }), "{outcome:?}");
    assert_eq!(world.creates(), 0);
    world.stop().await;
}

#[tokio::test]
async fn a_droplet_that_went_meanwhile_is_neither_rebooted_nor_deleted() {
    let mut world = World::booted().await;
    drop(world.healthy().await);
    world.set("SUPERVISOR_SIZE", "s-2vcpu-4gb");
    let (cloud, old) = (world.sandbox.digitalocean.clone(), world.our_only().id);
    let seam = meddling(
        |p, _| *p == before("read droplet"),
        move || {
            cloud.delete_by_hand(old).expect("deleted by hand");
            Box::pin(std::future::ready(()))
        },
    );
    let mut driver = world.open_with(world.config(), seam);
    assert_eq!(until_done(&mut driver, &world, "delete droplet").await, Outcome::AlreadyDone);
    assert_eq!(world.requests("DELETE", "/v2/droplets").len(), 0);
    driver.until_settled(&world).await;
    drop(driver);

    world.sandbox.cause(Break::SupervisorKilled).expect("killed");
    let (cloud, dead) = (world.sandbox.digitalocean.clone(), world.our_only().id);
    let seam = meddling(
        |p, _| *p == before("read droplet"),
        move || {
            cloud.delete_by_hand(dead).expect("deleted by hand");
            Box::pin(std::future::ready(()))
        },
    );
    let mut driver = world.open_with(world.config(), seam);
    let outcome = until_done(&mut driver, &world, "reboot droplet").await;
    assert!(matches!(outcome, Outcome::Superseded { .. }), "{outcome:?}");
    driver.until_settled(&world).await;
    world.stop().await;
}

#[tokio::test]
async fn a_token_that_somebody_else_changed_meanwhile_is_not_overwritten() {
    let mut world = World::booted().await;
    world.sandbox.webapp.rotate_token_by_hand().await.expect("rotated");
    world.set("ROTATE_LOST_TOKEN", "true");
    let webapp = world.sandbox.webapp.clone();
    let seam = meddling(
        |p, _| *p == before("rotate the worker token"),
        move || {
            let webapp = webapp.clone();
            Box::pin(async move { drop(webapp.rotate_token_by_hand().await.expect("rotated")) })
        },
    );
    let mut driver = world.open_with(world.config(), seam);
    let outcome = until_done(&mut driver, &world, "issue a new token").await;
    assert!(matches!(outcome, Outcome::Superseded { .. }), "{outcome:?}");
    driver.until_settled(&world).await;
    world.stop().await;
}

#[tokio::test]
async fn a_firewall_changed_by_hand_is_repaired_once() {
    let world = World::booted().await;
    let mut driver = world.healthy().await;
    let name = world.sandbox.digitalocean.firewalls().remove(0).name;
    let rules = |world: &World| {
        let firewall = world.sandbox.digitalocean.firewalls().remove(0);
        (firewall.inbound_rules, firewall.outbound_rules, firewall.tags)
    };
    let right = rules(&world);
    world.sandbox.digitalocean.edit_firewall_by_hand(&name, |f| f.inbound_rules.clear()).expect("edited");
    assert_ne!(rules(&world), right);
    // The firewall is read in rotation.
    driver.until(&world, "drifted", |s| outcome_of(s, "repair firewall").is_some()).await;
    driver.until_settled(&world).await;
    assert_eq!(world.requests("PUT", "/v2/firewalls").len(), 1);
    assert_eq!(rules(&world), right);
    world.stop().await;
}
