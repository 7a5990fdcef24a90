//! The runs of a story: builds, phases of users' own, and what callers ask of them over HTTP.

use super::ask::{self, Caller};
use super::echo::WAYS;
use super::world::{Runs, user};
use crate::canaries::{self, Canary};
use crate::emitted::Emitted;
use ops_controller::runs::NewRun;
use ops_controller::sandbox::github::Fate;
use reqwest::Method;
use serde_json::{Value, json};

/// What is built, and how each ends.
pub async fn projects(runs: &Runs<'_>) {
    let check = |with: Value| json!({ "checks": [with] });
    let hook = |status: u16, way: &str| {
        json!({ "hook": {
            "url": format!("{}?key={}", runs.echo(status, way), user("address of a hook")),
            "headers": { "x-api-key": user("header of a hook") },
        } })
    };
    let command = json!({ "command": { "program": "image" } });
    let of = |build: Value, deploy: Value, smoke: Value| json!({ "build": build, "deploy": deploy, "smoke": smoke });
    let header = json!({ "x-api-key": user("header of a check") });
    let health = check(json!({ "name": "health", "path": "/health", "headers": header }));
    let good = runs.railway("good");
    let mut all = vec![
        ("fails".to_owned(), of(runs.workflow("main"), good.clone(), json!({}))),
        ("good".to_owned(), of(runs.workflow("main"), good.clone(), health)),
        ("image".to_owned(), of(command, good, json!({}))),
        ("custom".to_owned(), json!({})),
    ];
    for way in WAYS {
        let (railway, git_ref) = (runs.railway(&format!("echo-200-{way}")), format!("echo-422-{way}"));
        all.push((format!("github-{way}"), of(runs.workflow(&git_ref), railway.clone(), json!({}))));
        all.push((format!("railway-{way}"), of(runs.workflow("main"), railway, json!({}))));
        let unmet = json!({ "name": "says", "url": runs.echo(200, way), "headers": header, "retries": 0,
            "expect": { "json": { "/said": "x" } } });
        all.push((format!("hook-{way}"), of(runs.workflow("main"), hook(200, way), check(unmet))));
    }
    let mut variables = runs.railway("variables");
    variables["railway"]["variables"] = json!({ "KEY": user("variable of a service"), "NOTE": "echo-200-raw" });
    all.push(("variables".to_owned(), of(runs.workflow("main"), variables, json!({}))));
    let refused = runs.railway("echo-401-raw");
    all.push(("railway-refused".to_owned(), of(runs.workflow("main"), refused, json!({}))));
    all.push(("hook-refused".to_owned(), of(runs.workflow("main"), hook(401, "raw"), json!({}))));
    for (name, config) in all {
        runs.project(&name, config).await;
    }
}

pub async fn builds(runs: &Runs<'_>) {
    runs.github.next_run(Fate::Fails);
    runs.build("fails").await;
    runs.until("it is dispatched", "select exists (select from ops.resources where type = 'workflow_run')").await;
    let others =
        runs.ask("select string_agg(project_id, ' ') from ops.projects where project_id not in ('fails', 'custom')");
    for project in others.await.split(' ') {
        runs.build(project).await;
    }
}

pub async fn custom(runs: &Runs<'_>, phases: Value) -> String {
    let metadata = json!({ "phases": phases });
    let (project_id, env_id) = (Some("custom".to_owned()), Some("custom-dev".to_owned()));
    runs.queue(&NewRun { metadata, project_id, env_id, ..NewRun::of_kind("custom") }).await
}

/// Phases of every kind, good and bad; returns a run that waits for another.
pub async fn customs(runs: &Runs<'_>, address: Option<&str>, tokens: &[Canary], emitted: &mut Emitted) -> String {
    let header = json!({ "x-api-key": user("header of a phase") });
    let told = |way: &str| {
        let with = json!({ "url": runs.echo(200, way), "headers": header });
        json!([{ "name": "told", "uses": "http", "with": with }])
    };
    let key = user("address of a phase");
    for way in WAYS {
        custom(runs, told(way)).await;
        let with = json!({ "url": format!("{}?key={key}", runs.echo(200, way)), "headers": header,
            "expect": { "json": { "/said": "x" } } });
        custom(runs, json!([{ "name": "unmet", "uses": "http", "with": with }])).await;
    }
    for url in [format!("{}?key={key}", runs.echo(401, "raw")), format!("http://127.0.0.1:1/?key={key}")] {
        custom(runs, json!([{ "name": "refused", "uses": "http", "with": { "url": url, "headers": header } }])).await;
    }
    for program in ["environment", "breaks", "long"] {
        custom(runs, json!([{ "name": "program", "uses": "command", "with": { "program": program } }])).await;
    }
    for statement in ["update people set id = id + 1", "select tells()", "select notes()"] {
        custom(runs, json!([{ "name": "sql", "uses": "sql", "with": { "statements": [statement] } }])).await;
    }
    let child = json!({ "kind": "custom", "metadata": { "phases": [
        { "name": "inner", "uses": "command", "with": { "program": "breaks" } }] } });
    custom(runs, json!([{ "name": "child", "uses": "run", "with": child }])).await;
    if let Some(address) = address {
        let metadata = json!({ "phases": told("raw") });
        ask::queue(&Caller::of(address), tokens, metadata, emitted).await;
    }
    custom(runs, json!([{ "name": "waits", "uses": "run", "with": { "kind": "nobodys" } }])).await
}

/// As the documented function does.
pub async fn executed_by_a_request(address: Option<&str>, emitted: &mut Emitted) {
    let Some(address) = address else { return };
    let path = "/functions/v1/ops-runner";
    let token = canaries::value("API_TOKEN");
    let (status, head, text) = Caller::of(address).ask(Method::POST, path, &token, None).await;
    assert!(status < 500, "{status} {text}");
    emitted.add(&format!("POST {path}"), head + &text);
}

pub async fn cancel(runs: &Runs<'_>, address: Option<&str>, tokens: &[Canary], run: &str, emitted: &mut Emitted) {
    let Some(address) = address else {
        return drop(runs.ask(&format!("ops.cancel_run('{run}', 'olga')")).await);
    };
    let path = format!("/ops/runs/{run}/cancel");
    let body = json!({ "reason": "no use for it" });
    let (status, head, text) = Caller::of(address).ask(Method::POST, &path, &tokens[1].value, Some(&body)).await;
    assert!((200..300).contains(&status), "{status} {text}");
    emitted.add(&format!("POST {path}"), head + &text);
}
