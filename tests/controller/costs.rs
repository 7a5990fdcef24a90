//! What looking costs.

use crate::support::{World, condition};
use jiff::SignedDuration;
use ops_controller::plan::condition::{ConditionType, Reason, Status as Truth};
use ops_controller::sandbox::faults::Break;
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn a_healthy_cycle_costs_one_railway_request_and_at_most_1_2_of_digitalocean() {
    const CYCLES: usize = 30;
    let world = World::booted().await;
    let mut driver = world.healthy().await;
    world.forget_requests();
    for _ in 0..CYCLES {
        // So far apart that nothing of Railway is remembered.
        driver.skip(SignedDuration::from_secs(31));
        let status = driver.cycle().await;
        assert!(status.healthy, "{:?}", status.conditions);
    }
    assert_eq!(world.sandbox.railway.requests().len(), CYCLES);
    let asked = world.sandbox.digitalocean.requests().len();
    assert!((CYCLES..=CYCLES * 12 / 10).contains(&asked), "{asked} DigitalOcean requests in {CYCLES} cycles");
    assert_eq!(world.writes(), Vec::<String>::new());
    world.stop().await;
}

/// Railway allows some hundred requests an hour, and quick cycles come every few seconds.
#[tokio::test]
async fn quick_cycles_do_not_ask_railway_each_time() {
    let mut world = World::booted().await;
    world.set("TRIGGER_WORKER_TOKEN", &world.sandbox.webapp.token());
    drop(world.healthy().await);
    let mut config = world.config();
    config.desired.times.check_interval = Duration::from_secs(60);
    let mut driver = world.open_with(config, Default::default());
    driver.cycle().await;
    world.forget_requests();
    for _ in 0..10 {
        driver.cycle().await;
    }
    assert_eq!(world.sandbox.railway.requests().len(), 0);
    world.stop().await;
}

/// 44: Retry-After was not honoured.
#[tokio::test]
async fn a_429_of_digitalocean_is_left_alone_for_as_long_as_it_asks() {
    let world = World::booted().await;
    let mut driver = world.healthy().await;
    world.forget_requests();
    let trouble = Duration::from_millis(2500);
    world.sandbox.faults.during(Break::RateLimited, trouble);
    let begun = Instant::now();
    let mut cycles = 0;
    while begun.elapsed() < trouble {
        let status = driver.cycle().await;
        let deployed = condition(&status, ConditionType::SupervisorDeployed);
        assert_eq!((deployed.status, deployed.reason), (Truth::Unknown, Reason::CouldNotLook));
        assert!(!status.healthy && status.cycle.as_ref().is_some_and(|c| c.actions.is_empty()));
        cycles += 1;
    }
    let refused = world.sandbox.digitalocean.requests().iter().filter(|r| r.status == 429).count();
    // Each pause is one second; droplets, firewall, sizes and account are asked for at once after it.
    let pauses = usize::try_from(begun.elapsed().as_secs()).expect("seconds") + 1;
    assert!((1..=4 * pauses).contains(&refused), "{refused} refused requests in {pauses} pauses");
    assert!(cycles > 2 * pauses, "{cycles} cycles are too few to tell");
    driver.until_settled(&world).await;
    assert_eq!(world.writes(), Vec::<String>::new());
    world.stop().await;
}
