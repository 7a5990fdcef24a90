//! The routes: who may ask, what is refused in which words, what a request sets in motion.

use super::answer::{Answer, Content, Outcome};
use super::world::{Run, State};
use super::{Shared, objects};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::time::Instant;

pub(super) struct Request {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub body: Value,
    pub bearer: Option<String>,
    pub user_agent: bool,
    pub version: Option<String>,
}

/// What is asked, by the words under which trouble is ordered.
pub(super) enum Call<'a> {
    Dispatch { workflow: &'a str },
    ListRuns { workflow: &'a str },
    Run(&'a str),
    Jobs(&'a str),
    Artifacts(&'a str),
    Download(&'a str),
    Cancel(&'a str),
    RateLimit,
    Unknown,
}

impl Call<'_> {
    pub fn of<'a>(request: &'a Request, repository: &str) -> Call<'a> {
        if (request.method.as_str(), request.path.as_str()) == ("GET", "/rate_limit") {
            return Call::RateLimit;
        }
        let path = request.path.strip_prefix("/repos/").and_then(|rest| rest.strip_prefix(repository));
        let Some(path) = path.and_then(|rest| rest.strip_prefix("/actions/")) else { return Call::Unknown };
        let segments: Vec<&str> = path.split('/').collect();
        match (request.method.as_str(), segments.as_slice()) {
            ("POST", ["workflows", workflow, "dispatches"]) => Call::Dispatch { workflow },
            ("GET", ["workflows", workflow, "runs"]) => Call::ListRuns { workflow },
            ("GET", ["runs", id]) => Call::Run(id),
            ("GET", ["runs", id, "jobs"]) => Call::Jobs(id),
            ("GET", ["runs", id, "artifacts"]) => Call::Artifacts(id),
            ("GET", ["artifacts", id, "zip"]) => Call::Download(id),
            ("POST", ["runs", id, "cancel"]) => Call::Cancel(id),
            _ => Call::Unknown,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Call::Dispatch { .. } => "dispatch",
            Call::ListRuns { .. } => "list runs",
            Call::Run(_) => "run",
            Call::Jobs(_) => "jobs",
            Call::Artifacts(_) => "artifacts",
            Call::Download(_) => "download",
            Call::Cancel(_) => "cancel",
            Call::RateLimit => "rate limit",
            Call::Unknown => "unknown",
        }
    }
}

/// Before the request is looked at: who asks, and how. The repository is private.
pub(super) fn admitted(shared: &Shared, request: &Request) -> Result<(), Answer> {
    let options = &shared.options;
    if !request.user_agent {
        let message =
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header";
        return Err(Answer::error(StatusCode::FORBIDDEN, message));
    }
    if !matches!(request.version.as_deref(), None | Some("2022-11-28" | "2026-03-10")) {
        return Err(Answer::error(StatusCode::BAD_REQUEST, "\"X-GitHub-Api-Version\" is not a supported version"));
    }
    match request.bearer.as_deref() {
        Some(token) if token == options.token => Ok(()),
        Some(token) if token == options.reading_token => match request.method.as_str() {
            "GET" => Ok(()),
            _ => Err(Answer::error(StatusCode::FORBIDDEN, "Resource not accessible by personal access token")
                .with("x-accepted-github-permissions", "actions=write".to_owned())),
        },
        Some(_) => Err(Answer::error(StatusCode::UNAUTHORIZED, "Bad credentials")),
        None => Err(Answer::not_found()),
    }
}

pub(super) fn answer(shared: &Shared, state: &mut State, request: &Request, call: &Call<'_>) -> Outcome {
    let calendar = state.calendar;
    let found = |id: &str| state.run(id).ok_or_else(Answer::not_found);
    match call {
        Call::Dispatch { workflow } => dispatch(shared, state, request, workflow),
        Call::ListRuns { workflow } => list_runs(shared, state, request, workflow),
        Call::Run(id) => Ok(Answer::ok(objects::run(shared, calendar, found(id)?))),
        Call::Jobs(id) => page(request, "jobs", objects::jobs(shared, found(id)?)),
        Call::Artifacts(id) => {
            let mut all = objects::artifacts(shared, calendar, found(id)?);
            if let Some(name) = request.query.get("name") {
                all.retain(|artifact| artifact["name"] == name.as_str());
            }
            page(request, "artifacts", all)
        }
        Call::Download(id) => download(shared, state, id),
        Call::Cancel(id) => cancel(shared, state, id),
        Call::RateLimit => Ok(Answer::ok(rate_limit(shared, state))),
        Call::Unknown => Err(Answer::not_found()),
    }
}

fn dispatch(shared: &Shared, state: &mut State, request: &Request, workflow: &str) -> Outcome {
    let options = &shared.options;
    if workflow != options.workflow {
        return Err(Answer::not_found());
    }
    let body = &request.body;
    let wants_details = body.get("return_run_details");
    if wants_details.is_some() && !options.tells_run_id {
        return Err(Answer::unprocessable("Invalid request.\n\n\"return_run_details\" is not a permitted key."));
    }
    let git_ref =
        body["ref"].as_str().ok_or_else(|| Answer::unprocessable("Invalid request.\n\n\"ref\" wasn't supplied."))?;
    let no_ref = || Answer::unprocessable(&format!("No ref found for: {git_ref}"));
    let head_sha = state.refs.get(git_ref).cloned().ok_or_else(no_ref)?;
    let inputs: BTreeMap<String, String> = match &body["inputs"] {
        Value::Null => BTreeMap::new(),
        given => serde_json::from_value(given.clone())
            .map_err(|_| Answer::unprocessable("Invalid request.\n\nFor 'properties/inputs', not a map of texts."))?,
    };
    let unexpected: Vec<&String> = inputs.keys().filter(|name| !options.inputs.contains(name)).collect();
    if !unexpected.is_empty() {
        return Err(Answer::unprocessable(&format!("Unexpected inputs provided: {unexpected:?}")));
    }
    let id = state.dispatch(git_ref, head_sha, inputs);
    Ok(match wants_details {
        Some(Value::Bool(true)) => Answer::ok(json!({
            "workflow_run_id": id,
            "run_url": format!("{}/runs/{id}", objects::api_url(shared)),
            "html_url": objects::html_url(options, id),
        })),
        _ => Answer::new(StatusCode::NO_CONTENT, Content::Empty),
    })
}

/// What the headers of every answer say, as a document.
fn rate_limit(shared: &Shared, state: &mut State) -> Value {
    let (headers, _) = state.rate(shared.options.rate_limit, false);
    let number = |name: &str| headers.iter().find(|(n, _)| n.ends_with(name)).and_then(|(_, v)| v.parse::<u64>().ok());
    let core = json!({
        "limit": number("-limit"), "remaining": number("-remaining"), "reset": number("-reset"), "used": number("-used"),
    });
    json!({ "resources": { "core": core, "search": core }, "rate": core })
}

/// Newest first.
fn list_runs(shared: &Shared, state: &State, request: &Request, workflow: &str) -> Outcome {
    let options = &shared.options;
    if workflow != options.workflow {
        return Err(Answer::not_found());
    }
    let created = request.query.get("created").map(|text| Created::parse(text)).transpose()?;
    let listed = |run: &&Run| {
        let standing = run.standing(options);
        let is = |name: &str, value: &str| request.query.get(name).is_none_or(|wanted| wanted == value);
        let status = request.query.get("status").map(String::as_str);
        // GitHub lists by whole seconds.
        let second = state.calendar.at(run.created).as_second();
        run.created + state.list_lag <= Instant::now()
            && is("event", "workflow_dispatch")
            && is("branch", &run.git_ref)
            && is("head_sha", &run.head_sha)
            && status.is_none_or(|word| word == standing.status || Some(word) == standing.conclusion)
            && created.as_ref().is_none_or(|created| created.holds(second))
    };
    let runs = state.runs.iter().rev().filter(listed);
    page(request, "workflow_runs", runs.map(|run| objects::run(shared, state.calendar, run)).collect())
}

/// `>=2026-01-05T09:00:00Z`, the one form of GitHub's search dates that is simulated.
struct Created(i64);

impl Created {
    fn parse(text: &str) -> Result<Created, Answer> {
        let at = text.strip_prefix(">=").and_then(|date| date.parse::<Timestamp>().ok());
        at.map(|at| Created(at.as_second())).ok_or_else(|| Answer::unprocessable("Invalid value for created"))
    }

    fn holds(&self, second: i64) -> bool {
        second >= self.0
    }
}

fn page(request: &Request, name: &str, all: Vec<Value>) -> Outcome {
    let number = |name: &str, usual: usize| request.query.get(name).and_then(|n| n.parse().ok()).unwrap_or(usual);
    let (page, per_page) = (number("page", 1).max(1), number("per_page", 30).clamp(1, 100));
    let total = all.len();
    let shown: Vec<Value> = all.into_iter().skip((page - 1) * per_page).take(per_page).collect();
    Ok(Answer::ok(json!({ "total_count": total, name: shown })))
}

/// Elsewhere, for a minute, for whoever knows the address.
fn download(shared: &Shared, state: &State, id: &str) -> Outcome {
    let run = id.parse().ok().and_then(|id: u64| state.runs.iter().find(|run| run.artifact_id() == id));
    let run = run.ok_or_else(Answer::not_found)?;
    if objects::artifacts(shared, state.calendar, run).is_empty() {
        return Err(Answer::not_found());
    }
    if run.artifacts_expired {
        return Err(Answer::error(StatusCode::GONE, "Artifact has expired"));
    }
    let place = format!("http://{}/{id}.zip?sig={}", shared.store, signature(shared, id));
    Ok(Answer::new(StatusCode::FOUND, Content::Empty).with("location", place))
}

pub(super) fn signature(shared: &Shared, artifact: &str) -> String {
    crate::sandbox::webapp::seed::hex(shared.options.seed, &format!("signature of {artifact}"), 0, 40)
}

/// The archive behind a signed address.
pub(super) fn stored(shared: &Shared, state: &State, path: &str, sig: Option<&str>) -> Option<Vec<u8>> {
    let artifact = path.strip_prefix('/')?.strip_suffix(".zip")?;
    (sig == Some(signature(shared, artifact).as_str())).then_some(())?;
    let id: u64 = artifact.parse().ok()?;
    let run = state.runs.iter().find(|run| run.artifact_id() == id)?;
    Some(objects::archive(&shared.options, run))
}

fn cancel(shared: &Shared, state: &mut State, id: &str) -> Outcome {
    let id: Option<u64> = id.parse().ok();
    let run = state.runs.iter_mut().find(|run| Some(run.id) == id).ok_or_else(Answer::not_found)?;
    if run.standing(&shared.options).status == "completed" {
        return Err(Answer::error(StatusCode::CONFLICT, "Cannot cancel a workflow run that is completed."));
    }
    run.cancelled.get_or_insert_with(Instant::now);
    Ok(Answer::new(StatusCode::ACCEPTED, Content::Json(json!({}))))
}
