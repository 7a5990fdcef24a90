//! `kinds`: how much waits of each kind, and stopping one from being claimed.

use super::{DONE, ops};
use clap::Subcommand;
use ops_controller::runs::control::{self, Actor, Depth};
use ops_controller::runs::{names, runners};

#[derive(Subcommand)]
pub enum KindsCommand {
    /// List the kinds of which something waits or runs, and those that are paused
    List {
        /// Print JSON, a list
        #[arg(long)]
        json: bool,
    },
    /// Let no run of a kind be claimed; what is under way goes on
    Pause {
        #[arg(value_parser = ops::checked(names::kind))]
        kind: String,
        /// Why, for those who ask later
        #[arg(long, value_parser = ops::checked(names::reason))]
        reason: Option<String>,
    },
    /// Let runs of a kind be claimed again
    Resume {
        #[arg(value_parser = ops::checked(names::kind))]
        kind: String,
    },
}

pub async fn run(command: KindsCommand) -> u8 {
    let done = match command {
        KindsCommand::List { json } => list(json).await,
        KindsCommand::Pause { kind, reason } => pause(&kind, reason.as_deref()).await,
        KindsCommand::Resume { kind } => resume(&kind).await,
    };
    done.unwrap_or_else(|code| code)
}

async fn list(json: bool) -> Result<u8, u8> {
    let mut c = ops::connect().await?;
    let depths = control::depths(&mut c).await.map_err(|error| ops::failed(&error.into()))?;
    if json {
        return Ok(ops::json(&depths));
    }
    let row = |d: &Depth| {
        let state = if d.paused { "paused" } else { "-" };
        let oldest = format!("{:.0} s", d.oldest_seconds);
        vec![
            d.kind.clone(),
            d.due.to_string(),
            d.later.to_string(),
            d.held.to_string(),
            oldest,
            d.runners.to_string(),
            state.to_owned(),
        ]
    };
    let rows: Vec<_> = depths.iter().map(row).collect();
    print!("{}", ops::table(&["KIND", "DUE", "LATER", "HELD", "OLDEST", "RUNNERS", "STATE"], &rows));
    for alone in depths.iter().filter(|d| d.runners == 0 && d.due + d.later > 0) {
        eprintln!("{}", runners::nobody(&alone.kind));
    }
    Ok(DONE)
}

async fn pause(kind: &str, reason: Option<&str>) -> Result<u8, u8> {
    let mut c = ops::connect().await?;
    // A misspelt kind would be paused, and the one that was meant would go on.
    ops::must_be_known(&mut c, kind, "").await?;
    let paused = control::pause_kind(&mut c, kind, Actor(&ops::actor()), reason).await;
    match paused.map_err(|error| ops::failed(&error.into()))? {
        true => ops::done(kind, "paused"),
        false => ops::done(kind, "it was paused before"),
    }
    Ok(DONE)
}

async fn resume(kind: &str) -> Result<u8, u8> {
    let mut c = ops::connect().await?;
    ops::must_be_known(&mut c, kind, "").await?;
    let resumed = control::resume_kind(&mut c, kind, Actor(&ops::actor())).await;
    match resumed.map_err(|error| ops::failed(&error.into()))? {
        true => ops::done(kind, "resumed"),
        false => ops::done(kind, "it was not paused"),
    }
    Ok(DONE)
}
