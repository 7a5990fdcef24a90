//! Durable runs, by real runners, in all ways to succeed and to fail: no secret of the configuration is
//! left in anything that can be read of them, and none that a user gave to a run but where they gave it.

mod ask;
mod echo;
mod work;
mod world;

use crate::canaries::{self, Canary};
use crate::emitted::{Emitted, Logged};
use crate::hour;
use crate::search::Search;
use crate::world::World;
use ask::Caller;
use ops_controller::clients::Seam;
use ops_controller::config::OpsConfig;
use ops_controller::runner::kinds::{self, Settings};
use ops_controller::runner::{Options, Runner};
use ops_controller::runs::schema::Address;
use ops_controller::telemetry;
use serde_json::json;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use work::{builds, cancel, custom, customs, executed_by_a_request, projects};
use world::Runs;

/// Who executes a story's runs.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    /// `runner`, its log in JSON, its artifacts in a folder.
    Runner,
    /// The daemon, its log as text, with a bucket that refuses and repeats.
    Daemon,
    /// A runner inside this test's program, whose log hides nothing.
    Plain,
}

/// In a process of its own this is the runner without redaction.
const PLAIN: &str = "CANARY_PLAIN_RUNNER";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_runs_leave_no_secret_in_what_is_logged_kept_or_shown() {
    if std::env::var_os(PLAIN).is_some() {
        return plain_runner().await;
    }
    let world = World::start().await;
    world.env.run(&["migrate"]).await.expect_code(0);
    // One after the other: a database that is copied must have nobody in it.
    let first = Runs::new(&world, "first").await;
    let second = Runs::new(&world, "second").await;
    let third = Runs::new(&world, "third").await;
    let stories = tokio::join!(story(&first, Who::Runner), story(&second, Who::Daemon), story(&third, Who::Plain));
    for searched in [stories.0, stories.1, stories.2] {
        println!("{} bytes, {} lines", searched.bytes, searched.lines);
        assert!(searched.bytes > 400_000 && searched.lines > 4_000, "too little was searched");
    }
    world.sandbox.stop().await;
}

/// Executes runs as `runner` does, and writes its log as it is.
async fn plain_runner() {
    hour::plain();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = OpsConfig::from_env().expect("a configuration");
    telemetry::redact_all(&config.secrets());
    let settings = Settings::new(&config, &Seam::default()).expect("settings");
    let address = Address::from_url(config.ops_database_url.expose(), "plain").expect("an address");
    let options =
        Options { concurrency: config.runner.concurrency, poll: config.runner.poll, ..Options::named("plain") };
    let stop = CancellationToken::new();
    let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a signal");
    let stopped = stop.clone();
    tokio::spawn(async move {
        signal.recv().await;
        stopped.cancel();
    });
    Runner::new(address, options, kinds::all(&Arc::new(settings))).run(stop).await.expect("a good end");
}

async fn story(runs: &Runs<'_>, who: Who) -> Search {
    let (mut emitted, mut answers) = (Emitted::default(), Emitted::default());
    let env = &runs.env;
    let env = match who {
        Who::Runner => env.clone().with("LOG_FORMAT", "json").with("LOG_LEVEL", "trace,ops_controller=trace"),
        Who::Daemon => env
            .clone()
            .with("LOG_FORMAT", "text")
            .with("LOG_LEVEL", "trace")
            .with("IS_ACTIVE", "false")
            .with("AWS_REGION", "eu-west-1")
            .with("AWS_ENDPOINT_URL", runs.echo(403, "raw"))
            .with("ARTIFACT_STORE", "s3://bucket/below"),
        Who::Plain => env.clone().with(PLAIN, "yes"),
    };
    let tokens = ask::tokens(&env).await;
    projects(runs).await;
    let log = runs.folder(&format!("{}.log", runs.name));
    let mut process = match who {
        Who::Runner => Logged::start(&env, &["runner"], log),
        Who::Daemon => Logged::start(&env, &["run"], log),
        Who::Plain => {
            let name = "runs::durable_runs_leave_no_secret_in_what_is_logged_kept_or_shown";
            let program = std::env::current_exe().expect("this test");
            Logged::start_other(&env, &program, &["--exact", name, "--nocapture"], log)
        }
    };
    process.until_log(" works on backup, build, custom, restore").await;
    let address = match who {
        Who::Plain => None,
        _ => Some(process.address().await),
    };
    builds(runs).await;
    let (queued, ()) = tokio::join!(
        customs(runs, address.as_deref(), &tokens, &mut emitted),
        executed_by_a_request(address.as_deref(), &mut answers)
    );
    emitted.0.append(&mut answers.0);
    let backup = runs.ask("select backup_id from ops.create_backup('custom', 'dev', 'weekly')").await;
    runs.until("a run waits", "select exists (select from ops.runs where kind = 'nobodys')").await;
    cancel(runs, address.as_deref(), &tokens, &queued, &mut emitted).await;
    all_ended(runs).await;
    // From now on the environments' databases refuse the password.
    runs.world.sql(&format!("alter role target_{} password 'another one'", runs.name)).await;
    runs.execute("select ops.create_backup('custom', 'dev', 'weekly')").await;
    if runs.ask(&format!("select status from ops.backups where backup_id = '{backup}'")).await == "success" {
        runs.execute(&format!("select ops.restore_backup('{backup}', 'custom-dev', 'olga')")).await;
    }
    custom(runs, json!([{ "name": "refused", "uses": "sql", "with": { "statements": ["select 1"] } }])).await;
    all_ended(runs).await;

    let ids = runs.ask("select string_agg(run_id, ' ' order by run_id) from ops.runs").await;
    let ids: Vec<String> = ids.split(' ').map(str::to_owned).collect();
    if let Some(address) = &address {
        ask::reads(&Caller::of(address), &tokens, &ids, &mut emitted).await;
    }
    emitted.command_lines();
    process.end(&mut emitted).await;
    assert_ends(runs, who).await;
    runs.assert_echoes(who == Who::Daemon);
    // Each command is a process, and shows the same whoever has executed the run.
    let some = if who == Who::Runner { 6 } else { 2 };
    ask::commands(&env, &ids[..some], &mut emitted).await;
    let refused = env.clone().with("OPS_DATABASE_URL", refused_url(runs));
    ask::refused(&refused, &mut emitted).await;
    if who == Who::Runner {
        let mut refused = Logged::start(&refused, &["runner"], runs.folder("refused.log"));
        refused.until_log("no runs are executed for now").await;
        refused.end(&mut emitted).await;
    }
    let arguments = std::fs::read(runs.folder(world::ARGUMENTS)).expect("what PostgreSQL's programs were started with");
    assert!(memchr::memmem::find(&arguments, b"--no-password").is_some());
    emitted.add("the arguments of PostgreSQL's programs", arguments);
    let files = ask::files(&runs.folder("store"), &mut emitted);
    assert!(files > 3 || who == Who::Daemon, "{files} files in the store");
    searched(runs, who, &tokens, emitted).await
}

/// Each in its way, or the story did not happen.
async fn assert_ends(runs: &Runs<'_>, who: Who) {
    let ends = ask::ends(runs).await;
    let kept = match who {
        Who::Daemon => [
            "good build failed Phase capture_artifacts failed: ARTIFACT_STORE s3://bucket/below",
            "dump failed: ARTIFACT_STORE s3",
        ],
        _ => ["good build success", "custom backup success"],
    };
    let told = [
        "fails build failed Phase build_image failed: workflow run",
        "image build failed Phase build_image failed: what image wrote to OPS_RESULT",
        "GitHub: dispatch workflow: 422 Bearer ",
        "Railway gave no usable answer: create service: application/json , ",
        "Railway: set variables: application/json , ",
        "Railway refused the credentials",
        "check says: GET http://127.0.0.1:",
        ": /said is \"",
        "the deploy hook at http://127.0.0.1:",
        ": it answered 401",
        "Phase unmet failed: ",
        "Phase refused failed: ",
        ": no connection",
        "breaks ended with code 3: GITHUB_TOKEN=",
        "statement 1: no connection to ",
        "custom cancelled",
        "custom backup failed Phase dump failed: the database shop_",
        " at TARGET_DATABASE_URL: it refused the user or password (SQLSTATE 28P01)",
    ];
    for text in told.iter().chain(&kept) {
        assert!(ends.contains(text), "{}: no run ended with {text}:\n{ends}", runs.name);
    }
}

fn refused_url(runs: &Runs<'_>) -> String {
    let host = format!("127.0.0.1:{}/ops_{}", runs.world.sandbox.postgres.port(), runs.name);
    canaries::database_url("DATABASE_URL", "canary_ops", &host)
}

async fn all_ended(runs: &Runs<'_>) {
    runs.until("all runs end", "select not exists (select from ops.runs where finished_at is null)").await;
}

async fn searched(runs: &Runs<'_>, who: Who, tokens: &[Canary], mut emitted: Emitted) -> Search {
    let mut never = runs.world.canaries.clone();
    never.extend_from_slice(tokens);
    never.push(canaries::unknown_bearer());
    // The libraries' own lines say more than ours.
    let logged = emitted.0.iter().any(|(_, text)| memchr::memmem::find(text, b"hyper_util").is_some());
    assert!(logged || who != Who::Runner, "the libraries say nothing at trace level");
    let given = world::of_users();
    let whole = runs.dump().await;
    let mut hits: Vec<String> =
        Search::of(&never).hits(&whole).into_iter().map(|hit| format!("the database: {hit}")).collect();
    let found = Search::of(&given).hits(&whole).len();
    assert!(found >= given.len(), "{found} of what users gave is not in the database: it is not searched");
    runs.execute("update ops.runs set metadata = '{}'; update ops.environments set config = '{}'").await;
    emitted.add("the database without what users wrote", runs.dump().await);
    never.extend(given);
    let mut search = Search::of(&never);
    for (what, text) in &emitted.0 {
        hits.extend(search.hits(text).into_iter().map(|hit| format!("{what}: {hit}")));
    }
    let shown = hits.iter().take(60).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(hits.is_empty(), "{} shows {} secrets:\n{shown}", runs.name, hits.len());
    search
}
