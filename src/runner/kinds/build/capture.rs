//! The last phase: what was built, deployed and found out is stored, each thing with its digest.
//!
//! A bill of materials is made when RUNNER_COMMANDS has `syft`; without it, or when it fails, the manifest
//! says so, and the build is no failure: it is in service already.

use super::{DEPLOY, IMAGE, Job, SMOKE, SYFT};
use crate::runner::kind::PhaseError;
use crate::runner::kinds::command::{self, Start};
use crate::runner::store::Stored;
use crate::runs::look;
use crate::runs::record::{Level, NewArtifact};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const PAGE: i64 = 1000;
/// Of a longer log, the first events: what is missing stands in the database.
const MOST_EVENTS: usize = 50_000;

struct What {
    key: &'static str,
    artifact_type: &'static str,
    content_type: &'static str,
}

const IMAGE_RECORD: What = What { key: "image.json", artifact_type: "image", content_type: "application/json" };
const EVIDENCE: What = What { key: "evidence.json", artifact_type: "evidence", content_type: "application/json" };
const MANIFEST: What = What { key: "manifest.json", artifact_type: "manifest", content_type: "application/json" };
const LOG: What = What { key: "run.log.ndjson", artifact_type: "logs", content_type: "application/x-ndjson" };
const SBOM: What = What { key: "sbom.spdx.json", artifact_type: "sbom", content_type: "application/spdx+json" };

pub async fn capture(job: &Job<'_>) -> Result<Value, PhaseError> {
    let of = |phase| job.context.output_of(phase);
    let mut kept = Vec::new();
    let sbom = bill_of_materials(job, &mut kept).await?;
    kept.push(keep(job, &IMAGE_RECORD, pretty(&of(IMAGE))).await?);
    kept.push(keep(job, &EVIDENCE, pretty(&of(SMOKE))).await?);
    let run = &job.context.run;
    let manifest = json!({
        "run_id": run.run_id, "attempt": run.attempt,
        "project_id": run.project_id, "env_id": run.env_id, "env_type": job.environment.env_type,
        "git_sha": run.git_sha, "git_ref": run.git_ref,
        "built": of(IMAGE), "deployed": of(DEPLOY), "sbom": sbom, "artifacts": kept,
    });
    kept.push(keep(job, &MANIFEST, pretty(&manifest)).await?);
    kept.push(keep(job, &LOG, log(job).await?).await?);
    Ok(json!({ "artifacts": kept }))
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// Into the store, and then into the books: the same again replaces both.
async fn keep(job: &Job<'_>, what: &What, bytes: Vec<u8>) -> Result<Value, PhaseError> {
    job.context.fence().check().map_err(|_| PhaseError::Lost)?;
    let path = job.settings.artifact_path(&job.context.run, what.key);
    let Stored { path, digest, size, store } = job.settings.store.put(&path, bytes).await?;
    let told = json!({
        "artifact_key": what.key, "artifact_type": what.artifact_type, "storage_path": path, "digest": digest,
        "size_bytes": size,
    });
    let artifact = NewArtifact {
        key: what.key.to_owned(),
        artifact_type: what.artifact_type,
        storage_path: path,
        store,
        digest: Some(digest),
        size_bytes: Some(size),
        content_type: Some(what.content_type.to_owned()),
        expires_in_days: job.plan.keep_days,
    };
    job.context.artifact(&artifact).await?;
    Ok(told)
}

/// The run's events so far, one a line.
async fn log(job: &Job<'_>) -> Result<Vec<u8>, PhaseError> {
    let mut lines = Vec::new();
    let (mut after, mut count) = (0, 0);
    while count < MOST_EVENTS {
        let mut c = job.context.pool().acquire().await?;
        let page = look::events(&mut c, &job.context.run.run_id, after, PAGE).await?;
        drop(c);
        for event in &page.events {
            let line = serde_json::to_string(event).unwrap_or_default();
            lines.extend_from_slice(crate::telemetry::redact_text(&line).as_bytes());
            lines.push(b'\n');
        }
        count += page.events.len();
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    Ok(lines)
}

/// What the manifest says of it.
async fn bill_of_materials(job: &Job<'_>, kept: &mut Vec<Value>) -> Result<Value, PhaseError> {
    let Some(path) = job.settings.programs.get(SYFT).cloned() else {
        return Ok(json!("none: RUNNER_COMMANDS has no syft"));
    };
    let folder = job.settings.store.scratch()?;
    let file = folder.path().join(SBOM.key);
    let image = job.values.get("image").cloned().unwrap_or_default();
    let start = Start {
        path,
        arguments: vec![
            "scan".into(),
            format!("registry:{image}"),
            "-o".into(),
            format!("spdx-json={}", file.display()),
        ],
        env: BTreeMap::new(),
        folder: folder.path().to_owned(),
    };
    match command::perform(job.context, SYFT, start).await {
        Ok(_) => {}
        Err(PhaseError::Lost) => return Err(PhaseError::Lost),
        Err(error) => {
            let said = format!("No bill of materials: {error}");
            job.context.note(Level::Warn, &said, json!({})).await?;
            return Ok(json!("none: syft failed"));
        }
    }
    let told = keep(job, &SBOM, tokio::fs::read(&file).await.map_err(|e| job.settings.store.disk(&e))?).await?;
    let digest = told["digest"].clone();
    kept.push(told);
    Ok(digest)
}
