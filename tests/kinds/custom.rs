//! Runs whose phases stand in their metadata: each way to do one, side by side, and what is refused.

use crate::world::{World, execute};
use ops_controller::runs::{NewRun, queue};
use serde_json::json;
use sqlx::{Executor, Row};

#[tokio::test]
async fn without_phases_a_run_fails_at_once_and_nothing_is_begun() {
    let world = World::new().await;
    let run = world.queue_custom(json!([])).await;
    let misspelt = NewRun { metadata: json!({ "phase": [{}] }), ..NewRun::of_kind("custom") };
    let misspelt = queue::enqueue(&mut *world.c().await, &misspelt).await.expect("queued").run_id;
    let runner = world.runner();
    assert_eq!(world.failed(&run).await, "phases must be a list of phases, and not an empty one");
    assert!(world.failed(&misspelt).await.starts_with("phase is not known; did you mean phases?; phases is required"));
    runner.end().await;
    for run in [run, misspelt] {
        assert!(world.phases(&run).await.is_empty());
        assert_eq!(world.run(&run).await.attempt, 1);
    }
    world.stop().await;
}

#[tokio::test]
async fn names_are_filled_in_as_far_as_the_run_has_them_and_no_others_reach_a_program() {
    let world = World::new().await;
    world.program("say", "echo \"$1\"");
    let say =
        |text: &str| json!([{ "name": "x", "uses": "command", "with": { "program": "say", "arguments": [text] } }]);
    let filled = world.queue_custom(say("${run_id} ${git_sha} $${x} ${{ y }}")).await;
    let unknown = world.queue_custom(say("${branch}")).await;
    let bare = NewRun { metadata: json!({ "phases": say("${git_sha}") }), ..NewRun::of_kind("custom") };
    let bare = queue::enqueue(&mut *world.c().await, &bare).await.expect("queued").run_id;
    let runner = world.runner();
    world.succeeded(&filled).await;
    let sha = world.ask(&format!("select git_sha from ops.runs where run_id = '{filled}'")).await;
    assert_eq!(world.left(&filled, "x").await["stdout"], json!(format!("{filled} {sha} ${{x}} ${{{{ y }}}}\n")));
    let error = world.failed(&unknown).await;
    assert!(error.contains("has ${branch}, which has no value here: there are ${env_id}, ${git_ref}"), "{error}");
    assert!(world.failed(&bare).await.contains("has ${git_sha}, which has no value here: there are ${run_id} "));
    runner.end().await;
    world.stop().await;
}

#[tokio::test]
async fn all_that_is_wrong_with_the_phases_is_told_at_once() {
    let world = World::new().await;
    let run = world
        .queue_custom(json!([
            { "name": "a", "uses": "magic" },
            { "name": "a", "uses": "sql", "with": { "statements": ["select 1"], "database": "ops" } },
        ]))
        .await;
    let runner = world.runner();
    let error = world.failed(&run).await;
    runner.end().await;
    for fault in ["phases[0].uses must be", "phases[1].name \"a\" is used twice", "phases[1].with.database can only be"]
    {
        assert!(error.contains(fault), "{error}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_request_is_judged_by_its_answer_and_its_answer_is_kept() {
    let world = World::new().await;
    world.railway.add_app("shop").expect("made");
    let url = world.railway.app_url("shop").expect("an address");
    // Nothing is deployed there.
    let with = |expect| json!({ "url": format!("{url}/health?key=not-shown"), "expect": expect });
    let met = world
        .queue_custom(
            json!([{ "name": "x", "uses": "http", "with": with(json!({ "status": 404, "json": { "/code": 404 } })) }]),
        )
        .await;
    let unmet =
        world.queue_custom(json!([{ "name": "x", "uses": "http", "with": with(json!({ "status": 200 })) }])).await;
    let nobody = world
        .queue_custom(json!([{ "name": "x", "uses": "http", "with": { "url": "http://127.0.0.1:1/" }, "retries": 1 }]))
        .await;
    let runner = world.runner();
    assert_eq!(world.succeeded(&met).await, json!({ "phases": { "x": { "status": "success" } } }));
    let left = world.left(&met, "x").await;
    assert_eq!((&left["status"], &left["body"]["status"]), (&json!(404), &json!("error")));
    assert_eq!(world.failed(&unmet).await, format!("Phase x failed: GET {url}/health: it answered 404, not 200"));
    assert!(world.failed(&nobody).await.starts_with("Phase x failed: GET http://127.0.0.1:1/: no connection: "));
    runner.end().await;
    assert_eq!((world.run(&unmet).await.attempt, world.run(&nobody).await.attempt), (1, 3));
    world.stop().await;
}

/// Answers with the header that it was sent, and with a token that is none before the JSON is read.
async fn repeating() -> String {
    let app = axum::Router::new().fallback(async |headers: axum::http::HeaderMap| {
        let sent = headers["x-api-key"].to_str().expect("a text").to_owned();
        let token = "\\u0067hp_0123456789abcdefghijABCDEFGHIJ012345";
        format!(r#"{{"sent":"{sent}","kind":"text/plain","token":"{token}","deployment_id":"{sent}","deployment_url":"{token}"}}"#)
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn headers_are_sent_and_never_told_also_where_the_answer_repeats_them() {
    let world = World::new().await;
    let (url, key) = (repeating().await, "a-key-of-the-users-own");
    let headers = json!({ "x-api-key": key, "accept": "text/plain" });
    let with = |expect| json!({ "url": url, "headers": headers, "expect": expect });
    let kept = world.queue_custom(json!([{ "name": "x", "uses": "http", "with": with(json!({})) }])).await;
    let wanted = json!({ "json": { "/sent": "another" } });
    let unmet = world.queue_custom(json!([{ "name": "x", "uses": "http", "with": with(wanted.clone()) }])).await;
    let smoke =
        json!({ "checks": [{ "name": "says", "url": url, "headers": headers, "retries": 0, "expect": wanted }] });
    let hook = json!({ "hook": { "url": url, "headers": headers } });
    let build = json!({ "github": { "workflow": "build.yml" } });
    world.configure("shop-dev", &json!({ "build": build, "deploy": hook, "smoke": smoke })).await;
    let build = world.queue_build("main", &json!({})).await;
    let runner = world.runner();
    world.succeeded(&kept).await;
    let body = &world.left(&kept, "x").await["body"];
    assert_eq!((&body["sent"], &body["kind"]), (&json!("[redacted]"), &json!("text/plain")), "{body}");
    assert_eq!(body["token"], "[redacted]", "each text is read before it is searched");
    let why = world.failed(&unmet).await;
    assert!(why.starts_with("Phase x failed: GET http://127.0.0.1:"), "{why}");
    assert!(why.ends_with(": /sent is \"[redacted]\", not \"another\""), "{why}");
    let error = world.failed(&build).await;
    runner.end().await;
    assert!(error.starts_with("Phase smoke_tests failed: check says: GET http://127.0.0.1:"), "{error}");
    assert!(error.ends_with(": /sent is \"[redacted]\", not \"another\""), "{error}");
    let deployed = world.left(&build, "deploy_runtime").await;
    assert_eq!((&deployed["deployment_id"], &deployed["deployment_url"]), (&json!("[redacted]"), &json!("[redacted]")));
    for table in ["run_events", "resources", "run_phases", "run_attempts"] {
        let rows = world.ask(&format!("select string_agg(t::text, ' ') from ops.{table} t")).await;
        assert!(!rows.contains(key) && !rows.contains("ghp_"), "{table}: {rows}");
    }
    world.stop().await;
}

#[tokio::test]
async fn statements_are_one_transaction_on_the_environments_own_database() {
    let world = World::new().await;
    let mut c = world.database("shop-dev").await;
    execute(&mut c, "create table t (n int primary key)").await;
    let sql = |statements| json!([{ "name": "x", "uses": "sql", "with": { "statements": statements } }]);
    let good = world.queue_custom(sql(json!(["insert into t values (1), (2)", "update t set n = n + 10"]))).await;
    let bad = world.queue_custom(sql(json!(["insert into t values (7)", "insert into nowhere values (1)"]))).await;
    let ours = {
        let run = world.queue_custom(sql(json!(["delete from ops.audit_log"]))).await;
        world.execute(&format!("update ops.runs set env_id = 'shop-staging' where run_id = '{run}'")).await;
        let name = &world.name;
        world.execute(&format!("update ops.environments set db_name = '{name}' where env_id = 'shop-staging'")).await;
        run
    };
    let slow = world
        .queue_custom(json!([{ "name": "x", "uses": "sql", "with": { "statements": ["select pg_sleep(600)"] }, "timeout": "100ms" }]))
        .await;
    world.execute(&format!("update ops.runs set max_attempts = 1 where run_id = '{slow}'")).await;
    let runner = world.runner();
    world.succeeded(&good).await;
    assert_eq!(world.left(&good, "x").await["rows_affected"], json!([2, 2]));
    let error = world.failed(&bad).await;
    assert!(error.contains("statement 2: relation \"nowhere\" does not exist (SQLSTATE 42P01)"), "{error}");
    let error = world.failed(&ours).await;
    assert!(error.ends_with("is the database of the runs: phases do not work on it"), "{error}");
    world.failed(&slow).await;
    runner.end().await;
    let rows = c.fetch_all("select n from t order by n").await.expect("rows");
    assert_eq!(rows.iter().map(|row| row.get::<i32, _>(0)).collect::<Vec<_>>(), [11, 12]);
    world.stop().await;
}

#[tokio::test]
async fn a_phase_may_be_another_run_whose_end_is_its_own() {
    let world = World::new().await;
    world.program("yes", "exit 0");
    world.program("no", "exit 1");
    let child = |program: &str| {
        json!({ "name": "child", "uses": "run", "with": { "kind": "custom", "metadata": {
            "phases": [{ "name": "inner", "uses": "command", "with": { "program": program } }] } } })
    };
    let good = world.queue_custom(json!([child("yes")])).await;
    let bad = world.queue_custom(json!([child("no")])).await;
    let runner = world.runner();
    world.succeeded(&good).await;
    let output = world.left(&good, "child").await;
    let error = world.failed(&bad).await;
    runner.end().await;
    let of = |run: &str| format!("select run_id from ops.runs where idempotency_key = '{run}:child'");
    let (good_child, bad_child) = (world.ask(&of(&good)).await, world.ask(&of(&bad)).await);
    assert_eq!(output["run_id"], json!(good_child));
    assert_eq!(world.run(&good_child).await.env_id.as_deref(), Some("shop-dev"));
    assert!(
        error.contains(&format!("custom {bad_child} is failed: Phase inner failed: no ended with code 1")),
        "{error}"
    );
    world.stop().await;
}

#[tokio::test]
async fn the_database_of_the_runs_is_told_by_itself_and_not_by_its_address() {
    let world = World::new().await;
    let name = &world.name;
    world.execute(&format!("update ops.environments set db_name = '{name}' where env_id = 'shop-dev'")).await;
    let with = json!({ "statements": ["delete from ops.audit_log"] });
    let run = world.queue_custom(json!([{ "name": "x", "uses": "sql", "with": with }])).await;
    *world.target.lock().expect("no test panics here") =
        Some(world.url_of("postgres").replace("127.0.0.1", "localhost"));
    let runner = world.runner();
    let error = world.failed(&run).await;
    runner.end().await;
    assert!(error.ends_with("is the database of the runs: phases do not work on it"), "{error}");
    world.stop().await;
}

#[tokio::test]
async fn a_run_that_nobody_begins_is_not_waited_for_for_ever() {
    let world = World::new().await;
    *world.waits.lock().expect("no test panics here") = std::time::Duration::from_millis(50);
    let child = json!({ "name": "child", "uses": "run", "with": { "kind": "nobodys" }, "timeout": "24h" });
    let run = world.queue_custom(json!([child])).await;
    world.execute(&format!("update ops.runs set max_attempts = 2 where run_id = '{run}'")).await;
    let runner = world.runner();
    let error = world.failed(&run).await;
    runner.end().await;
    assert!(error.starts_with("Phase child failed: nobody has begun nobodys run-"), "{error}");
    assert!(error.ends_with(" in 0.05 s") && world.run(&run).await.attempt == 2, "{error}");
    assert_eq!(world.ask("select count(*) from ops.runs where kind = 'nobodys'").await, "1");
    world.stop().await;
}

#[tokio::test]
async fn cancelling_a_run_cancels_the_one_that_it_waits_for() {
    let world = World::new().await;
    let later = NewRun {
        metadata: json!({ "phases": [{ "name": "child", "uses": "run", "with": { "kind": "nobodys" } }] }),
        ..NewRun::of_kind("custom")
    };
    let run = queue::enqueue(&mut *world.c().await, &later).await.expect("queued").run_id;
    let runner = world.runner();
    world.until("it waits", "select exists (select from ops.runs where kind = 'nobodys')").await;
    world.cancel(&run).await;
    World::expect(&world.ended(&run).await, "cancelled");
    runner.end().await;
    assert_eq!(world.ask("select status from ops.runs where kind = 'nobodys'").await, "cancelled");
    let said = "Phase child cancelled: asked for by olga".to_owned();
    assert!(world.messages(&run).await.contains(&said), "{:?}", world.messages(&run).await);
    world.stop().await;
}

#[tokio::test]
async fn phases_side_by_side_run_at_the_same_time_and_those_behind_them_afterwards() {
    let world = World::new().await;
    let folder = world.folder.path().display().to_string();
    // Each waits for the other: one after the other, they would never end.
    world.program("meet", &format!("touch {folder}/$1.here; while ! test -e {folder}/$2.here; do sleep 0.01; done"));
    world.program("after", &format!("test -e {folder}/a.here && test -e {folder}/b.here"));
    let meet = |own: &str, other: &str, beside: serde_json::Value| {
        let with = json!({ "program": "meet", "arguments": [own, other] });
        json!({ "name": own, "uses": "command", "with": with, "parallel_with": beside, "timeout": "30s" })
    };
    let after = json!({ "name": "after", "uses": "command", "with": { "program": "after" } });
    let run = world.queue_custom(json!([meet("a", "b", json!(null)), meet("b", "a", json!("a")), after])).await;
    let runner = world.runner();
    world.succeeded(&run).await;
    runner.end().await;
    assert_eq!(world.run(&run).await.attempt, 1);
    world.stop().await;
}
