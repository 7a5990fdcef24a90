//! All that a story shows when it is asked: every route with every token, the commands, the files.

use super::world::{Runs, SHA};
use crate::binary::{DEADLINE, Environment};
use crate::canaries::{self, Canary};
use crate::emitted::Emitted;
use reqwest::Method;
use serde_json::{Value, json};
use std::path::Path;

const ROUTES: [&str; 9] = [
    "/ops/runs",
    "/ops/queue",
    "/ops/runners",
    "/openapi.json",
    "/metrics",
    "/status",
    "/healthz",
    "/readyz",
    "/ops/runs?nothing=1",
];
const OF_A_RUN: [&str; 6] = ["", "/phases", "/attempts", "/artifacts", "/events", "/events/stream"];

/// A caller of the HTTP interface.
pub struct Caller<'a> {
    pub address: &'a str,
    pub client: reqwest::Client,
}

impl<'a> Caller<'a> {
    pub fn of(address: &'a str) -> Caller<'a> {
        let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().expect("a client");
        Caller { address, client }
    }

    /// The answer's status, headers and text.
    pub async fn ask(&self, method: Method, path: &str, token: &str, body: Option<&Value>) -> (u16, String, String) {
        let mut request = self.client.request(method, format!("http://{}{path}", self.address)).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.expect("an answer");
        let (status, head) = (answer.status().as_u16(), format!("{:?}\n", answer.headers()));
        (status, head, answer.text().await.expect("a body"))
    }
}

/// Tokens as people make them; one of them is revoked again.
pub async fn tokens(env: &Environment) -> Vec<Canary> {
    let mut made = Vec::new();
    for (name, scope) in [("reader", "runs:read"), ("writer", "runs:read,runs:write"), ("gone", "admin")] {
        let ended = env.run(&["token", "create", "--name", name, "--scope", scope]).await.expect_code(0);
        let token = ended.out.split_whitespace().find(|word| word.starts_with("ops_")).expect("a token");
        made.push(Canary::new(&format!("the token {name}"), token));
    }
    env.run(&["token", "revoke", "gone"]).await.expect_code(0);
    made
}

/// A run queued over HTTP, and what is refused there; returns the run.
pub async fn queue(caller: &Caller<'_>, tokens: &[Canary], metadata: Value, emitted: &mut Emitted) -> String {
    let writer = &tokens[1].value;
    let body = json!({ "kind": "custom", "project_id": "custom", "env": "dev", "metadata": metadata });
    let (status, head, text) = caller.ask(Method::POST, "/ops/runs", writer, Some(&body)).await;
    assert_eq!(status, 201, "{text}");
    let run = serde_json::from_str::<Value>(&text).expect("JSON")["run_id"].as_str().expect("an id").to_owned();
    emitted.add("POST /ops/runs", head + &text);
    let strange = [canaries::unknown_bearer().value, "x y".to_owned(), canaries::value("DIGITALOCEAN_TOKEN")];
    for token in strange.iter().chain(tokens.iter().map(|token| &token.value)) {
        // A secret of ours in each place that is refused.
        let secret = canaries::value("API_TOKEN");
        for body in [json!({ "kind": "custom", "priority": secret }), json!({ "env": secret, "git_sha": SHA })] {
            let (status, head, text) = caller.ask(Method::POST, "/ops/runs", token, Some(&body)).await;
            assert!((400..500).contains(&status), "{status} {text}");
            emitted.add("a refused POST /ops/runs", head + &text);
        }
    }
    run
}

/// Everything that can be read, by everybody.
pub async fn reads(caller: &Caller<'_>, tokens: &[Canary], runs: &[String], emitted: &mut Emitted) {
    let mut callers: Vec<String> = tokens.iter().map(|token| token.value.clone()).collect();
    callers.extend([canaries::value("API_TOKEN"), canaries::unknown_bearer().value, canaries::value("RAILWAY_TOKEN")]);
    for token in &callers {
        for path in ROUTES {
            let (_, head, text) = caller.ask(Method::GET, path, token, None).await;
            emitted.add(&format!("GET {path}"), head + &text);
        }
        for path in OF_A_RUN {
            let path = format!("/ops/runs/{}{path}", runs[0]);
            let (_, head, text) = caller.ask(Method::GET, &path, token, None).await;
            emitted.add(&format!("GET {path}"), head + &without_metadata(&text));
        }
    }
    for run in runs {
        for path in OF_A_RUN {
            let path = format!("/ops/runs/{run}{path}");
            let (status, head, text) = caller.ask(Method::GET, &path, &callers[0], None).await;
            assert_eq!(status, 200, "{path}: {text}");
            emitted.add(&format!("GET {path}"), head + &without_metadata(&text));
        }
    }
}

/// What users wrote is shown as they wrote it, in this one place.
fn without_metadata(text: &str) -> String {
    match serde_json::from_str(text) {
        Ok(Value::Object(mut run)) if run.contains_key("metadata") => {
            run.remove("metadata");
            Value::Object(run).to_string()
        }
        _ => text.to_owned(),
    }
}

pub async fn commands(env: &Environment, runs: &[String], emitted: &mut Emitted) {
    let all: [&[&str]; 7] = [
        &["runs", "list"],
        &["runs", "list", "--json", "--limit", "200"],
        &["token", "list"],
        &["token", "list", "--json"],
        &["kinds", "list"],
        &["backups", "list", "--json"],
        &["approvals", "list", "--all"],
    ];
    for command in all {
        emitted.ended("", &env.run(command).await.expect_code(0));
    }
    for run in runs {
        let shown = env.run(&["runs", "show", run]).await.expect_code(0);
        let lines = shown.out.lines().filter(|line| !line.trim_start().starts_with("metadata"));
        emitted.add("`runs show`", lines.collect::<Vec<_>>().join("\n") + &shown.err);
        let shown = env.run(&["runs", "show", run, "--json"]).await.expect_code(0);
        emitted.add("`runs show --json`", without_metadata(&shown.out) + &shown.err);
        emitted.ended("", &env.run(&["runs", "logs", run]).await.expect_code(0));
        emitted.ended("", &env.run(&["runs", "logs", run, "--json"]).await.expect_code(0));
        let waited = env.run(&["runs", "wait", run, "--timeout", "1"]).await;
        emitted.ended("", &waited);
    }
}

/// With a password that is refused.
pub async fn refused(env: &Environment, emitted: &mut Emitted) {
    for command in [&["runs", "list"][..], &["token", "list"], &["migrate"], &["doctor"]] {
        emitted.ended("refused", &env.run(command).await);
    }
}

/// Every file of the store but the dumps; returns how many.
pub fn files(folder: &Path, emitted: &mut Emitted) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            count += files(&path, emitted);
        } else if !path.ends_with("database.dump") {
            emitted.add(&path.display().to_string(), std::fs::read(&path).expect("a file"));
            count += 1;
        }
    }
    count
}

/// How the runs of a story ended, told with their errors.
pub async fn ends(runs: &Runs<'_>) -> String {
    runs.ask("select string_agg(concat_ws(' ', project_id, kind, status, error), E'\n' order by run_id) from ops.runs")
        .await
}
