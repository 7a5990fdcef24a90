//! Builds of one environment take turns, and an older commit never takes a newer one's place unasked.

use crate::world::World;
use ops_controller::sandbox::github::Trouble;
use serde_json::json;

#[tokio::test]
async fn builds_of_one_environment_are_begun_one_after_the_other_in_the_order_of_queueing() {
    let world = World::new().await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(world.queue_build("main", &json!({})).await);
    }
    let runner = world.runner();
    for run in &runs {
        world.succeeded(run).await;
    }
    runner.end().await;
    let side_by_side =
        "select count(*) from ops.runs a join ops.runs b on a.seq < b.seq and b.started_at < a.finished_at";
    assert_eq!(world.ask(side_by_side).await, "0");
    assert_eq!(world.deploys(), 3, "nobody's deployment was taken away by another's");
    world.stop().await;
}

#[tokio::test]
async fn a_build_that_comes_back_after_a_newer_one_was_deployed_is_superseded_until_somebody_asks_for_it() {
    let world = World::new().await;
    world.github.inject("dispatch", Trouble::AnswerLost);
    let older = world.queue_build("main", &json!({})).await;
    world.execute(&format!("update ops.runs set backoff_seconds = 3600 where run_id = '{older}'")).await;
    let runner = world.runner();
    let waits = format!("select status = 'queued' and attempt = 1 from ops.runs where run_id = '{older}'");
    world.until("the older one waits for its second attempt", &waits).await;
    let newer = world.queue_build("main", &json!({})).await;
    world.succeeded(&newer).await;
    let now = format!("update ops.runs set run_at = now() where run_id = '{older}'; notify ops_runs");
    world.execute(&now).await;
    let why = world.failed(&older).await;
    assert!(why.contains(&format!("superseded: {newer} was queued later and is in service")), "{why}");
    assert_eq!((world.run(&older).await.attempt, world.deploys()), (2, 1), "{why}");

    world.ask(&format!("ops.requeue_run('{older}', 'olga')")).await;
    world.succeeded(&older).await;
    runner.end().await;
    assert_eq!(world.deploys(), 2);
    world.stop().await;
}
