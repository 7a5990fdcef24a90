//! Programs that phases start: only those of the list, with nothing of ours, and none left behind.

use crate::binary::Environment;
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
            "program": "show", "arguments": ["${git_sha}", "$(touch /tmp/x); `id` $${unknown}", ""], "env": { "INPUT_OWN": "1" },
        } }]))
        .await;
    let runner = world.runner();
    world.succeeded(&run).await;
    runner.end().await;
    let output = world.left(&run, "x").await;
    let printed = output["stdout"].as_str().expect("a text");
    let wanted =
        format!("{}\n$(touch /tmp/x); `id` ${{unknown}}\n\nHOME\nINPUT_OWN\nLANG\nPATH\nPWD\n", crate::world::SHA);
    assert_eq!(printed, wanted);
    let events = world.ask("select string_agg(payload::text, ' ') from ops.run_events").await;
    assert!(!events.contains("ghp_0123456789") && events.contains("[redacted]"), "{events}");
    world.stop().await;
}

#[tokio::test]
async fn a_run_that_would_make_a_listed_program_execute_something_else_is_refused() {
    let world = World::new().await;
    let marker = world.folder.path().join("executed");
    let script = world.folder.path().join("script");
    std::fs::write(&script, format!("touch {}", marker.display())).expect("written");
    world.program("honest", "exec bash -c true");
    let runner = world.runner();
    for (field, value) in [("env", json!({ "BASH_ENV": script.display().to_string() })), ("folder", json!("/"))] {
        let with = json!({ "program": "honest", (field): value });
        let run = world.queue_custom(json!([{ "name": "x", "uses": "command", "with": with }])).await;
        let error = world.failed(&run).await;
        assert!(error.contains(&format!("phases[0].with.{field} ")), "{error}");
    }
    runner.end().await;
    assert!(!marker.exists());
    world.stop().await;
}

#[tokio::test]
async fn a_phase_works_in_a_folder_beside_the_store_that_is_gone_afterwards() {
    let world = World::new().await;
    world.program("where", "pwd; touch left-behind");
    let run = world.queue_custom(json!([{ "name": "x", "uses": "command", "with": { "program": "where" } }])).await;
    let abandoned = world.store().join(".scratch/ops-run-killed");
    std::fs::create_dir_all(&abandoned).expect("made");
    let week = std::time::Duration::from_secs(7 * 24 * 3600);
    let folder = std::fs::File::open(&abandoned).expect("opened");
    folder.set_modified(std::time::SystemTime::now() - week).expect("aged");
    let runner = world.runner();
    world.succeeded(&run).await;
    runner.end().await;
    let printed = world.left(&run, "x").await["stdout"].as_str().expect("a text").trim_end().to_owned();
    assert!(Path::new(&printed).starts_with(world.store().join(".scratch")), "{printed}");
    let left: Vec<_> = std::fs::read_dir(world.store().join(".scratch")).expect("a folder").collect();
    assert!(left.is_empty(), "{left:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_nul_that_a_program_prints_or_a_body_holds_is_replaced_and_ends_nothing() {
    let world = World::new().await;
    world.program("raw", "printf 'a\\000b'");
    world.program("bad", "printf 'c\\000d' >&2; exit 1");
    let app = axum::Router::new().route("/", axum::routing::get(async || r#"{"k\u0000":"v\u0000"}"#));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let run = world
        .queue_custom(json!([
            { "name": "program", "uses": "command", "with": { "program": "raw" } },
            { "name": "body", "uses": "http", "with": { "url": url } },
        ]))
        .await;
    let bad = world.queue_custom(json!([{ "name": "x", "uses": "command", "with": { "program": "bad" } }])).await;
    let runner = world.runner();
    world.succeeded(&run).await;
    assert_eq!(world.failed(&bad).await, "Phase x failed: bad ended with code 1: c\u{fffd}d");
    runner.end().await;
    assert_eq!(world.left(&run, "program").await["stdout"], "a\u{fffd}b");
    assert_eq!(world.left(&run, "body").await["body"], json!({ "k\u{fffd}": "v\u{fffd}" }));
    assert_eq!((world.run(&run).await.attempt, world.run(&bad).await.attempt), (1, 1));
    world.stop().await;
}

#[tokio::test]
async fn of_a_token_across_the_beginning_of_what_is_kept_nothing_is_left() {
    const KEPT: usize = 16 << 10;
    let world = World::new().await;
    let token = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
    // The last 20 characters of it are within; once with more before it than is read at a time.
    let script = format!(
        "head -c $1 /dev/zero | tr '\\000' y; printf '{token} '; head -c {} /dev/zero | tr '\\000' x",
        KEPT - 21
    );
    world.program("long", &script);
    let runner = world.runner();
    for before in ["0", "100000"] {
        let with = json!({ "program": "long", "arguments": [before] });
        let run = world.queue_custom(json!([{ "name": "x", "uses": "command", "with": with }])).await;
        world.succeeded(&run).await;
        let left = world.left(&run, "x").await;
        let printed = left["stdout"].as_str().expect("a text");
        assert!(printed.ends_with("xxx") && printed.len() <= KEPT && printed.len() > KEPT - 100, "{}", printed.len());
        assert!(!printed.contains(&token[token.len() - 8..]), "{before}: {}", &printed[..60]);
    }
    runner.end().await;
    world.stop().await;
}

#[tokio::test]
async fn phases_that_together_print_more_than_a_document_holds_are_a_success() {
    let world = World::new().await;
    world.program("much", "head -c 16000 /dev/zero | tr '\\000' x");
    let phase = |n: usize| {
        let beside = (!n.is_multiple_of(10)).then(|| format!("p{}", n - 1));
        json!({ "name": format!("p{n}"), "uses": "command", "with": { "program": "much" }, "parallel_with": beside })
    };
    let run = world.queue_custom((0..80).map(phase).collect()).await;
    let runner = world.runner();
    let output = world.succeeded(&run).await;
    runner.end().await;
    assert_eq!(output["phases"]["p79"], json!({ "status": "success" }));
    assert_eq!(world.left(&run, "p79").await["stdout"].as_str().map(str::len), Some(16000));
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
    let Ok(pid) = std::fs::read_to_string(file) else { return false };
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

#[tokio::test]
async fn a_runner_that_is_killed_by_the_kernel_takes_its_program_along() {
    let world = World::new().await;
    let own = world.folder.path().join("own");
    world.program("stays", &format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 600", own.display()));
    let with = json!({ "program": "stays" });
    let run = world.queue_custom(json!([{ "name": "x", "uses": "command", "with": with }])).await;
    // It cannot clean up behind itself.
    let temporary = world.folder.path().display().to_string();
    let mut runner = Environment::new(world.variables()).with("TMPDIR", temporary).start(&["runner"]);
    world.until_so("it runs", || runner.has_ended() || is_there(&own)).await;
    let ended = runner.end_with(libc::SIGKILL).await;
    assert!(own.exists(), "it was not started: {}", ended.all());
    world.until_so("it is gone", || !is_there(&own)).await;
    assert_eq!(world.run(&run).await.status, "running", "nobody said a word");
    world.stop().await;
}
