//! The controller may die at any outbound call and at any write of its state, and answers may be
//! lost on their way: there is one droplet of ours in the end, and Postgres was restarted once.
//!
//! A run is ended for ever at a point of the seam, then a fresh controller starts from what lies
//! on the disk. (Defects 12 to 15, 19 and 48 of the predecessor made a droplet more, restarted
//! again, or forgot.)

mod support;

use jiff::SignedDuration;
use ops_controller::clients::Seam;
use ops_controller::clients::seam::Point;
use ops_controller::plan::condition::{ConditionType, Reason, Status as Truth};
use ops_controller::plan::desired::hex_sha256;
use ops_controller::sandbox::Options;
use ops_controller::sandbox::faults::Break;
use ops_controller::sandbox::railway::Trouble;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::crash::{Trace, after, at, before, deadly, run_into};
use support::{Driver, World, quick, stands};
use tokio::task::JoinSet;

const CREATE: &str = "create droplet";
const WRITES: [Point; 3] = [Point::BeforeWrite, Point::Written, Point::Renamed];
/// Worlds that die at once: while one waits, another works.
const WORLDS: usize = 3;

/// From an empty world into the fatal point.
async fn dies(world: &World, fatal: impl Fn(&Point, &[Point]) -> bool + Send + Sync + 'static) {
    assert!(run_into(world, fatal, |_| true).await, "it never came to that point");
}

/// A fresh controller, from the state file, until nothing is left to do.
async fn recovers(world: &World) -> Driver {
    let mut driver = world.open();
    driver.until_settled(world).await;
    driver
}

/// Tells the story with each of these, in a world that begins again each time.
async fn each<T>(all: impl IntoIterator<Item = T>, story: impl AsyncFn(&mut World, T)) {
    let mut world = World::booted().await;
    for (n, one) in all.into_iter().enumerate() {
        if n > 0 {
            world.begin_again().await;
        }
        story(&mut world, one).await;
    }
    world.stop().await;
}

fn calls(trace: &[Point]) -> impl Iterator<Item = &Point> {
    trace.iter().rev().filter(|p| !WRITES.contains(p))
}

/// The write of the create's intent: it follows a listing that nothing else runs beside.
fn writing_the_intent(kind: Point) -> impl Fn(&Point, &[Point]) -> bool + Send + Sync + 'static {
    let look = "list droplets by tag";
    move |point, trace| {
        let mut last = calls(trace);
        *point == kind && last.next() == Some(&after(look)) && last.next() == Some(&before(look))
    }
}

/// A write that follows this call.
fn writing_after(call: &'static str, kind: Point) -> impl Fn(&Point, &[Point]) -> bool + Send + Sync + 'static {
    move |point, trace| *point == kind && calls(trace).next() == Some(&after(call))
}

#[tokio::test]
async fn killed_between_the_intent_and_the_create_it_creates_once() {
    let world = World::booted().await;
    dies(&world, at(before(CREATE))).await;
    assert_eq!(world.creates(), 0);
    assert_eq!(world.open().controller.state().intents.len(), 1, "written down before it is sent");
    recovers(&world).await;
    assert_eq!((world.creates(), world.most_alive()), (1, 1));
    world.stop().await;
}

#[tokio::test]
async fn killed_after_the_create_was_sent_it_finds_the_droplet_and_sends_no_second_create() {
    let world = World::booted().await;
    dies(&world, at(after(CREATE))).await;
    assert_eq!(world.creates(), 1);
    let made = world.our_only().id;
    recovers(&world).await;
    assert_eq!((world.creates(), world.our_only().id), (1, made));
    world.stop().await;
}

#[tokio::test]
async fn killed_at_any_write_during_the_create_it_creates_once() {
    each(WRITES, async |world, kind| {
        dies(world, writing_the_intent(kind)).await;
        assert_eq!(world.creates(), 0, "the intent comes before the create");
        recovers(world).await;
        assert_eq!((world.creates(), world.most_alive()), (1, 1));
    })
    .await;
    each(WRITES, async |world, kind| {
        dies(world, writing_after(CREATE, kind)).await;
        assert_eq!(world.creates(), 1);
        recovers(world).await;
        assert_eq!((world.creates(), world.most_alive()), (1, 1));
    })
    .await;
}

/// Defect 15: an error after the server accepted it counted as "failed to create".
#[tokio::test]
async fn a_lost_answer_to_the_create_is_resolved_by_looking() {
    each([Break::CreateResponseLost, Break::Create504], async |world, trouble| {
        world.sandbox.faults.next_requests(trouble, 1);
        recovers(world).await;
        assert_eq!((world.creates(), world.most_alive()), (1, 1), "{trouble:?}");
    })
    .await;
}

/// Defects 12 and 13: a listing that failed counted as an empty one.
#[tokio::test]
async fn while_the_list_fails_after_a_lost_create_nothing_is_made() {
    let world = World::booted().await;
    world.sandbox.faults.next_requests(Break::CreateResponseLost, 1);
    let faults = world.sandbox.faults.clone();
    let seam = Seam::new(move |point| {
        if point == after(CREATE) {
            faults.during(Break::DropletListFailing, Duration::from_secs(4));
        }
        std::future::ready(())
    });
    let mut driver = world.open_with(world.config(), seam);
    let unknown = |s: &_| stands(s, ConditionType::SupervisorDeployed, Truth::Unknown, Reason::CouldNotLook);
    driver.until(&world, "unknown while the list fails", unknown).await;
    assert_eq!(world.creates(), 1);
    driver.until_settled(&world).await;
    assert_eq!((world.creates(), world.most_alive()), (1, 1));
    world.stop().await;
}

#[tokio::test]
async fn a_list_that_lags_behind_a_lost_create_brings_no_second_droplet() {
    let lag = Duration::from_secs(1);
    for is_killed in [false, true] {
        let world = World::booted_with(Options { list_lag: lag, ..quick() }).await;
        let mut config = world.config();
        config.desired.times.create_settle = lag * 4;
        world.sandbox.faults.during(Break::ListLag, Duration::from_secs(600));
        match is_killed {
            true => assert!(run_into(&world, at(after(CREATE)), |_| true).await),
            false => world.sandbox.faults.next_requests(Break::CreateResponseLost, 1),
        }
        let mut driver = world.open_with(config, Seam::default());
        driver.until_settled(&world).await;
        assert_eq!((world.creates(), world.most_alive()), (1, 1));
        world.stop().await;
    }
}

/// Defects 18 and 19.
#[tokio::test]
async fn killed_around_the_restart_postgres_is_restarted_once() {
    let restart = "restart deployment";
    each([before(restart), after(restart)], async |world, point| {
        dies(world, at(point)).await;
        assert!(world.open().controller.state().restart.is_some(), "written down before it is asked for");
        let driver = recovers(world).await;
        assert_eq!(world.restart_requests(), 1);
        assert_eq!(world.restarts(), 1);
        assert_eq!(driver.controller.state().restart, None);
    })
    .await;
    each(WRITES, async |world, kind| {
        dies(world, writing_after("restart deployment", kind)).await;
        recovers(world).await;
        assert_eq!(world.restart_requests(), 1);
    })
    .await;
}

/// The predecessor's defect 19.
#[tokio::test]
async fn a_lost_answer_to_the_restart_is_not_followed_by_a_second_restart() {
    each([Trouble::DroppedAfter, Trouble::ErrorsAfter], async |world, trouble| {
        world.sandbox.railway.inject_for("DeploymentRestart", trouble);
        recovers(world).await;
        assert_eq!(world.restart_requests(), 1);
        assert_eq!(world.restarts(), 1);
    })
    .await;
}

#[tokio::test]
async fn killed_around_the_firewalls_create_there_is_one_firewall() {
    let (tag, firewall) = ("create tag", "create firewall");
    each([before(tag), after(tag), before(firewall), after(firewall)], async |world, point| {
        dies(world, at(point)).await;
        recovers(world).await;
        assert_eq!(world.sandbox.digitalocean.firewalls().len(), 1);
        assert_eq!(world.requests("POST", "/v2/firewalls").len(), 1);
    })
    .await;
}

#[tokio::test]
async fn killed_around_the_reboot_it_reboots_at_most_once_and_heals() {
    let reboot = "droplet action";
    each([before(reboot), after(reboot)], async |world, point| {
        let was_sent = point == after(reboot);
        drop(world.healthy().await);
        let first = world.our_only().id;
        world.sandbox.cause(Break::SupervisorKilled).expect("caused");
        assert!(run_into(world, at(point), |_| false).await);
        let mut driver = world.open();
        if !was_sent {
            // It must be believed to have been sent: only its deadline proves that it did not help.
            let id = first;
            let is_failing = |d: &Driver| d.controller.state().supervisor.droplets[&id].failed_looks >= 3;
            while !is_failing(&driver) {
                driver.cycle().await;
            }
            driver.cycle_after(SignedDuration::from_mins(11)).await;
        }
        driver.until_settled(world).await;
        let actions = world.sandbox.digitalocean.requests();
        let reboots = actions.iter().filter(|r| r.method == "POST" && r.path.ends_with("/actions")).count();
        assert_eq!(reboots, usize::from(was_sent));
        assert_eq!(world.our_only().id == first, was_sent, "rebooted, or replaced when that was not sent");
    })
    .await;
}

#[tokio::test]
async fn killed_around_the_delete_the_old_droplet_goes_and_the_new_one_stays() {
    let delete = "delete droplet";
    each([before(delete), after(delete)], async |world, point| {
        let was_sent = point == after(delete);
        drop(world.healthy().await);
        let old = world.our_only().id;
        world.set("SUPERVISOR_SIZE", "s-2vcpu-4gb");
        assert!(run_into(world, at(point), |_| false).await);
        let mut driver = world.open();
        if !was_sent {
            // As long as it may have been sent, it is not sent again.
            driver.cycle().await;
            assert_eq!(world.requests("DELETE", "/v2/droplets").len(), 0);
            driver.skip(SignedDuration::from_secs(31));
        }
        driver.until(world, "rid of the old one", |_| world.ours().len() == 1).await;
        driver.until_settled(world).await;
        assert_ne!(world.our_only().id, old);
        assert_eq!(world.our_only().size, "s-2vcpu-4gb");
        assert_eq!(world.requests("DELETE", "/v2/droplets").len(), 1);
    })
    .await;
}

/// The token whose hash the database holds is always in the state file, or was never changed.
#[tokio::test]
async fn killed_around_the_rotation_the_token_is_never_lost() {
    let rotate = "rotate the worker token";
    let hash = r#"select "tokenHash" from "WorkerGroupToken""#;
    for point in [before(rotate), after(rotate)] {
        let mut world = World::booted().await;
        // No log has ever shown this one.
        world.sandbox.webapp.rotate_token_by_hand().await.expect("rotated");
        let lost = world.sql(hash).await;
        world.set("ROTATE_LOST_TOKEN", "true");
        assert!(run_into(&world, at(point), |_| true).await);
        let driver = world.open();
        let pending = driver.controller.state().pending_token.clone().expect("written before it is issued");
        let pending = Some(hex_sha256(pending.value.expose().as_bytes()));
        let now = world.sql(hash).await;
        assert!(now == lost || now == pending, "the database holds a hash that nobody knows");
        drop(driver);
        let driver = recovers(&world).await;
        let token = driver.controller.state().token.clone().expect("a token");
        assert_eq!(world.sql(hash).await, Some(hex_sha256(token.value.expose().as_bytes())));
        assert_eq!(world.sql(hash).await, pending, "the one that was written down is the one that is issued");
        world.stop().await;
    }
}

/// Every point from an empty world to a healthy one, by a fixed stride: neighbouring points differ
/// little, and the tests above take the delicate ones. Stride 1 takes them all, in a few minutes.
const STRIDE: usize = 5;

#[tokio::test]
async fn killed_anywhere_on_the_way_to_healthy_it_ends_with_one_droplet() {
    let world = World::booted().await;
    let trace = Trace::default();
    let seam = deadly(trace.clone(), Arc::default(), |_, _| false);
    world.open_with(world.config(), seam).until_settled(&world).await;
    world.stop().await;
    let points = trace.lock().expect("the trace").len();
    assert!(points > 60, "a way of {points} points is too short to be true");

    let next = Arc::new(AtomicUsize::new(0));
    let mut worlds = JoinSet::new();
    for _ in 0..WORLDS {
        let next = next.clone();
        worlds.spawn(async move {
            let mut world = World::booted().await;
            loop {
                let n = next.fetch_add(STRIDE, Ordering::SeqCst);
                if n >= points {
                    return world.stop().await;
                }
                // A machine that is faster this time may have fewer points on its way.
                run_into(&world, move |_, trace| trace.len() == n, |_| true).await;
                recovers(&world).await;
                assert_eq!((world.creates(), world.most_alive()), (1, 1), "killed at point {n}");
                assert_eq!(world.restarts(), 1, "killed at point {n}");
                assert_eq!(world.sandbox.digitalocean.firewalls().len(), 1, "killed at point {n}");
                world.begin_again().await;
            }
        });
    }
    while let Some(done) = worlds.join_next().await {
        if let Err(error) = done {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}
