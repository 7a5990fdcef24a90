//! Backups: `pg_dump` of the environment's database, into the store, and then into the books.
//!
//! The run's input names the row: `{"backup_id": "bak-..."}`, as `ops.create_backup` queues it. A dump
//! that was cut short is never recorded; one that was stored twice lies there once.

use super::{Settings, environment, pg_tools};
use crate::runner::kind::{Context, Kind, Phase, PhaseError, Work};
use crate::runner::store::Stored;
use crate::runs::Claimed;
use crate::runs::record::{Level, NewArtifact};
use crate::runs::work;
use serde_json::{Map, Value, json};
use sqlx::postgres::PgConnection;
use std::sync::Arc;
use std::time::Duration;

const DUMPS_FOR: Duration = Duration::from_secs(6 * 3600);
const RECORDS_FOR: Duration = Duration::from_secs(60);
/// The artifact's key, and the end of its path.
pub const KEY: &str = "database.dump";

pub struct Backup(pub Arc<Settings>);

impl Kind for Backup {
    fn phases(&self, run: &Claimed) -> Result<Vec<Phase>, String> {
        id_of(run, "backup_id")?;
        Ok(vec![Phase::new("dump", DUMPS_FOR), Phase::new("record", RECORDS_FOR)])
    }

    fn work<'a>(&'a self, context: &'a Context) -> Work<'a> {
        Box::pin(async move {
            match context.phase.name.as_str() {
                "dump" => self.dump(context).await,
                _ => self.record(context).await,
            }
        })
    }

    fn output(&self, phases: &Map<String, Value>) -> Option<Value> {
        phases.get("dump").cloned()
    }
}

/// What the run is about, by the name of the id in its input.
pub fn id_of<'a>(run: &'a Claimed, name: &str) -> Result<&'a str, String> {
    run.input[name].as_str().filter(|id| !id.is_empty()).ok_or_else(|| format!("input.{name} is missing"))
}

/// A row that names another run is not ours to touch, whatever the input says: no attempt changes that.
pub fn is_of(run: &Claimed, named: Option<&str>, what: &str) -> Result<(), PhaseError> {
    if named == Some(&*run.run_id) {
        return Ok(());
    }
    let other = named.map_or("no run".to_owned(), |other| format!("the run {other}"));
    Err(PhaseError::failed(format!("{what} belongs to {other}, not to this one: ask for another instead")))
}

impl Backup {
    /// The row, which must be this run's.
    async fn row(context: &Context, c: &mut PgConnection, backup_id: &str) -> Result<work::Backup, PhaseError> {
        let found = work::backup(c, backup_id).await?;
        let found = found.ok_or_else(|| PhaseError::failed(format!("there is no backup {backup_id}")))?;
        is_of(&context.run, found.run_id.as_deref(), &format!("backup {backup_id}"))?;
        Ok(found)
    }

    async fn dump(&self, context: &Context) -> Result<Value, PhaseError> {
        let backup_id = id_of(&context.run, "backup_id").map_err(PhaseError::Failed)?;
        let mut c = context.pool().acquire().await?;
        Backup::row(context, &mut c, backup_id).await?;
        if !work::begin_backup(&mut c, &context.holding.hold, backup_id).await? {
            return Err(PhaseError::Lost);
        }
        drop(c);
        let target = self.0.target(context, &environment(context).await?).await?;
        let folder = self.0.store.scratch()?;
        let file = folder.path().join(KEY);
        // Compressed by itself; what it names is what `pg_restore` reads.
        let to = format!("--file={}", file.display());
        pg_tools::run(context, "pg_dump", &target, &["--format=custom", "--no-password", &to], folder.path()).await?;
        context.fence().check().map_err(|_| PhaseError::Lost)?;
        let path = self.0.artifact_path(&context.run, KEY);
        let Stored { path, digest, size, store } = self.0.store.put_file(&path, &file).await?;
        let told = json!({
            "database": target.name, "storage_path": path, "size_bytes": size, "digest": digest, "store": store,
        });
        context.note(Level::Info, &format!("{} is dumped: {size} bytes", target.name), told.clone()).await?;
        Ok(told)
    }

    async fn record(&self, context: &Context) -> Result<Value, PhaseError> {
        let backup_id = id_of(&context.run, "backup_id").map_err(PhaseError::Failed)?;
        let dump = context.output_of("dump");
        let (Some(path), Some(digest), Some(size)) =
            (dump["storage_path"].as_str(), dump["digest"].as_str(), dump["size_bytes"].as_i64())
        else {
            return Err(PhaseError::failed("the phase dump left nothing behind"));
        };
        let mut c = context.pool().acquire().await?;
        let backup = Backup::row(context, &mut c, backup_id).await?;
        let hold = &context.holding.hold;
        // Of an earlier attempt it may be closed.
        let is_open = matches!(backup.status.as_str(), "success" | "running");
        if !is_open && !work::begin_backup(&mut c, hold, backup_id).await? {
            return Err(PhaseError::Lost);
        }
        if !work::end_backup(&mut c, hold, backup_id, path, size, digest).await? {
            return Err(PhaseError::Lost);
        }
        drop(c);
        let artifact = NewArtifact {
            key: KEY.to_owned(),
            artifact_type: "backup",
            storage_path: path.to_owned(),
            store: dump["store"].as_str().map(str::to_owned),
            digest: Some(digest.to_owned()),
            size_bytes: Some(size),
            content_type: Some("application/vnd.postgresql.dump".to_owned()),
            expires_in_days: backup.kept_days,
        };
        context.artifact(&artifact).await?;
        Ok(json!({ "backup_id": backup_id }))
    }
}
