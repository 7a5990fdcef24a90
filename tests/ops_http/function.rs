//! The function that executes one run for a request: exactly the documented answers, and no run lost.

use crate::server::Db;
use crate::world::{DEADLINE, World, routes};
use ops_controller::http::OpsRoutes;
use ops_controller::http::ops::{Executed, NotExecuted, RunOne};
use ops_controller::runner::kind::{Context, Kind, Phase, PhaseError, Work};
use ops_controller::runner::once::OnceError;
use ops_controller::runner::{Kinds, Options, Runner};
use ops_controller::runs::Claimed;
use ops_controller::runs::schema::Address;
use reqwest::Method;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const PATH: &str = "/functions/v1/ops-runner";

/// One phase; the run's metadata say how it goes.
#[derive(Default)]
struct Build {
    begun: Notify,
    go: Notify,
}

impl Kind for Build {
    fn phases(&self, _: &Claimed) -> Result<Vec<Phase>, String> {
        Ok(vec![Phase::new("build_image", DEADLINE)])
    }

    fn work<'a>(&'a self, context: &'a Context) -> Work<'a> {
        Box::pin(async move {
            self.begun.notify_one();
            if context.run.metadata["waits"] == true {
                self.go.notified().await;
            }
            match context.run.metadata["fails"].as_str() {
                Some(why) => Err(PhaseError::failed(why)),
                None => Ok(json!({})),
            }
        })
    }
}

/// As the program wires it.
fn executing(address: Address, kind: Arc<Build>, stop: CancellationToken) -> RunOne {
    Arc::new(move || {
        let kinds: Kinds = [("build".to_owned(), kind.clone() as Arc<dyn Kind>)].into();
        let runner = Runner::new(address.clone(), Options::named("function"), kinds);
        let stop = stop.clone();
        Box::pin(async move {
            match runner.once(stop).await {
                Ok(done) => Ok(done.map(|d| Executed { run_id: d.run_id, status: d.status, worker_id: d.worker_id })),
                Err(error @ OnceError::NotClaimed(_)) => Err(NotExecuted::NotClaimed(error.to_string())),
                Err(error @ OnceError::Lost(_)) => Err(NotExecuted::Lost(error.to_string())),
            }
        })
    })
}

async fn world(kind: &Arc<Build>, stop: &CancellationToken) -> World {
    let db = Arc::new(Db::new().await);
    let routes = routes(&db.address).with_execution(executing(db.address.clone(), kind.clone(), stop.clone()));
    World::serving(db, Some(routes)).await
}

async fn queued(world: &World, metadata: serde_json::Value) -> String {
    let body =
        json!({"project_id": "shop", "env": "dev", "git_sha": "abc123", "git_ref": "main", "metadata": metadata});
    world.post("/ops/runs", body).await.expect(201)["run_id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn an_empty_queue_is_no_error() {
    let world = world(&Arc::default(), &CancellationToken::new()).await;
    world.queued().await; // of another kind
    let answer = world.send(world.as_admin(Method::POST, PATH)).await;
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    assert_eq!(answer.expect(200), json!({"message": "No runs in queue"}));
}

#[tokio::test]
async fn one_call_executes_one_build_whatever_the_body() {
    let world = world(&Arc::default(), &CancellationToken::new()).await;
    let first = queued(&world, json!({})).await;
    let second = queued(&world, json!({"fails": "no such image"})).await;
    let done = world.send(world.as_admin(Method::POST, PATH).body("not json")).await.expect(200);
    let worker = done["worker_id"].as_str().expect("a worker");
    assert_eq!(done, json!({"run_id": first, "status": "success", "worker_id": worker}));
    let claimed = format!(
        "select payload ->> 'worker_id' from ops.run_events where run_id = '{first}' and message like '%claimed%'"
    );
    assert_eq!(world.db.ask(&claimed).await, worker);
    assert_eq!(world.get(&format!("/ops/runs/{second}")).await.expect(200)["status"], "queued", "one and no more");
    let done = world.send(world.as_admin(Method::POST, PATH)).await.expect(200);
    assert_eq!((&done["run_id"], &done["status"]), (&json!(second), &json!("failed")));
    let run = world.get(&format!("/ops/runs/{second}")).await.expect(200);
    assert!(run["error"].as_str().is_some_and(|e| e.contains("no such image")), "{run}");
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_take_the_run_along() {
    let kind = Arc::new(Build::default());
    let world = world(&kind, &CancellationToken::new()).await;
    let id = queued(&world, json!({"waits": true})).await;
    let asked = tokio::spawn(world.as_admin(Method::POST, PATH).send());
    tokio::time::timeout(DEADLINE, kind.begun.notified()).await.expect("it begins");
    asked.abort();
    let _ = asked.await;
    kind.go.notify_one();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let run = world.get(&format!("/ops/runs/{id}")).await.expect(200);
        if run["status"] == "success" {
            assert_eq!(run["attempt"], 1);
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{run}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_run_that_is_cancelled_meanwhile_ends_so() {
    let kind = Arc::new(Build::default());
    let world = world(&kind, &CancellationToken::new()).await;
    let id = queued(&world, json!({"waits": true})).await;
    let asked = tokio::spawn(world.as_admin(Method::POST, PATH).send());
    tokio::time::timeout(DEADLINE, kind.begun.notified()).await.expect("it begins");
    // Its listener may connect at this moment; who asks again is heard.
    world.post(&format!("/ops/runs/{id}/cancel"), json!({})).await.expect(200);
    let told = tokio::spawn({
        let (db, id) = (world.db.clone(), id.clone());
        async move {
            loop {
                db.execute(&format!("select pg_notify('ops_cancel', '{id}')")).await;
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    });
    let answer = tokio::time::timeout(DEADLINE, asked).await.expect("in time").expect("no panic").expect("an answer");
    told.abort();
    let done: serde_json::Value = answer.json().await.expect("JSON");
    assert_eq!((&done["run_id"], &done["status"]), (&json!(id), &json!("cancelled")));
}

#[tokio::test]
async fn a_run_is_handed_back_when_the_program_stops() {
    let kind = Arc::new(Build::default());
    let db = Arc::new(Db::new().await);
    let stop = CancellationToken::new();
    let world = World::serving(db.clone(), Some(routes(&db.address))).await;
    let id = queued(&world, json!({"waits": true})).await;
    let kinds: Kinds = [("build".to_owned(), kind.clone() as Arc<dyn Kind>)].into();
    let options = Options { grace: std::time::Duration::from_millis(50), ..Options::named("function") };
    let once = tokio::spawn(Runner::new(db.address.clone(), options, kinds).once(stop.clone()));
    tokio::time::timeout(DEADLINE, kind.begun.notified()).await.expect("it begins");
    stop.cancel();
    let done = tokio::time::timeout(DEADLINE, once).await.expect("in time").expect("no panic").expect("an end");
    assert_eq!(done.map(|d| d.status).as_deref(), Some("queued"));
    let run = world.get(&format!("/ops/runs/{id}")).await.expect(200);
    assert_eq!((&run["status"], &run["attempt"]), (&json!("queued"), &json!(0)), "no attempt is spent");
}

#[tokio::test]
async fn browsers_may_ask_first_and_without_a_token() {
    let world = world(&Arc::default(), &CancellationToken::new()).await;
    let answer = world.send(world.request(Method::OPTIONS, PATH)).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    assert!(answer.headers["access-control-allow-headers"].to_str().expect("ASCII").contains("authorization"));
    let refused = world.send(world.request(Method::POST, PATH)).await;
    assert_eq!(refused.headers["access-control-allow-origin"], "*", "pages can read why");
    refused.expect_problem(401, "unauthorized");
}

#[tokio::test]
async fn who_cannot_claim_says_so_as_documented() {
    let nowhere = Address::from_url("postgresql://ops:canary@127.0.0.1:1/ops", "test").expect("an address");
    let run_one = executing(nowhere, Arc::default(), CancellationToken::new());
    let world = World::with(|routes: OpsRoutes| routes.with_execution(run_one)).await;
    let failed = world.send(world.as_admin(Method::POST, PATH)).await.expect(500);
    assert_eq!(failed["error"], "Failed to claim run");
    assert!(
        failed["details"].as_str().is_some_and(|d| d.contains("ops database") && !d.contains("canary")),
        "{failed}"
    );
    let lost: RunOne = Arc::new(|| Box::pin(async { Err(NotExecuted::Lost("gone".to_owned())) }));
    let world = World::with(|routes| routes.with_execution(lost)).await;
    let failed = world.send(world.as_admin(Method::POST, PATH)).await.expect(500);
    assert_eq!(failed, json!({"error": "Internal server error", "details": "gone"}));
}

#[tokio::test]
async fn a_program_that_executes_nothing_says_so() {
    let world = World::start().await;
    world.send(world.as_admin(Method::POST, PATH)).await.expect_problem(404, "no-runner");
}
