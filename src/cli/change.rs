//! The commands that change something: once, resume, pause, reset, destroy.

use super::{DONE, ERROR, TRY_LATER, USAGE, failed, local, quiet_configuration};
use jiff::Timestamp;
use ops_controller::clients::{Readers, Seam};
use ops_controller::config::Config;
use ops_controller::controller::Controller;
use ops_controller::controller::destroy as teardown;
use ops_controller::controller::status::Status;
use ops_controller::controller::store::{Lock, StoreError};
use ops_controller::controller::why::why;
use ops_controller::plan::action::Outcome;
use ops_controller::plan::mode::{self, Shown};
use ops_controller::telemetry::{self, redact_text};
use std::io::BufRead;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The lock, or a word on who holds it.
fn lock(config: &Config) -> Result<Lock, u8> {
    local::store(config).lock().map_err(|error| match error {
        StoreError::Locked { .. } => {
            eprintln!("a daemon runs with STATE_FILE {}: stop it first", config.state_file.display());
            TRY_LATER
        }
        error => failed(&error),
    })
}

pub async fn once() -> u8 {
    let config = match quiet_configuration() {
        Ok(config) => config,
        Err(code) => return code,
    };
    telemetry::init(config.log_format, &config.log_level, &config.secrets());
    let _lock = match lock(&config) {
        Ok(lock) => lock,
        Err(code) => return code,
    };
    let (status, seen) = watch::channel(Arc::new(Status::starting(Shown::Active)));
    let store = local::store(&config);
    let opened = Controller::open(config, store, Seam::default(), status, CancellationToken::new());
    let mut controller = match opened {
        Ok(controller) => controller,
        Err(error) => return failed(&error),
    };
    if let Err(error) = controller.cycle(Timestamp::now()).await {
        return failed(&error);
    }
    let status = seen.borrow().clone();
    print!("{}", redact_text(&why(&status.conditions, &status.held)));
    let bad = |outcome: &Outcome| matches!(outcome, Outcome::Failed { .. } | Outcome::Unresolved { .. });
    let actions = status.cycle.as_ref().map(|c| c.actions.as_slice()).unwrap_or_default();
    match actions.iter().filter_map(|a| a.outcome.as_ref()).any(bad) {
        true => ERROR,
        false => DONE,
    }
}

/// Resume or pause: through the running daemon, or in its state file when none runs.
pub async fn ask(what: &str) -> u8 {
    let config = match quiet_configuration() {
        Ok(config) => config,
        Err(code) => return code,
    };
    match local::post(&config, &format!("/{what}")).await {
        Some(Ok(())) => {
            println!("the daemon was asked to {what}");
            DONE
        }
        Some(Err(answer)) => {
            eprintln!("error: the daemon refused to {what}: {}", redact_text(&answer));
            ERROR
        }
        None => in_file(&config, what).await,
    }
}

async fn in_file(config: &Config, what: &str) -> u8 {
    let _lock = match lock(config) {
        Ok(lock) => lock,
        Err(code) => return code,
    };
    let (store, now) = (local::store(config), Timestamp::now());
    let mut state = match store.load(&config.desired.identity_tag(), now) {
        Ok((state, _)) => state,
        Err(error) => return failed(&error),
    };
    match what {
        "pause" => mode::pause(&mut state, now),
        _ => mode::wake(&mut state),
    }
    match store.save(&state).await {
        Ok(()) => {
            println!("no daemon runs; noted for its next start: {what}");
            DONE
        }
        Err(error) => failed(&error),
    }
}

pub async fn reset() -> u8 {
    let config = match quiet_configuration() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let _lock = match lock(&config) {
        Ok(lock) => lock,
        Err(code) => return code,
    };
    match local::store(&config).reset(Timestamp::now()) {
        Ok(aside) if aside.is_empty() => {
            println!("there is no state at {}", config.state_file.display());
            DONE
        }
        Ok(aside) => {
            for path in aside {
                println!(
                    "set aside as {} (it may hold a worker token: delete it when it is not needed)",
                    path.display()
                );
            }
            DONE
        }
        Err(error) => failed(&error),
    }
}

pub async fn destroy(yes: bool) -> u8 {
    let config = match quiet_configuration() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let _lock = match lock(&config) {
        Ok(lock) => lock,
        Err(code) => return code,
    };
    let writers = match Readers::new(&config, &Seam::default()) {
        Ok(readers) => readers.writers(),
        Err(error) => return failed(&error),
    };
    let now = Timestamp::now();
    let state = match local::store(&config).load(&config.desired.identity_tag(), now) {
        Ok((state, _)) => state,
        Err(error) => return failed(&error),
    };
    let inventory = match teardown::inventory(&writers, &config.desired, &state).await {
        Ok(inventory) => inventory,
        Err(error) => return failed(&error),
    };
    if let Some((name, at)) = teardown::unsettled_create(&state, &config.desired, &inventory, now) {
        eprintln!(
            "the create of droplet {name} was sent at {at} and is not settled: it could appear after the teardown; \
             try again in a few minutes (CREATE_SETTLE)"
        );
        return TRY_LATER;
    }
    if inventory.is_empty() {
        println!("nothing of ours exists (tag {})", config.desired.identity_tag());
        return DONE;
    }
    println!("of ours, by tag {}:", config.desired.identity_tag());
    for droplet in &inventory.droplets {
        println!("  droplet {} ({}), {}, {}", droplet.name, droplet.id, droplet.size, droplet.region);
    }
    if let Some(firewall) = &inventory.firewall {
        println!("  firewall {}", firewall.name);
    }
    if !yes && !confirmed() {
        eprintln!("nothing was deleted: type DESTROY when asked, or give --yes");
        return USAGE;
    }
    match teardown::destroy(&writers, &config.desired, &inventory, |line| println!("{line}")).await {
        Ok(()) => {
            println!("done; a daemon started with this configuration would create them anew");
            DONE
        }
        Err(error) => failed(&error),
    }
}

fn confirmed() -> bool {
    println!("this cannot be undone; type DESTROY to go on:");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).is_ok() && line.trim() == "DESTROY"
}
