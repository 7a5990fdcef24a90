//! The worker token and the configuration: where they come from, and when they are believed no more.

use crate::support::{World, condition, stands};
use ops_controller::plan::condition::{ConditionType, Reason, Status as Truth};
use ops_controller::plan::desired::hex_sha256;
use ops_controller::plan::state::TokenSource;

fn log_requests(world: &World) -> usize {
    let requests = world.sandbox.railway.requests();
    requests.iter().filter(|r| r.operation == "DeploymentLogs" || r.operation == "Deployments").count()
}

/// 9: the newest match in the log is exactly the wrong one.
#[tokio::test]
async fn a_token_that_the_log_reports_as_rejected_is_never_taken() {
    let world = World::booted().await;
    let poison = world.sandbox.webapp.poison_log();
    let driver = world.healthy().await;
    let token = driver.controller.state().token.clone().expect("a token");
    assert_eq!(token.value.expose(), world.sandbox.webapp.token());
    assert_ne!(token.value.expose(), poison);
    assert!(world.our_only().user_data.contains(token.value.expose()));
    world.stop().await;
}

/// 10 and 11: only the current deployment was looked at, and the token is printed once in the first. (10, 11)
#[tokio::test]
async fn a_token_in_the_log_of_a_removed_deployment_is_found() {
    let world = World::booted().await;
    let token = world.sandbox.webapp.token();
    let deployments = world.sandbox.webapp.deployments();
    let holds = |n: usize| deployments[n].lines.iter().any(|line| line.message.contains(&token));
    assert_eq!((deployments.len(), deployments[0].status.as_str()), (2, "REMOVED"));
    assert_eq!((holds(0), holds(1)), (true, false));
    let driver = world.healthy().await;
    let found = driver.controller.state().token.clone().expect("a token");
    assert_eq!((found.value.expose(), found.source), (token.as_str(), TokenSource::Logs));
    world.stop().await;
}

/// 6: the documented highest priority was ignored while a cache existed.
#[tokio::test]
async fn a_manual_token_comes_first_and_no_log_is_read() {
    let mut world = World::booted().await;
    let right = world.sandbox.webapp.token();
    let wrong = format!("tr_wgt_{}", "x".repeat(40));
    world.set("TRIGGER_WORKER_TOKEN", &wrong);
    let mut driver = world.open();
    let logical = |s: &_| stands(s, ConditionType::WalLevelLogical, Truth::True, Reason::AsDesired);
    driver.until(&world, "through with Postgres", logical).await;
    for _ in 0..3 {
        let status = driver.cycle().await;
        assert!(stands(&status, ConditionType::WorkerTokenReady, Truth::False, Reason::TokenRejected));
    }
    assert_eq!(world.creates(), 0);
    world.set("TRIGGER_WORKER_TOKEN", &right);
    driver.controller.reconfigure(world.config()).expect("a new configuration");
    driver.until_settled(&world).await;
    assert_eq!(log_requests(&world), 0);
    world.stop().await;
}

#[tokio::test]
async fn a_token_that_was_changed_in_the_database_is_dropped_and_the_droplet_replaced() {
    let mut world = World::booted().await;
    let mut driver = world.healthy().await;
    let (old_droplet, old_token) = (world.our_only(), world.sandbox.webapp.token());
    let new_token = world.sandbox.webapp.rotate_token_by_hand().await.expect("rotated");
    let lost = |s: &_| stands(s, ConditionType::WorkerTokenReady, Truth::False, Reason::TokenNotFound);
    let status = driver.until(&world, "without a token", lost).await;
    assert!(condition(&status, ConditionType::WorkerTokenReady).message.contains("TRIGGER_WORKER_TOKEN"));
    assert_eq!(driver.controller.state().token, None);
    assert!(!status.healthy);
    // Nothing happens to the droplet until a token is proven.
    assert_eq!(world.our_only().id, old_droplet.id);

    world.set("TRIGGER_WORKER_TOKEN", &new_token);
    driver.controller.reconfigure(world.config()).expect("a new configuration");
    driver.until_settled(&world).await;
    let new_droplet = world.our_only();
    assert_ne!(new_droplet.id, old_droplet.id);
    assert!(new_droplet.user_data.contains(&new_token) && !new_droplet.user_data.contains(&old_token));
    assert_eq!((world.creates(), world.most_alive()), (2, 2));
    world.stop().await;
}

#[tokio::test]
async fn a_lost_token_is_issued_anew_when_that_is_wished() {
    let mut world = World::booted().await;
    world.sandbox.webapp.rotate_token_by_hand().await.expect("rotated");
    let hash = r#"select "tokenHash" from "WorkerGroupToken""#;
    let lost = world.sql(hash).await;
    let mut driver = world.open();
    let searched = |s: &_| stands(s, ConditionType::WorkerTokenReady, Truth::False, Reason::TokenNotFound);
    driver.until(&world, "searched", searched).await;
    driver.cycle().await;
    assert_eq!(world.sql(hash).await, lost, "not without the wish");
    world.set("ROTATE_LOST_TOKEN", "true");
    driver.controller.reconfigure(world.config()).expect("a new configuration");
    driver.until_settled(&world).await;
    let token = driver.controller.state().token.clone().expect("a token");
    assert_eq!(token.source, TokenSource::Rotated);
    assert_eq!(world.sql(hash).await, Some(hex_sha256(token.value.expose().as_bytes())));
    world.stop().await;
}

/// 6: a rotated MANAGED_WORKER_SECRET was never noticed.
#[tokio::test]
async fn a_changed_managed_secret_replaces_the_droplet_new_before_old() {
    let world = World::booted().await;
    let mut driver = world.healthy().await;
    let old = world.our_only().id;
    let secret = "0123456789abcdef0123456789abcdef";
    assert!(world.sandbox.railway.set_variable("trigger.dev", "MANAGED_WORKER_SECRET", secret));
    // Until the webapp runs with it, the two together are refused, and nothing is made.
    let refused = |s: &_| stands(s, ConditionType::WorkerTokenReady, Truth::False, Reason::ProbeRejected);
    driver.until(&world, "refused", refused).await;
    assert_eq!(world.our_only().id, old);
    world.sandbox.webapp.set_managed_secret(secret);
    driver.cycle_after(jiff::SignedDuration::from_mins(11)).await;
    driver.until(&world, "replaced", |s| s.healthy && world.our_only_id() != Some(old)).await;
    driver.until_settled(&world).await;
    assert!(world.our_only().user_data.contains(secret));
    assert_eq!(world.most_alive(), 2, "the new one came first");
    world.stop().await;
}

/// 7: a partial configuration was cached for good.
#[tokio::test]
async fn a_variable_that_is_missing_for_a_while_changes_nothing() {
    let world = World::booted().await;
    let mut driver = world.healthy().await;
    world.forget_requests();
    let (service, name) = ("trigger.dev", "MANAGED_WORKER_SECRET");
    assert!(world.sandbox.railway.remove_variable(service, name));
    let missing = |s: &_| stands(s, ConditionType::ConfigurationReady, Truth::False, Reason::VariableMissing);
    driver.until(&world, "missing", missing).await;
    for _ in 0..3 {
        assert!(!driver.cycle().await.healthy);
    }
    assert!(world.sandbox.railway.set_variable(service, name, &world.sandbox.webapp.managed_secret()));
    driver.until_settled(&world).await;
    assert_eq!(world.writes(), Vec::<String>::new());
    world.stop().await;
}

#[tokio::test]
async fn an_origin_that_no_droplet_reaches_is_refused() {
    let mut world = World::booted().await;
    world.set("ALLOW_LOCAL_ORIGIN", "false");
    let mut driver = world.open();
    for _ in 0..3 {
        let status = driver.cycle().await;
        assert!(stands(&status, ConditionType::ConfigurationReady, Truth::False, Reason::OriginUnreachable));
    }
    assert_eq!(world.creates(), 0);
    world.stop().await;
}

/// A wrong origin behind which some web server answers: it is not given a droplet with our secrets.
#[tokio::test]
async fn a_stranger_that_answers_200_or_400_has_not_accepted_the_token() {
    use axum::http::StatusCode;
    for status in [StatusCode::OK, StatusCode::BAD_REQUEST] {
        let world = World::booted().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let stranger = axum::Router::new().fallback(move || async move { (status, "<html>welcome</html>") });
        let server = tokio::spawn(async move { axum::serve(listener, stranger).await });
        assert!(world.sandbox.railway.set_variable("trigger.dev", "API_ORIGIN", &origin));
        let mut driver = world.open();
        let told = |s: &_| condition(s, ConditionType::WorkerTokenReady).message.contains("not as Trigger.dev does");
        let status = driver.until(&world, "the stranger is told", told).await;
        assert_eq!(condition(&status, ConditionType::WorkerTokenReady).status, Truth::Unknown);
        driver
            .until(&world, "the rest is set up", |s| {
                condition(s, ConditionType::WalLevelLogical).status == Truth::True && told(s)
            })
            .await;
        assert_eq!(world.creates(), 0);
        server.abort();
        world.stop().await;
    }
}
