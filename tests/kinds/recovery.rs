//! Builds whose answers are lost, and whose runners are killed: nothing is begun twice.

use crate::world::World;
use ops_controller::clients::seam::Point;
use ops_controller::sandbox::github::{GitHubOptions, Trouble as GitHubTrouble};
use ops_controller::sandbox::railway::Trouble;
use serde_json::json;

#[tokio::test]
async fn a_dispatch_whose_answer_was_lost_is_one_workflow() {
    for trouble in [GitHubTrouble::AnswerLost, GitHubTrouble::BadGatewayAfter] {
        let world = World::new().await;
        world.github.inject("dispatch", trouble);
        let run = world.queue_build("main", &json!({})).await;
        let runner = world.runner();
        world.succeeded(&run).await;
        runner.end().await;
        assert_eq!((world.github.runs().len(), world.dispatches(), world.run(&run).await.attempt), (1, 1, 2));
        world.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_tells_no_id_and_a_list_that_is_behind_are_one_workflow_too() {
    let lag = std::time::Duration::from_millis(200);
    let world = World::with(GitHubOptions { tells_run_id: false, list_lag: lag, ..GitHubOptions::default() }).await;
    let run = world.queue_build("main", &json!({})).await;
    let runner = world.runner();
    world.succeeded(&run).await;
    runner.end().await;
    assert_eq!((world.github.runs().len(), world.run(&run).await.attempt), (1, 1));
    world.stop().await;
}

#[tokio::test]
async fn a_deploy_or_a_service_whose_answer_was_lost_is_made_once() {
    let world = World::new().await;
    world.railway.inject_for("ServiceCreate", Trouble::DroppedAfter);
    world.railway.inject_for("ServiceInstanceDeploy", Trouble::ErrorsAfter);
    let run = world.queue_build("main", &json!({})).await;
    let runner = world.runner();
    world.succeeded(&run).await;
    // Another build of the same image is another deployment.
    let again = world.queue_build("main", &json!({})).await;
    world.railway.inject_for("ServiceInstanceDeploy", Trouble::DroppedAfter);
    world.succeeded(&again).await;
    runner.end().await;
    assert_eq!((world.mutations("ServiceCreate"), world.deploys()), (1, 2));
    assert_eq!(world.railway.deployment_ids("shop").len(), 2);
    assert_eq!(world.run(&run).await.attempt, 3);
    world.stop().await;
}

#[tokio::test]
async fn looks_that_fail_and_limits_of_the_rate_are_waited_out_in_one_attempt() {
    let world = World::new().await;
    world.github.inject("run", GitHubTrouble::BadGateway);
    world.github.inject("run", GitHubTrouble::SecondaryLimit { retry_after: Some(1) });
    world.railway.inject_for("Deployment", Trouble::BadGateway);
    let run = world.queue_build("main", &json!({})).await;
    let runner = world.runner();
    world.succeeded(&run).await;
    runner.end().await;
    assert_eq!((world.run(&run).await.attempt, world.dispatches(), world.deploys()), (1, 1, 1));
    world.stop().await;
}

#[tokio::test]
async fn a_runner_that_is_killed_in_any_phase_leaves_a_build_that_goes_on_where_it_was() {
    let world = World::new().await;
    let store = |run: &str, key: &str| format!("store shop/shop-dev/{run}/{key}");
    for (index, phase) in ["build_image", "deploy_runtime", "smoke_tests", "capture_artifacts"].into_iter().enumerate()
    {
        let run = world.queue_build("main", &json!({})).await;
        let point = match phase {
            "build_image" => Point::After("dispatch workflow".to_owned()),
            "deploy_runtime" => Point::After("deploy service".to_owned()),
            "smoke_tests" => Point::After("check health_check".to_owned()),
            _ => Point::After(store(&run, "manifest.json")),
        };
        let (first, reached) = world.runner_that_stops_at(point);
        tokio::time::timeout(crate::world::DEADLINE, reached.notified()).await.expect("it comes to that point");
        first.kill();
        let last = world.phases(&run).await.pop().expect("a phase");
        assert_eq!((last.name.as_str(), last.status.as_str()), (phase, "running"));
        world.rescue(&run).await;
        let second = world.runner();
        world.succeeded(&run).await;
        second.end().await;
        assert_eq!(world.run(&run).await.attempt, 2);
        assert_eq!((world.github.runs().len(), world.dispatches(), world.deploys()), (index + 1, index + 1, index + 1));
        let tries: Vec<i32> = world.phases(&run).await.into_iter().map(|p| p.tries).collect();
        let wanted: Vec<i32> = (0..4).map(|at| if at == index { 2 } else { 1 }).collect();
        assert_eq!(tries, wanted, "{phase}: only that one is done again");
        assert_eq!(world.artifacts(&run).await.len(), 4);
    }
    world.stop().await;
}
