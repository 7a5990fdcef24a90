//! The commands that change something need the lease; those that look say who has it.

use crate::binary::Environment;
use crate::pair::{Home, Pair};
use crate::support::DEADLINE;
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_on_another_machine_refuse_while_a_daemon_acts_and_name_it() {
    let mut pair = Pair::new(Home::Database).await;
    let (acts, waits) = pair.settled().await;
    let elsewhere = pair.world.beside("elsewhere").join("state.json").display().to_string();
    let env = Environment::new(pair.world.pairs.clone());
    let there = env.clone().with("STATE_FILE", elsewhere);
    for command in [&["once"][..], &["destroy", "--yes"]] {
        let ended = there.run(command).await.expect_code(75);
        assert!(ended.err.contains("stop it first") && ended.err.contains("/daemon-"), "{}", ended.err);
        assert!(ended.err.contains("(epoch 1, since "), "{}", ended.err);
    }
    // The folder of the standby is its own, whoever acts.
    let here = env.with("STATE_FILE", waits.state_file.display().to_string());
    here.run(&["reset"]).await.expect_code(75).expect_text("/daemon-");
    let why = here.run(&["why"]).await.expect_code(1).expect_text("standby: ").expect_text("(epoch 1, since ");
    assert!(!why.out.contains("nothing was looked at"), "{}", why.out);
    here.run(&["status"]).await.expect_code(0).expect_text("\"mode\": \"standby\"");
    for command in ["pause", "resume"] {
        here.run(&[command]).await.expect_code(75).expect_text("stands by").expect_text("(epoch 1, since ");
    }
    assert_eq!(pair.world.creates(), 1);
    assert_eq!(pair.world.ours().len(), 1);

    waits.ends_well().await;
    acts.ends_well().await;
    // Nobody has it: once takes it and gives it back, twice.
    for _ in 0..2 {
        there.run(&["once"]).await.expect_code(0);
    }
    // The daemon that acted before may have created what is not listed yet, also when its own epoch
    // is the one before the last.
    let patient = there.clone().with("CREATE_SETTLE", "10m");
    for _ in 0..2 {
        let ended = patient.run(&["destroy", "--yes"]).await.expect_code(75);
        assert!(ended.err.contains("another controller, whose state file is not this one"), "{}", ended.err);
        assert_eq!(pair.world.ours().len(), 1, "nothing was deleted");
    }
    let deadline = Instant::now() + DEADLINE;
    let gone = loop {
        match there.run(&["destroy", "--yes"]).await {
            ended if ended.code == Some(75) => assert!(Instant::now() < deadline, "{}", ended.err),
            ended => break ended,
        }
    };
    gone.expect_code(0).expect_text("is gone");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_names_the_ops_database_that_the_runner_inside_cannot_reach() {
    let mut pair = Pair::new(Home::Database).await;
    let (acts, waits) = pair.settled().await;
    let env = Environment::new(pair.world.pairs.clone());
    let here = env.with("STATE_FILE", acts.state_file.display().to_string());
    let before = here.run(&["why"]).await;
    assert!(!before.all().contains("the runner inside"), "{}", before.all());
    pair.ops.as_ref().expect("a database").stop().await.expect("stopped");
    let deadline = Instant::now() + DEADLINE;
    loop {
        let why = here.run(&["why"]).await;
        if why.out.contains("the runner inside cannot work: the ops database: ") {
            assert!(why.out.contains("OPS_DATABASE_URL") && why.code == Some(1), "{}", why.out);
            break;
        }
        assert!(Instant::now() < deadline, "{}", why.all());
    }
    acts.ends_well().await;
    waits.ends_well().await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_and_doctor_say_how_the_ops_database_is() {
    let pair = Pair::new(Home::Database).await;
    let ops = pair.ops.as_ref().expect("a database");
    let env = Environment::new(pair.world.pairs.clone());
    env.clone().without("OPS_DATABASE_URL").run(&["migrate"]).await.expect_code(78).expect_text("OPS_DATABASE_URL");
    env.run(&["doctor"]).await.expect_code(0).expect_text("ok  OPS_DATABASE_URL: can be used");
    for _ in 0..2 {
        env.run(&["migrate"]).await.expect_code(0).expect_text("schema ops is up to date");
    }
    env.run(&["doctor"]).await.expect_code(0).expect_text("ok  OPS_DATABASE_URL: can be used");

    ops.create_role("plain", "a plain word").await.expect("a role");
    let plain = env.clone().with("OPS_DATABASE_URL", ops.url_as("plain", "a plain word"));
    plain.run(&["doctor"]).await.expect_code(1).expect_text("BAD OPS_DATABASE_URL: role plain may not");
    let wrong = env.clone().with("OPS_DATABASE_URL", ops.url_as("postgres", "canary-word"));
    let ended = wrong.run(&["doctor"]).await.expect_code(1).expect_text("refused the user or password");
    assert!(!ended.all().contains("canary"), "{}", ended.all());
    let ended = wrong.run(&["migrate"]).await.expect_code(1).expect_text("refused the user or password");
    assert!(!ended.all().contains("canary"), "{}", ended.all());
    ops.stop().await.expect("stopped");
    for command in [&["once"][..], &["destroy", "--yes"]] {
        let ended = env.run(command).await.expect_code(75).expect_text("the ops database (OPS_DATABASE_URL) cannot be");
        assert!(!ended.err.contains("a daemon runs"), "nobody can know that: {}", ended.err);
    }
    env.run(&["doctor"]).await.expect_code(1).expect_text("BAD OPS_DATABASE_URL: ");
    pair.stop().await;
}
