//! The commands, their arguments and help texts; each is one function in a file of its own kind.

mod approvals;
mod backups;
mod change;
mod daemon;
mod kinds;
mod local;
mod look;
mod ops;
mod runner;
mod runs;
mod sandbox;
mod signals;
mod token;

use clap::{Parser, Subcommand};
use ops_controller::clients::ClientError;
use ops_controller::config::{Config, ConfigError};
use ops_controller::controller::store::StoreError;

pub const DONE: u8 = 0;
pub const ERROR: u8 = 1;
pub const CHANGES_PENDING: u8 = 2;
pub const USAGE: u8 = 64;
pub const TRY_LATER: u8 = 75;
pub const CONFIGURATION: u8 = 78;

/// Keeps a self-hosted Trigger.dev on Railway, PostgreSQL and DigitalOcean working.
///
/// Configured by environment variables: see `ops-controller config` and .env.example.
/// To try it without any account: `ops-controller sandbox`.
#[derive(Parser)]
#[command(name = "ops-controller", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 error, 2 changes pending (plan --detailed-exitcode), 64 usage, \
                          75 try later (rate limit, or another controller acts), 78 configuration.";

#[derive(Subcommand)]
pub enum Command {
    /// Run the daemon (the default)
    Run,
    /// Show what would be done, and change nothing
    Plan {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Exit 2 when changes are pending
        #[arg(long)]
        detailed_exitcode: bool,
    },
    /// Run one cycle and exit
    Once,
    /// Show the running daemon's status as JSON
    Status,
    /// Say why it is not healthy: one line for each cause, with the fix
    Why,
    /// Check each token, id, name and privilege, read-only
    Doctor,
    /// Show every setting and where it comes from; secrets only as set or unset
    Config,
    /// End the paused or the auto-disabled mode
    Resume,
    /// Change nothing until resumed
    Pause,
    /// Set the state file aside and begin anew (droplets of ours are found again by their tag)
    Reset,
    /// Delete everything of ours: droplets, firewall, tag
    Destroy {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Claim and execute durable runs, without the controller (`run` does so, too)
    ///
    /// Needs OPS_DATABASE_URL and nothing of the controller's; the kinds of runs need what README's
    /// "Durable runs" says. SIGTERM: nothing more is claimed, phases may go on for RUNNER_GRACE.
    Runner,
    /// Make or update the tables in OPS_DATABASE_URL (every start does so, too)
    Migrate,
    /// Queue durable runs, look at them, cancel, retry, follow, and wait for them
    Runs {
        #[command(subcommand)]
        command: runs::RunsCommand,
    },
    /// Show how much waits of each kind of run; pause and resume a kind
    Kinds {
        #[command(subcommand)]
        command: kinds::KindsCommand,
    },
    /// Show what waits for a second person, approve and deny it
    Approvals {
        #[command(subcommand)]
        command: approvals::ApprovalsCommand,
    },
    /// Show what there is to restore
    Backups {
        #[command(subcommand)]
        command: backups::BackupsCommand,
    },
    /// Show what was asked to be restored, and what it waits for
    Restores {
        #[command(subcommand)]
        command: backups::RestoresCommand,
    },
    /// Make, list and revoke tokens of the HTTP interface to durable runs
    Token {
        #[command(subcommand)]
        command: token::TokenCommand,
    },
    /// Exit 0 when the daemon answers /readyz (for Docker)
    Healthcheck,
    /// Run the daemon against simulated clouds on this machine; needs no account
    Sandbox {
        /// Cause trouble once everything is healthy; may be given several times
        #[arg(long = "break", value_name = "NAME")]
        breaks: Vec<String>,
        /// Stop at the first moment at which everything is healthy (and healed, after --break)
        #[arg(long)]
        until_healthy: bool,
        /// Start only the clouds, write their settings to FILE (for ENV_FILE), and wait
        #[arg(long, value_name = "FILE", conflicts_with_all = ["breaks", "until_healthy"])]
        clouds: Option<std::path::PathBuf>,
    },
    #[command(hide = true)]
    SandboxDroplet { arguments: Vec<String> },
}

pub async fn dispatch(command: Command) -> u8 {
    match command {
        Command::Run => daemon::run().await,
        Command::Plan { json, detailed_exitcode } => look::plan(json, detailed_exitcode).await,
        Command::Once => change::once().await,
        Command::Status => look::status().await,
        Command::Why => look::why().await,
        Command::Doctor => look::doctor().await,
        Command::Config => look::config(),
        Command::Resume => change::ask("resume").await,
        Command::Pause => change::ask("pause").await,
        Command::Reset => change::reset().await,
        Command::Destroy { yes } => change::destroy(yes).await,
        Command::Runner => runner::run().await,
        Command::Migrate => change::migrate().await,
        Command::Runs { command } => runs::run(command).await,
        Command::Kinds { command } => kinds::run(command).await,
        Command::Approvals { command } => approvals::run(command).await,
        Command::Backups { command } => backups::run(command).await,
        Command::Restores { command } => backups::run_restores(command).await,
        Command::Token { command } => token::run(command).await,
        Command::Healthcheck => look::healthcheck().await,
        Command::Sandbox { breaks, until_healthy, clouds } => sandbox::run(breaks, until_healthy, clouds).await,
        Command::SandboxDroplet { arguments } => {
            let code = ops_controller::sandbox::droplet::main(arguments.into_iter()).await;
            u8::try_from(code).unwrap_or(ERROR)
        }
    }
}

/// The configuration, or every error on standard error.
fn configuration() -> Result<Config, u8> {
    Config::from_env().map_err(|error| configuration_errors(&error))
}

fn configuration_errors(error: &ConfigError) -> u8 {
    eprintln!("the configuration has errors:");
    for line in &error.0 {
        eprintln!("  {line}");
    }
    eprintln!("see .env.example for every variable, or try `ops-controller sandbox`, which needs none");
    CONFIGURATION
}

/// For a command: warnings and errors on standard error, nothing else.
fn quiet_configuration() -> Result<Config, u8> {
    let config = silent_configuration()?;
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(config)
}

/// For the commands that write beside the state file.
fn acting_configuration() -> Result<Config, u8> {
    let config = quiet_configuration()?;
    local::check_user(&config)?;
    Ok(config)
}

/// The same for a command that shows the warnings itself.
fn silent_configuration() -> Result<Config, u8> {
    let config = configuration()?;
    ops_controller::telemetry::redact_all(&config.secrets());
    Ok(config)
}

/// Prints an error without secrets; a rate limit, or a lease that was lost on the way, has its own
/// exit code.
fn failed(error: &(dyn std::error::Error + 'static)) -> u8 {
    eprintln!("error: {}", ops_controller::telemetry::redact_text(&error.to_string()));
    let client = error.downcast_ref::<ClientError>();
    let passes = client.is_some_and(|e| e.is_rate_limit() || matches!(e, ClientError::Fenced(_)));
    let is_lost = matches!(error.downcast_ref::<StoreError>(), Some(StoreError::Fenced(_)));
    if passes || is_lost { TRY_LATER } else { ERROR }
}
