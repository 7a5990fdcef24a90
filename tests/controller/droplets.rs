//! One droplet of ours: healed, replaced, never doubled.

use crate::support::{World, stands};
use jiff::SignedDuration;
use ops_controller::plan::condition::{ConditionType, Reason, Status as Truth};
use ops_controller::sandbox::faults::Break;
use std::time::Duration;

/// 2: a droplet that failed its first health test counted as deployed in the next cycle.
#[tokio::test]
async fn a_new_droplet_that_never_serves_is_removed_and_the_old_one_kept() {
    let mut world = World::booted().await;
    let mut driver = world.healthy().await;
    let old = world.our_only().id;
    world.set("SUPERVISOR_SIZE", "s-2vcpu-4gb");
    let mut config = world.config();
    config.desired.times.boot_deadline = Duration::from_secs(1);
    driver.controller.reconfigure(config).expect("a new configuration");
    world.sandbox.faults.during(Break::NewDropletNeverHealthy, Duration::from_secs(600));
    let failed = |s: &_| stands(s, ConditionType::SupervisorDeployed, Truth::False, Reason::ReplacementFailed);
    driver.until(&world, "given up", failed).await;
    driver.until(&world, "rid of the new one", |_| world.ours().len() == 1 && world.creates() == 2).await;
    assert_eq!(world.our_only().id, old);
    assert!(world.our_only().alive);
    // Backed off: no third one, however often it looks.
    for _ in 0..10 {
        driver.cycle().await;
    }
    assert_eq!(world.creates(), 2);
    assert!(!driver.now().held.is_empty());
    world.sandbox.faults.clear(Break::NewDropletNeverHealthy);
    driver.controller.reconfigure(world.config()).expect("a longer deadline");
    driver.skip(SignedDuration::from_mins(3));
    driver.until_settled(&world).await;
    assert_eq!((world.our_only().size.as_str(), world.creates()), ("s-2vcpu-4gb", 3));
    world.stop().await;
}

/// 8: a changed size or version was never noticed.
#[tokio::test]
async fn a_changed_size_region_or_version_replaces_the_droplet_new_before_old() {
    let mut world = World::booted().await;
    let mut driver = world.healthy().await;
    for (n, (name, value)) in
        [("SUPERVISOR_SIZE", "s-2vcpu-4gb"), ("SUPERVISOR_REGION", "fra1"), ("TRIGGER_VERSION", "v4.5.6")]
            .into_iter()
            .enumerate()
    {
        let old = world.our_only().id;
        world.set(name, value);
        driver.controller.reconfigure(world.config()).expect("a new configuration");
        driver.until(&world, "replaced", |s| s.healthy && world.our_only_id().is_some_and(|id| id != old)).await;
        driver.until_settled(&world).await;
        assert_eq!((world.creates(), world.most_alive()), (n + 2, 2), "{name}");
    }
    let droplet = world.our_only();
    assert_eq!((droplet.size.as_str(), droplet.region.as_str()), ("s-2vcpu-4gb", "fra1"));
    assert!(droplet.user_data.contains("v4.5.6"));
    world.stop().await;
}

#[tokio::test]
async fn a_droplet_deleted_or_resized_by_hand_is_made_anew() {
    let world = World::booted().await;
    let mut driver = world.healthy().await;
    for trouble in [Break::DropletDeleted, Break::SizeChanged] {
        let old = world.our_only().id;
        world.sandbox.cause(trouble).expect("caused");
        driver.until(&world, "noticed", |s| !s.healthy).await;
        driver.until_settled(&world).await;
        assert_ne!(world.our_only().id, old, "{trouble:?}");
    }
    assert_eq!(world.creates(), 3);
    world.stop().await;
}

/// 16: of several, the first was used and the others were paid for.
#[tokio::test]
async fn surplus_droplets_of_ours_go_one_in_a_cycle_and_others_stay() {
    let world = World::booted().await;
    let mut driver = world.healthy().await;
    let good = world.our_only().id;
    for name in ["left-over-1", "left-over-2"] {
        world.sandbox.digitalocean.add_droplet(name, &[world.identity_tag()]).expect("a droplet");
    }
    let mut left = 3;
    driver
        .until(&world, "alone", |_| {
            let now = world.ours().len();
            assert!(now + 1 >= left, "more than one deletion in a cycle");
            left = now;
            now == 1
        })
        .await;
    assert_eq!(world.our_only().id, good);
    assert_eq!(world.creates(), 1);
    world.stop().await;
}

/// 2 and "unhealthy: redeploys": waits, reboots once, then replaces.
#[tokio::test]
async fn a_droplet_that_stays_dead_after_its_reboot_is_replaced() {
    let world = World::booted().await;
    let mut driver = world.healthy().await;
    let dead = world.our_only().id;
    world.sandbox.digitalocean.kill_supervisor(dead).expect("killed");
    let rebooted = |w: &World| w.writes().iter().filter(|r| r.ends_with("/actions")).count();
    driver.until(&world, "rebooted", |_| rebooted(&world) == 1).await;
    // Killed again before it can serve.
    let until_up = |w: &World| w.sandbox.digitalocean.droplet(dead).is_some_and(|d| d.alive);
    crate::support::eventually("up after the reboot", || until_up(&world)).await;
    world.sandbox.digitalocean.kill_supervisor(dead).expect("killed");
    let silent = |s: &_| stands(s, ConditionType::SupervisorConnected, Truth::False, Reason::HeartbeatStale);
    driver.until(&world, "silent", silent).await;
    let looks = |world: &World| {
        let state = std::fs::read(world.state_file()).expect("a state file");
        let state: serde_json::Value = serde_json::from_slice(&state).expect("JSON");
        state["supervisor"]["droplets"][dead.to_string()]["failed_looks"].as_u64().unwrap_or_default()
    };
    driver.until(&world, "surely failing", |_| looks(&world) >= 3).await;
    driver.cycle_after(SignedDuration::from_mins(11)).await;
    driver.until(&world, "replaced", |s| s.healthy && world.our_only_id().is_some_and(|id| id != dead)).await;
    driver.until_settled(&world).await;
    assert_eq!((rebooted(&world), world.creates()), (1, 2));
    world.stop().await;
}

/// 37: registry credentials were never set, so no image could be pulled from a registry that asks.
#[tokio::test]
async fn a_registry_login_reaches_the_droplet() {
    let mut world = World::booted().await;
    world.set("DOCKER_REGISTRY_USERNAME", "puller");
    world.set("DOCKER_REGISTRY_PASSWORD", "pull-password");
    drop(world.healthy().await);
    let told = world.our_only().user_data;
    for line in
        ["DOCKER_REGISTRY_URL=", "DOCKER_REGISTRY_USERNAME='puller'", "DOCKER_REGISTRY_PASSWORD='pull-password'"]
    {
        assert!(told.contains(line), "{line} is not in the user-data");
    }
    world.stop().await;
}
