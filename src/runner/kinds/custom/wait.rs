//! Another run, queued once and waited for.

use super::spec::NewChild;
use crate::runner::held::Stop;
use crate::runner::kind::{Context, PhaseError};
use crate::runner::kinds::{Looks, stopped};
use crate::runs::control::{self, Actor};
use crate::runs::record::Level;
use crate::runs::{NewRun, look, queue};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A larger one stays with its run: what a phase leaves behind is a small document, too.
const LARGEST_OUTPUT: usize = 256 << 10;

pub async fn perform(
    context: &Context,
    child: &NewChild,
    mut looks: Looks,
    most: Duration,
) -> Result<Value, PhaseError> {
    let parent = &context.run;
    let new = NewRun {
        input: child.input.clone(),
        metadata: child.metadata.clone(),
        project_id: parent.project_id.clone(),
        env_id: parent.env_id.clone(),
        git_sha: parent.git_sha.clone(),
        git_ref: parent.git_ref.clone(),
        idempotency_key: Some(format!("{}:{}", parent.run_id, context.phase.name)),
        ..NewRun::of_kind(&child.kind)
    };
    context.fence().check().map_err(|_| PhaseError::Lost)?;
    let mut c = context.pool().acquire().await?;
    let queued = queue::enqueue(&mut c, &new).await?;
    drop(c);
    let id = queued.run_id;
    if queued.is_new {
        let kind = &child.kind;
        context.note(Level::Info, &format!("Queued {kind} {id}"), json!({ "run_id": id })).await?;
    }
    let mut began = Instant::now();
    loop {
        let mut c = context.pool().acquire().await?;
        let run = look::get(&mut c, &id).await?;
        drop(c);
        let run = run.ok_or_else(|| PhaseError::failed(format!("the run {id} is gone")))?;
        match run.status.as_str() {
            "success" => {
                let fits = |output: &Value| output.to_string().len() <= LARGEST_OUTPUT;
                let (status, output) = (run.status.clone(), run.output.filter(fits));
                return Ok(json!({ "run_id": id, "status": status, "output": output }));
            }
            "failed" | "cancelled" => {
                let why = run.error.as_ref().unwrap_or(&run.status);
                return Err(PhaseError::failed(format!("{} {id} is {}: {why}", child.kind, run.status)));
            }
            // What is under way ends; one that nobody begins would keep this slot for ever.
            "queued" if began.elapsed() >= most => {
                let (kind, seconds) = (&child.kind, most.as_secs_f64());
                return Err(PhaseError::Transient(format!("nobody has begun {kind} {id} in {seconds} s")));
            }
            "queued" => {}
            _ => began = Instant::now(),
        }
        match looks.pause(context).await {
            Ok(()) => {}
            Err(Stop::Cancelled) => {
                let actor = format!("run {}", parent.run_id);
                let mut c = context.pool().acquire().await?;
                control::cancel(&mut c, &id, Actor(&actor), Some("the run that waits for it was cancelled")).await?;
                return Err(stopped());
            }
            Err(_) => return Err(stopped()),
        }
    }
}
