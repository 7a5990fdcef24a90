//! Builds: from a commit to a deployment that was tried, and what stops one on its way.

use crate::world::{DEADLINE, SHA, World};
use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use ops_controller::clients::Seam;
use ops_controller::clients::seam::Point;
use ops_controller::runner::kinds;
use ops_controller::runner::kinds::build::settings::Plan;
use ops_controller::runs::queue::{self, RunnerId};
use ops_controller::sandbox::github::{Fate, GitHub, GitHubOptions};
use ops_controller::sandbox::railway::AppFate;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn pinned(sha: &str) -> String {
    format!("ghcr.io/acme/app@{}", GitHub::digest_of(sha))
}

#[tokio::test]
async fn without_a_build_nobody_is_asked_and_nothing_is_stored() {
    let world = World::new().await;
    let runner = world.runner();
    world.until("a runner is there", "select count(*) = 1 from ops.runners").await;
    runner.end().await;
    assert!(world.github.requests().is_empty() && world.railway.requests().is_empty());
    assert!(!world.store().exists());
    world.stop().await;
}

#[tokio::test]
async fn a_build_goes_from_a_commit_to_a_deployment_that_was_tried_and_proves_it() {
    let world = World::new().await;
    let run = world.queue_build("refs/heads/main", &json!({})).await;
    let runner = world.runner();
    let output = world.succeeded(&run).await;
    runner.end().await;

    assert_eq!((world.dispatches(), world.deploys()), (1, 1));
    let workflow = &world.github.runs()[0];
    assert_eq!((workflow.inputs["git_sha"].as_str(), workflow.inputs["git_ref"].as_str()), (SHA, "refs/heads/main"));
    let digest = GitHub::digest_of(SHA);
    assert_eq!((&output["image"], &output["image_digest"]), (&json!(pinned(SHA)), &json!(digest)));
    assert_eq!(output["deployment_url"], json!(world.railway.app_url("shop")));
    assert_eq!(output["deployment_id"], json!(world.railway.deployment_ids("shop")[0]));
    assert_eq!(world.railway.variable("shop", "GIT_SHA").as_deref(), Some(SHA));
    assert_eq!(world.railway.variable("shop", "IMAGE").as_deref(), Some("ghcr.io/acme/app:0123456"));
    let tests = output["smoke_tests"].as_array().expect("a list");
    let told: Vec<_> = tests.iter().map(|t| (t["name"].as_str(), t["status"].as_str())).collect();
    assert_eq!(told, [(Some("health_check"), Some("passed")), (Some("answers"), Some("passed"))]);
    assert!(tests.iter().all(|t| t["duration_ms"].is_u64()));
    let names: Vec<String> = world.phases(&run).await.into_iter().map(|p| p.name).collect();
    assert_eq!(names, ["build_image", "deploy_runtime", "smoke_tests", "capture_artifacts"]);
    assert_eq!(output["phases_completed"], json!(names));

    let artifacts = world.artifacts(&run).await;
    let mut keys: Vec<_> = artifacts.iter().map(|a| (a.artifact_key.as_str(), a.artifact_type.as_str())).collect();
    keys.sort_unstable();
    let wanted = [
        ("evidence.json", "evidence"),
        ("image.json", "image"),
        ("manifest.json", "manifest"),
        ("run.log.ndjson", "logs"),
    ];
    assert_eq!(keys, wanted);
    let mut everything = format!("{output} {:?}", world.messages(&run).await);
    for artifact in &artifacts {
        assert_eq!(artifact.storage_path, format!("shop/shop-dev/{run}/{}", artifact.artifact_key));
        let bytes = std::fs::read(world.store().join(&artifact.storage_path)).expect("it lies there");
        let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(artifact.digest.as_deref(), Some(&*format!("sha256:{digest}")));
        assert_eq!(artifact.size_bytes, i64::try_from(bytes.len()).ok());
        everything.push_str(&String::from_utf8(bytes).expect("UTF-8"));
    }
    let manifest: Value = serde_json::from_slice(
        &std::fs::read(world.store().join(format!("shop/shop-dev/{run}/manifest.json"))).expect("a file"),
    )
    .expect("JSON");
    assert_eq!((&manifest["built"]["image_digest"], &manifest["git_sha"]), (&json!(digest), &json!(SHA)));
    for secret in [&world.github.options().token, &world.railway.options().account_token] {
        assert!(!everything.contains(secret.as_str()), "a token is told");
    }
    let kept = world.ask("select count(*) from ops.resources where status = 'live'").await;
    assert_eq!(kept, "3", "the workflow's run, the service, the deployment");
    world.stop().await;
}

#[tokio::test]
async fn a_run_may_choose_branch_and_checks_but_not_what_is_executed_or_where_it_goes() {
    let world = World::new().await;
    world.github.push("v2", "fedcba98765432100123456789abcdef01234567");
    let metadata = json!({
        "build": { "github": { "ref": "v2" } },
        "smoke": { "checks": [{ "name": "of_the_run", "path": "/health", "retries": 0 }] },
    });
    let run = world.queue_build("main", &metadata).await;
    let elsewhere = world.queue_build("main", &json!({ "deploy": { "hook": { "url": "http://127.0.0.1:1/" } } })).await;
    let runner = world.runner();
    assert_eq!(world.succeeded(&run).await["smoke_tests"][0]["name"], "of_the_run");
    assert!(world.failed(&elsewhere).await.contains("metadata.deploy.hook is not known; timeout may be given"));
    runner.end().await;
    assert_eq!(world.github.runs()[0].head_sha, "fedcba98765432100123456789abcdef01234567");
    assert_eq!(world.dispatches(), 1);
    world.stop().await;
}

#[tokio::test]
async fn what_is_wrong_in_an_environment_is_told_by_field_before_anything_is_done() {
    let world = World::new().await;
    world
        .configure("shop-dev", &json!({ "build": { "github": { "workflw": "x" } }, "deploy": { "railway": {} } }))
        .await;
    let run = world.queue_build("main", &json!({})).await;
    let runner = world.runner();
    let error = world.failed(&run).await;
    runner.end().await;
    for fault in ["config.build.github.workflow is missing", "config.deploy.railway.service is missing"] {
        assert!(error.contains(fault), "{error}");
    }
    assert_eq!(world.run(&run).await.attempt, 1, "another attempt would not help");
    assert!(world.github.requests().is_empty() && world.railway.requests().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_workflow_that_fails_ends_the_build_with_its_step_and_deploys_nothing() {
    let world = World::new().await;
    world.github.next_run(Fate::Fails);
    let run = world.queue_build("main", &json!({})).await;
    let runner = world.runner();
    let error = world.failed(&run).await;
    assert!(
        error.starts_with("Phase build_image failed: workflow run 17000000001 of acme/app ended with failure in step "),
        "{error}"
    );
    assert_eq!((world.run(&run).await.attempt, world.deploys()), (1, 0));

    world.ask(&format!("ops.requeue_run('{run}', 'olga')")).await;
    world.succeeded(&run).await;
    runner.end().await;
    assert_eq!(world.dispatches(), 2, "queued again by a person, it is dispatched again");
    world.stop().await;
}

#[tokio::test]
async fn a_deployment_that_fails_ends_the_build_with_the_end_of_its_log() {
    let world = World::new().await;
    world.railway.add_app("shop").expect("made");
    world.railway.next_deployment("shop", AppFate::FailsToStart);
    let run = world.queue_build("main", &json!({})).await;
    let runner = world.runner();
    let error = world.failed(&run).await;
    runner.end().await;
    assert!(error.contains("of shop is FAILED: Healthcheck failed!"), "{error}");
    assert_eq!((world.run(&run).await.attempt, world.deploys(), world.mutations("ServiceCreate")), (1, 1, 0));
    world.stop().await;
}

#[tokio::test]
async fn a_check_that_is_not_met_fails_the_build_and_all_checks_are_told() {
    let world = World::new().await;
    world.railway.add_app("shop").expect("made");
    world.railway.set_app_health("shop", 503);
    let run = world.queue_build("main", &json!({})).await;
    let runner = world.runner();
    let error = world.failed(&run).await;
    runner.end().await;
    let url = world.railway.app_url("shop").expect("an address");
    assert_eq!(
        error,
        format!(
            "Phase smoke_tests failed: check health_check: GET {url}/health: it answered 503, not 200; \
             check answers: GET {url}/: it answered 503"
        )
    );
    let told =
        "select string_agg(payload ->> 'tries', ' ' order by seq) from ops.run_events where message like 'Check %'";
    assert_eq!(world.ask(told).await, "3 1");
    assert!(world.artifacts(&run).await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn going_back_deploys_the_newest_image_that_succeeded_before_and_builds_nothing() {
    let world = World::new().await;
    let runner = world.runner();
    let good = world.queue_build("main", &json!({})).await;
    world.succeeded(&good).await;
    let nothing = world.queue_build(&format!("rollback-from-{good}"), &json!({})).await;
    let error = world.failed(&nothing).await;
    assert!(error.ends_with(&format!("succeeded before {good}: there is nothing to go back to")), "{error}");
    let unknown = world.queue_build("rollback-from-run-unknown", &json!({})).await;
    assert!(world.failed(&unknown).await.contains("there is no build run-unknown of environment shop-dev"));

    let sha = "fedcba98765432100123456789abcdef01234567";
    let sql = format!("run_id from ops.queue_run('shop', 'dev', '{sha}', 'main')");
    let bad = world.ask(&format!("select {sql}")).await;
    assert_eq!(world.succeeded(&bad).await["image"], json!(pinned(sha)));
    let back = world.queue_build(&format!("rollback-from-{bad}"), &json!({})).await;
    let output = world.succeeded(&back).await;
    runner.end().await;
    assert_eq!((&output["image"], &output["built_by"]), (&json!(pinned(SHA)), &json!(good)));
    assert_eq!((world.dispatches(), world.deploys()), (2, 3));
    assert_eq!(world.artifacts(&back).await.len(), 4);
    world.stop().await;
}

#[tokio::test]
async fn cancelling_a_build_cancels_its_workflow() {
    let world = World::new().await;
    world.github.next_run(Fate::Hangs);
    let run = world.queue_build("main", &json!({})).await;
    let runner = world.runner();
    world.until("the workflow is followed", "select exists (select from ops.resources where status = 'live')").await;
    world.cancel(&run).await;
    World::expect(&world.ended(&run).await, "cancelled");
    runner.end().await;
    world.until_so("the workflow is cancelled", || world.github.runs()[0].conclusion == Some("cancelled")).await;
    assert_eq!((world.dispatches(), world.deploys()), (1, 0));
    world.stop().await;
}

/// A server that notes what it is told.
async fn hook(answer: &'static str) -> (String, Arc<Mutex<Vec<(HeaderMap, Value)>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let notes = told.clone();
    let app = Router::new().route(
        "/deploy",
        post(async move |headers: HeaderMap, body: Bytes| {
            let body = serde_json::from_slice(&body).expect("JSON");
            notes.lock().expect("no test panics here").push((headers, body));
            answer
        }),
    );
    let app = app.route("/health", axum::routing::get(async || "fine"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    (format!("http://{address}"), told)
}

#[tokio::test]
async fn a_program_of_the_list_may_build_and_a_hook_deploy() {
    let world = World::new().await;
    let digest = format!("sha256:{}", "0f".repeat(32));
    let script = format!(
        "echo \"$# $1 $2\"; env | grep -c SECRET; \
         echo '{{\"image_tag\": \"localhost:5000/shop:1\", \"image_digest\": \"{digest}\"}}' > \"$OPS_RESULT\""
    );
    world.program("image", &script);
    let syft = "for last; do :; done; echo \"{\\\"scanned\\\": \\\"$2\\\"}\" > \"${last#spdx-json=}\"";
    world.program("syft", syft);
    let (url, told) = hook("{\"deployment_id\": \"d-1\"}").await;
    world
        .configure(
            "shop-dev",
            &json!({
                "build": { "command": { "program": "image", "arguments": ["${git_sha}", "a b;c"] } },
                "deploy": { "hook": {
                    "url": format!("{url}/deploy"), "headers": { "authorization": "Bearer of-the-hook" },
                    "body": { "version": "v-${image_tag}" }, "deployment_url": url,
                } },
                "artifacts": { "expires_in_days": 3 },
            }),
        )
        .await;
    let run = world.queue_build("main", &json!({})).await;
    let runner = world.runner();
    let output = world.succeeded(&run).await;
    runner.end().await;
    assert_eq!(output["image"], json!(format!("localhost:5000/shop@{digest}")));
    assert_eq!((&output["deployment_id"], &output["smoke_tests"][0]["name"]), (&json!("d-1"), &json!("health_check")));
    let told = told.lock().expect("no test panics here").clone();
    assert_eq!(told.len(), 1);
    let (headers, body) = &told[0];
    let header = |name: &str| headers[name].to_str().expect("text").to_owned();
    assert_eq!(header("authorization"), "Bearer of-the-hook");
    assert!(header("idempotency-key").starts_with(&format!("{run}:")));
    assert_eq!((&body["image_digest"], &body["version"]), (&json!(digest), &json!("v-localhost:5000/shop:1")));
    let printed = "select payload ->> 'stdout' from ops.run_events where message like 'image ended with code 0%'";
    assert_eq!(world.ask(printed).await, format!("2 {SHA} a b;c\n0\n"));
    let events = world.ask("select string_agg(message || payload, ' ') from ops.run_events").await;
    assert!(!events.contains("of-the-hook") && !output.to_string().contains("of-the-hook"));
    let sbom = world.artifacts(&run).await.into_iter().find(|a| a.artifact_type == "sbom").expect("one");
    assert!(sbom.expires_at.is_some());
    let text = std::fs::read_to_string(world.store().join(sbom.storage_path)).expect("a file");
    assert_eq!(text, format!("{{\"scanned\": \"registry:localhost:5000/shop@{digest}\"}}\n"));
    assert!(world.github.requests().is_empty() && world.railway.requests().is_empty());
    world.stop().await;
}

#[tokio::test]
async fn what_nobody_would_read_fails_the_build_before_anything_is_begun() {
    let world = World::new().await;
    let misspelt = world.queue_build("main", &json!({ "smokee": { "checks": [] }, "by": "ci" })).await;
    let runner = world.runner();
    let error = world.failed(&misspelt).await;
    assert!(error.contains("metadata.smokee is not known; did you mean smoke?"), "{error}");
    let mut config = world.on_railway();
    config["smokee"] = json!({});
    config["deploy"]["railway"]["variables"]["BRANCH"] = json!("${branch}");
    world.configure("shop-dev", &config).await;
    let run = world.queue_build("main", &json!({})).await;
    let error = world.failed(&run).await;
    runner.end().await;
    assert!(error.contains("config.smokee is not known; build, deploy, smoke, artifacts may be given"), "{error}");
    assert!(error.contains("config.deploy.railway.variables has ${branch}, which has no value here"), "{error}");
    assert_eq!((world.dispatches(), world.deploys(), world.run(&run).await.attempt), (0, 0, 1));
    world.stop().await;
}

#[tokio::test]
async fn a_token_that_is_refused_is_named_by_its_variable() {
    let world = World::with(GitHubOptions { token: "ghp_another".to_owned(), ..GitHubOptions::default() }).await;
    world.railway.add_app("shop").expect("made");
    *world.github_token.lock().expect("no test panics here") = Some("ghp_wrong".to_owned());
    let run = world.queue_build("main", &json!({})).await;
    let runner = world.runner();
    let error = world.failed(&run).await;
    runner.end().await;
    assert!(error.contains("GitHub refused the credentials") && error.contains("check GITHUB_TOKEN"), "{error}");
    world.stop().await;
}

#[tokio::test]
async fn a_hook_that_refused_is_asked_anew_by_a_retry_and_again_by_another_attempt() {
    let world = World::new().await;
    let keys = Arc::new(Mutex::new(Vec::new()));
    let (notes, url) = (keys.clone(), {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let heard = keys.clone();
        let app = Router::new().route("/health", axum::routing::get(async || "fine")).route(
            "/deploy",
            post(async move |headers: HeaderMap| {
                let mut heard = heard.lock().expect("no test panics here");
                heard.push(headers["idempotency-key"].to_str().expect("text").to_owned());
                // Ill, then refusing, then fine.
                let status = [503, 422, 200][heard.len().min(3) - 1];
                (axum::http::StatusCode::from_u16(status).expect("a status"), "of-the-hook has no room")
            }),
        );
        tokio::spawn(async move { axum::serve(listener, app).await });
        url
    });
    let headers = json!({ "authorization": "Bearer of-the-hook" });
    let hook = json!({ "url": format!("{url}/deploy"), "headers": headers, "deployment_url": url });
    world
        .configure(
            "shop-dev",
            &json!({ "build": { "github": { "workflow": "build.yml" } }, "deploy": { "hook": hook } }),
        )
        .await;
    let run = world.queue_build("main", &json!({})).await;
    let runner = world.runner();
    let error = world.failed(&run).await;
    assert_eq!(
        error,
        format!("Phase deploy_runtime failed: the deploy hook at {url}: it answered 422: [redacted] has no room")
    );
    world.ask(&format!("ops.requeue_run('{run}', 'olga')")).await;
    world.succeeded(&run).await;
    runner.end().await;
    let keys = notes.lock().expect("no test panics here").clone();
    assert_eq!((keys.len(), keys[0] == keys[1], keys[1] == keys[2]), (3, true, false), "{keys:?}");
    drop(keys);
    world.stop().await;
}

#[tokio::test]
async fn a_deployment_of_an_image_that_somebody_else_set_meanwhile_fails_the_build() {
    let world = Arc::new(World::new().await);
    let other = "ghcr.io/acme/app@sha256:feed";
    let meddler = world.clone();
    let seam = Seam::new(move |point| {
        let meddler = meddler.clone();
        async move {
            if point == Point::Before("deploy service".to_owned()) {
                assert!(meddler.railway.set_image("shop", other));
            }
        }
    });
    let run = world.queue_build("main", &json!({})).await;
    let runner = world.runner_with(&seam);
    let error = world.failed(&run).await;
    assert!(error.contains(&format!("of shop runs {other}, not {}: something else deploys", pinned(SHA))), "{error}");
    runner.end().await;
    assert_eq!((world.run(&run).await.attempt, world.deploys()), (1, 1));
}

#[tokio::test]
async fn going_back_trusts_only_a_build_whose_own_image_came_into_service() {
    let world = World::new().await;
    let runner = world.runner();
    let doubtful = world.queue_build("main", &json!({})).await;
    world.succeeded(&doubtful).await;
    let later = world.queue_build("main", &json!({})).await;
    world.succeeded(&later).await;
    world
        .execute(&format!(
            "update ops.run_phases set output = output || '{{\"deployed_image\": \"another\"}}'
             where run_id = '{doubtful}' and name = 'deploy_runtime'"
        ))
        .await;
    let back = world.queue_build(&format!("rollback-from-{later}"), &json!({})).await;
    assert!(world.failed(&back).await.ends_with("there is nothing to go back to"));
    runner.end().await;
    world.stop().await;
}

#[tokio::test]
async fn cancelled_while_its_dispatch_is_looked_for_the_workflow_is_cancelled_too() {
    // What is told to stop has a moment left, in which it is listed.
    let lag = Duration::from_millis(500);
    let world = World::with(GitHubOptions { tells_run_id: false, list_lag: lag, ..GitHubOptions::default() }).await;
    world.github.next_run(Fate::Hangs);
    let run = world.queue_build("main", &json!({})).await;
    let runner = world.runner();
    world.until_so("it is dispatched", || world.dispatches() > 0).await;
    world.cancel(&run).await;
    World::expect(&world.ended(&run).await, "cancelled");
    runner.end().await;
    let conclusion = || world.github.runs()[0].conclusion;
    world.until_so("the workflow is cancelled", || conclusion() == Some("cancelled")).await;
    assert_eq!(world.github.runs().len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_build_that_takes_too_long_is_tried_again_and_then_failed_with_one_workflow() {
    let world = World::with(GitHubOptions { queued: DEADLINE, ..GitHubOptions::default() }).await;
    let run = world.queue_build("main", &json!({ "build": { "timeout": "200ms" } })).await;
    world.execute(&format!("update ops.runs set max_attempts = 2 where run_id = '{run}'")).await;
    let runner = world.runner();
    assert_eq!(world.failed(&run).await, "Phase build_image failed: the build took longer than 0.2 s");
    tokio::time::timeout(Duration::from_secs(30), runner.end()).await.expect("in time");
    assert_eq!((world.run(&run).await.attempt, world.dispatches()), (2, 1));
    world.stop().await;
}

#[tokio::test]
async fn the_readmes_examples_are_understood() {
    let world = World::new().await;
    let readme = include_str!("../../README.md");
    let section =
        readme.split("## Durable runs").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a section");
    let blocks = section.split("```json\n").skip(1).map(|block| block.split("```").next().expect("its end"));
    let examples: Vec<Value> = blocks.map(|text| serde_json::from_str(text).expect("JSON")).collect();
    let (configs, phases): (Vec<_>, Vec<_>) = examples.into_iter().partition(|example| example.get("phases").is_none());
    assert_eq!((configs.len(), phases.len()), (2, 1));
    for config in configs {
        Plan::read(&config, &json!({}), false).expect("a plan");
    }
    let kinds = kinds::all(&world.settings(&Seam::default()));
    for name in kinds.keys() {
        assert!(section.contains(&format!("| `{name}` |")), "{name} is not in the table of kinds");
    }
    let run = world.queue_custom(phases[0]["phases"].clone()).await;
    let lease = std::time::Duration::from_secs(60);
    let claimed =
        queue::claim(&mut *world.c().await, &RunnerId("r1".to_owned()), &["custom".to_owned()], 1, lease).await;
    let phases = kinds["custom"].phases(&claimed.expect("an answer")[0]).expect("phases");
    assert_eq!(phases.iter().filter(|phase| phase.beside_previous).count(), 1, "{run}");
    world.stop().await;
}
