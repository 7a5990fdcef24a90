//! Who may do what: nothing without a token, and with one what its scopes say.

use crate::server::Db;
use crate::world::{API_TOKEN, World, controls, routes};
use ops_controller::http::{self, Writes};
use ops_controller::plan::secret::Secret;
use ops_controller::runs::schema::Address;
use ops_controller::runs::tokens::{self, Scope};
use reqwest::Method;
use serde_json::json;
use std::sync::Arc;
use tokio::net::UnixListener;

const READS: [&str; 9] = [
    "/ops/runs",
    "/ops/runs/run-1",
    "/ops/runs/run-1/events",
    "/ops/runs/run-1/events/stream",
    "/ops/runs/run-1/phases",
    "/ops/runs/run-1/attempts",
    "/ops/runs/run-1/artifacts",
    "/ops/queue",
    "/ops/runners",
];
const WRITES: [&str; 3] = ["/ops/runs", "/ops/runs/run-1/cancel", "/ops/runs/run-1/retry"];
const ADMIN: [&str; 2] = ["/ops/kinds/mail/pause", "/ops/kinds/mail/resume"];
const RUNNER: [&str; 1] = ["/functions/v1/ops-runner"];

fn routes_of(scope: Scope) -> Vec<(Method, &'static str)> {
    let of = |method: Method, paths: &[&'static str]| paths.iter().map(|p| (method.clone(), *p)).collect();
    match scope {
        Scope::RunsRead => of(Method::GET, &READS),
        Scope::RunsWrite => of(Method::POST, &WRITES),
        Scope::Admin => of(Method::POST, &ADMIN),
        Scope::Runner => of(Method::POST, &RUNNER),
    }
}

async fn rows(world: &World) -> String {
    world.db.ask("(select count(*) from ops.runs) || ' ' || (select count(*) from ops.paused_kinds)").await
}

#[tokio::test]
async fn without_a_token_nothing_is_shown_and_nothing_changes() {
    let world = World::start().await;
    let id = world.queued().await;
    let before = rows(&world).await;
    for (method, path) in Scope::ALL.into_iter().flat_map(routes_of) {
        let path = path.replace("run-1", &id);
        for given in [None, Some("Bearer "), Some("Bearer wrong"), Some("Basic eDp5"), Some(API_TOKEN)] {
            let mut request = world.request(method.clone(), &path).json(&json!({"kind": "mail"}));
            if let Some(given) = given {
                request = request.header("authorization", given);
            }
            let answer = world.send(request).await;
            assert_eq!(answer.headers["www-authenticate"], "Bearer");
            answer.expect_problem(401, "unauthorized");
        }
        // Of the right shape, and never made.
        let guess = tokens::generate().expect("chance");
        world.send(world.request(method, &path).bearer_auth(guess)).await.expect_problem(401, "unauthorized");
    }
    assert_eq!(rows(&world).await, before);
    assert_eq!(world.get(&format!("/ops/runs/{id}")).await.expect(200)["status"], "queued");
}

#[tokio::test]
async fn a_token_opens_the_routes_of_its_scopes_and_no_others() {
    let world = World::start().await;
    for scope in Scope::ALL {
        let token = world.token(&format!("only {}", scope.name()), &[scope]).await;
        for (other, method, path) in
            Scope::ALL.into_iter().flat_map(|other| routes_of(other).into_iter().map(move |(m, p)| (other, m, p)))
        {
            let answer = world.send(world.request(method.clone(), path).bearer_auth(&token).json(&json!({}))).await;
            if scope == other || scope == Scope::Admin {
                assert!(!matches!(answer.status, 401 | 403), "{method} {path}: {}", answer.text());
            } else {
                let detail = answer.expect_problem(403, "missing-scope");
                assert!(detail.contains(other.name()) && detail.contains(scope.name()), "{detail}");
            }
        }
    }
}

#[tokio::test]
async fn api_token_is_an_admin_on_any_address_and_a_new_one_replaces_it() {
    let world = World::start().await;
    let ask = async |token: &str| world.send(world.request(Method::GET, "/ops/runs").bearer_auth(token)).await.status;
    assert_eq!(ask(API_TOKEN).await, 200);
    world.access.set(Writes::NotLocal(Some(Secret::new("another"))));
    assert_eq!((ask("another").await, ask(API_TOKEN).await), (200, 401));
    // The controller's own writes stay closed there.
    world.send(world.request(Method::POST, "/pause").bearer_auth("another")).await.expect_problem(403, "reads-only");
    for closed in [Writes::NotLocal(None), Writes::NoToken, Writes::WithToken(Secret::new(""))] {
        world.access.set(closed);
        assert_eq!((ask("another").await, ask("").await), (401, 401));
    }
}

#[tokio::test]
async fn a_revoked_token_is_remembered_for_seconds_only() {
    let world = World::start().await;
    let token = world.token("ci", &[Scope::RunsRead]).await;
    let ask = async || world.send(world.request(Method::GET, "/ops/queue").bearer_auth(&token)).await.status;
    assert_eq!(ask().await, 200);
    let used = world.db.ask("select last_used_at is not null from ops.api_tokens where name = 'ci'").await;
    assert_eq!(used, "true");
    assert!(tokens::revoke(&mut world.db.c().await, "ci", "test").await.expect("revoked"));
    let since = std::time::Instant::now();
    while ask().await != 401 {
        assert!(since.elapsed().as_secs() < 10, "it still opens the door");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_audit_log_names_the_token() {
    let world = World::start().await;
    let id = world.queued().await;
    let token = world.token("ci", &[Scope::RunsWrite]).await;
    let cancel = world.request(Method::POST, &format!("/ops/runs/{id}/cancel")).bearer_auth(&token);
    world.send(cancel).await.expect(200);
    let actor = world.db.ask("select actor from ops.audit_log where action = 'run.cancelled'").await;
    assert_eq!(actor, "token ci");
}

#[tokio::test]
async fn who_can_open_the_socket_needs_no_token() {
    let db = Db::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let (controls, listener) = (controls(), UnixListener::bind(&path).expect("a socket"));
    let router = http::router(controls.clone(), None, Writes::Socket, Some(routes(&db.address)));
    tokio::spawn(http::serve_socket(listener, router, controls.clone()));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().unix_socket(path).build().expect("a client");
    let queued =
        client.post("http://localhost/ops/runs").json(&json!({"kind": "mail"})).send().await.expect("an answer");
    assert_eq!(queued.status(), 201);
    controls.stop.cancel();
}

#[tokio::test]
async fn without_an_ops_database_every_route_says_how_to_get_one() {
    let world = World::serving(Arc::new(Db::new().await), None).await;
    for (method, path) in Scope::ALL.into_iter().flat_map(routes_of) {
        let detail = world.send(world.as_admin(method, path)).await.expect_problem(404, "no-ops-database");
        assert!(detail.contains("OPS_DATABASE_URL"), "{detail}");
    }
    assert_eq!(world.send(world.request(Method::GET, "/healthz")).await.status, 200);
}

#[tokio::test]
async fn while_the_database_is_down_every_route_says_when_to_come_back() {
    let nowhere = Address::from_url("postgresql://ops:canary-password@127.0.0.1:1/ops", "test").expect("an address");
    let world = World::serving(Arc::new(Db::new().await), Some(routes(&nowhere))).await;
    for (method, path) in [Scope::RunsRead, Scope::RunsWrite, Scope::Admin].into_iter().flat_map(routes_of) {
        let body = json!({"project_id": "shop", "env": "dev", "git_sha": "abc123", "git_ref": "main"});
        let body = if path == "/ops/runs" { body } else { json!({}) };
        let answer = world.send(world.request(method.clone(), path).bearer_auth(API_TOKEN).json(&body)).await;
        assert!(answer.headers.contains_key("retry-after"), "{method} {path}");
        let detail = answer.expect_problem(503, "database-unavailable");
        assert!(!detail.contains("canary"), "{detail}");
    }
    // So does a token that cannot be looked up.
    let token = tokens::generate().expect("chance");
    let answer = world.send(world.request(Method::GET, "/ops/runs").bearer_auth(token)).await;
    answer.expect_problem(503, "database-unavailable");
    assert_eq!(world.send(world.request(Method::GET, "/healthz")).await.status, 200);
}
