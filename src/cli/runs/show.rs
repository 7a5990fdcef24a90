//! `runs list` and `runs show`.

use super::{List, failed, no_run};
use crate::cli::{DONE, ops};
use ops_controller::runs::look::{self, Artifact, Attempt, Event, Filter, Phase, Run, RunSummary};
use ops_controller::runs::runners;
use serde_json::json;

const LAST_EVENTS: i64 = 10;

pub async fn list(list: List) -> Result<u8, u8> {
    let mut c = ops::connect().await?;
    let List { status, kind, project, env_id, before, limit, json } = list;
    let filter = Filter { status, kind, project_id: project, env_id, before };
    let page = look::list(&mut c, &filter, limit).await.map_err(failed)?;
    if json {
        return Ok(ops::json(&page));
    }
    let row = |run: &RunSummary| {
        let place = run.env_id.as_deref().or(run.project_id.as_deref());
        let attempt = format!("{}/{}", run.attempt, run.max_attempts);
        let ended = ops::time(run.finished_at);
        let phase = run.failed_phase.as_deref().or(run.last_phase.as_deref());
        // The column before it says so.
        let said = phase.map(|phase| format!("Phase {phase} failed: ")).unwrap_or_default();
        let error = run.error.as_deref().map(|error| ops::cut(error.strip_prefix(&*said).unwrap_or(error)));
        vec![
            run.run_id.clone(),
            run.kind.clone(),
            ops::or_dash(place),
            run.status.clone(),
            attempt,
            ops::time(Some(run.queued_at)),
            ended,
            ops::or_dash(phase),
            ops::or_dash(error.as_deref()),
        ]
    };
    let rows: Vec<_> = page.runs.iter().map(row).collect();
    print!("{}", ops::table(&["RUN", "KIND", "FOR", "STATUS", "TRY", "QUEUED", "FINISHED", "PHASE", "ERROR"], &rows));
    if let Some(next) = page.next {
        eprintln!("there are more: --before {next}");
    }
    Ok(DONE)
}

pub async fn show(run_id: &str, json: bool) -> Result<u8, u8> {
    let mut c = ops::connect().await?;
    let run = look::get(&mut c, run_id).await.map_err(failed)?.ok_or_else(|| no_run(run_id))?;
    let phases = look::phases(&mut c, run_id).await.map_err(failed)?;
    let attempts = look::attempts(&mut c, run_id).await.map_err(failed)?;
    let artifacts = look::artifacts(&mut c, run_id).await.map_err(failed)?;
    if json {
        let whole = json!({ "run": run, "phases": phases, "attempts": attempts, "artifacts": artifacts });
        return Ok(ops::json(&whole));
    }
    let events = look::last_events(&mut c, run_id, LAST_EVENTS).await.map_err(failed)?;
    print!("{}", fields(&run));
    if run.status == "queued"
        && let Some(nobody) = runners::nobody_on(&mut c, &run.kind).await.map_err(failed)?
    {
        println!("{:<16} {nobody}", "waits because");
    }
    section("phases", &["PHASE", "STATUS", "TRIES", "STARTED", "FINISHED", "ERROR"], phases.iter().map(phase));
    section("attempts", &["TRY", "BY", "STARTED", "FINISHED", "OUTCOME", "ERROR"], attempts.iter().map(attempt));
    section("artifacts", &["ARTIFACT", "TYPE", "BYTES", "PATH"], artifacts.iter().map(artifact));
    println!("\nlast events");
    for event in &events {
        println!("{}", line(event));
    }
    Ok(DONE)
}

/// One event in one line.
pub fn line(event: &Event) -> String {
    let phase = event.phase.as_deref().map(|phase| format!("[{}] ", ops::plain(phase))).unwrap_or_default();
    let payload = match event.payload.as_object().is_some_and(|map| map.is_empty()) {
        true => String::new(),
        false => format!("  {}", ops::plain(&event.payload.to_string())),
    };
    let message = ops::plain(&event.message);
    format!("{}  {:<5}  {phase}{message}{payload}", ops::time(Some(event.created_at)), event.level)
}

fn fields(run: &Run) -> String {
    let lease = run.lease_expires_at.map(|at| format!("until {}", ops::time(Some(at))));
    let rows = [
        ("run", Some(run.run_id.clone())),
        ("kind", Some(run.kind.clone())),
        ("status", Some(run.status.clone())),
        // Of one that goes on it is what ended the attempt before.
        (if run.is_finished() { "error" } else { "last error" }, run.error.clone()),
        ("project", run.project_id.clone()),
        ("environment", run.env_id.clone()),
        ("commit", run.git_sha.clone()),
        ("ref", run.git_ref.clone()),
        ("priority", Some(run.priority.to_string())),
        ("attempt", Some(format!("{} of {}", run.attempt, run.max_attempts))),
        ("claimed by", run.claimed_by.clone()),
        ("lease", lease),
        ("queued", Some(ops::time(Some(run.queued_at)))),
        ("not before", (run.status == "queued").then(|| ops::time(Some(run.run_at)))),
        ("started", run.started_at.map(|at| ops::time(Some(at)))),
        ("finished", run.finished_at.map(|at| ops::time(Some(at)))),
        ("cancel asked", run.cancel_requested_at.map(|at| ops::time(Some(at)))),
        ("concurrency key", run.concurrency_key.clone()),
        ("idempotency key", run.idempotency_key.clone()),
        ("input", Some(run.input.to_string())),
        ("metadata", Some(run.metadata.to_string())),
        ("output", run.output.as_ref().map(ToString::to_string)),
    ];
    let shown = rows.into_iter().filter_map(|(name, value)| Some((name, value?)));
    shown.map(|(name, value)| format!("{name:<16} {}\n", ops::plain(&value))).collect()
}

fn section(title: &str, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        print!("\n{title}\n{}", ops::table(heads, &rows));
    }
}

fn phase(p: &Phase) -> Vec<String> {
    let (name, error) = (ops::plain(&p.name), ops::or_dash(p.error.as_deref()));
    vec![name, p.status.clone(), p.tries.to_string(), ops::time(Some(p.started_at)), ops::time(p.finished_at), error]
}

fn attempt(a: &Attempt) -> Vec<String> {
    let (by, error) = (ops::plain(&a.runner_id), ops::or_dash(a.error.as_deref()));
    let outcome = a.outcome.clone().unwrap_or_else(|| "under way".to_owned());
    vec![a.attempt.to_string(), by, ops::time(Some(a.started_at)), ops::time(a.finished_at), outcome, error]
}

fn artifact(a: &Artifact) -> Vec<String> {
    let bytes = a.size_bytes.map_or_else(|| "-".to_owned(), |n| n.to_string());
    vec![ops::plain(&a.artifact_key), a.artifact_type.clone(), bytes, ops::plain(&a.storage_path)]
}
