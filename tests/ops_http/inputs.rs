//! Whatever is sent: it is refused by name, and nothing is written.

use crate::world::World;
use reqwest::Method;
use serde_json::{Value, json};

fn build_with(field: &str, value: Value) -> Value {
    let mut body = json!({"project_id": "shop", "env": "dev", "git_sha": "abc123", "git_ref": "main"});
    body[field] = value;
    body
}

#[tokio::test]
async fn a_field_that_does_not_fit_is_named() {
    let world = World::start().await;
    let sql = "shop'; drop table ops.runs; --";
    for (field, body) in [
        ("project_id", build_with("project_id", json!(sql))),
        ("project_id", build_with("project_id", json!(7))),
        ("project_id", build_with("project_id", json!("a".repeat(64)))),
        ("env", build_with("env", json!("shop-dev"))),
        ("git_sha", build_with("git_sha", json!(sql))),
        ("git_ref", build_with("git_ref", json!("a b"))),
        ("git_ref", build_with("git_ref", json!("$(id)"))),
        ("git_ref", build_with("git_ref", json!("x\u{0}"))),
        ("metadata", build_with("metadata", json!("{}"))),
        ("metadata.a[1]", build_with("metadata", json!({"a": [1, "\u{0}"]}))),
        ("metadata.\\u0000", build_with("metadata", json!({"\u{0}": 1}))),
        ("metadata", build_with("metadata", json!({"a": "x".repeat(1 << 20)}))),
        ("priority", build_with("priority", json!(1))),
        ("git_sha", json!({"project_id": "shop", "env": "dev", "git_ref": "main"})),
        ("kind", json!({"kind": sql})),
        ("kind", json!({"kind": "build"})),
        ("kind", json!({"kind": "backup", "project_id": "shop", "env": "dev"})),
        ("kind", json!({"kind": "restore", "input": {"restore_id": "rst-1"}})),
        ("env", json!({"kind": "mail", "project_id": "shop"})),
        ("project_id", json!({"kind": "mail", "env": "dev"})),
        ("env", json!({"kind": "mail", "project_id": "shop", "env": "shop-dev"})),
        ("priority", json!({"kind": "mail", "priority": 0})),
        ("max_attempts", json!({"kind": "mail", "max_attempts": -1})),
        ("run_at", json!({"kind": "mail", "run_at": "soon"})),
        ("concurrency_key", json!({"kind": "mail", "concurrency_key": "x".repeat(201)})),
        ("run_ta", json!({"kind": "mail", "run_ta": "2031-01-31T12:00:00Z"})),
        ("metadata.phases", json!({"kind": "custom"})),
        ("metadata.phases", json!({"kind": "custom", "metadata": {"phases": []}})),
        ("metadata.phase", json!({"kind": "custom", "metadata": {"phase": [{}]}})),
        (
            "metadata.phases[0].with.arguments",
            json!({"kind": "custom", "metadata": {"phases": [{"with": {"arguments": ["${git_sha}"]}}]}}),
        ),
        ("metadata.smokee", build_with("metadata", json!({"smokee": {}, "by": "ci"}))),
    ] {
        let answer = world.post("/ops/runs", body.clone()).await;
        let errors = answer.json()["errors"].clone();
        let detail = answer.expect_problem(422, "invalid");
        assert!(detail.contains(field), "{detail}");
        assert!(errors.as_array().is_some_and(|e| e.iter().any(|e| e["field"] == field)), "{field}: {errors}");
    }
    for (field, query) in [
        ("status", "?status=done"),
        ("kind", "?kind=%27;"),
        ("project_id", "?project_id=%ff"),
        ("before", "?before=1"),
        ("limit", "?limit=201"),
        ("limit", "?limit=1&limit=2"),
        ("sort", "?sort=status"),
        ("env_id", "?env_id="),
    ] {
        let detail = world.get(&format!("/ops/runs{query}")).await.expect_problem(422, "invalid");
        assert!(detail.starts_with(field), "{query}: {detail}");
    }
    for key in ["", &"x".repeat(201)] {
        let request =
            world.as_admin(Method::POST, "/ops/runs").header("idempotency-key", key).json(&json!({"kind": "mail"}));
        let detail = world.send(request).await.expect_problem(422, "invalid");
        assert!(detail.starts_with("Idempotency-Key"), "{detail}");
    }
    assert_eq!(world.db.ask("select count(*) from ops.runs").await, "0");
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_as_what_it_is() {
    let world = World::start().await;
    let send = async |kind: &str, body: Vec<u8>| {
        world.send(world.as_admin(Method::POST, "/ops/runs").header("content-type", kind).body(body)).await
    };
    let deep = format!("{{\"kind\":\"mail\",\"input\":{}{}}}", "{\"a\":".repeat(500), "}".repeat(500));
    for body in [
        &b"{"[..],
        b"{\"kind\":}",
        b"\xff\xfe",
        b"{\"kind\":\"\\ud800\"}",
        b"{\"kind\":\"mail\",\"input\":1e999}",
        deep.as_bytes(),
    ] {
        send("application/json", body.to_vec()).await.expect_problem(400, "malformed-json");
    }
    for body in [&b"[]"[..], b"7", b"\"x\"", b"null"] {
        send("application/json", body.to_vec()).await.expect_problem(422, "invalid");
    }
    send("text/plain", b"{\"kind\":\"mail\"}".to_vec()).await.expect_problem(415, "not-json");
    send("application/json; charset=utf-8", b"{\"kind\":\"mail\"}".to_vec()).await.expect(201);
    assert_eq!(world.db.ask("select count(*) from ops.runs").await, "1");
}

#[tokio::test]
async fn ten_megabytes_are_too_large_announced_or_not() {
    let world = World::start().await;
    let huge = vec![b' '; 10 << 20];
    let announced = world.as_admin(Method::POST, "/ops/runs").header("content-type", "application/json").body(huge);
    let detail = world.send(announced).await.expect_problem(413, "too-large");
    assert!(detail.contains("2 MiB at most"), "{detail}");
    // In pieces, it can be sent once only; see `World::send`.
    for _ in 0..50 {
        let pieces = (0..10).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1 << 20]));
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
        let chunked = world.as_admin(Method::POST, "/ops/runs").header("content-type", "application/json").body(body);
        if let Ok(answer) = world.try_send(chunked).await {
            answer.expect_problem(413, "too-large");
            return;
        }
    }
    panic!("no answer was ever seen");
}

#[tokio::test]
async fn places_and_runs_that_do_not_exist_are_told_from_bad_names() {
    let world = World::start().await;
    for (field, value, why) in [
        ("project_id", "nothing", "Project nothing does not exist"),
        ("env", "staging", "Environment staging not found for project shop"),
    ] {
        let answer = world.post("/ops/runs", build_with(field, json!(value))).await;
        assert_eq!(answer.json()["errors"], json!([{ "field": field, "message": why }]));
        assert_eq!(answer.expect_problem(422, "invalid"), why);
        let mut mail = json!({"kind": "mail", "project_id": "shop", "env": "dev"});
        mail[field] = json!(value);
        assert_eq!(world.post("/ops/runs", mail).await.expect_problem(422, "invalid"), why);
    }
    for (kind, call) in [("backup", "ops.create_backup"), ("restore", "ops.restore_backup")] {
        let detail = world.post("/ops/runs", json!({"kind": kind})).await.expect_problem(422, "invalid");
        assert!(detail.contains(call), "{detail}");
    }
    let detail = world.post("/ops/runs", json!({"kind": "mial"})).await.expect_problem(422, "invalid");
    assert!(detail.contains("mail"), "{detail}");
    for id in
        ["run-0", "nothing", "run-'%20or%201=1", "%00", "%ff", "run-%E2%82%AC", &format!("run-{}", "x".repeat(5000))]
    {
        for part in ["", "/events", "/events/stream", "/phases", "/attempts", "/artifacts"] {
            world.get(&format!("/ops/runs/{id}{part}")).await.expect_problem(404, "unknown-run");
        }
        for part in ["cancel", "retry"] {
            world.post(&format!("/ops/runs/{id}/{part}"), json!({})).await.expect_problem(404, "unknown-run");
        }
    }
    for path in ["/ops", "/ops/", "/ops/runs/", "/ops/nothing", "/functions/v1/other"] {
        world.get(path).await.expect_problem(404, "not-found");
    }
    world.send(world.as_admin(Method::DELETE, "/ops/runs")).await.expect_problem(405, "method-not-allowed");
}
