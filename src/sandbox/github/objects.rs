//! Runs, jobs and artifacts as JSON, in GitHub's field names.

use super::world::{Run, Standing};
use super::{GitHubOptions, Shared, zip};
use crate::sandbox::calendar::Calendar;
use serde_json::{Value, json};
use tokio::time::Instant;

const WORKFLOW_ID: u64 = 161_335;
const WORKFLOW_NAME: &str = "Build";
const STEPS: [&str; 3] = ["Check out", "Build and push the image", "Record the result"];

/// Whole seconds, as GitHub writes them.
fn date_time(calendar: Calendar, at: Instant) -> String {
    format!("{:.0}", calendar.at(at))
}

pub(super) fn api_url(shared: &Shared) -> String {
    format!("http://{}/repos/{}/actions", shared.address, shared.options.repository)
}

pub(super) fn html_url(options: &GitHubOptions, id: u64) -> String {
    format!("https://github.com/{}/actions/runs/{id}", options.repository)
}

pub(super) fn run(shared: &Shared, calendar: Calendar, run: &Run) -> Value {
    let options = &shared.options;
    let Standing { status, conclusion, since } = run.standing(options);
    let url = format!("{}/runs/{}", api_url(shared), run.id);
    let title = options.titled_by.as_ref().and_then(|input| run.inputs.get(input));
    json!({
        "id": run.id,
        "name": WORKFLOW_NAME,
        "display_title": title.map_or_else(|| WORKFLOW_NAME.to_owned(), |marker| format!("Build ({marker})")),
        "head_branch": run.git_ref,
        "head_sha": run.head_sha,
        "path": format!(".github/workflows/{}", options.workflow),
        "run_number": run.number,
        "run_attempt": 1,
        "event": "workflow_dispatch",
        "status": status,
        "conclusion": conclusion,
        "workflow_id": WORKFLOW_ID,
        "url": url,
        "html_url": html_url(options, run.id),
        "created_at": date_time(calendar, run.created),
        "run_started_at": date_time(calendar, run.created),
        "updated_at": date_time(calendar, since),
        "jobs_url": format!("{url}/jobs"),
        "artifacts_url": format!("{url}/artifacts"),
        "cancel_url": format!("{url}/cancel"),
    })
}

pub(super) fn jobs(shared: &Shared, run: &Run) -> Vec<Value> {
    let Standing { status, conclusion, .. } = run.standing(&shared.options);
    if matches!(status, "queued" | "waiting") {
        return Vec::new();
    }
    // The second step is the one that takes the time, and the one in which a run ends badly.
    let step = |(at, name): (usize, &&str)| {
        let (status, conclusion) = match (at, conclusion) {
            (0, _) => ("completed", Some("success")),
            (_, Some("success")) => ("completed", Some("success")),
            (1, None) => ("in_progress", None),
            (_, None) => ("queued", None),
            (1, ended) => ("completed", ended),
            _ => ("completed", Some("skipped")),
        };
        json!({ "number": at + 1, "name": name, "status": status, "conclusion": conclusion })
    };
    let id = run.id * 2 + 1;
    let steps: Vec<Value> = STEPS.iter().enumerate().map(step).collect();
    vec![json!({
        "id": id,
        "run_id": run.id,
        "run_attempt": 1,
        "name": "build",
        "status": status,
        "conclusion": conclusion,
        "head_sha": run.head_sha,
        "html_url": format!("{}/job/{id}", html_url(&shared.options, run.id)),
        "steps": steps,
    })]
}

pub(super) fn artifacts(shared: &Shared, calendar: Calendar, run: &Run) -> Vec<Value> {
    let Standing { conclusion, since, .. } = run.standing(&shared.options);
    if conclusion != Some("success") || !shared.options.leaves_result {
        return Vec::new();
    }
    let id = run.artifact_id();
    let bytes = archive(&shared.options, run);
    let url = format!("{}/artifacts/{id}", api_url(shared));
    vec![json!({
        "id": id,
        "name": "ops-result",
        "size_in_bytes": bytes.len(),
        "url": url,
        "archive_download_url": format!("{url}/zip"),
        "expired": run.artifacts_expired,
        "created_at": date_time(calendar, since),
        "workflow_run": { "id": run.id, "head_branch": run.git_ref, "head_sha": run.head_sha },
    })]
}

pub(super) fn archive(options: &GitHubOptions, run: &Run) -> Vec<u8> {
    zip::archive("result.json", run.result(options).as_bytes())
}
