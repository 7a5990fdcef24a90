//! The commands that change something: once, resume, pause, reset, destroy, migrate.

use super::local::Refusal;
use super::{DONE, ERROR, TRY_LATER, USAGE, acting_configuration, failed, local, ops};
use jiff::Timestamp;
use ops_controller::clients::{Readers, Seam};
use ops_controller::config::Config;
use ops_controller::controller::Controller;
use ops_controller::controller::destroy::{self as teardown, Outcome, Step};
use ops_controller::controller::lease::{Attempt, Candidate, FolderLease, LeaseError, Tenure};
use ops_controller::controller::status::Status;
use ops_controller::controller::store::Store;
use ops_controller::controller::why::why;
use ops_controller::plan::action;
use ops_controller::plan::mode::{self, Shown};
use ops_controller::telemetry::{self, redact_text};
use std::io::BufRead;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// To change one file takes no time.
const FILE_WORK: Duration = Duration::from_secs(30);

/// The right to change something: the lease of the state file's folder and, where there is one, that
/// of the database. Renewed until it is given back.
async fn lease(config: &Config, what: &str) -> Result<(Candidate, Tenure), u8> {
    let mut candidate = Candidate::new(config, &local::store(config), what).map_err(|error| failed(&error))?;
    match candidate.attempt().await {
        Ok(Attempt::Active(tenure)) => Ok((candidate, tenure)),
        Ok(Attempt::Standby { why, is_held }) => {
            candidate.release().await;
            match is_held {
                true => eprintln!(
                    "a daemon runs with STATE_FILE {}, or with the same database: stop it first",
                    config.state_file.display()
                ),
                false => eprintln!("nothing was changed: the lease cannot be had; try again later"),
            }
            eprintln!("  {}", redact_text(&why));
            Err(TRY_LATER)
        }
        Err(error) => Err(failed(&error)),
    }
}

/// A daemon that has the folder, or only waits in it, is not disturbed.
fn refused(config: &Config, error: &LeaseError) -> u8 {
    match error {
        LeaseError::Held { .. } => {
            eprintln!("a daemon runs with STATE_FILE {}: stop it first", config.state_file.display());
            eprintln!("  {error}");
            TRY_LATER
        }
        error => failed(error),
    }
}

/// A store that may save, with the folder's lease alone: enough for what changes nothing but the
/// state file. It lasts as long as the value beside it.
fn own_store(config: &Config, what: &str) -> Result<(Store, FolderLease), u8> {
    let store = local::store(config);
    let lease = store.lease_for(what, FILE_WORK).map_err(|error| refused(config, &error))?;
    Ok((store.fenced(lease.fence()), lease))
}

pub async fn once() -> u8 {
    let config = match acting_configuration() {
        Ok(config) => config,
        Err(code) => return code,
    };
    telemetry::init(config.log_format, &config.log_level, &config.secrets());
    let (candidate, tenure) = match lease(&config, "once").await {
        Ok(lease) => lease,
        Err(code) => return code,
    };
    let code = one_cycle(config, &tenure).await;
    candidate.release().await;
    code
}

async fn one_cycle(config: Config, tenure: &Tenure) -> u8 {
    let (status, seen) = watch::channel(Arc::new(Status::starting(Shown::Active)));
    let store = local::store(&config).fenced(tenure.fence().clone());
    let opened = Controller::open(config, store, Seam::default(), status, CancellationToken::new());
    let mut controller = match opened {
        Ok(controller) => controller,
        Err(error) => return failed(&error),
    };
    controller.take_over(tenure);
    if let Err(error) = controller.cycle(Timestamp::now()).await {
        return failed(&error);
    }
    let status = seen.borrow().clone();
    print!("{}", redact_text(&why(&status.conditions, &status.held)));
    let bad = |outcome: &action::Outcome| {
        matches!(outcome, action::Outcome::Failed { .. } | action::Outcome::Unresolved { .. })
    };
    let actions = status.cycle.as_ref().map(|c| c.actions.as_slice()).unwrap_or_default();
    match actions.iter().filter_map(|a| a.outcome.as_ref()).any(bad) {
        true => ERROR,
        false => DONE,
    }
}

/// Resume or pause: through the running daemon, or in its state file when none runs.
pub async fn ask(what: &str) -> u8 {
    let config = match acting_configuration() {
        Ok(config) => config,
        Err(code) => return code,
    };
    match local::post(&config, &format!("/{what}")).await {
        Some(Ok(())) => {
            println!("the daemon was asked to {what}");
            DONE
        }
        Some(Err(Refusal { is_standby, detail })) => {
            eprintln!("error: the daemon refused to {what}: {}", redact_text(&detail));
            if is_standby { TRY_LATER } else { ERROR }
        }
        None => in_file(&config, what).await,
    }
}

async fn in_file(config: &Config, what: &str) -> u8 {
    let (store, _lease) = match own_store(config, what) {
        Ok(own) => own,
        Err(code) => return code,
    };
    let now = Timestamp::now();
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
    let config = match acting_configuration() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let (store, _lease) = match own_store(&config, "reset") {
        Ok(own) => own,
        Err(code) => return code,
    };
    match store.reset(Timestamp::now()) {
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
    let config = match acting_configuration() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let (candidate, tenure) = match lease(&config, "destroy").await {
        Ok(lease) => lease,
        Err(code) => return code,
    };
    let code = destroy_all(&config, &tenure, yes).await;
    candidate.release().await;
    code
}

async fn destroy_all(config: &Config, tenure: &Tenure, yes: bool) -> u8 {
    let writers = match Readers::new(config, &Seam::default()) {
        Ok(readers) => readers.writers(tenure.fence()),
        Err(error) => return failed(&error),
    };
    let now = Timestamp::now();
    let store = local::store(config).fenced(tenure.fence().clone());
    let mut state = match store.load(&config.desired.identity_tag(), now) {
        Ok((state, _)) => state,
        Err(error) => return failed(&error),
    };
    let before = state.clone();
    // Saved below, so that the next try knows this epoch as its own and waits for nobody else.
    state.take_over(tenure.database_epoch, tenure.predecessor);
    let done = teardown::take_down(&writers, &config.desired, &mut state, now, |step| match step {
        Step::Found(_) => {
            println!("by the tag {}, {step}", config.desired.identity_tag());
            yes || confirmed()
        }
        step => {
            println!("{step}");
            true
        }
    })
    .await;
    if state != before
        && let Err(error) = store.save(&state).await
    {
        eprintln!("what was done could not be noted in the state file: {error}");
    }
    match done {
        Ok(Outcome::Destroyed) => {
            println!("done; a daemon started with this configuration would create them anew");
            DONE
        }
        Ok(Outcome::Nothing) => {
            println!("nothing of ours exists (tag {})", config.desired.identity_tag());
            DONE
        }
        Ok(Outcome::Unsettled(why)) => {
            eprintln!("{why}: a droplet could appear after the teardown; try again in a few minutes (CREATE_SETTLE)");
            TRY_LATER
        }
        Ok(Outcome::Declined) => {
            eprintln!("nothing was deleted: type DESTROY when asked, or give --yes");
            USAGE
        }
        Err(error) => failed(&error),
    }
}

fn confirmed() -> bool {
    println!("this cannot be undone; type DESTROY to go on:");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).is_ok() && line.trim() == "DESTROY"
}

/// Makes the tables in OPS_DATABASE_URL, as every start does.
pub async fn migrate() -> u8 {
    let address = match ops::address() {
        Ok(address) => address,
        Err(code) => return code,
    };
    match address.migrate().await {
        Ok(count) => {
            println!("schema ops is up to date ({count} migrations)");
            DONE
        }
        Err(error) => ops::failed(&error),
    }
}
