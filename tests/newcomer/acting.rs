//! Mistakes that show only when something is tried: `once` and the daemon name them as well.

use crate::world::{Mistake, World, account};
use serde_json::Value;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_create_is_refused_for_is_named_by_why() {
    let world = World::start().await;
    let full = account(|options| options.droplet_limit = 1).await;
    full.add_droplet("blog", &[]).expect("a droplet");
    let scopeless = account(|options| options.missing_scopes = vec!["droplet:create".to_owned()]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let cases: [(_, _, &'static [&'static str]); 2] = [
        (
            &full,
            "DigitalOcean droplet limit",
            &["will exceed your droplet limit", "delete one that is not needed, or request a higher limit"],
        ),
        (
            &scopeless,
            "DIGITALOCEAN_TOKEN",
            &["lacks the scope droplet:create", "make a token with all scopes listed in .env.example", "403"],
        ),
    ];
    for (account, name, words) in cases {
        let state = folder.path().join(name.replace(' ', "-")).display().to_string();
        let env = world.with("DIGITALOCEAN_API_URL", account.base_url()).with("STATE_FILE", state);
        let mistake = Mistake::new(env, name, words);
        // The firewall comes first, then the create that is refused.
        mistake.env.run(&["once"]).await.expect_code(0);
        let refused = mistake.env.run(&["once"]).await.expect_code(1);
        world.assert_silent(&refused);
        until_the_database_is_back(&mistake).await;
        for command in ["why", "plan"] {
            let ended = mistake.env.run(&[command]).await;
            mistake.assert_told_once(&ended);
        }
    }
    world.sandbox.stop().await;
}

/// The same cycles have its WAL level changed, for which it restarts.
async fn until_the_database_is_back(mistake: &Mistake) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while mistake.env.run(&["why"]).await.out.contains("could not connect to PostgreSQL") {
        assert!(Instant::now() < deadline, "the database stays away");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemons_log_names_the_variable_and_the_fix() {
    let world = World::start().await;
    let env = world.with("DIGITALOCEAN_TOKEN", "dop_v1_wrong-canary").with("SUPERVISOR_SIZ", "s-1vcpu-1gb");
    let mut daemon = env.start(&["run"]);
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let ended = env.run(&["status"]).await;
        let status: Value = serde_json::from_str(&ended.out).unwrap_or_default();
        if status["cycle"]["number"].as_u64().is_some_and(|n| n > 0) {
            break;
        }
        assert!(!daemon.has_ended() && Instant::now() < deadline, "no cycle: {}", ended.all());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let log = daemon.end_with(libc::SIGTERM).await.expect_code(0);
    world.assert_silent(&log);
    let says = |words: &[&str]| log.out.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(says(&["WARN", "SUPERVISOR_SIZ is not a variable", "did you mean SUPERVISOR_SIZE?"]), "{}", log.out);
    assert!(
        says(&["WARN", "could not look", "DIGITALOCEAN_TOKEN", "make one at cloud.digitalocean.com"]),
        "{}",
        log.out
    );
    world.sandbox.stop().await;
}
