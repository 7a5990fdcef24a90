//! The first phase: an image, by its digest.

use super::settings::Maker;
use super::{Job, rollback, workflow};
use crate::clients::github::result::{BuildResult, FILE, LARGEST};
use crate::runner::kind::PhaseError;
use crate::runner::kinds::command::{self, Named, Start};
use serde_json::{Value, json};
use std::path::Path;

pub async fn build(job: &Job<'_>) -> Result<Value, PhaseError> {
    if let Some(from) = rollback::source(&job.context.run) {
        return rollback::image(job, from).await;
    }
    match &job.plan.build {
        Some(Maker::GitHub(workflow)) => workflow::build(job, workflow).await,
        Some(Maker::Command(command)) => by_command(job, command).await,
        None => Err(PhaseError::failed("the environment's config says not what makes the image")),
    }
}

pub fn told(result: &BuildResult) -> Value {
    json!({
        "image": result.pinned(),
        "image_tag": result.image_tag,
        "image_digest": result.image_digest,
    })
}

async fn by_command(job: &Job<'_>, named: &Named) -> Result<Value, PhaseError> {
    let path = command::listed(&job.settings.programs, &named.program)?;
    let folder = job.settings.store.scratch()?;
    let result = folder.path().join(FILE);
    let (arguments, mut env) = named.filled(&job.values)?;
    env.insert("OPS_RESULT".to_owned(), result.display().to_string());
    let start =
        Start { path, arguments, env, folder: named.folder.clone().unwrap_or_else(|| folder.path().to_owned()) };
    command::perform(job.context, &named.program, start).await?;
    let bytes = read(job, &result, &named.program).await?;
    let result = BuildResult::read(&bytes)
        .map_err(|why| PhaseError::failed(format!("what {} wrote to OPS_RESULT {why}", named.program)))?;
    Ok(told(&result))
}

async fn read(job: &Job<'_>, file: &Path, program: &str) -> Result<Vec<u8>, PhaseError> {
    match tokio::fs::metadata(file).await {
        Ok(about) if about.len() > LARGEST as u64 => {
            Err(PhaseError::failed(format!("{program} wrote {} bytes to OPS_RESULT", about.len())))
        }
        Ok(_) => tokio::fs::read(file).await.map_err(|e| job.settings.store.disk(&e)),
        Err(_) => Err(PhaseError::failed(format!("{program} ended well, and wrote nothing to the file OPS_RESULT"))),
    }
}
