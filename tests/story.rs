//! The whole story in one test, with the real program and droplets as real processes:
//! empty, healthy, killed, healed, another size, replaced.

mod support;

use ops_controller::sandbox::Options;
use ops_controller::sandbox::faults::Break;
use serde_json::Value;
use std::time::Duration;
use support::program::{EXE, Program, all_true};
use support::{World, eventually};

/// A chapter takes some ten seconds; how fast this machine is, is not what is tested.
const CHAPTER: Duration = Duration::from_secs(120);

fn condition<'s>(status: &'s Value, kind: &str) -> &'s Value {
    let conditions = status["conditions"].as_array().expect("conditions");
    conditions.iter().find(|c| c["type"] == kind).expect("every condition is reported")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_an_empty_account_to_a_healed_and_replaced_supervisor() {
    // The delays of `ops-controller sandbox`, with the times that go with them.
    let mut world = World::with(Options::default().with_processes(EXE.into())).await;
    let settings = world.beside("settings.env");
    std::fs::write(&settings, "SUPERVISOR_SIZE=s-2vcpu-2gb\n").expect("written");
    world.set("ENV_FILE", &settings.display().to_string());
    let mut program = Program::start(&world, "story");

    // Empty → healthy.
    let status = program.until("healthy", CHAPTER, all_true).await;
    assert_eq!(status["mode"], "active");
    let first = world.our_only();
    assert_eq!(status["droplet"]["id"], first.id);
    assert_eq!(status["droplet"]["size"], "s-2vcpu-2gb");
    assert!(first.alive && first.pid.is_some(), "a real process: {first:?}");
    assert_eq!(world.sandbox.railway.postgres_restarts(), 1);

    // The supervisor is killed → noticed, rebooted once, healed.
    world.sandbox.cause(Break::SupervisorKilled).expect("killed");
    let status = program.until("noticed", CHAPTER, |s| s["healthy"] == false).await;
    let hop = condition(&status, "SupervisorReachable");
    assert_ne!(hop["status"], "True", "the broken hop is named: {hop}");
    program.until("healed", CHAPTER, all_true).await;
    assert_eq!(world.our_only().id, first.id);
    let actions = format!("POST /v2/droplets/{}/actions", first.id);
    assert_eq!(world.writes().iter().filter(|w| **w == actions).count(), 1, "one reboot");
    assert_eq!((world.creates(), world.most_alive()), (1, 1), "no second droplet");

    // Another size is wished → the new one first, then the old one goes.
    std::fs::write(&settings, "SUPERVISOR_SIZE=s-2vcpu-4gb\n").expect("written");
    program.signal(libc::SIGHUP);
    let replaced = |s: &Value| all_true(s) && s["droplet"]["size"] == "s-2vcpu-4gb";
    program.until("replaced", CHAPTER, replaced).await;
    eventually("rid of the old one", || world.ours().len() == 1).await;
    let second = world.our_only();
    assert_ne!(second.id, first.id);
    assert!(second.alive && second.size == "s-2vcpu-4gb");
    assert_eq!((world.creates(), world.most_alive()), (2, 2));
    let order: Vec<_> = world.writes().into_iter().filter(|w| w.contains("/v2/droplets")).collect();
    let deleted = format!("DELETE /v2/droplets/{}", first.id);
    let created = "POST /v2/droplets".to_owned();
    assert_eq!(order, vec![created.clone(), actions, created, deleted]);

    assert_eq!(world.sandbox.railway.restart_requests().len(), 1, "Postgres was restarted once in all");
    assert_eq!(world.sandbox.railway.postgres_restarts(), 1);
    assert!(!program.log().contains(&world.sandbox.webapp.token()), "a secret in the log");
    assert!(!program.log().contains(&world.sandbox.webapp.managed_secret()), "a secret in the log");
    program.signal(libc::SIGTERM);
    assert_eq!(program.ended(Duration::from_secs(10)).await.code(), Some(0));
    world.assert_sound();
    world.stop().await;
}
