//! The program as a person meets it: exit codes, exact texts, what it deletes, what it leaves.

#[path = "support/binary.rs"]
mod binary;

use binary::{DEADLINE, Ended, Environment};
use ops_controller::sandbox::faults::Break;
use ops_controller::sandbox::{Options, Sandbox};
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

const COMMANDS: [&str; 19] = [
    "run",
    "plan",
    "once",
    "status",
    "why",
    "doctor",
    "config",
    "resume",
    "pause",
    "reset",
    "destroy",
    "migrate",
    "runs",
    "approvals",
    "backups",
    "restores",
    "token",
    "healthcheck",
    "sandbox",
];

struct World {
    sandbox: Sandbox,
    env: Environment,
}

impl World {
    /// A booted webapp, and nothing of ours yet.
    async fn start() -> World {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let sandbox = Sandbox::start(Options::short_delays()).await.expect("a sandbox");
        sandbox.webapp.ready().await.expect("a booted webapp");
        let env = Environment::new(sandbox.environment());
        World { sandbox, env }
    }

    fn state_file(&self) -> &Path {
        Path::new(self.env.get("STATE_FILE"))
    }

    /// None of these may ever be printed.
    fn canaries(&self) -> Vec<(&'static str, String)> {
        let url = self.env.get("DATABASE_URL");
        let encoded = url.split_once("postgres:").and_then(|(_, rest)| rest.rsplit_once('@')).expect("a password").0;
        vec![
            ("DigitalOcean token", self.env.get("DIGITALOCEAN_TOKEN").to_owned()),
            ("Railway token", self.env.get("RAILWAY_API_TOKEN").to_owned()),
            ("database password", self.sandbox.postgres.password().to_owned()),
            ("encoded database password", encoded.to_owned()),
            ("worker token", self.sandbox.webapp.token()),
            ("managed secret", self.sandbox.webapp.managed_secret()),
        ]
    }

    fn assert_silent(&self, ended: &Ended) {
        for (what, value) in self.canaries() {
            assert!(value.len() > 8, "{what} is no canary");
            assert!(!ended.all().contains(&value), "`{}` printed the {what}:\n{}", ended.command, ended.all());
        }
    }
}

async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}

// Without any world

/// The predecessor's defect 45.
#[tokio::test]
async fn without_configuration_every_missing_variable_is_named() {
    let is_of_runs = |c: &str| matches!(c, "migrate" | "runs" | "approvals" | "backups" | "restores" | "token");
    for command in COMMANDS.iter().filter(|c| !matches!(**c, "healthcheck" | "sandbox") && !is_of_runs(c)) {
        let ended = Environment::default().run(&[command]).await.expect_code(78);
        assert_eq!(ended.out, "", "`{command}`");
        for name in
            ["DIGITALOCEAN_TOKEN", "RAILWAY_API_TOKEN", "RAILWAY_PROJECT_ID", "RAILWAY_ENVIRONMENT_ID", "DATABASE_URL"]
        {
            assert!(ended.err.contains(&format!("  {name} is required")), "`{command}`: {}", ended.err);
        }
        assert!(ended.err.contains(".env.example") && ended.err.contains("ops-controller sandbox"), "{}", ended.err);
    }
}

#[tokio::test]
async fn bad_values_are_named_all_at_once_and_never_repeated() {
    let env = Environment::default()
        .with("DIGITALOCEAN_TOKEN", "two words-canary")
        .with("DATABASE_URL", "mysql://u:canary@h/d")
        .with("CHECK_INTERVAL", "canary")
        .with("LISTEN_ADDR", "canary")
        .with("SUPERVISOR_SIZ", "s-1vcpu-1gb");
    let ended = env.run(&["config"]).await.expect_code(78);
    for name in ["DIGITALOCEAN_TOKEN must", "DATABASE_URL must", "CHECK_INTERVAL must", "LISTEN_ADDR must"] {
        assert!(ended.err.contains(name), "{name}: {}", ended.err);
    }
    assert!(!ended.all().contains("canary"), "{}", ended.err);
}

#[tokio::test]
async fn help_mentions_every_command_and_exit_code() {
    let help = Environment::default().run(&["--help"]).await.expect_code(0);
    for command in COMMANDS {
        assert!(
            help.out.lines().any(|l| l.trim_start().starts_with(&format!("{command} "))),
            "{command}: {}",
            help.out
        );
        Environment::default().run(&[command, "--help"]).await.expect_code(0);
    }
    for code in ["0 done", "1 error", "2 changes pending", "64 usage", "75 try later", "78 configuration"] {
        assert!(help.out.contains(code), "{code}: {}", help.out);
    }
    assert!(!help.out.contains("sandbox-droplet"), "an inner command is shown");
}

#[tokio::test]
async fn usage_errors_exit_64_and_say_what_there_is() {
    let none = Environment::default();
    none.run(&["nonsense"]).await.expect_code(64).expect_text("nonsense").expect_text("--help");
    none.run(&["plan", "--jsno"]).await.expect_code(64).expect_text("--json");
    none.run(&["plan", "extra"]).await.expect_code(64);
    let ended = none.run(&["sandbox", "--break", "nonsense"]).await.expect_code(64).expect_text("nonsense");
    for trouble in Break::ALL {
        assert!(ended.err.contains(trouble.name()), "{}: {}", trouble.name(), ended.err);
    }
}

#[tokio::test]
async fn healthcheck_tells_a_daemon_from_nothing_and_from_something_else() {
    let env = Environment::default().with("LISTEN_ADDR", "127.0.0.1:1");
    env.run(&["healthcheck"]).await.expect_code(1).expect_text("nothing answers on http://127.0.0.1:1/readyz");
    let bad = Environment::default().with("LISTEN_ADDR", "here");
    bad.run(&["healthcheck"]).await.expect_code(78).expect_text("LISTEN_ADDR must be");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, axum::Router::new()).await });
    let env = Environment::default().with("LISTEN_ADDR", address.to_string());
    env.run(&["healthcheck"]).await.expect_code(1).expect_text("answered 404");
}

/// 78 would keep a service manager from ever trying again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_in_use_is_no_fault_of_the_configuration() {
    let world = World::start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let env = world.env.clone().with("LISTEN_ADDR", taken.local_addr().expect("an address").to_string());
    env.run(&["run"]).await.expect_code(1).expect_text("LISTEN_ADDR 127.0.0.1:").expect_text("cannot be used");
    assert!(!world.state_file().exists(), "nothing was begun");
    world
        .env
        .clone()
        .with("LISTEN_ADDR", "8080")
        .run(&["run"])
        .await
        .expect_code(78)
        .expect_text("LISTEN_ADDR must be");
    world.sandbox.stop().await;
}

/// Every try makes a file that it then cannot write; a daemon tries once a second.
#[tokio::test]
async fn on_a_full_disk_no_lease_files_pile_up() {
    let world = World::start().await;
    let folder = world.state_file().parent().expect("a folder").to_owned();
    let listing = || std::fs::read_dir(&folder).map_or(0, Iterator::count);
    let before = listing();
    // No file may grow beyond nothing, and the signal that says so is ignored.
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$0\" pause";
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", script, binary::PROGRAM]).env_clear().envs(world.sandbox.environment());
    let full = within("the end of pause", command.output()).await.expect("its output");
    let err = String::from_utf8_lossy(&full.stderr);
    assert!(full.status.code() == Some(1) && err.contains("the folder of the state file"), "{err}");
    assert_eq!(listing(), before, "{err}");
    world.env.run(&["pause"]).await.expect_code(0);
    world.sandbox.stop().await;
}

/// Root's files in the service user's folder would lock the service out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn root_is_refused_in_the_folder_of_another_user() {
    let world = World::start().await;
    let folder = world.state_file().parent().expect("a folder").to_owned();
    std::fs::create_dir_all(&folder).expect("a folder");
    let owner = |user: u32| std::os::unix::fs::chown(&folder, Some(user), None);
    if owner(65_534).is_err() {
        eprintln!("skipped: only root can meet another user's folder");
        return world.sandbox.stop().await;
    }
    let before = std::fs::read_dir(&folder).expect("a folder").count();
    for command in [&["run"][..], &["once"], &["reset"], &["pause"], &["resume"], &["destroy", "--yes"]] {
        world.env.run(command).await.expect_code(64).expect_text("belongs to nobody").expect_text("`sudo -u nobody`");
    }
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), before);
    world.env.run(&["plan"]).await.expect_code(0);
    owner(12_345).expect("given away");
    world.env.run(&["once"]).await.expect_code(64).expect_text("`sudo -u '#12345'`");
    owner(0).expect("taken back");
    world.env.run(&["once"]).await.expect_code(0);
    world.sandbox.stop().await;
}

// A whole life

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_from_plan_to_destroy() {
    let world = World::start().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let env = world.env.clone().with("LOG_LEVEL", "trace").with("LISTEN_ADDR", port.to_string());
    let ocean = &world.sandbox.digitalocean;
    let run = async |arguments: &[&str], code: i32| {
        let ended = env.run(arguments).await.expect_code(code);
        world.assert_silent(&ended);
        ended
    };

    // Nothing is there: looking changes nothing.
    let plan = run(&["plan"], 0).await;
    for line in [
        "+ set wal_level = logical (alter system)\n    because  wal_level is replica and must be logical\n    downtime none",
        "+ create publication task_runs_to_clickhouse_v1_publication",
        "- held: create droplet trigger-supervisor-",
        "    by       FirewallReady: no droplet is made before its firewall stands",
        "4 to do now, 1 held; later cycles may add more\nchange of the monthly bill: +0 USD",
        "SupervisorDeployed is False (Held): ",
    ] {
        assert!(plan.out.contains(line), "{line:?} is not in:\n{}", plan.out);
    }
    run(&["plan", "--detailed-exitcode"], 2).await;
    let json: Value = serde_json::from_str(&run(&["plan", "--json"], 0).await.out).expect("JSON");
    assert_eq!(json["actions"].as_array().map(Vec::len), Some(4), "{json:#}");
    assert_eq!(json["monthly_usd"].to_string(), "0.0");
    for action in json["actions"].as_array().expect("actions") {
        for key in ["key", "action", "resource", "reason", "downtime"] {
            assert!(action[key].as_str().is_some_and(|t| !t.is_empty()), "{key}: {action}");
        }
    }
    assert_eq!(json["held"][0]["by"], "FirewallReady");
    let why = run(&["why"], 1).await;
    let (last, lines) =
        why.out.lines().collect::<Vec<_>>().split_last().map(|(l, ls)| (*l, ls.to_vec())).expect("lines");
    assert!(lines.iter().all(|l| l.contains(" is False (")), "{}", why.out);
    assert_eq!(last, "SupervisorReachable, SupervisorConnected: waiting for the above");
    assert!(!world.state_file().exists(), "looking writes no state");
    assert!(ocean.requests().iter().all(|r| r.method == "GET"), "and asks only");

    // The commands that need a daemon, without one.
    run(&["status"], 1).await.expect_text("no daemon runs with STATE_FILE").expect_text("ops-controller run");
    run(&["healthcheck"], 1).await.expect_text("nothing answers");
    run(&["reset"], 0).await.expect_text("there is no state at");
    run(&["destroy", "--yes"], 0).await.expect_text("nothing of ours exists");

    // A rate limit is no error of anybody: try later.
    world.sandbox.faults.next_requests(Break::RateLimited, 20);
    run(&["plan"], 75).await.expect_text("the plan is incomplete").expect_text("limits the rate");
    world.sandbox.faults.clear(Break::RateLimited);

    // One cycle.
    let once = run(&["once"], 0).await;
    assert!(once.out.contains("SupervisorDeployed is False"), "{}", once.out);
    assert_eq!(ocean.firewalls().len(), 1);
    let mode = std::fs::metadata(world.state_file()).expect("a state file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // Pause and resume through the file.
    run(&["pause"], 0).await.expect_text("no daemon runs; noted for its next start: pause");
    let before = ocean.requests().iter().filter(|r| r.method != "GET").count();
    run(&["once"], 0).await;
    let after = ocean.requests().iter().filter(|r| r.method != "GET").count();
    assert_eq!(after, before, "a paused controller changes nothing");
    run(&["resume"], 0).await.expect_text("no daemon runs; noted for its next start: resume");

    // The daemon.
    let daemon = env.start(&["run"]);
    let status = within("a healthy daemon", async {
        loop {
            let ended = env.run(&["status"]).await;
            if ended.code == Some(0) {
                let status: Value = serde_json::from_str(&ended.out).expect("JSON");
                if status["healthy"] == true {
                    return status;
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    })
    .await;
    assert_eq!(status["mode"], "active");
    let ours = ocean.droplets().remove(0);
    assert_eq!(status["droplet"]["name"], ours.name.as_str());
    run(&["healthcheck"], 0).await;
    // The webapp's slot may take a moment longer; it is a warning only.
    let why = run(&["why"], 0).await;
    assert!(
        why.out == "every condition is True\n" || why.out.starts_with("ReplicationSlotHealthy (warning)"),
        "{}",
        why.out
    );
    let plan = run(&["plan", "--detailed-exitcode"], 0).await;
    assert!(plan.out.starts_with("nothing to do\n"), "{}", plan.out);

    // What would disturb the daemon is refused, and says how to go on.
    for command in [&["once"][..], &["reset"], &["destroy", "--yes"]] {
        let ended = run(command, 75).await;
        assert!(
            ended.err.contains("a daemon runs with STATE_FILE") && ended.err.contains("stop it first"),
            "{}",
            ended.err
        );
    }
    assert_eq!(ocean.droplets().len(), 1);

    // Through the socket.
    let mode = async |wanted: &str| {
        within(wanted, async {
            loop {
                let status: Value = serde_json::from_str(&run(&["status"], 0).await.out).expect("JSON");
                if status["mode"] == wanted {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await
    };
    let socket = format!("{}.sock", world.state_file().display());
    assert_eq!(std::fs::metadata(&socket).expect("a socket").permissions().mode() & 0o777, 0o600);
    run(&["pause"], 0).await.expect_text("the daemon was asked to pause");
    let status = mode("paused").await;
    assert!(status["mode_reason"].as_str().is_some_and(|r| r.contains("paused by a person")), "{status:#}");
    assert!(run(&["why"], 0).await.out.starts_with("paused: paused by a person"));
    run(&["resume"], 0).await.expect_text("the daemon was asked to resume");
    mode("active").await;

    // A stop is soon, clean and silent about secrets.
    let begun = Instant::now();
    let log = daemon.end_with(libc::SIGTERM).await.expect_code(0);
    assert!(begun.elapsed() < Duration::from_secs(5), "SIGTERM took {:?}", begun.elapsed());
    world.assert_silent(&log);
    assert!(log.out.contains("\"TRACE\"") || log.out.contains("\"DEBUG\""), "no trace: {}", &log.out[..500]);
    assert!(log.out.lines().all(|l| serde_json::from_str::<Value>(l).is_ok()), "every line is JSON");
    assert_eq!(log.err, "");
    assert!(!Path::new(&socket).exists(), "the socket is left behind");
    run(&["status"], 1).await.expect_text("no daemon runs");

    // Only ours, and only with the word.
    let tag = ours.tags.iter().find(|t| t.starts_with("ops-controller-")).expect("our tag").clone();
    let alike = [&tag[..tag.len() - 1], "trigger-supervisor", "bt"];
    let mut foreign: BTreeSet<u64> = BTreeSet::new();
    foreign.insert(ocean.add_droplet("foreign", &alike).expect("a droplet"));
    foreign.insert(ocean.add_droplet(&ours.name, &[]).expect("a droplet"));
    for word in ["", "destroy\n", "yes\n", "DESTROY it\n"] {
        let refused = env.run_with_input(&["destroy"], word).await.expect_code(64);
        assert!(refused.out.contains(&format!("droplet {} ({})", ours.name, ours.id)), "{}", refused.out);
        assert!(refused.err.contains("nothing was deleted") && refused.err.contains("--yes"), "{}", refused.err);
        world.assert_silent(&refused);
    }
    assert_eq!(ocean.droplets().len(), 3, "nothing was deleted");
    let destroyed = env.run_with_input(&["destroy"], "DESTROY\n").await.expect_code(0);
    destroyed.expect_text(&format!("droplet {} is gone", ours.name)).expect_text("deleted firewall");
    let left: BTreeSet<u64> = ocean.droplets().iter().map(|d| d.id).collect();
    assert_eq!(left, foreign, "exactly the others' droplets are left");
    assert!(ocean.firewalls().is_empty());
    assert!(!ocean.tags().contains(&tag));
    run(&["destroy", "--yes"], 0).await.expect_text("nothing of ours exists");

    let reset = run(&["reset"], 0).await.expect_text("set aside as");
    assert!(!world.state_file().exists());
    let aside = reset.out.split_whitespace().find(|w| w.contains(".reset-")).expect("a path");
    assert_eq!(std::fs::metadata(aside).expect("kept").permissions().mode() & 0o777, 0o600);
    assert_eq!(ocean.violations(), Vec::<String>::new());
    world.sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn destroy_with_yes_asks_nothing() {
    let world = World::start().await;
    let env = world.env.clone();
    // Two cycles: the firewall, then the droplet.
    env.run(&["once"]).await.expect_code(0);
    env.run(&["once"]).await.expect_code(0);
    assert_eq!(world.sandbox.digitalocean.droplets().len(), 1);
    let destroyed = env.run(&["destroy", "--yes"]).await.expect_code(0).expect_text("done;");
    assert!(!destroyed.out.contains("type DESTROY"), "{}", destroyed.out);
    world.assert_silent(&destroyed);
    assert!(world.sandbox.digitalocean.droplets().is_empty());

    // An unreadable account is no empty one.
    let blind = env.with("DIGITALOCEAN_TOKEN", "dop_v1_wrong");
    let refused = blind.run(&["destroy", "--yes"]).await.expect_code(1);
    assert!(refused.err.contains("error: DigitalOcean refused"), "{}", refused.err);
    assert!(!refused.out.contains("nothing of ours exists"), "{}", refused.out);
    world.sandbox.stop().await;
}

/// The first one got as far as the tag, and failed there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_destroy_removes_the_tag_that_the_first_one_left_unless_something_carries_it() {
    let world = World::start().await;
    let nothing = world.env.run(&["destroy", "--yes"]).await.expect_code(0).expect_text("nothing of ours exists");
    let tag = nothing.out.split_once("(tag ").and_then(|(_, rest)| rest.split_once(')')).expect("our tag").0;
    let url = format!("{}/v2/tags", world.env.get("DIGITALOCEAN_API_URL"));
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let made = client.post(url).bearer_auth(world.env.get("DIGITALOCEAN_TOKEN"));
    let made = made.json(&serde_json::json!({ "name": tag })).send().await.expect("an answer");
    assert!(made.status().is_success(), "{}", made.status());
    assert!(world.sandbox.digitalocean.tags().iter().any(|t| t == tag));
    world.env.run(&["destroy", "--yes"]).await.expect_code(0).expect_text("nothing of ours exists");
    assert!(!world.sandbox.digitalocean.tags().iter().any(|t| t == tag), "the tag is left");

    // Made, and not listed yet: without its tag nobody would find it again.
    world.sandbox.faults.during(Break::ListLag, Duration::from_secs(600));
    let hidden = world.sandbox.digitalocean.add_droplet("trigger-supervisor-x-1", &[tag]).expect("a droplet");
    world
        .env
        .run(&["destroy", "--yes"])
        .await
        .expect_code(75)
        .expect_text("nothing of ours is listed")
        .expect_text(tag);
    let droplets = world.sandbox.digitalocean.droplets();
    assert!(droplets.iter().any(|d| d.id == hidden && d.tags.iter().any(|t| t == tag)), "it lost its mark");
    world.sandbox.stop().await;
}

// sandbox

/// A place for everything that a sandbox puts into the temporary folder.
fn temporary() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    // PostgreSQL runs as another user than root, and must pass.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    folder
}

fn in_folder(folder: &tempfile::TempDir) -> Environment {
    let path = std::env::var("PATH").unwrap_or_default();
    Environment::default().with("TMPDIR", folder.path().display().to_string()).with("PATH", path)
}

fn left_in(folder: &tempfile::TempDir) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path()).expect("a folder");
    entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// Pid and start time of everything that descends from this process: together they are never reused.
fn descendants(root: i32) -> BTreeSet<(i32, String)> {
    let stat = |pid: i32| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<String> = text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect();
        Some((fields[1].parse::<i32>().ok()?, fields[19].clone(), fields[0].clone()))
    };
    let pids = std::fs::read_dir("/proc").expect("/proc").filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    let all: Vec<(i32, i32, String)> = pids
        .filter_map(|pid| stat(pid).filter(|(_, _, state)| state != "Z").map(|(parent, start, _)| (pid, parent, start)))
        .collect();
    let mut found: BTreeSet<(i32, String)> = BTreeSet::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for (pid, _, start) in all.iter().filter(|(_, p, _)| *p == parent) {
            if found.insert((*pid, start.clone())) {
                parents.push(*pid);
            }
        }
    }
    found
}

async fn assert_gone(processes: &BTreeSet<(i32, String)>) {
    let alive = || {
        let still = |(pid, start): &&(i32, String)| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields: Vec<&str> = text.rsplit_once(')').map_or("", |f| f.1).split_whitespace().collect();
            fields.get(19) == Some(&start.as_str()) && fields[0] != "Z"
        };
        processes.iter().filter(still).count()
    };
    let end = Instant::now() + Duration::from_secs(5);
    while alive() > 0 {
        assert!(Instant::now() < end, "{} of {} processes are left behind", alive(), processes.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sandbox_until_healthy_tells_its_story_and_leaves_nothing_behind() {
    let folder = temporary();
    let env = in_folder(&folder).with("LOG_LEVEL", "error").with("LISTEN_ADDR", "127.0.0.1:0");
    let mut running = env.start(&["sandbox", "--until-healthy"]);
    let pid = running.pid();
    let mut seen = BTreeSet::new();
    while !running.has_ended() {
        seen.extend(descendants(pid));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ended = running.output().await.expect_code(0);
    for text in ["SupervisorConnected: last heartbeat", "healthy after ", "taking everything down"] {
        assert!(ended.out.contains(text), "{text:?} is not in:\n{}", ended.out);
    }
    assert!(seen.len() >= 3, "a database and a droplet are processes: {seen:?}");
    assert_gone(&seen).await;
    assert_eq!(left_in(&folder), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_sandbox_leaves_nothing_behind_whenever_it_comes() {
    for after in [Duration::from_millis(150), Duration::from_millis(1200), Duration::from_millis(4000)] {
        let folder = temporary();
        let running = in_folder(&folder).with("LOG_LEVEL", "error").start(&["sandbox"]);
        tokio::time::sleep(after).await;
        let seen = descendants(running.pid());
        let ended = running.end_with(libc::SIGINT).await;
        assert!(ended.code.is_some(), "killed by the signal after {after:?}, not ended by itself");
        assert!(ended.out.contains("taking everything down"), "{after:?}: {}", ended.out);
        assert_gone(&seen).await;
        assert_eq!(left_in(&folder), Vec::<String>::new(), "after {after:?}");
    }
}
