//! Bringing an image into service on the simulated Railway, by the client and over real HTTP.

use jiff::{SignedDuration, Timestamp};
use ops_controller::clients::budget::Budget;
use ops_controller::clients::railway::releases::{Log, Release};
use ops_controller::clients::railway::{Reader, Writer};
use ops_controller::clients::{ClientError, Fence, Seam};
use ops_controller::config::Config;
use ops_controller::plan::observation::DeploymentStatus;
use ops_controller::plan::secret::Secret;
use ops_controller::sandbox::railway::{AppFate, Trouble};
use ops_controller::sandbox::{Options, Sandbox};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Nothing here takes nearly that long; a loaded machine may.
const DEADLINE: Duration = Duration::from_secs(60);
const FIRST: &str = "ghcr.io/acme/app:1111111";
const SECOND: &str = "ghcr.io/acme/app:2222222";

struct World {
    sandbox: Sandbox,
    reader: Reader,
    writer: Writer,
    http: reqwest::Client,
}

impl World {
    async fn start() -> World {
        World::with(Options::short_delays()).await
    }

    async fn with(options: Options) -> World {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let sandbox = Sandbox::start(options).await.expect("a sandbox");
        let config = Config::from_pairs(sandbox.environment()).expect("a configuration");
        let reader = Reader::new(&config, &Seam::default(), Arc::new(Budget::default())).expect("a client");
        let writer = Writer::new(reader.clone(), &Fence::unguarded());
        let http = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().expect("a client");
        World { sandbox, reader, writer, http }
    }

    /// A service with an image, nothing deployed.
    async fn service(&self, name: &str, image: &str) -> String {
        let id = self.writer.create_service(name).await.expect("created");
        self.writer.set_image(&id, image).await.expect("set");
        id
    }

    async fn release(&self, id: &str) -> Release {
        self.reader.release(id).await.expect("an answer").expect("a deployment")
    }

    /// Follows it to an end; also says through which of Railway's words it went.
    async fn end_of(&self, id: &str) -> (Release, Vec<String>) {
        let mut words: Vec<String> = Vec::new();
        let follow = async {
            loop {
                let release = self.release(id).await;
                if words.last() != Some(&release.word) {
                    words.push(release.word.clone());
                }
                if release.status != DeploymentStatus::InFlight {
                    return release;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let release = tokio::time::timeout(DEADLINE, follow).await.expect("in time");
        (release, words)
    }

    async fn health(&self, url: &str) -> (u16, Value) {
        let answer = self.http.get(format!("{url}/health")).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    fn mutations(&self, operation: &str) -> usize {
        self.sandbox.railway.requests().iter().filter(|r| r.operation == operation).count()
    }
}

#[tokio::test]
async fn setting_image_and_variables_deploys_nothing() {
    let world = World::start().await;
    assert_eq!(world.reader.service_named("app").await, Ok(None));
    let id = world.service("app", FIRST).await;
    let values = BTreeMap::from([("GREETING".to_owned(), Secret::new("hello"))]);
    world.writer.set_variables(&id, &values).await.expect("set");
    let found = world.reader.service_named("app").await.expect("an answer").expect("a service");
    assert_eq!((found.id.as_str(), found.image.as_deref()), (id.as_str(), Some(FIRST)));
    assert_eq!(world.reader.service_named("App").await, Ok(None), "another name is another service");
    assert_eq!(world.reader.releases_since(&id, Timestamp::UNIX_EPOCH).await, Ok(vec![]));
    assert_eq!(world.sandbox.railway.variable("app", "GREETING").as_deref(), Some("hello"));
    let more = BTreeMap::from([("OTHER".to_owned(), Secret::new("there"))]);
    world.writer.set_variables(&id, &more).await.expect("set");
    assert_eq!(world.sandbox.railway.variable("app", "GREETING").as_deref(), Some("hello"), "the others stay");
    let (status, _) = world.health(&world.sandbox.railway.app_url("app").expect("an address")).await;
    assert_eq!(status, 404, "nobody serves");
    world.sandbox.stop().await;
}

#[tokio::test]
async fn a_deployed_image_answers_and_the_one_before_is_removed() {
    let world = World::start().await;
    let id = world.service("app", FIRST).await;
    let first = world.writer.deploy(&id).await.expect("deployed");
    let (release, words) = world.end_of(&first).await;
    assert_eq!((release.word.as_str(), release.runs, release.image.as_deref()), ("SUCCESS", true, Some(FIRST)));
    let order = ["INITIALIZING", "BUILDING", "DEPLOYING", "SUCCESS"];
    let places: Vec<_> = words.iter().map(|word| order.iter().position(|o| o == word)).collect();
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{words:?}");
    let url = release.url.expect("an address");
    assert_eq!(world.health(&url).await.1["image"], FIRST);

    world.writer.set_image(&id, SECOND).await.expect("set");
    let values = BTreeMap::from([("GREETING".to_owned(), Secret::new("hello"))]);
    world.writer.set_variables(&id, &values).await.expect("set");
    let all = world.reader.releases_since(&id, Timestamp::UNIX_EPOCH).await.expect("a list");
    assert_eq!(all.len(), 1, "neither deploys");
    assert_eq!(world.health(&url).await.1["image"], FIRST, "until it is deployed");
    let second = world.writer.deploy(&id).await.expect("deployed");
    let (release, _) = world.end_of(&second).await;
    assert_eq!((release.image.as_deref(), release.url.as_deref()), (Some(SECOND), Some(url.as_str())));
    let (status, body) = world.health(&url).await;
    assert_eq!((status, &body["image"], &body["deployment_id"]), (200, &SECOND.into(), &second.clone().into()));
    let before = world.release(&first).await;
    assert_eq!((before.status, before.runs), (DeploymentStatus::Ended, false));
    world.sandbox.railway.set_app_health("app", 503);
    assert_eq!(world.health(&url).await.0, 503);
    world.sandbox.stop().await;
}

#[tokio::test]
async fn a_deployment_that_fails_crashes_or_hangs_says_so_and_failing_leaves_the_one_before() {
    let world = World::start().await;
    let id = world.service("app", FIRST).await;
    let first = world.writer.deploy(&id).await.expect("deployed");
    let url = world.end_of(&first).await.0.url.expect("an address");
    world.writer.set_image(&id, SECOND).await.expect("set");
    for (fate, log, says) in [
        (AppFate::FailsToBuild, Log::Build, "failed to pull ghcr.io/acme/app:2222222"),
        (AppFate::FailsToStart, Log::Deploy, "Healthcheck failed!"),
    ] {
        world.sandbox.railway.next_deployment("app", fate);
        let deployment = world.writer.deploy(&id).await.expect("accepted");
        let (release, _) = world.end_of(&deployment).await;
        assert_eq!((release.status, release.word.as_str(), release.runs), (DeploymentStatus::Bad, "FAILED", false));
        let lines = world.reader.log_tail(&deployment, log, 1).await.expect("a log");
        assert!(lines.len() == 1 && lines[0].contains(says), "{lines:?}");
        assert_eq!(world.health(&url).await.1["image"], FIRST);
    }
    world.sandbox.railway.next_deployment("app", AppFate::Crashes);
    let crashes = world.writer.deploy(&id).await.expect("accepted");
    let gone = async {
        while world.release(&crashes).await.word != "CRASHED" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.expect("in time");
    assert!(!world.release(&crashes).await.runs);
    world.sandbox.railway.next_deployment("app", AppFate::Hangs);
    let hangs = world.writer.deploy(&id).await.expect("accepted");
    let after = world.writer.deploy(&id).await.expect("accepted");
    assert_eq!(world.end_of(&after).await.0.word, "SUCCESS");
    assert_eq!(world.release(&hangs).await.word, "REMOVED", "superseded, which is not failed");
    world.sandbox.stop().await;
}

#[tokio::test]
async fn a_deployment_or_service_whose_answer_was_lost_is_found_again_and_made_once() {
    let world = World::start().await;
    let id = world.service("app", FIRST).await;
    world.end_of(&world.writer.deploy(&id).await.expect("deployed")).await;
    for trouble in [Trouble::DroppedAfter, Trouble::ErrorsAfter] {
        // Of Railway's clock, which here is ours; whole milliseconds, as it tells them.
        let since = Timestamp::from_millisecond(Timestamp::now().as_millisecond()).expect("a time");
        assert_eq!(world.reader.releases_since(&id, since).await, Ok(vec![]));
        world.sandbox.railway.inject_for("ServiceInstanceDeploy", trouble.clone());
        let sent = world.mutations("ServiceInstanceDeploy");
        let error = world.writer.deploy(&id).await.expect_err("no answer");
        assert!(!error.is_definite(), "{trouble:?}: {error:?}");
        assert_eq!(world.mutations("ServiceInstanceDeploy"), sent + 1, "sent once");
        let found = world.reader.releases_since(&id, since).await.expect("a list");
        assert_eq!(found.len(), 1, "{trouble:?}: {found:?}");
        assert_eq!(world.end_of(&found[0].id).await.0.word, "SUCCESS");
    }
    world.sandbox.railway.inject_for("ServiceInstanceDeploy", Trouble::ErrorsBefore);
    let since = Timestamp::now() + SignedDuration::from_millis(1);
    assert!(!world.writer.deploy(&id).await.expect_err("no answer").is_definite());
    assert_eq!(world.reader.releases_since(&id, since).await, Ok(vec![]), "nothing was deployed");
    world.sandbox.stop().await;
}

#[tokio::test]
async fn more_deployments_than_a_page_are_read_as_far_as_needed() {
    let world = World::start().await;
    let id = world.service("app", FIRST).await;
    let mut all = Vec::new();
    for _ in 0..25 {
        all.push(world.writer.deploy(&id).await.expect("deployed"));
    }
    all.reverse();
    let pages = async |since: Timestamp| {
        let before = world.mutations("RecentDeployments");
        let found = world.reader.releases_since(&id, since).await.expect("a list");
        (found, world.mutations("RecentDeployments") - before)
    };
    let (found, asked) = pages(Timestamp::UNIX_EPOCH).await;
    assert_eq!(asked, 2);
    assert_eq!(
        found.iter().map(|r| r.id.clone()).collect::<std::collections::BTreeSet<_>>(),
        all.into_iter().collect()
    );
    assert_eq!(pages(Timestamp::now() + SignedDuration::from_secs(1)).await, (vec![], 1));
    let taken = world.writer.create_service("redis").await.expect_err("refused");
    assert!(taken.is_definite() && taken.to_string().contains("already exists"), "{taken}");
    world.sandbox.railway.inject_for("ServiceCreate", Trouble::DroppedAfter);
    let lost = world.writer.create_service("other").await.expect_err("no answer");
    assert!(!lost.is_definite(), "{lost:?}");
    assert!(world.reader.service_named("other").await.expect("an answer").is_some());
    assert_eq!(world.mutations("ServiceCreate"), 3, "none was sent again");
    let elsewhere = world.reader.scoped("another project", "another environment");
    assert!(matches!(elsewhere.service_named("app").await, Err(ClientError::NotFound { .. })));
    world.sandbox.stop().await;
}

#[tokio::test]
async fn nothing_is_released_without_a_lease() {
    let world = World::start().await;
    let id = world.service("app", FIRST).await;
    let before = world.sandbox.railway.requests().len();
    let writer = Writer::new(world.reader.clone(), &Fence::closed());
    let refused = |result: Result<(), ClientError>| assert!(matches!(result, Err(ClientError::Fenced(_))));
    refused(writer.create_service("other").await.map(drop));
    refused(writer.set_image(&id, SECOND).await);
    refused(writer.set_variables(&id, &BTreeMap::new()).await);
    refused(writer.deploy(&id).await.map(drop));
    assert_eq!(world.sandbox.railway.requests().len(), before, "nothing was sent");
    assert!(writer.look().service_named("app").await.expect("an answer").is_some(), "looking goes on");
    world.sandbox.stop().await;
}

#[tokio::test]
async fn a_runner_is_told_of_a_database_of_its_own_when_there_is_one() {
    let world = World::with(Options::short_delays().with_ops()).await;
    let told: BTreeMap<String, String> = world.sandbox.runner_environment().into_iter().collect();
    assert_ne!(told["OPS_DATABASE_URL"], told["DATABASE_URL"]);
    assert!(told["OPS_DATABASE_URL"].ends_with("/ops") && told["GITHUB_API_URL"] == world.sandbox.github.url());
    let ops = world.sandbox.ops_postgres.clone().expect("a database");
    world.sandbox.postgres.stop().await.expect("stopped");
    let one: i32 =
        sqlx::query_scalar("select 1").fetch_one(&mut ops.connect().await.expect("a connection")).await.expect("a row");
    assert_eq!(one, 1, "it does not go with the watched one");
    world.sandbox.stop().await;
    assert!(!ops.is_running());
}
