//! Going back: the image of the newest build of the environment that succeeded before another one.

use super::{DEPLOY, IMAGE, Job};
use crate::runner::kind::PhaseError;
use crate::runs::record::Level;
use crate::runs::{Claimed, work};
use serde_json::{Value, json};

/// The run to go back from, when that is what this one is for.
pub fn source(run: &Claimed) -> Option<&str> {
    run.git_ref.as_deref()?.strip_prefix("rollback-from-")
}

pub async fn image(job: &Job<'_>, from: &str) -> Result<Value, PhaseError> {
    let env = &job.environment.env_id;
    let mut c = job.context.pool().acquire().await?;
    if !work::is_build_of(&mut c, from, env).await? {
        return Err(PhaseError::failed(format!("there is no build {from} of environment {env} to go back from")));
    }
    let found = work::success_before(&mut c, from, [IMAGE, DEPLOY]).await?;
    drop(c);
    let Some((run_id, mut image)) = found else {
        let text = format!("no build of environment {env} succeeded before {from}: there is nothing to go back to");
        return Err(PhaseError::Failed(text));
    };
    let tag = image["image_tag"].as_str().unwrap_or_default();
    let said = format!("Going back from {from} to {tag} of {run_id}");
    job.context.note(Level::Info, &said, json!({ "from": from, "to": run_id })).await?;
    image["rolled_back_from"] = json!(from);
    image["built_by"] = json!(run_id);
    Ok(image)
}
