//! Providers that fail, refuse or answer nonsense: nothing is known then, and nothing is done.

use crate::support::{World, condition, quick};
use ops_controller::plan::condition::{ConditionType, Reason, Status as Truth};
use ops_controller::sandbox::Options;
use ops_controller::sandbox::faults::Break;
use ops_controller::sandbox::railway::Trouble;
use std::time::Duration;

/// Another size is wanted, so that a controller that knew enough would act at once. (7, 43, 44)
#[tokio::test]
async fn no_kind_of_railways_bad_answers_leads_to_an_action() {
    let mut world = World::booted().await;
    drop(world.healthy().await);
    world.set("SUPERVISOR_SIZE", "s-2vcpu-4gb");
    world.forget_requests();
    let retry_after = Duration::from_secs(30);
    let troubles = [
        Trouble::ErrorsBefore,
        Trouble::ErrorsAfter,
        Trouble::PartialData,
        Trouble::StuckCursor,
        Trouble::TooManyRequests { retry_after },
        Trouble::Cloudflare1015,
        Trouble::BadGateway,
        Trouble::DroppedAfter,
    ];
    for trouble in troubles {
        for _ in 0..20 {
            world.sandbox.railway.inject(trouble.clone());
        }
        let mut driver = world.open();
        for _ in 0..3 {
            let status = driver.cycle().await;
            let configuration = condition(&status, ConditionType::ConfigurationReady);
            let stands = (configuration.status, configuration.reason);
            assert_eq!(stands, (Truth::Unknown, Reason::CouldNotLook), "{trouble:?}");
            assert!(!status.healthy && status.healthy_cycles == 0, "{trouble:?}");
            assert_eq!(status.cycle.as_ref().map(|c| c.actions.len()), Some(0), "{trouble:?}");
        }
        world.sandbox.railway.clear_injected();
    }
    assert_eq!(world.writes(), Vec::<String>::new());
    // And it was the trouble that held it back.
    world.healthy().await.until_settled(&world).await;
    assert_eq!(world.our_only().size, "s-2vcpu-4gb");
    world.stop().await;
}

/// Asked again in a minute at the earliest, however often cycles come.
#[tokio::test]
async fn after_a_429_railway_is_left_alone() {
    let world = World::booted().await;
    let trouble = Trouble::TooManyRequests { retry_after: Duration::from_secs(600) };
    world.sandbox.railway.inject(trouble);
    let mut driver = world.open();
    for _ in 0..5 {
        driver.cycle().await;
    }
    assert_eq!(world.sandbox.railway.requests().len(), 1);
    let paused = driver.now().budget.railway.paused_seconds.expect("a pause is shown");
    assert!((500..=600).contains(&paused), "{paused}");
    world.stop().await;
}

/// 12: a token that may create but not list made one droplet each cycle.
#[tokio::test]
async fn without_the_right_to_list_droplets_none_is_created() {
    let missing_scopes = vec!["droplet:read".to_owned()];
    let world = World::booted_with(Options { missing_scopes, ..quick() }).await;
    let mut driver = world.open();
    let firewall = |s: &_| condition(s, ConditionType::FirewallReady).status == Truth::True;
    driver.until(&world, "past the firewall", firewall).await;
    for _ in 0..5 {
        let status = driver.cycle().await;
        let deployed = condition(&status, ConditionType::SupervisorDeployed);
        assert_eq!((deployed.status, deployed.reason), (Truth::Unknown, Reason::CouldNotLook));
        assert!(deployed.message.contains("lacks the scope droplet:read"), "{}", deployed.message);
    }
    assert_eq!(world.creates(), 0);
    world.stop().await;
}

/// 13: one failed listing counted as "not deployed".
#[tokio::test]
async fn a_listing_that_fails_for_a_while_changes_nothing() {
    let world = World::booted().await;
    let mut driver = world.healthy().await;
    world.forget_requests();
    world.sandbox.faults.during(Break::DropletListFailing, Duration::from_secs(600));
    let status = driver.cycle().await;
    assert_eq!(condition(&status, ConditionType::SupervisorDeployed).status, Truth::Unknown);
    assert_eq!((status.healthy, status.healthy_cycles), (false, 0));
    world.sandbox.faults.clear(Break::DropletListFailing);
    driver.until_settled(&world).await;
    assert_eq!(world.writes(), Vec::<String>::new());
    world.stop().await;
}

#[tokio::test]
async fn a_gateways_html_page_is_no_answer_and_is_survived() {
    let world = World::booted().await;
    let mut driver = world.healthy().await;
    world.forget_requests();
    world.sandbox.faults.during(Break::Html502, Duration::from_secs(600));
    let status = driver.cycle().await;
    let deployed = condition(&status, ConditionType::SupervisorDeployed);
    assert_eq!(deployed.status, Truth::Unknown);
    assert!(deployed.message.contains("an HTML page") && !deployed.message.contains('<'), "{}", deployed.message);
    world.sandbox.faults.clear(Break::Html502);
    driver.until_settled(&world).await;
    assert_eq!(world.writes(), Vec::<String>::new());
    world.stop().await;
}

/// Defect 46: the predecessor knew no project tokens.
#[tokio::test]
async fn a_project_token_of_railway_is_enough() {
    let world = World::booted_with(Options { project_token: true, ..quick() }).await;
    assert!(world.pairs.iter().all(|(name, _)| name != "RAILWAY_API_TOKEN"));
    world.open().until_settled(&world).await;
    world.stop().await;
}

/// It takes the connection and never says a word. (43)
#[tokio::test]
async fn a_server_that_never_answers_stops_no_cycle() {
    let mut world = World::booted().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    world.set("DATABASE_URL", &format!("postgresql://user:password@{address}/railway"));
    let status = world.open().cycle().await;
    let token = condition(&status, ConditionType::WorkerTokenReady);
    assert_eq!((token.status, token.reason), (Truth::Unknown, Reason::CouldNotLook));
    assert!(token.message.contains("no connection within 5 s"), "{}", token.message);
    world.stop().await;
}

/// More than two pages of the largest size: a list cut short would look complete. (47)
#[tokio::test]
async fn a_listing_is_read_to_its_last_page() {
    let world = World::booted().await;
    for number in 0..450 {
        world.sandbox.digitalocean.add_droplet(&format!("other-{number}"), &["other"]).expect("a droplet");
    }
    let readers = ops_controller::clients::Readers::new(&world.config(), &Default::default()).expect("readers");
    let droplets = readers.digitalocean.droplets_by_tag("other").await.expect("a listing");
    assert_eq!(droplets.len(), 450);
    world.stop().await;
}
