//! The real program as a process against the real sandbox: all commands, mistakes, and a daemon.

use crate::binary::{DEADLINE, Environment};
use crate::canaries::{self, Canary};
use crate::emitted::{Emitted, Logged};
use crate::process::assert_private;
use crate::search::Search;
use crate::world::World;
use ops_controller::sandbox::faults::Break;
use serde_json::Value;
use std::fs;

const COMMANDS: [&[&str]; 8] =
    [&["config"], &["plan"], &["plan", "--json"], &["why"], &["doctor"], &["status"], &["once"], &["healthcheck"]];

impl Emitted {
    async fn all_commands(&mut self, what: &str, env: &Environment) {
        for command in COMMANDS {
            let ended = env.run(command).await;
            assert_ne!(ended.code, Some(64), "{}", ended.all());
            self.ended(what, &ended);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_program_prints_no_secret_and_keeps_its_files_to_itself() {
    let world = World::start().await;
    let mut emitted = Emitted::default();
    mistakes(&world, &mut emitted).await;
    a_database_that_repeats_its_address(&world, &mut emitted).await;
    let rotated = a_life(&world, &mut emitted).await;
    everything_at_trace_level(&world, &mut emitted).await;
    the_end(&world, &mut emitted).await;

    let mut secrets = world.canaries.clone();
    secrets.push(Canary::new("the rotated token", rotated));
    let mut search = Search::of(&secrets);
    for (what, text) in &emitted.0 {
        search.assert_none(what, text);
    }
    println!("{} texts, {} bytes, {} lines", emitted.0.len(), search.bytes, search.lines);
    assert!(emitted.0.len() > 80 && search.lines > 1_200 && search.bytes > 100_000, "too little was searched");
    world.sandbox.stop().await;
}

/// One mistake at a time, each with a secret near it.
async fn mistakes(world: &World, emitted: &mut Emitted) {
    let set = |name: &str, value: &str| world.env.clone().with(name, value);
    let password = canaries::value("DATABASE_URL");
    let host = format!("127.0.0.1:{}", world.sandbox.postgres.port());
    let refused = canaries::database_url("DATABASE_URL", "canary_ops", &format!("{host}/ops"));
    let nobody = canaries::database_url("OPS_DATABASE_URL", "canary_ops", "127.0.0.1:1/ops");
    let torn = world.file("torn.json", &format!("{{\"version\":1,\"token\":\"{}", canaries::value("API_TOKEN")));
    let mut cases = vec![
        ("with a raw password", set("DATABASE_URL", &format!("postgresql://canary_role:{password}@{host}/railway"))),
        ("with a wrong scheme", set("DATABASE_URL", &format!("mysql://u:{password}@{host}/railway"))),
        ("with an ops database that refuses", set("OPS_DATABASE_URL", &refused)),
        ("with an ops database that is none", set("OPS_DATABASE_URL", &nobody)),
        ("with a torn state", set("STATE_FILE", &torn)),
        ("with lines that are none", set("ENV_FILE", &world.file("lines", &format!("{password}\n{password}=\n")))),
    ];
    for Canary { name, value } in world.canaries.iter().take(canaries::of_variables().len()) {
        cases.push(("in a name's stead", set(&format!("{name}_FILE"), value)));
        cases.push(("as an interval", set("CHECK_INTERVAL", value)));
        cases.push(("in a misspelt variable", set(&format!("{name}X"), value)));
        // Refused by those who know the right one.
        cases.push(("with another's token", set("DIGITALOCEAN_TOKEN", &value.replace([' ', '"', '\\'], ""))));
    }
    for (n, (what, env)) in cases.iter().enumerate() {
        // Each command meets some of them; all of them would take minutes.
        let command = ["config", "doctor", "plan", "why"][(n + n / 4) % 4];
        emitted.ended(what, &env.run(&[command]).await);
    }
    for (what, env) in &cases[..6] {
        emitted.ended(what, &env.run(&["once"]).await);
        emitted.ended(what, &env.run(&["reset"]).await);
    }
}

/// A refusal in PostgreSQL's own words, which quote what they should not.
async fn a_database_that_repeats_its_address(world: &World, emitted: &mut Emitted) {
    let url = world.env.get("DATABASE_URL");
    let raise = format!("no publication for {} of {url}", canaries::value("DATABASE_URL")).replace('\'', "''");
    let function = format!(
        "create function repeat_all() returns event_trigger language plpgsql as $$ begin raise exception using message = '{raise}'; end $$"
    );
    world.sql(&function).await;
    world
        .sql("create event trigger repeats on ddl_command_start when tag in ('CREATE PUBLICATION') execute function repeat_all()")
        .await;
    let env = world.env.clone().with("STATE_FILE", world.beside("other/state.json").display().to_string());
    let refused = env.run(&["once"]).await.expect_code(1).expect_text("no publication for [redacted]");
    emitted.ended("with a database that repeats its address", &refused);
    for command in ["plan", "why"] {
        emitted.ended("after it", &env.run(&[command]).await);
    }
    world.sql("drop event trigger repeats").await;
}

/// A daemon from nothing to healthy, through trouble, to its end; returns the token that it issued.
async fn a_life(world: &World, emitted: &mut Emitted) -> String {
    let env = world.env.clone().with("LOG_LEVEL", "trace").with("LOG_FORMAT", "json");
    emitted
        .all_commands("before anything", &env.clone().with("STATE_FILE", world.beside("x.json").display().to_string()))
        .await;
    let mut daemon = Logged::start_daemon(world, &env, "daemon.log");
    daemon.until_healthy(&env, |_| true).await;
    emitted.command_lines();
    emitted.all_commands("beside the daemon", &env).await;
    http(&daemon.address().await, emitted).await;
    assert_private(
        world.state_file().parent().expect("a folder"),
        &["state.json", "state.json.bak", "state.json.lease-", "state.json.sock"],
    );

    // A configuration that is refused, and one that loses the token.
    let before = droplet(&env).await;
    world.file("settings", &format!("CHECK_INTERVAL={}\n", canaries::value("API_TOKEN")));
    daemon.signal(libc::SIGHUP);
    daemon.until_log("the new configuration is refused").await;
    world.file("settings", "ROTATE_LOST_TOKEN=true\n");
    daemon.signal(libc::SIGHUP);
    for trouble in [Break::Html502, Break::RateLimited] {
        world.sandbox.cause(trouble).unwrap_or_else(|why| panic!("{trouble:?}: {why}"));
    }
    daemon.until_healthy(&env, |status| status["droplet"]["id"] != before).await;
    emitted.command_lines();
    emitted.all_commands("after trouble", &env).await;
    daemon.end(emitted).await;
    let state: Value = serde_json::from_slice(&fs::read(world.state_file()).expect("a state")).expect("JSON");
    assert_eq!(state["token"]["source"], "rotated", "no token was issued");
    state["token"]["value"].as_str().expect("a token").to_owned()
}

/// With the libraries' own lines, which say more than ours.
async fn everything_at_trace_level(world: &World, emitted: &mut Emitted) {
    let env = world.env.clone().with("LOG_LEVEL", "trace,ops_controller=trace").with("LOG_FORMAT", "text");
    let mut daemon = Logged::start_daemon(world, &env, "trace.log");
    daemon.until_healthy(&env, |_| true).await;
    let before = droplet(&env).await;
    world.sandbox.cause(Break::DropletDeleted).expect("a droplet");
    daemon.until_healthy(&env, |status| status["droplet"]["id"] != before).await;
    daemon.end(emitted).await;
    let log = &emitted.0.last().expect("the log").1;
    let says = |target: &[u8]| memchr::memmem::find(log, target).is_some();
    assert!(says(b" hyper"), "the libraries say nothing at trace level");
}

async fn the_end(world: &World, emitted: &mut Emitted) {
    let folder = world.state_file().parent().expect("a folder").to_owned();
    emitted.ended("at the end", &world.env.run(&["once"]).await.expect_code(0));
    emitted.ended("at the end", &world.env.run(&["destroy", "--yes"]).await.expect_code(0));
    emitted.ended("at the end", &world.env.run(&["reset"]).await.expect_code(0));
    assert_private(&folder, &["state.json.lease-", "state.json.reset-", "state.json.bak-reset-"]);
}

/// All routes, with the right token and with a wrong one.
async fn http(address: &str, emitted: &mut Emitted) {
    let client = reqwest::Client::builder().no_proxy().timeout(DEADLINE).build().expect("a client");
    for token in [canaries::value("API_TOKEN"), canaries::value("DIGITALOCEAN_TOKEN")] {
        for path in ["/status", "/metrics", "/healthz", "/readyz", "/nothing", "/cycles"] {
            for method in [reqwest::Method::GET, reqwest::Method::POST] {
                let request = client.request(method.clone(), format!("http://{address}{path}")).bearer_auth(&token);
                let answer = request.send().await.expect("an answer");
                let head = format!("{:?}\n", answer.headers());
                emitted.add(&format!("{method} {path}"), head + &answer.text().await.expect("a body"));
            }
        }
    }
}

async fn droplet(env: &Environment) -> Value {
    status(env).await["droplet"]["id"].clone()
}

async fn status(env: &Environment) -> Value {
    serde_json::from_str(&env.run(&["status"]).await.out).unwrap_or_default()
}

impl Logged {
    fn start_daemon(world: &World, env: &Environment, log: &str) -> Logged {
        Logged::start(env, &["run"], world.beside(log))
    }

    async fn until_healthy(&mut self, env: &Environment, enough: impl Fn(&Value) -> bool) {
        self.until("healthy", async |_| {
            let status = status(env).await;
            (status["healthy"] == true && enough(&status)).then_some(())
        })
        .await;
    }
}
