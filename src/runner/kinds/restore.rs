//! Restores: a backup's dump, put back into an environment's database in one transaction.
//!
//! The run's input names the row: `{"restore_id": "rst-..."}`, as `ops.restore_backup` queues it.
//! Nothing is touched before the database has said that it may be done (for production by a second
//! person's approval that stands) and the dump's digest has proved to be the recorded one.

use super::backup::{id_of, is_of};
use super::database::{Target, told};
use super::{Settings, environment_of, pg_tools};
use crate::runner::kind::{Context, Kind, Phase, PhaseError, Work};
use crate::runs::Claimed;
use crate::runs::record::Level;
use crate::runs::work;
use serde_json::{Map, Value, json};
use sqlx::{Connection, Row};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A dump that is still being made is waited for.
const CHECKS_FOR: Duration = Duration::from_secs(6 * 3600);
const RESTORES_FOR: Duration = Duration::from_secs(6 * 3600);
const VERIFIES_FOR: Duration = Duration::from_secs(60);

pub struct Restore(pub Arc<Settings>);

impl Kind for Restore {
    fn phases(&self, run: &Claimed) -> Result<Vec<Phase>, String> {
        id_of(run, "restore_id")?;
        let phases = [("check", CHECKS_FOR), ("restore", RESTORES_FOR), ("verify", VERIFIES_FOR)];
        Ok(phases.map(|(name, limit)| Phase::new(name, limit)).to_vec())
    }

    fn work<'a>(&'a self, context: &'a Context) -> Work<'a> {
        Box::pin(async move {
            match context.phase.name.as_str() {
                "check" => self.check(context).await,
                "restore" => self.restore(context).await,
                _ => self.verify(context).await,
            }
        })
    }

    fn output(&self, phases: &Map<String, Value>) -> Option<Value> {
        phases.get("verify").cloned()
    }
}

impl Restore {
    /// The rows, and whether it may be done now.
    async fn begun(&self, context: &Context) -> Result<(work::Backup, Target), PhaseError> {
        let restore_id = id_of(&context.run, "restore_id").map_err(PhaseError::Failed)?;
        let mut looks = self.0.looks();
        let mut began = Instant::now();
        loop {
            let mut c = context.pool().acquire().await?;
            let missing = |what: String| PhaseError::failed(format!("there is no {what}"));
            let asked =
                work::restore(&mut c, restore_id).await?.ok_or_else(|| missing(format!("restore {restore_id}")))?;
            is_of(&context.run, asked.run_id.as_deref(), &format!("restore {restore_id}"))?;
            let (backup_id, env_id) = (asked.backup_id, asked.env_id);
            let backup =
                work::backup(&mut c, &backup_id).await?.ok_or_else(|| missing(format!("backup {backup_id}")))?;
            if !matches!(backup.status.as_str(), "pending" | "running") {
                if !work::begin_restore(&mut c, &context.holding.hold, restore_id).await? {
                    return Err(PhaseError::Lost);
                }
                drop(c);
                let environment = environment_of(context, &env_id).await?;
                return Ok((backup, self.0.target(context, &environment).await?));
            }
            drop(c);
            // One that is being made ends; one that nobody begins would keep this slot for ever.
            if backup.status != "pending" {
                began = Instant::now();
            } else if began.elapsed() >= self.0.waits {
                let text = format!("nobody has begun backup {backup_id} in {} s", self.0.waits.as_secs_f64());
                return Err(PhaseError::Transient(text));
            }
            looks.pause(context).await.map_err(|_| super::stopped())?;
        }
    }

    async fn check(&self, context: &Context) -> Result<Value, PhaseError> {
        let (backup, target) = self.begun(context).await?;
        let folder = self.0.store.scratch()?;
        self.fetch(&backup, &folder.path().join("dump")).await?;
        Ok(json!({ "database": target.name, "storage_path": backup.path, "digest": backup.digest }))
    }

    /// The dump, proved to be what was recorded.
    async fn fetch(&self, backup: &work::Backup, to: &Path) -> Result<(), PhaseError> {
        let found = self.0.store.fetch(&backup.path, to).await?;
        match backup.digest.as_deref() {
            Some(recorded) if recorded == found => Ok(()),
            recorded => Err(PhaseError::failed(format!(
                "the dump at {} is not the one that was made: it has {found}, and {} was recorded",
                backup.path,
                recorded.unwrap_or("nothing")
            ))),
        }
    }

    async fn restore(&self, context: &Context) -> Result<Value, PhaseError> {
        // Looked at again: an approval may have been taken back since.
        let (backup, target) = self.begun(context).await?;
        let folder = self.0.store.scratch()?;
        let file = folder.path().join("dump");
        self.fetch(&backup, &file).await?;
        let from = file.display().to_string();
        let list = pg_tools::run(context, "pg_restore", &target, &["--list", &from], folder.path()).await?;
        // Of a long list the end is kept: tables come before their data, so the data is what is counted.
        let tables = list.out().lines().filter(|line| line.contains(" TABLE DATA ")).count();
        let database = format!("--dbname={}", target.name);
        let arguments = [
            "--clean",
            "--if-exists",
            "--no-owner",
            "--single-transaction",
            "--exit-on-error",
            "--no-password",
            &database,
            &from,
        ];
        pg_tools::run(context, "pg_restore", &target, &arguments, folder.path()).await?;
        context.note(Level::Info, &format!("{} is restored", target.name), json!({ "tables": tables })).await?;
        Ok(json!({ "database": target.name, "tables": tables }))
    }

    async fn verify(&self, context: &Context) -> Result<Value, PhaseError> {
        let restore_id = id_of(&context.run, "restore_id").map_err(PhaseError::Failed)?;
        let mut c = context.pool().acquire().await?;
        let gone = || PhaseError::failed(format!("there is no restore {restore_id}"));
        let env_id = work::restore(&mut c, restore_id).await?.ok_or_else(gone)?.env_id;
        drop(c);
        let target = self.0.target(context, &environment_of(context, &env_id).await?).await?;
        let wanted = context.output_of("restore")["tables"].as_i64().unwrap_or_default();
        let mut there = target.connect().await?;
        let counted = sqlx::query(
            "select count(*) from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
             where c.relkind in ('r', 'p', 'm') and n.nspname not in ('pg_catalog', 'information_schema')",
        )
        .fetch_one(&mut there)
        .await
        .map_err(|e| told(&e))?;
        let _ = there.close().await;
        let found: i64 = counted.try_get(0).map_err(|e| told(&e))?;
        if found < wanted {
            let text = format!("{} has {found} tables after the restore, and the dump has {wanted}", target.name);
            return Err(PhaseError::Failed(text));
        }
        let mut c = context.pool().acquire().await?;
        if !work::end_restore(&mut c, &context.holding.hold, restore_id).await? {
            return Err(PhaseError::Lost);
        }
        Ok(json!({ "restore_id": restore_id, "database": target.name, "tables": found }))
    }
}
