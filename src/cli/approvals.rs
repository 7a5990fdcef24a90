//! `approvals`: what waits for a second person, and their decision.

use super::{DONE, ERROR, ops};
use clap::{Args, Subcommand};
use ops_controller::runs::approvals::{self, Approval, Decision};
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
        /// Print JSON, a list
        #[arg(long)]
        json: bool,
    },
    /// Allow it; never by the person who asked for it. Prints its id; what became of it on standard error
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

pub async fn run(command: ApprovalsCommand) -> u8 {
    let done = match command {
        ApprovalsCommand::List { all, limit, json } => list(all, limit, json).await,
        ApprovalsCommand::Approve(word) => decide(word, true).await,
        ApprovalsCommand::Deny(word) => decide(word, false).await,
    };
    done.unwrap_or_else(|code| code)
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
            ops::or_dash(a.target_env_id.as_deref()),
            ops::or_dash(a.backup_id.as_deref()),
            ops::time(a.backup_created_at),
            ops::plain(&a.requested_by),
            a.status.clone(),
            ops::or_dash(a.reviewed_by.as_deref()),
            ops::time(Some(a.expires_at)),
        ]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    let heads = [
        "APPROVAL",
        "TYPE",
        "FOR",
        "PROJECT",
        "INTO",
        "BACKUP",
        "BACKUP MADE",
        "ASKED BY",
        "STATUS",
        "DECIDED BY",
        "UNTIL",
    ];
    print!("{}", ops::table(&heads, &rows));
    Ok(DONE)
}

async fn decide(word: Word, approve: bool) -> Result<u8, u8> {
    let Word { approval_id, by, reason } = word;
    let mut c = ops::connect().await?;
    let decision = Decision { approval_id: &approval_id, by: &by, approve, reason: reason.as_deref() };
    let decided = approvals::decide(&mut c, decision).await.map_err(|error| ops::failed(&error.into()))?;
    let status = decided.status.as_str();
    match decided.by.as_deref().map(ops::plain) {
        _ if status == "expired" => {
            eprintln!("error: it ran out before it was decided: ask for it again (ops.restore_backup)");
            return Err(ERROR);
        }
        Some(who) if !decided.is_new => {
            let who = if who == ops::plain(&by) { "you".to_owned() } else { who };
            ops::done(&approval_id, &format!("it was {status} before, by {who}"));
        }
        _ => ops::done(&approval_id, status),
    }
    Ok(DONE)
}
