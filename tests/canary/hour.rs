//! More than an hour of the real daemon in compressed time, with many kinds of trouble on.
//!
//! Every minute something else goes wrong with some calls, and some provider repeats what it was
//! sent. Beside that: a supervisor dies, a droplet is deleted, the size changes, the database loses
//! its settings and goes away, and the worker token is lost and rotated.

use crate::canaries::{self, Canary};
use crate::compressed::World;
use crate::compressed::driver::{Deployment, compressed};
use crate::compressed::trouble::{Calls, Party, Trouble};
use crate::{errors, surfaces};
use jiff::SignedDuration;
use ops_controller::clients::Seam;
use ops_controller::config::{Config, LogFormat};
use ops_controller::controller::daemon::{Controls, Daemon, Request};
use ops_controller::sandbox::digitalocean::DigitalOceanOptions;
use ops_controller::telemetry;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Files that a life leaves for the search.
pub const SURFACES: &str = "surfaces";
pub const FOUND: &str = "found";

const TROUBLED: i64 = 65;
/// How long it may take afterwards until all is well.
const PATIENCE: i64 = 60;
const FORMER: &str = "a worker token that was printed once";
const UNKNOWN: &str = "a worker token that somebody else issued";

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    Json,
    Text,
    /// Only what this program says itself, and nothing hidden in it.
    Plain,
}

impl Log {
    pub fn test(self) -> &'static str {
        match self {
            Log::Json => "an_hour_of_trouble_leaves_no_secret_in_a_json_log_nor_in_what_is_shown",
            Log::Text => "an_hour_of_trouble_leaves_no_secret_in_a_text_log_nor_in_what_is_shown",
            Log::Plain => "what_the_program_says_itself_holds_no_secret_even_where_no_writer_hides_it",
        }
    }

    fn install(self, config: &Config) {
        let format = match self {
            Log::Json => LogFormat::Json,
            Log::Text => LogFormat::Text,
            Log::Plain => return plain(),
        };
        telemetry::init(Some(format), "trace", &config.secrets());
    }
}

/// A log that hides nothing, of what this program says itself.
pub fn plain() {
    let filter = EnvFilter::new("off,ops_controller=trace");
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).init();
}

/// Every secret of this story but the token that it rotates to.
pub fn canaries() -> Vec<Canary> {
    let mut all = canaries::of_variables();
    all.extend(canaries::of_railway());
    all.extend([FORMER, UNKNOWN].map(|name| Canary::new(name, canaries::worker_token(name))));
    all
}

fn deployment() -> Deployment {
    let token = canaries::value("DIGITALOCEAN_TOKEN");
    let lag = Duration::from_secs(30);
    let account = DigitalOceanOptions { token: token.clone(), list_lag: lag, ..DigitalOceanOptions::default() };
    let world = World::of(account, &canaries::value("TRIGGER_WORKER_TOKEN"));
    let mut deployment = Deployment::within(world.clone(), &token);
    let watched = canaries::database_url("DATABASE_URL", "postgres", "db.example.org:5432/railway");
    // One without the other is refused.
    deployment.set_all(&[("DOCKER_REGISTRY_USERNAME", "somebody"), ("DOCKER_REGISTRY_PASSWORD", "x")]);
    for Canary { name, value } in canaries::of_variables() {
        match name.as_str() {
            "DATABASE_URL" => deployment.set(&name, &watched),
            "TARGET_DATABASE_URL" => {
                deployment.set(&name, &canaries::database_url(&name, "somebody", "target.example.org:5432/x"));
            }
            // A lease is taken over the wire, which this world has not: the real program shows it.
            "OPS_DATABASE_URL" => {}
            _ => deployment.set(&name, &value),
        }
    }
    deployment.set("MAX_CREATES_PER_HOUR", "60");
    world.set_database_url(&watched);
    world.platform(|platform, _| {
        platform.managed_secret = canaries::value("MANAGED_WORKER_SECRET");
        platform.printed_token = Some(canaries::worker_token(FORMER));
        let others = canaries::of_railway().into_iter().map(|c| (&*c.name.leak(), c.value));
        platform.other_variables = others.collect();
    });
    deployment
}

/// The whole story; what it says and shows is searched afterwards by somebody else.
pub fn live(log: Log, folder: &Path) {
    let mut surfaces = File::create(folder.join(SURFACES)).expect("a file");
    let mut found = File::create(folder.join(FOUND)).expect("a file");
    compressed(async {
        let deployment = deployment();
        log.install(deployment.config());
        let config = Arc::new(Mutex::new(deployment.config().clone()));
        let (reloaded, seam) = (config.clone(), Seam::default().with_outside(Arc::new(deployment.world.clone())));
        let reload = move || Ok(reloaded.lock().expect("a configuration").clone());
        let daemon = Daemon::new(deployment.config().clone(), reload, seam);
        let controls = daemon.controls();
        let mut hour = Hour { deployment, config, controls, surfaces: &mut surfaces, found: &mut found };
        tokio::select! {
            ended = daemon.run(|_, _| {}) => panic!("the daemon ended: {ended:?}"),
            () = hour.pass() => {}
        }
        let texts = errors::all(&hour.deployment).await;
        surfaces.write_all(texts.as_bytes()).expect("written");
    });
    if log != Log::Plain {
        panics();
    }
}

struct Hour<'a> {
    deployment: Deployment,
    config: Arc<Mutex<Config>>,
    controls: Controls,
    surfaces: &'a mut File,
    found: &'a mut File,
}

impl Hour<'_> {
    async fn pass(&mut self) {
        let begun = self.deployment.world.now();
        let mut cycles = 0;
        let mut minute = 0;
        loop {
            let is_well = self.controls.status.borrow().healthy;
            if minute >= TROUBLED && is_well {
                break;
            }
            assert!(minute < TROUBLED + PATIENCE, "never healthy again: {:?}", self.controls.status.borrow());
            self.deployment.world.orders(|orders| orders.clear());
            if minute < TROUBLED {
                self.trouble(minute);
                self.event(minute);
            }
            minute += 1;
            let over = begun + SignedDuration::from_mins(minute);
            loop {
                tokio::select! {
                    changed = self.controls.status.changed() => changed.expect("the daemon lives"),
                    () = self.deployment.world.sleep_until(over) => break,
                }
                cycles += 1;
                self.look();
            }
            let text = surfaces::looked(&self.deployment).await;
            self.surfaces.write_all(text.as_bytes()).expect("written");
        }
        let echoes = self.deployment.world.counts().echoes;
        println!("{minute} minutes, {cycles} cycles, {echoes} echoes");
        assert!(cycles > 60 && echoes > 50, "{cycles} cycles, {echoes} echoes");
    }

    fn look(&mut self) {
        let status = self.controls.status.borrow_and_update().clone();
        self.surfaces.write_all(surfaces::told(&status).as_bytes()).expect("written");
        let state = self.deployment.state();
        let tokens = [state.token.map(|t| t.value), state.pending_token.map(|t| t.value)];
        let known = canaries();
        for token in tokens.into_iter().flatten().filter(|t| known.iter().all(|c| c.value != t.expose())) {
            writeln!(self.found, "{}", token.expose()).expect("written");
        }
    }

    /// Some kind of trouble for the next calls of somebody, and an echo from somebody else.
    fn trouble(&self, minute: i64) {
        let parties = [Party::DigitalOcean, Party::Railway, Party::Database, Party::Webapp, Party::Supervisor];
        let at = usize::try_from(minute).expect("small");
        let (echoing, troubled) = (parties[at % 5], parties[(at + 2) % 5]);
        self.deployment.world.orders(|orders| {
            orders.push(Trouble::Echo, Calls::Next(echoing, 2));
            orders.push(Trouble::ALL[at % Trouble::ALL.len()], Calls::Next(troubled, 2));
        });
    }

    /// Something to do; the first attempt is answered with what was sent.
    fn event(&mut self, minute: i64) {
        let world = self.deployment.world.clone();
        let id = self.deployment.ours().last().map(|d| d.id);
        let cloud = world.cloud();
        match (minute, id) {
            (0 | 2 | 4, _) => {}
            (14, Some(id)) => drop(cloud.kill_supervisor(id)),
            (24, Some(id)) => drop(cloud.delete_by_hand(id)),
            (30, _) => world.platform(|platform, _| platform.lose_settings()),
            (38, _) => self.reconfigure(&[("SUPERVISOR_SIZE", "s-4vcpu-8gb")]),
            (46, _) => {
                world.platform(|platform, _| platform.lose_token(&canaries::worker_token(UNKNOWN)));
                self.reconfigure(&[("TRIGGER_WORKER_TOKEN", ""), ("ROTATE_LOST_TOKEN", "true")]);
            }
            (55, _) => self.controls.ask(Request::Pause),
            (57, _) => self.controls.ask(Request::Resume),
            (60, _) => world.platform(|platform, now| platform.down_until = Some(now + SignedDuration::from_mins(2))),
            _ => return,
        }
        world.orders(|orders| orders.push(Trouble::Echo, Calls::Writes(1)));
    }

    fn reconfigure(&mut self, pairs: &[(&str, &str)]) {
        self.deployment.set_all(pairs);
        *self.config.lock().expect("a configuration") = self.deployment.config().clone();
        self.controls.ask(Request::Reload);
    }
}

/// Panics where the program is about to log it.
struct Unprintable(String);

impl std::fmt::Display for Unprintable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("cannot print {}", self.0)
    }
}

/// A panic may quote anything, wherever it happens: in the middle of a log line as well, where the
/// log cannot take it.
fn panics() {
    // This hour has no ops database, so nobody told the log of its password.
    let known = canaries::of_variables().into_iter().filter(|canary| canary.name != "OPS_DATABASE_URL");
    for Canary { value, .. } in known {
        let encoded: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let unprintable = Unprintable(value.clone());
        let logging = std::thread::spawn(move || tracing::error!("{unprintable}"));
        assert!(logging.join().is_err());
        let panicked = std::thread::spawn(move || panic!("no use for {value} or {encoded} in {:?}", Some(&value)));
        assert!(panicked.join().is_err());
    }
}
