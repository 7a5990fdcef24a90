//! `sandbox`: a little world on loopback, the ordinary daemon against it, and its story told.

use super::daemon;
use super::{ERROR, USAGE};
use futures_util::FutureExt;
use ops_controller::config::Config;
use ops_controller::controller::daemon::Controls;
use ops_controller::controller::status::Status;
use ops_controller::plan::condition::Status as Truth;
use ops_controller::sandbox::faults::Break;
use ops_controller::sandbox::{Options, Sandbox, builds, control};
use ops_controller::telemetry;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Opens what the sandbox serves, on this machine only; no secret.
const API_TOKEN: &str = "try-me-in-the-sandbox";
/// With --until-healthy: longer than this is a failure.
const STORY_DEADLINE: Duration = Duration::from_secs(300);

pub async fn run(breaks: Vec<String>, until_healthy: bool, clouds: Option<PathBuf>) -> u8 {
    let mut troubles = Vec::new();
    for name in &breaks {
        match Break::from_name(name) {
            Some(trouble) => troubles.push(trouble),
            None => {
                let known: Vec<_> = Break::ALL.iter().map(|b| b.name()).collect();
                eprintln!("error: there is no break named {name}; there are: {}", known.join(", "));
                return USAGE;
            }
        }
    }
    println!("starting simulated Railway, DigitalOcean and webapp, and a private PostgreSQL, all on this machine ...");
    let begun = Instant::now();
    let exe = match std::env::current_exe() {
        Ok(exe) => exe,
        Err(error) => {
            eprintln!("error: this program cannot find itself: {error}");
            return ERROR;
        }
    };
    let mut interrupts = match Interrupts::listen() {
        Ok(interrupts) => interrupts,
        Err(error) => {
            eprintln!("error: signals cannot be received: {error}");
            return ERROR;
        }
    };
    let sandbox = match Sandbox::start(Options::default().with_processes(exe).with_ops()).await {
        Ok(sandbox) => Arc::new(sandbox),
        Err(error) => {
            eprintln!("error: the sandbox could not be started: {error}");
            return ERROR;
        }
    };
    let code = match (interrupts.came().now_or_never(), clouds) {
        (Some(()), _) => ERROR,
        (None, Some(file)) => serve_clouds(&sandbox, &file, interrupts).await,
        (None, None) => {
            let troubles = break_from_the_start(&sandbox, troubles);
            story(&sandbox, troubles, until_healthy, begun, interrupts).await
        }
    };
    println!("taking everything down ...");
    match Arc::try_unwrap(sandbox) {
        Ok(sandbox) => sandbox.stop().await,
        // The control server still holds it; what it started dies with this process all the same.
        Err(shared) => shared.halt().await,
    }
    code
}

/// Trouble with the beginning must be there at the beginning; returns the rest.
fn break_from_the_start(sandbox: &Sandbox, troubles: Vec<Break>) -> Vec<Break> {
    let (early, later): (Vec<_>, Vec<_>) =
        troubles.into_iter().partition(|b| matches!(b, Break::SlowRestart | Break::PoisonedToken));
    for trouble in early {
        println!("breaking from the start: {}", trouble.name());
        if let Err(why) = sandbox.cause(trouble) {
            println!("it cannot be broken: {why}");
        }
    }
    later
}

/// The clouds alone: their settings go to a file, and the user runs the commands against them.
async fn serve_clouds(sandbox: &Arc<Sandbox>, file: &Path, mut interrupts: Interrupts) -> u8 {
    let written = write_settings(file, &pairs(sandbox, &["STATE_FILE"]));
    let control = control::serve(sandbox.clone()).await;
    match (written, control) {
        (Ok(()), Ok(control)) => {
            let file = file.display();
            println!("settings are in {file}; in another terminal:");
            println!("  ENV_FILE={file} ops-controller doctor     (or plan, once, run, why, runs list, destroy ...)");
            println!("  curl -X POST http://{control}/sandbox/break/NAME     (list: curl http://{control}/sandbox)");
            println!("stop:    Ctrl-C");
            interrupts.came().await;
            let _ = std::fs::remove_file(file.to_string());
            0
        }
        (Err(error), _) => {
            eprintln!("error: {} cannot be written: {error}", file.display());
            ERROR
        }
        (_, Err(error)) => {
            eprintln!("error: the sandbox's control server could not be started: {error}");
            ERROR
        }
    }
}

async fn story(
    sandbox: &Arc<Sandbox>,
    troubles: Vec<Break>,
    until_healthy: bool,
    begun: Instant,
    mut interrupts: Interrupts,
) -> u8 {
    let config = match sandbox_config(sandbox) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: the sandbox's own configuration is refused:\n{error}");
            return ERROR;
        }
    };
    let control = match control::serve(sandbox.clone()).await {
        Ok(address) => address,
        Err(error) => {
            eprintln!("error: the sandbox's control server could not be started: {error}");
            return ERROR;
        }
    };
    let settings = sandbox.folder().join("sandbox.env");
    if let Err(error) = write_settings(&settings, &pairs(sandbox, &[])) {
        eprintln!("error: {} cannot be written: {error}", settings.display());
        return ERROR;
    }
    let telemetry = telemetry::init(config.log_format, &config.log_level, &config.secrets());
    let failed = Arc::new(AtomicBool::new(false));
    let teller = Teller { sandbox: sandbox.clone(), troubles, until_healthy, begun, failed: failed.clone() };
    let reload_from = sandbox.clone();
    let code = daemon::serve(config, move || sandbox_config(&reload_from), telemetry, move |(controls, address)| {
        println!("status:  curl http://{address}/status");
        println!("break:   curl -X POST http://{control}/sandbox/break/supervisor-killed   (list: curl http://{control}/sandbox)");
        println!("runs:    curl -H 'Authorization: Bearer {API_TOKEN}' http://{address}/ops/runs   (one build a minute)");
        println!("cli:     ENV_FILE={} ops-controller runs list   (or why, runs show ID, kinds list ...)", settings.display());
        println!("stop:    Ctrl-C");
        let builds = teller.sandbox.clone();
        tokio::spawn(async move {
            let began = Instant::now();
            builds::every_minute(&builds, |line| println!("{:6.1} s  {line}", began.elapsed().as_secs_f64())).await;
        });
        let stop = controls.stop.clone();
        tokio::spawn(async move {
            interrupts.came().await;
            stop.cancel();
        });
        tokio::spawn(teller.tell(controls));
    })
    .await;
    if failed.load(Ordering::Relaxed) { ERROR } else { code }
}

/// For ENV_FILE: the tokens are of simulated clouds, but the databases are real.
fn write_settings(file: &Path, pairs: &[(String, String)]) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let mut to = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    // It may have been there before.
    to.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    let lines: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    to.write_all(lines.concat().as_bytes())
}

/// Ctrl-C and SIGTERM from now on: while the world starts, they must not leave half of it behind.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn listen() -> std::io::Result<Interrupts> {
        Ok(Interrupts { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn came(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn sandbox_config(sandbox: &Sandbox) -> Result<Config, ops_controller::config::ConfigError> {
    Config::from_pairs(pairs(sandbox, &[]))
}

/// The world's variables; what is set in the environment (intervals, sizes, guards, and what else the
/// caller lets it) wins, except for tokens and addresses, which must be the simulated ones.
fn pairs(sandbox: &Sandbox, also: &[&str]) -> Vec<(String, String)> {
    const FROM_ENVIRONMENT: [&str; 18] = [
        "SUPERVISOR_REGION",
        "SUPERVISOR_SIZE",
        "TRIGGER_VERSION",
        "IS_ACTIVE",
        "CHECK_INTERVAL",
        "AUTO_DISABLE",
        "HEALTHY_CYCLES_BEFORE_DISABLE",
        "DISABLED_CHECK_INTERVAL",
        "PROGRESS_INTERVAL",
        "MAX_DROPLETS",
        "MAX_MONTHLY_USD",
        "LISTEN_ADDR",
        "API_TOKEN",
        "RUNNER_CONCURRENCY",
        "RUNNER_COMMANDS",
        "RUNNER_KINDS",
        "LOG_FORMAT",
        "LOG_LEVEL",
    ];
    let mut pairs = sandbox.runner_environment();
    pairs.push(("API_TOKEN".to_owned(), API_TOKEN.to_owned()));
    for name in FROM_ENVIRONMENT.iter().chain(also).copied() {
        if let Ok(value) = std::env::var(name) {
            pairs.retain(|(n, _)| n != name);
            pairs.push((name.to_owned(), value));
        }
    }
    pairs
}

/// Prints how conditions turn True, breaks what was asked for, and says when it is healed.
struct Teller {
    sandbox: Arc<Sandbox>,
    troubles: Vec<Break>,
    until_healthy: bool,
    begun: Instant,
    failed: Arc<AtomicBool>,
}

impl Teller {
    async fn tell(self, mut controls: Controls) {
        let told = tokio::time::timeout(STORY_DEADLINE, self.chapters(&mut controls)).await;
        if !self.until_healthy {
            return;
        }
        if told.is_err() {
            println!("not healthy within {} s", STORY_DEADLINE.as_secs());
            self.failed.store(true, Ordering::Relaxed);
        }
        controls.stop.cancel();
    }

    async fn chapters(&self, controls: &mut Controls) {
        self.until_healthy(controls).await;
        println!("healthy after {:.1} s", self.begun.elapsed().as_secs_f64());
        for trouble in &self.troubles {
            println!("breaking: {}", trouble.name());
            if let Err(why) = self.sandbox.cause(*trouble) {
                println!("it cannot be broken now: {why}");
                continue;
            }
            let broken = Instant::now();
            self.until_noticed(controls).await;
            self.until_healthy(controls).await;
            println!("healed {:.1} s after {}", broken.elapsed().as_secs_f64(), trouble.name());
        }
    }

    async fn until_healthy(&self, controls: &mut Controls) {
        let mut told: Vec<String> = Vec::new();
        loop {
            let status = controls.status.borrow_and_update().clone();
            for condition in status.conditions.iter().filter(|c| c.status == Truth::True) {
                let name = condition.kind.to_string();
                if !told.contains(&name) {
                    println!("{:6.1} s  {name}: {}", self.begun.elapsed().as_secs_f64(), condition.message);
                    told.push(name);
                }
            }
            if is_settled(&status) || controls.status.changed().await.is_err() {
                return;
            }
        }
    }

    /// Some trouble is healed before anybody can see it: then there is nothing to wait for.
    async fn until_noticed(&self, controls: &mut Controls) {
        let noticed = async {
            while is_settled(&controls.status.borrow_and_update().clone()) {
                if controls.status.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(20), noticed).await;
    }
}

/// Healthy, and every condition True: in the sandbox the warnings pass, too.
fn is_settled(status: &Status) -> bool {
    status.healthy && status.conditions.iter().all(|c| c.status == Truth::True)
}
