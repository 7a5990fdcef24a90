//! Maintenance, pause and auto-disable.

use crate::support::{World, condition};
use jiff::SignedDuration;
use ops_controller::config::Config;
use ops_controller::controller::Next;
use ops_controller::plan::condition::{ConditionType, Status as Truth};
use ops_controller::plan::mode::Shown;
use ops_controller::plan::state::Mode;
use ops_controller::sandbox::faults::Break;

/// Everything that a controller could have changed.
async fn traces(world: &World) -> (Vec<String>, usize, Option<String>, Option<String>) {
    (
        world.writes(),
        world.sandbox.railway.restart_requests().len(),
        world.sql("select setting from pg_file_settings where name = 'wal_level'").await,
        world.sql("select count(*)::text || (select relreplident::text from pg_class where relname = 'TaskRun') from pg_publication").await,
    )
}

#[tokio::test]
async fn inactive_it_looks_plans_and_changes_nothing() {
    let mut world = World::booted().await;
    world.set("IS_ACTIVE", "false");
    let before = traces(&world).await;
    let mut driver = world.open();
    for _ in 0..4 {
        let status = driver.cycle().await;
        assert_eq!((status.mode, status.healthy), (Shown::Inactive, false));
        assert!(status.mode_reason.as_deref().is_some_and(|r| r.contains("IS_ACTIVE=false")));
        let actions = &status.cycle.as_ref().expect("a cycle").actions;
        assert!(
            actions.iter().any(|a| a.action.starts_with("create droplet") || a.action.starts_with("create firewall"))
        );
        assert!(actions.iter().all(|a| a.outcome.is_none()), "{actions:?}");
    }
    assert_eq!(traces(&world).await, before);
    assert!(world.sandbox.railway.requests().iter().all(|r| !r.document.contains("mutation")));
    world.set("IS_ACTIVE", "true");
    driver.controller.reconfigure(world.config()).expect("a new configuration");
    driver.until_settled(&world).await;
    world.stop().await;
}

#[tokio::test]
async fn paused_it_changes_nothing_across_restarts_until_resumed() {
    let world = World::booted().await;
    let mut driver = world.healthy().await;
    driver.controller.pause().await.expect("saved");
    drop(driver);
    world.sandbox.cause(Break::SupervisorKilled).expect("killed");
    world.forget_requests();
    let mut driver = world.open();
    let dead = |s: &_| condition(s, ConditionType::SupervisorConnected).status == Truth::False;
    let status = driver.until(&world, "seen dead", dead).await;
    assert_eq!(status.mode, Shown::Paused);
    for _ in 0..5 {
        assert!(!driver.cycle().await.healthy);
    }
    assert_eq!(world.writes(), Vec::<String>::new());
    driver.controller.resume().await.expect("saved");
    driver.until_settled(&world).await;
    assert_eq!(world.writes().len(), 1, "one reboot: {:?}", world.writes());
    world.stop().await;
}

async fn disabled(world: &mut World) -> crate::support::Driver {
    world.set("AUTO_DISABLE", "true");
    let mut driver = world.open();
    let status = driver.until(world, "disabled", |s| s.mode == Shown::Disabled).await;
    assert_eq!(status.healthy_cycles, 3);
    driver
}

/// 1 and 3: disabled for good, and nothing watched.
#[tokio::test]
async fn disabled_it_asks_no_provider_and_wakes_when_the_supervisor_dies() {
    let mut world = World::booted().await;
    let mut driver = disabled(&mut world).await;
    world.forget_requests();
    for _ in 0..5 {
        driver.cycle().await;
    }
    assert_eq!(world.sandbox.railway.requests().len(), 0);
    assert_eq!(world.sandbox.digitalocean.requests().len(), 0);
    assert_eq!(driver.now().mode, Shown::Disabled);

    let droplet = world.our_only().id;
    world.sandbox.cause(Break::SupervisorKilled).expect("killed");
    driver.until(&world, "awake", |s| s.mode == Shown::Active).await;
    let status = driver.until(&world, "disabled again", |s| s.mode == Shown::Disabled).await;
    assert_eq!(status.healthy_cycles, 3, "the dead one did not count");
    assert!(world.our_only().alive);
    assert_eq!(world.our_only().id, droplet);
    let reboots = world.writes();
    assert_eq!(reboots, vec![format!("POST /v2/droplets/{droplet}/actions")]);
    world.stop().await;
}

/// What was proven once is not what is seen now.
#[tokio::test]
async fn disabled_it_is_not_called_healthy_while_the_database_cannot_be_asked() {
    let mut world = World::booted().await;
    let mut driver = disabled(&mut world).await;
    assert!(driver.cycle().await.healthy);
    world.sandbox.postgres.stop().await.expect("stopped");
    let status = driver.cycle().await;
    let connected = condition(&status, ConditionType::SupervisorConnected);
    assert_eq!((status.healthy, connected.status), (false, Truth::Unknown));
    assert_eq!(status.mode, Shown::Disabled, "could not look wakes nobody");
    world.sandbox.postgres.start().await.expect("started");
    driver.until(&world, "healthy again", |s| s.healthy).await;
    // A new process has seen nothing yet, and knows the droplet all the same.
    drop(driver);
    let mut driver = world.open();
    assert!(!driver.now().healthy && driver.now().droplet.is_some());
    assert!(driver.cycle().await.healthy);
    world.stop().await;
}

#[tokio::test]
async fn disabled_without_cheap_looks_it_waits_to_be_asked() {
    let mut world = World::booted().await;
    world.set("DISABLED_CHECK_INTERVAL", "0");
    let mut driver = disabled(&mut world).await;
    world.sandbox.cause(Break::SupervisorKilled).expect("killed");
    world.forget_requests();
    for _ in 0..5 {
        driver.skip(SignedDuration::from_hours(1));
        assert_eq!(driver.try_cycle().await.expect("saved"), Next::WhenAsked);
    }
    assert!(matches!(driver.controller.state().mode, Mode::Disabled { failed_looks: 0, .. }));
    assert_eq!(world.sandbox.railway.requests().len() + world.sandbox.digitalocean.requests().len(), 0);
    driver.controller.resume().await.expect("saved");
    driver.until_healthy(&world).await;
    world.stop().await;
}

/// 3: IS_ACTIVE=true and a restart did not enable it again.
#[tokio::test]
async fn disabled_survives_a_restart_and_ends_by_is_active_or_another_configuration() {
    let mut world = World::booted().await;
    drop(disabled(&mut world).await);
    let mut driver = world.open();
    driver.cycle().await;
    assert_eq!(driver.now().mode, Shown::Disabled);

    world.set("IS_ACTIVE", "false");
    driver.controller.reconfigure(world.config()).expect("a new configuration");
    assert_eq!(driver.cycle().await.mode, Shown::Inactive);
    world.set("IS_ACTIVE", "true");
    driver.controller.reconfigure(world.config()).expect("a new configuration");
    assert_eq!(driver.cycle().await.mode, Shown::Active);

    driver.until(&world, "disabled again", |s| s.mode == Shown::Disabled).await;
    world.set("SUPERVISOR_SIZE", "s-2vcpu-4gb");
    driver.controller.reconfigure(world.config()).expect("a new configuration");
    assert_eq!(driver.cycle().await.mode, Shown::Active);
    driver.until(&world, "replaced", |s| s.mode == Shown::Disabled).await;
    assert_eq!(world.our_only().size, "s-2vcpu-4gb");
    world.stop().await;
}

/// 4 and 5.
#[tokio::test]
async fn healthy_cycles_are_counted_across_restarts_and_end_with_the_first_bad_one() {
    let mut world = World::booted().await;
    drop(world.healthy().await);
    let mut driver = world.open();
    let before = driver.controller.state().healthy_cycles;
    assert_eq!(before, 1);
    driver.until_healthy(&world).await;
    assert_eq!(driver.now().healthy_cycles, before + 1);
    world.sandbox.faults.during(Break::DropletListFailing, std::time::Duration::from_secs(600));
    assert_eq!(driver.cycle().await.healthy_cycles, 0);
    for wrong in ["0", "-1", "101"] {
        world.set("HEALTHY_CYCLES_BEFORE_DISABLE", wrong);
        let error = Config::from_pairs(world.pairs.clone()).expect_err("refused").to_string();
        assert!(error.contains("HEALTHY_CYCLES_BEFORE_DISABLE"), "{error}");
    }
    world.stop().await;
}
