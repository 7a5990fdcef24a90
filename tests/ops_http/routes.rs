//! Every route does what it says.

use crate::world::World;
use reqwest::Method;
use serde_json::{Value, json};

fn build() -> Value {
    json!({"project_id": "shop", "env": "dev", "git_sha": "abc123", "git_ref": "refs/heads/main", "metadata": {"by": "ci"}})
}

#[tokio::test]
async fn a_build_is_queued_as_the_documented_function_does_it() {
    let world = World::start().await;
    let answer = world.post("/ops/runs", build()).await;
    let place = answer.headers["location"].to_str().expect("ASCII").to_owned();
    let queued = answer.expect(201);
    assert_eq!((&queued["status"], &queued["is_new"]), (&json!("queued"), &json!(true)));
    let run = world.get(&place).await.expect(200);
    assert_eq!(run["run_id"], queued["run_id"]);
    for (field, value) in [("kind", "build"), ("project_id", "shop"), ("env_id", "shop-dev"), ("git_sha", "abc123")] {
        assert_eq!(run[field], value, "{run}");
    }
    assert_eq!(run["metadata"], json!({"by": "ci"}));
    let events = world.get(&format!("{place}/events")).await.expect(200);
    let payload = json!({"git_sha": "abc123", "git_ref": "refs/heads/main", "env": "dev"});
    assert_eq!((&events["events"][0]["message"], &events["events"][0]["payload"]), (&json!("Run queued"), &payload));
}

#[tokio::test]
async fn a_run_of_a_kind_has_everything_that_was_asked_for() {
    let world = World::start().await;
    let wanted = json!({"kind": "mail", "input": {"to": "é\u{1F600}"}, "metadata": {"a": [1, null]}, "priority": 2,
        "run_at": "2031-01-31T12:00:00+02:00", "max_attempts": 7, "concurrency_key": "mail to é"});
    let queued = world.post("/ops/runs", wanted.clone()).await.expect(201);
    let run = world.get(&format!("/ops/runs/{}", queued["run_id"].as_str().expect("an id"))).await.expect(200);
    for field in ["kind", "input", "metadata", "priority", "max_attempts", "concurrency_key"] {
        assert_eq!(run[field], wanted[field], "{field}");
    }
    assert_eq!(run["run_at"], "2031-01-31T10:00:00Z");
    assert_eq!((&run["project_id"], &run["env_id"]), (&Value::Null, &Value::Null), "nowhere unless it is said");
}

#[tokio::test]
async fn a_run_of_a_kind_works_in_the_environment_that_is_named() {
    let world = World::start().await;
    let wanted = json!({"kind": "mail", "project_id": "shop", "env": "prod"});
    let queued = world.post("/ops/runs", wanted).await.expect(201);
    let run = world.get(&format!("/ops/runs/{}", queued["run_id"].as_str().expect("an id"))).await.expect(200);
    assert_eq!((&run["project_id"], &run["env_id"]), (&json!("shop"), &json!("shop-prod")));
    assert_eq!(run["concurrency_key"], Value::Null);
}

#[tokio::test]
async fn the_same_key_queues_once_and_for_something_else_is_refused() {
    let world = World::start().await;
    let ask = async |body: Value| {
        let request = world.as_admin(Method::POST, "/ops/runs").header("idempotency-key", "push é 17").json(&body);
        world.send(request).await
    };
    let first = ask(build()).await.expect(201);
    let second = ask(build()).await.expect(200);
    assert_eq!((&first["run_id"], &second["is_new"]), (&second["run_id"], &json!(false)));
    let mut other = build();
    other["git_sha"] = json!("def456");
    let detail = ask(other).await.expect_problem(409, "conflict");
    assert!(detail.contains("push é 17"), "{detail}");
    assert_eq!(world.db.ask("select count(*) from ops.runs").await, "1");
}

#[tokio::test]
async fn lists_are_filtered_and_paged_without_gaps() {
    let world = World::start().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let body = if n % 2 == 0 { build() } else { json!({"kind": "mail"}) };
        ids.insert(0, world.post("/ops/runs", body).await.expect(201)["run_id"].clone());
    }
    let cancelled = ids[1].as_str().expect("an id").to_owned();
    world.post(&format!("/ops/runs/{cancelled}/cancel"), json!({})).await.expect(200);
    let list = async |query: &str| {
        let page = world.get(&format!("/ops/runs{query}")).await.expect(200);
        page["runs"].as_array().expect("runs").iter().map(|run| run["run_id"].clone()).collect::<Vec<_>>()
    };
    let mut sorted = ids.clone();
    sorted.sort_by(|a, b| b.as_str().cmp(&a.as_str()));
    assert_eq!(list("").await, sorted);
    assert_eq!(list("?status=cancelled").await, [cancelled]);
    assert_eq!(list("?status=queued,cancelled").await.len(), 5);
    assert_eq!(list("?status=queued&status=cancelled&kind=mail").await.len(), 2);
    assert_eq!(list("?project_id=shop&env_id=shop-dev").await.len(), 3);
    assert_eq!(list("?project_id=bank").await.len(), 0);
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = world.get(&format!("/ops/runs{query}")).await.expect(200);
        seen.extend(page["runs"].as_array().expect("runs").iter().map(|run| run["run_id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?limit=2&before={next}");
    }
    assert_eq!(seen, sorted);
}

#[tokio::test]
async fn a_list_has_no_documents_and_the_beginning_of_errors_and_a_run_has_all() {
    let world = World::start().await;
    let body = json!({"kind": "mail", "input": {"to": "x"}, "metadata": {"a": 1}});
    let id = world.post("/ops/runs", body).await.expect(201)["run_id"].as_str().expect("an id").to_owned();
    world.post(&format!("/ops/runs/{id}/cancel"), json!({})).await.expect(200);
    world.db.execute("update ops.runs set error = repeat('x', 3000)").await;
    let page = world.get("/ops/runs").await.expect(200);
    let mut listed = page["runs"][0].as_object().expect("a run").clone();
    let mut run = world.get(&format!("/ops/runs/{id}")).await.expect(200).as_object().expect("a run").clone();
    assert_eq!((&run["input"], &run["metadata"]), (&json!({"to": "x"}), &json!({"a": 1})));
    let length = |error: Option<Value>| error.and_then(|error| error.as_str().map(str::len));
    assert_eq!((length(listed.remove("error")), length(run.remove("error"))), (Some(2000), Some(3000)));
    run.retain(|name, _| !["input", "output", "metadata"].contains(&name.as_str()));
    assert_eq!(listed, run);
}

#[tokio::test]
async fn pages_of_large_events_are_short_and_nothing_is_missing() {
    let world = World::start().await;
    let id = world.running().await;
    world
        .db
        .execute(&format!(
            "insert into ops.run_events (run_id, level, message, payload)
             select '{id}', 'info', 'large ' || n, jsonb_build_object('x', repeat('x', 300000))
             from generate_series(1, 10) as n order by n"
        ))
        .await;
    let (mut after, mut sizes, mut messages) = (json!(0), Vec::new(), Vec::new());
    while !after.is_null() {
        let page = world.get(&format!("/ops/runs/{id}/events?limit=1000&after={after}")).await.expect(200);
        let events = page["events"].as_array().expect("events");
        sizes.push(events.iter().filter(|e| e["payload"]["x"].is_string()).count());
        messages.extend(events.iter().filter_map(|e| e["message"].as_str().map(str::to_owned)));
        after = page["next"].clone();
    }
    assert_eq!(sizes, [4, 4, 2], "1 MiB, and what reaches it");
    let large: Vec<String> = (1..=10).map(|n| format!("large {n}")).collect();
    assert_eq!(messages.split_off(messages.len() - 10), large);
    // Each page is what was asked for where they are small.
    let first = world.get(&format!("/ops/runs/{id}/events?limit=2")).await.expect(200);
    assert_eq!(first["events"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_run_shows_its_phases_attempts_events_and_artifacts() {
    let world = World::start().await;
    let id = world.finished("failed").await;
    world
        .db
        .execute(&format!(
            "insert into ops.artifacts (run_id, artifact_key, artifact_type, storage_path, size_bytes)
             values ('{id}', 'log', 'logs', 'file:///x/log', 7)"
        ))
        .await;
    let get = async |part: &str| world.get(&format!("/ops/runs/{id}/{part}")).await.expect(200);
    let phases = get("phases").await;
    assert_eq!((&phases["phases"][0]["name"], &phases["phases"][0]["status"]), (&json!("send"), &json!("failed")));
    let attempts = get("attempts").await;
    let attempt = &attempts["attempts"][0];
    assert_eq!((&attempt["runner_id"], &attempt["outcome"]), (&json!("w1"), &json!("failed")));
    assert_eq!(attempt["error"], "it broke");
    assert_eq!(get("artifacts").await["artifacts"][0]["storage_path"], "file:///x/log");
    let all = get("events").await;
    let messages: Vec<_> = all["events"].as_array().expect("events").iter().map(|e| e["message"].clone()).collect();
    let told =
        ["Run queued", "Run claimed by worker", "Starting phase: send", "Phase send failed", "Run finished: failed"];
    assert_eq!(messages, told);
    let first = get("events?limit=2").await;
    let rest = get(&format!("events?after={}", first["next"])).await;
    assert_eq!((first["events"].as_array().map(Vec::len), rest["events"].as_array().map(Vec::len)), (Some(2), Some(3)));
    assert_eq!(rest["next"], Value::Null);
}

#[tokio::test]
async fn a_queued_run_is_cancelled_at_once_and_one_at_work_is_told() {
    let world = World::start().await;
    let queued = world.queued().await;
    let cancel = format!("/ops/runs/{queued}/cancel");
    let answer = world.post(&cancel, json!({"reason": "a mistake"})).await.expect(200);
    assert_eq!(answer, json!({"run_id": queued, "status": "cancelled"}));
    assert_eq!(world.get(&format!("/ops/runs/{queued}")).await.expect(200)["error"], "a mistake");
    assert_eq!(world.post(&cancel, json!({})).await.expect(200)["status"], "cancelled", "asked again, nothing changes");
    let running = world.running().await;
    // No body at all is as good as an empty one.
    let request = world.as_admin(Method::POST, &format!("/ops/runs/{running}/cancel"));
    assert_eq!(world.send(request).await.expect(200)["status"], "running");
    let run = world.get(&format!("/ops/runs/{running}")).await.expect(200);
    assert!(run["cancel_requested_at"].is_string(), "{run}");
    let success = world.finished("success").await;
    world.post(&format!("/ops/runs/{success}/cancel"), json!({})).await.expect_problem(409, "conflict");
}

#[tokio::test]
async fn a_dead_run_is_queued_again_and_no_other_is() {
    let world = World::start().await;
    let failed = world.finished("failed").await;
    let retry = format!("/ops/runs/{failed}/retry");
    assert_eq!(world.post(&retry, json!({})).await.expect(200), json!({"run_id": failed, "status": "queued"}));
    world.post(&retry, json!({})).await.expect_problem(409, "conflict");
    world.db.execute(&format!("delete from ops.runs where run_id = '{failed}'")).await;
    let success = world.finished("success").await;
    world.post(&format!("/ops/runs/{success}/retry"), json!({})).await.expect_problem(409, "conflict");
}

#[tokio::test]
async fn the_queue_and_a_paused_kind_are_shown() {
    let world = World::start().await;
    world.queued().await;
    let paused = world.post("/ops/kinds/mail/pause", json!({"reason": "too many"})).await.expect(200);
    assert_eq!(paused, json!({"kind": "mail", "paused": true, "changed": true}));
    assert_eq!(world.post("/ops/kinds/mail/pause", json!({})).await.expect(200)["changed"], false);
    let queue = world.get("/ops/queue").await.expect(200);
    let mail = &queue["kinds"][0];
    assert_eq!((&mail["kind"], &mail["due"], &mail["paused"]), (&json!("mail"), &json!(1), &json!(true)));
    world.db.execute("select ops.claim_runs('w1', '{mail}', 1, '1 hour')").await;
    assert_eq!(world.get("/ops/queue").await.expect(200)["kinds"][0]["held"], 0, "none of it is claimed");
    let resumed = world.post("/ops/kinds/mail/resume", json!({})).await.expect(200);
    assert_eq!(resumed, json!({"kind": "mail", "paused": false, "changed": true}));
    let detail = world.post("/ops/kinds/mial/pause", json!({})).await.expect_problem(404, "unknown-kind");
    assert!(detail.contains("mail"), "{detail}");
}

#[tokio::test]
async fn runners_are_shown_and_their_kinds_are_known() {
    let world = World::start().await;
    assert_eq!(world.get("/ops/runners").await.expect(200), json!({"runners": []}));
    world.post("/ops/runs", json!({"kind": "report"})).await.expect_problem(422, "invalid");
    world
        .db
        .execute(
            "insert into ops.runners (runner_id, worker_id, hostname, pid, kinds, concurrency, version)
             values ('w1-1', 'w1', 'host', 7, '{report}', 3, '1')",
        )
        .await;
    let runners = world.get("/ops/runners").await.expect(200);
    assert_eq!(
        (&runners["runners"][0]["worker_id"], &runners["runners"][0]["kinds"]),
        (&json!("w1"), &json!(["report"]))
    );
    assert_eq!(runners["runners"][0]["is_alive"], true);
    world.db.execute("update ops.runners set last_seen = now() - interval '3 minutes'").await;
    assert_eq!(world.get("/ops/runners").await.expect(200)["runners"][0]["is_alive"], false);
    world.post("/ops/runs", json!({"kind": "report"})).await.expect(201);
}
