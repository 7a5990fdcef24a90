//! Programs that phases start: only those of the list, with nothing of ours, and none left behind.

use crate::world::World;
use serde_json::json;
use std::path::Path;

#[tokio::test]
async fn a_program_that_is_not_on_the_list_is_refused() {
    let world = World::new().await;
    world.program("allowed", "exit 0");
    for program in ["sh", "/bin/sh", "../allowed"] {
        let run = world.queue_custom(json!([{ "name": "x", "uses": "command", "with": { "program": program } }])).await;
        let runner = world.runner();
        let error = world.failed(&run).await;
        runner.end().await;
        let wanted = format!("the program {program} is not in this runner's RUNNER_COMMANDS, which has allowed");
        assert!(error.ends_with(&wanted), "{error}");
    }
    world.stop().await;
}

#[tokio::test]
async fn arguments_are_words_and_never_shell_and_what_is_printed_is_kept_and_cleaned() {
    let world = World::new().await;
    world.program(
        "show",
        "printf '%s\\n' \"$@\"; echo ghp_0123456789abcdefghijABCDEFGHIJ012345 >&2; env | cut -d= -f1 | sort",
    );
    let run = world
        .queue_custom(json!([{ "name": "x", "uses": "command", "with": {
            "program": "show", "arguments": ["${git_sha}", "$(touch /tmp/x); `id` ${unknown}", ""], "env": { "OWN": "1" },
        } }]))
        .await;
    let runner = world.runner();
    let output = world.succeeded(&run).await;
    runner.end().await;
    let printed = output["phases"]["x"]["stdout"].as_str().expect("a text");
    let wanted = format!("{}\n$(touch /tmp/x); `id` ${{unknown}}\n\nHOME\nLANG\nOWN\nPATH\nPWD\n", crate::world::SHA);
    assert_eq!(printed, wanted);
    let events = world.ask("select string_agg(payload::text, ' ') from ops.run_events").await;
    assert!(!events.contains("ghp_0123456789") && events.contains("[redacted]"), "{events}");
    world.stop().await;
}

#[tokio::test]
async fn a_program_that_fails_ends_the_run_with_its_last_words_unless_it_may_be_tried_again() {
    let world = World::new().await;
    world.program("breaks", "echo before; echo 'no such thing' >&2; exit 3");
    let run = world.queue_custom(json!([{ "name": "x", "uses": "command", "with": { "program": "breaks" } }])).await;
    let runner = world.runner();
    assert_eq!(world.failed(&run).await, "Phase x failed: breaks ended with code 3: no such thing");
    assert_eq!(world.run(&run).await.attempt, 1);
    let marker = world.folder.path().join("tried").display().to_string();
    world.program("second", &format!("test -e {marker} || {{ touch {marker}; exit 1; }}"));
    runner.end().await;
    let with = json!({ "program": "second" });
    let run = world.queue_custom(json!([{ "name": "x", "uses": "command", "with": with, "retries": 1 }])).await;
    let runner = world.runner();
    world.succeeded(&run).await;
    assert_eq!(world.run(&run).await.attempt, 1, "tried again within its attempt");
    runner.end().await;
    world.stop().await;
}

fn is_there(file: &Path) -> bool {
    let pid = std::fs::read_to_string(file).unwrap_or_default();
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    // A zombie is gone but for its name.
    !status.is_empty() && !status.contains(") Z ")
}

#[tokio::test]
async fn cancelled_late_or_killed_no_process_of_it_is_left() {
    for how in ["cancel", "deadline", "kill"] {
        let world = World::new().await;
        let pids = world.folder.path().join("pids");
        let (own, child) = (pids.with_extension("own"), pids.with_extension("child"));
        let script = format!(
            "trap '' TERM; sleep 600 & echo $! > {0}.new; mv {0}.new {0}; echo $$ > {1}.new; mv {1}.new {1}; wait; wait",
            child.display(),
            own.display()
        );
        world.program("stays", &script);
        let timeout = if how == "deadline" { "1s" } else { "10m" };
        let run = world
            .queue_custom(
                json!([{ "name": "x", "uses": "command", "with": { "program": "stays" }, "timeout": timeout }]),
            )
            .await;
        world.execute("update ops.runs set max_attempts = 1").await;
        let runner = world.runner();
        world.until_so("it runs", || own.exists() && is_there(&child)).await;
        match how {
            "cancel" => {
                world.cancel(&run).await;
                World::expect(&world.ended(&run).await, "cancelled");
            }
            "deadline" => assert!(world.failed(&run).await.ends_with("it took longer than 1 s")),
            _ => {}
        }
        if how == "kill" {
            runner.kill();
        } else {
            runner.end().await;
        }
        world.until_so("all of it is gone", || !is_there(&own) && !is_there(&child)).await;
        world.stop().await;
    }
}
