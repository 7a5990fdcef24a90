//! The daemon: standby, signals, and a configuration that changes under it.

use crate::support::program::Program;
use crate::support::{DEADLINE, World, eventually, quick};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use ops_controller::clients::Seam;
use ops_controller::controller::daemon::{Daemon, Request as Ask};
use ops_controller::plan::mode::Shown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A road to DigitalOcean on which the answers to creates get stuck.
#[derive(Clone)]
struct StuckCreates {
    to: String,
    client: reqwest::Client,
    stuck: Arc<AtomicUsize>,
}

impl StuckCreates {
    async fn start(world: &World) -> (StuckCreates, String) {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let road = StuckCreates { to: world.sandbox.digitalocean.base_url(), client, stuck: Arc::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let app = axum::Router::new().fallback(forward).with_state(road.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (road, url)
    }
}

async fn forward(State(road): State<StuckCreates>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.expect("a body");
    let mut headers = parts.headers;
    headers.remove("host");
    let url = format!("{}{}", road.to, parts.uri);
    let answer = road.client.request(parts.method.clone(), url).headers(headers).body(body).send().await;
    let answer = answer.expect("an answer");
    if parts.method == "POST" && parts.uri.path() == "/v2/droplets" {
        road.stuck.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>().await;
    }
    let status = answer.status();
    let body = answer.bytes().await.expect("a body");
    Response::builder().status(status).body(Body::from(body)).expect("a response")
}

/// 14: two controllers raced.
#[tokio::test]
async fn a_second_instance_stands_by_and_takes_over_when_the_first_ends() {
    let world = World::booted().await;
    let daemon = || {
        let config = world.config();
        Daemon::new(config.clone(), move || Ok(config.clone()), Seam::default())
    };
    let (first, second) = (daemon(), daemon());
    let (one, two) = (first.controls(), second.controls());
    let is = |mode| move |s: &Arc<_>| ops_controller::controller::status::Status::clone(s).mode == mode;
    let story = async {
        let mut seen = one.status.clone();
        seen.wait_for(|s| s.healthy).await.expect("a status");
        let mut stands_by = two.status.clone();
        let status = stands_by.wait_for(is(Shown::Standby)).await.expect("a status").clone();
        eventually("says who holds it", || two.status.borrow().mode_reason.is_some()).await;
        assert!(!status.healthy);
        two.ask(Ask::Cycle);
        assert_eq!((world.creates(), two.status.borrow().mode), (1, Shown::Standby));
        one.stop.cancel();
        let mut seen = two.status.clone();
        seen.wait_for(|s| s.healthy && s.mode == Shown::Active).await.expect("a status");
        two.stop.cancel();
    };
    let second = async {
        // Only once the first one has the lock.
        one.status.clone().wait_for(|s| s.mode == Shown::Active).await.expect("a status");
        Box::pin(second.run(|_, _| {})).await
    };
    let all = async { tokio::join!(Box::pin(first.run(|_, _| {})), Box::pin(second), Box::pin(story)) };
    let (first, second, ()) = tokio::time::timeout(DEADLINE, all).await.expect("in time");
    first.expect("a good end");
    second.expect("a good end");
    assert_eq!((world.creates(), world.ours().len()), (1, 1));
    world.assert_sound();
    world.stop().await;
}

fn for_the_program(world: &mut World) {
    for (name, value) in [("CHECK_INTERVAL", "1s"), ("PROGRESS_INTERVAL", "100ms"), ("CREATE_SETTLE", "2s")] {
        world.set(name, value);
    }
    world.set("SUPERVISOR_BOOT_DEADLINE", "10m");
}

/// 48: a stop in the middle of a deployment lost the state of that cycle.
#[tokio::test]
async fn sigterm_in_the_middle_of_a_create_loses_nothing() {
    let mut world = World::booted().await;
    for_the_program(&mut world);
    let direct = world.sandbox.digitalocean.base_url();
    let (road, url) = StuckCreates::start(&world).await;
    world.set("DIGITALOCEAN_API_URL", &url);
    let mut first = Program::start(&world, "first");
    eventually("in the middle of a create", || road.stuck.load(Ordering::SeqCst) == 1).await;
    first.signal(libc::SIGTERM);
    // A call may take 30 s to be given up; a stop is promised within 5 s.
    let end = first.ended(Duration::from_secs(10)).await;
    assert_eq!(end.code(), Some(0), "{}", first.log());
    let state = std::fs::read_to_string(world.state_file()).expect("a state file");
    assert!(state.contains("\"kind\": \"create_droplet\""), "the create is in the journal");

    world.set("DIGITALOCEAN_API_URL", &direct);
    let mut second = Program::start(&world, "second");
    second.until("healthy", DEADLINE, |s| s["healthy"] == true).await;
    assert_eq!((world.creates(), world.ours().len(), world.most_alive()), (1, 1, 1));
    second.signal(libc::SIGTERM);
    assert_eq!(second.ended(Duration::from_secs(10)).await.code(), Some(0));
    world.assert_sound();
    world.stop().await;
}

#[tokio::test]
async fn sighup_with_a_bad_configuration_keeps_the_old_one() {
    let mut world = World::booted_with(quick()).await;
    for_the_program(&mut world);
    let file = world.beside("settings.env");
    std::fs::write(&file, "SUPERVISOR_SIZE=s-2vcpu-2gb\n").expect("written");
    world.set("ENV_FILE", &file.display().to_string());
    let mut program = Program::start(&world, "daemon");
    program.until("healthy", DEADLINE, |s| s["healthy"] == true).await;
    let old = world.our_only().id;

    std::fs::write(&file, "SUPERVISOR_SIZE=s-2vcpu-4gb\nCHECK_INTERVAL=soon\nMAX_DROPLETS=many\n").expect("written");
    program.signal(libc::SIGHUP);
    program.until_logged("the old one stays in force").await;
    let log = program.log();
    assert!(log.contains("CHECK_INTERVAL") && log.contains("MAX_DROPLETS"), "all errors at once: {log}");
    let number = |s: &serde_json::Value| s["cycle"]["number"].as_u64().unwrap_or_default();
    let now = program.status().await.map(|s| number(&s)).expect("a status");
    program.until("some cycles later", DEADLINE, |s| number(s) > now + 2 && s["healthy"] == true).await;
    assert_eq!((world.our_only().id, world.creates()), (old, 1));

    std::fs::write(&file, "SUPERVISOR_SIZE=s-2vcpu-4gb\n").expect("written");
    program.signal(libc::SIGHUP);
    let replaced = |s: &serde_json::Value| s["healthy"] == true && s["droplet"]["size"] == "s-2vcpu-4gb";
    program.until("replaced", DEADLINE, replaced).await;
    eventually("rid of the old one", || world.our_only_id().is_some_and(|id| id != old)).await;
    program.signal(libc::SIGTERM);
    assert_eq!(program.ended(Duration::from_secs(10)).await.code(), Some(0));
    world.assert_sound();
    world.stop().await;
}

/// Who may write follows the address that is bound, and a configuration that is in force.
#[tokio::test]
async fn sighup_changes_who_may_write_only_with_a_configuration_that_is_accepted() {
    let mut world = World::booted_with(quick()).await;
    for_the_program(&mut world);
    let file = world.beside("settings.env");
    let set = |text: &str| std::fs::write(&file, text).expect("written");
    set("API_TOKEN=the-first-token\n");
    world.set("ENV_FILE", &file.display().to_string());
    let mut program = Program::start(&world, "daemon");
    program.until("active", DEADLINE, |s| s["mode"] == "active" && s["cycle"].is_object()).await;
    let url = program.url().replace("/status", "/cycles");
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let asks = async |token: &str| {
        let answer = client.post(&url).bearer_auth(token).send().await.expect("an answer");
        answer.status().as_u16()
    };
    assert_eq!(asks("the-first-token").await, 202);

    // It still listens on loopback.
    set("API_TOKEN=the-second-token\nLISTEN_ADDR=0.0.0.0:1\n");
    program.signal(libc::SIGHUP);
    program.until_logged("the new configuration is in force").await;
    assert_eq!((asks("the-second-token").await, asks("the-first-token").await), (202, 401));

    // Well-formed, and not to be used: the state file is another deployment's.
    set("API_TOKEN=the-third-token\nRAILWAY_PROJECT_ID=another-one\n");
    program.signal(libc::SIGHUP);
    program.until_logged("the old one stays in force").await;
    assert_eq!((asks("the-second-token").await, asks("the-third-token").await), (202, 401));
    program.signal(libc::SIGTERM);
    assert_eq!(program.ended(Duration::from_secs(10)).await.code(), Some(0));
    world.stop().await;
}
