//! Runs whose phases stand in their own metadata:
//!
//! ```json
//! { "phases": [
//!   { "name": "ping", "uses": "http", "with": { "url": "https://example.com", "expect": { "status": 200 } } },
//!   { "name": "lint", "uses": "command", "with": { "program": "lint", "arguments": ["${env_id}"] }, "parallel_with": "ping" },
//!   { "name": "tidy", "uses": "sql", "with": { "statements": ["delete from t where old"] }, "timeout": "2m" },
//!   { "name": "child", "uses": "run", "with": { "kind": "nightly", "input": { "shop": "all" } }, "retries": 2 }
//! ] }
//! ```
//!
//! A phase has a `timeout` (for all of its tries together; 5 min), `retries` after any failure (0) and may
//! begin together with the ones right before it (`parallel_with`: one of their names). A run without phases
//! fails: it was queued for something. Programs are those of RUNNER_COMMANDS, in an empty folder, and the
//! `env` that a run gives them begins with `INPUT_`: who may queue a run may not thereby execute something
//! else. In their arguments and `env`, `${run_id}`, `${project_id}`, `${env_id}`, `${git_sha}` and `${git_ref}`
//! are filled in as far as the run has them; any other name is refused. Statements go to the environment's own database, never to that of the
//! runs; they are one transaction, but whether it was committed can be lost with its answer, so **the
//! statements must be harmless when made twice**. A phase that waits for another run keeps its slot: a
//! runner with RUNNER_CONCURRENCY=1 would wait for itself.

mod spec;
mod sql;
mod wait;

use super::command::{self, Start};
use super::request::{Request, refused};
use super::{Settings, environment, stopped};
use crate::runner::kind::{Context, Kind, Phase, PhaseError, Work};
use crate::runs::Claimed;
use crate::runs::record::{Level, each_text};
use crate::telemetry::redact_text;
use serde_json::{Map, Value, json};
use spec::{Spec, Uses};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Between tries of a phase: this, doubled each time.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Of a body, so much is kept.
const SHOWN: usize = 16 << 10;

pub struct Custom(pub Arc<Settings>);

impl Kind for Custom {
    fn phases(&self, run: &Claimed) -> Result<Vec<Phase>, String> {
        Ok(read(run)?.into_iter().map(|spec| spec.phase).collect())
    }

    fn work<'a>(&'a self, context: &'a Context) -> Work<'a> {
        Box::pin(async move {
            let all = read(&context.run).map_err(PhaseError::Failed)?;
            let Some(spec) = all.into_iter().nth(context.index) else {
                return Err(PhaseError::failed("the run's metadata has changed: this phase is gone"));
            };
            let mut pause = SHORTEST_PAUSE;
            for _ in 1..spec.tries {
                match self.perform(context, &spec).await {
                    Ok(output) => return Ok(output),
                    Err(PhaseError::Lost) => return Err(PhaseError::Lost),
                    Err(error) => context.note(Level::Warn, &format!("Tried again: {error}"), json!({})).await?,
                }
                tokio::select! {
                    _ = context.told_to_stop() => return Err(stopped()),
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                }
            }
            self.perform(context, &spec).await
        })
    }

    fn output(&self, phases: &Map<String, Value>) -> Option<Value> {
        // What each left behind stands with the phase: a hundred of them together would be no small document.
        let all: Map<String, Value> =
            phases.keys().map(|name| (name.clone(), json!({ "status": "success" }))).collect();
        (!all.is_empty()).then(|| json!({ "phases": all }))
    }
}

fn read(run: &Claimed) -> Result<Vec<Spec>, String> {
    spec::read(&run.metadata, &values(run).into_keys().collect::<Vec<_>>())
}

impl Custom {
    async fn perform(&self, context: &Context, spec: &Spec) -> Result<Value, PhaseError> {
        match &spec.uses {
            Uses::Http(request) => self.http(context, request).await,
            Uses::Command(named) => {
                let path = command::listed(&self.0.programs, &named.program)?;
                let folder = self.0.store.scratch()?;
                let (arguments, env) = named.filled(&values(&context.run))?;
                let start = Start { path, arguments, env, folder: folder.path().to_owned() };
                let done = command::perform(context, &named.program, start).await?;
                Ok(json!({ "stdout": done.out(), "duration_ms": done.took.as_millis() as u64 }))
            }
            Uses::Sql(statements) => {
                let target = self.0.target(context, &environment(context).await?).await?;
                sql::perform(context, &target, statements).await
            }
            Uses::Run(new) => wait::perform(context, new, self.0.looks(), self.0.waits).await,
        }
    }

    async fn http(&self, context: &Context, request: &Request) -> Result<Value, PhaseError> {
        context.fence().check().map_err(|_| PhaseError::Lost)?;
        let reply = self.0.caller.send("call", request).await.map_err(|error| error.about(&request.shown()))?;
        if let Some(why) = request.unmet(&reply) {
            return Err(refused(&reply, why).about(&request.shown()));
        }
        let text = redact_text(&String::from_utf8_lossy(&reply.body));
        let text: String = text.chars().take(SHOWN).collect();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        // Each text by itself, because escaped in JSON they are none of the spellings that are looked for.
        let body = each_text(body, &|text| request.without_headers(text));
        let took = reply.took.as_millis() as u64;
        Ok(json!({ "status": reply.status, "duration_ms": took, "body": body }))
    }
}

/// What `${name}` stands for, as far as the run has it.
fn values(run: &Claimed) -> BTreeMap<&'static str, String> {
    let given = [
        ("run_id", Some(&run.run_id)),
        ("project_id", run.project_id.as_ref()),
        ("env_id", run.env_id.as_ref()),
        ("git_sha", run.git_sha.as_ref()),
        ("git_ref", run.git_ref.as_ref()),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name, value?.clone()))).collect()
}
