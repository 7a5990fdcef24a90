//! `backups` and `restores`: what there is to put back, and what was asked to be.

use super::{DONE, ops};
use clap::{Args, Subcommand};
use ops_controller::runs::approvals::{self, Backup, Restore};
use ops_controller::runs::names;

#[derive(Subcommand)]
pub enum BackupsCommand {
    /// List backups, the newest first
    List(List),
}

#[derive(Subcommand)]
pub enum RestoresCommand {
    /// List restores, the newest first; one that is pending waits for the approval that stands beside it
    List(List),
}

#[derive(Args)]
pub struct List {
    /// Of this environment, by its id (of restores: into it)
    #[arg(long, value_parser = ops::checked(names::key))]
    env_id: Option<String>,
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=200))]
    limit: i64,
    /// Print JSON, a list
    #[arg(long)]
    json: bool,
}

pub async fn run(command: BackupsCommand) -> u8 {
    let BackupsCommand::List(list) = command;
    backups(list).await.unwrap_or_else(|code| code)
}

pub async fn run_restores(command: RestoresCommand) -> u8 {
    let RestoresCommand::List(list) = command;
    restores(list).await.unwrap_or_else(|code| code)
}

async fn backups(List { env_id, limit, json }: List) -> Result<u8, u8> {
    let mut c = ops::connect().await?;
    let found = approvals::backups(&mut c, env_id.as_deref(), limit).await;
    let found = found.map_err(|error| ops::failed(&error.into()))?;
    if json {
        return Ok(ops::json(&found));
    }
    let row = |b: &Backup| {
        // The table says `pending` until it lies somewhere, which one that failed never does.
        let path = Some(&*b.db_dump_path).filter(|path| *path != "pending");
        vec![
            b.backup_id.clone(),
            ops::plain(&b.env_id),
            b.backup_type.clone(),
            b.status.clone(),
            b.size_bytes.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            ops::time(Some(b.created_at)),
            ops::time(b.expires_at),
            ops::or_dash(b.run_id.as_deref()),
            b.dump_deleted_at.map_or_else(|| ops::or_dash(path), |_| "deleted".to_owned()),
        ]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    let heads = ["BACKUP", "FOR", "TYPE", "STATUS", "BYTES", "MADE", "KEPT UNTIL", "RUN", "PATH"];
    print!("{}", ops::table(&heads, &rows));
    Ok(DONE)
}

async fn restores(List { env_id, limit, json }: List) -> Result<u8, u8> {
    let mut c = ops::connect().await?;
    let found = approvals::restores(&mut c, env_id.as_deref(), limit).await;
    let found = found.map_err(|error| ops::failed(&error.into()))?;
    if json {
        return Ok(ops::json(&found));
    }
    let row = |r: &Restore| {
        vec![
            r.restore_id.clone(),
            ops::plain(&r.target_env_id),
            r.status.clone(),
            r.backup_id.clone(),
            ops::time(Some(r.backup_created_at)),
            ops::plain(&r.requested_by),
            ops::or_dash(r.approval_id.as_deref()),
            ops::or_dash(r.approved_by.as_deref()),
            ops::or_dash(r.run_id.as_deref()),
            ops::time(r.finished_at),
            ops::or_dash(r.error.as_deref().map(ops::cut).as_deref()),
        ]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    let heads = [
        "RESTORE",
        "INTO",
        "STATUS",
        "BACKUP",
        "BACKUP MADE",
        "ASKED BY",
        "APPROVAL",
        "APPROVED BY",
        "RUN",
        "FINISHED",
        "ERROR",
    ];
    print!("{}", ops::table(&heads, &rows));
    Ok(DONE)
}
