//! `approvals` and `backups`: what waits for a second person, their decision, and what there is to put back.

use super::{DONE, ERROR, ops};
use clap::{Args, Subcommand};
use ops_controller::runs::approvals::{self, Approval, Backup, Decision};
use ops_controller::runs::names;

#[derive(Subcommand)]
pub enum ApprovalsCommand {
    /// List what waits for a decision, the newest first
    List {
        /// What was decided and what ran out, too
        #[arg(long)]
        all: bool,
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=200))]
        limit: i64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Allow it; never by the person who asked for it
    Approve(Word),
    /// Refuse it, or take an approval back before what it allows has begun
    Deny(Word),
}

#[derive(Args)]
pub struct Word {
    #[arg(value_parser = ops::checked(names::key))]
    approval_id: String,
    /// Who decides
    #[arg(long, value_name = "NAME", value_parser = ops::checked(names::key))]
    by: String,
    /// Why, for the history
    #[arg(long, value_parser = ops::checked(names::reason))]
    reason: Option<String>,
}

#[derive(Subcommand)]
pub enum BackupsCommand {
    /// List backups, the newest first
    List {
        /// Of this environment, by its id
        #[arg(long, value_parser = ops::checked(names::key))]
        env_id: Option<String>,
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=200))]
        limit: i64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(command: ApprovalsCommand) -> u8 {
    let done = match command {
        ApprovalsCommand::List { all, limit, json } => list(all, limit, json).await,
        ApprovalsCommand::Approve(word) => decide(word, true).await,
        ApprovalsCommand::Deny(word) => decide(word, false).await,
    };
    done.unwrap_or_else(|code| code)
}

pub async fn run_backups(command: BackupsCommand) -> u8 {
    let BackupsCommand::List { env_id, limit, json } = command;
    backups(env_id.as_deref(), limit, json).await.unwrap_or_else(|code| code)
}

async fn list(all: bool, limit: i64, json: bool) -> Result<u8, u8> {
    let mut c = ops::connect().await?;
    let found = approvals::list(&mut c, all, limit).await.map_err(|error| ops::failed(&error.into()))?;
    if json {
        return Ok(ops::json(&found));
    }
    let row = |a: &Approval| {
        vec![
            a.approval_id.clone(),
            a.approval_type.clone(),
            ops::plain(&a.resource_id),
            ops::or_dash(a.project_id.as_deref()),
            ops::plain(&a.requested_by),
            a.status.clone(),
            ops::or_dash(a.reviewed_by.as_deref()),
            ops::time(Some(a.expires_at)),
        ]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    let heads = ["APPROVAL", "TYPE", "FOR", "PROJECT", "ASKED BY", "STATUS", "DECIDED BY", "UNTIL"];
    print!("{}", ops::table(&heads, &rows));
    Ok(DONE)
}

async fn decide(word: Word, approve: bool) -> Result<u8, u8> {
    let Word { approval_id, by, reason } = word;
    let mut c = ops::connect().await?;
    let decision = Decision { approval_id: &approval_id, by: &by, approve, reason: reason.as_deref() };
    let status = approvals::decide(&mut c, decision).await.map_err(|error| ops::failed(&error.into()))?;
    println!("{status}:{}", ops::plain(&approval_id));
    if status == "expired" {
        eprintln!("error: it ran out before it was decided: ask for it again (ops.restore_backup)");
        return Err(ERROR);
    }
    Ok(DONE)
}

async fn backups(env_id: Option<&str>, limit: i64, json: bool) -> Result<u8, u8> {
    let mut c = ops::connect().await?;
    let found = approvals::backups(&mut c, env_id, limit).await.map_err(|error| ops::failed(&error.into()))?;
    if json {
        return Ok(ops::json(&found));
    }
    let row = |b: &Backup| {
        vec![
            b.backup_id.clone(),
            ops::plain(&b.env_id),
            b.backup_type.clone(),
            b.status.clone(),
            b.size_bytes.map_or_else(|| "-".to_owned(), |n| n.to_string()),
            ops::time(Some(b.created_at)),
            ops::time(b.expires_at),
            b.dump_deleted_at.map_or_else(|| ops::plain(&b.db_dump_path), |_| "deleted".to_owned()),
        ]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    let heads = ["BACKUP", "FOR", "TYPE", "STATUS", "BYTES", "MADE", "KEPT UNTIL", "PATH"];
    print!("{}", ops::table(&heads, &rows));
    Ok(DONE)
}
