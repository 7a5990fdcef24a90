//! `runs`: queue, look, cancel, retry, follow, wait and prune, by the ops database itself.

mod follow;
mod prune;
mod queue;
mod show;

use super::{DONE, ops};
use clap::{Args, Subcommand};
use ops_controller::runs::control::{self, Actor};
use ops_controller::runs::{RunsError, names};
use std::time::Duration;

#[derive(Subcommand)]
pub enum RunsCommand {
    /// List runs, the newest first
    List(List),
    /// Show a run with its phases, attempts, artifacts and last events
    Show {
        run_id: String,
        /// Print JSON: {"run", "phases", "attempts", "artifacts"}
        #[arg(long)]
        json: bool,
    },
    /// Queue a build (--project --env --sha --ref) or a run of any kind (--kind --input); prints its id
    Queue(Box<queue::Queue>),
    /// Cancel a run: a queued one at once, one that is under way is told. Prints its id
    Cancel {
        run_id: String,
        /// Why, for the run's history
        #[arg(long)]
        reason: Option<String>,
    },
    /// Queue a failed or cancelled run again, after the phases that it has completed. Prints its id
    Retry { run_id: String },
    /// Print a run's events
    Logs {
        run_id: String,
        /// Go on until the run is finished
        #[arg(short, long)]
        follow: bool,
        /// Print each event as one line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Wait until a run is finished: exit 0 on success, and print where its first artifact lies
    ///
    /// The path is relative to ARTIFACT_STORE of the runner; without an artifact, "success" is printed.
    Wait {
        run_id: String,
        /// Seconds to wait at most
        #[arg(long, default_value = "1200", value_parser = seconds)]
        timeout: Duration,
        /// Seconds between looks
        #[arg(long, default_value = "5", value_parser = seconds)]
        interval: Duration,
    },
    /// Remove what is past its time, as runners do every hour; what stays nevertheless is told with its reason
    ///
    /// Past its time is what EVENT_RETENTION_DAYS, RUN_RETENTION_DAYS and AUDIT_RETENTION_DAYS say, and
    /// artifacts and backups that have expired. What lies in ARTIFACT_STORE goes first; what lies in
    /// another store stays. Give it the settings that the runners have.
    Prune {
        /// Say what would go and what would stay, and change nothing
        #[arg(long)]
        dry_run: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub struct List {
    /// queued, claimed, running, success, failed or cancelled; may be given several times
    #[arg(long, value_delimiter = ',', value_parser = ops::checked(names::status))]
    status: Vec<String>,
    #[arg(long, value_parser = ops::checked(names::kind))]
    kind: Option<String>,
    #[arg(long, value_parser = ops::checked(names::project_id))]
    project: Option<String>,
    /// The environment's id, as runs show it
    #[arg(long, value_parser = ops::checked(names::key))]
    env_id: Option<String>,
    /// Only those before this run: the last one of the page before
    #[arg(long, value_parser = ops::checked(names::run_id))]
    before: Option<String>,
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=200))]
    limit: i64,
    /// Print JSON: {"runs": [...], "next": the --before of the next page, or null}
    #[arg(long)]
    json: bool,
}

/// Whole or broken, and more than none.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|n| Duration::try_from_secs_f64(n).ok());
    let fits = |time: &Duration| !time.is_zero() && *time <= Duration::from_secs(365 * 86_400);
    seconds.filter(fits).ok_or_else(|| "must be seconds, such as 1200 or 0.5".to_owned())
}

pub async fn run(command: RunsCommand) -> u8 {
    let done = match command {
        RunsCommand::List(list) => show::list(list).await,
        RunsCommand::Show { run_id, json } => show::show(&run_id, json).await,
        RunsCommand::Queue(queue) => queue.run().await,
        RunsCommand::Cancel { run_id, reason } => cancel(&run_id, reason.as_deref()).await,
        RunsCommand::Retry { run_id } => retry(&run_id).await,
        RunsCommand::Logs { run_id, follow, json } => follow::logs(&run_id, follow, json).await,
        RunsCommand::Prune { dry_run, json } => prune::prune(dry_run, json).await,
        RunsCommand::Wait { run_id, timeout, interval } => follow::wait(&run_id, timeout, interval).await,
    };
    done.unwrap_or_else(|code| code)
}

fn failed(error: sqlx::Error) -> u8 {
    ops::failed(&RunsError::from(error))
}

fn no_run(run_id: &str) -> u8 {
    ops::failed(&RunsError::NotFound(format!("there is no run {run_id}: see `ops-controller runs list`")))
}

async fn cancel(run_id: &str, reason: Option<&str>) -> Result<u8, u8> {
    let mut c = ops::connect().await?;
    let status = control::cancel(&mut c, run_id, Actor(&ops::actor()), reason).await.map_err(failed)?;
    match status.as_str() {
        "cancelled" => ops::done(run_id, "cancelled"),
        status => ops::done(run_id, &format!("cancelling: it is {status}, and ends when its runner has heard")),
    }
    Ok(DONE)
}

async fn retry(run_id: &str) -> Result<u8, u8> {
    let mut c = ops::connect().await?;
    let status = control::requeue(&mut c, run_id, Actor(&ops::actor())).await.map_err(failed)?;
    ops::done(run_id, &status);
    Ok(DONE)
}
