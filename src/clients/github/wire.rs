//! GitHub's answers as they come: only the fields that are used, words open.

use super::run;
use jiff::Timestamp;
use serde::Deserialize;

/// One page of a list.
pub trait Page {
    fn len(&self) -> usize;
}

#[derive(Deserialize)]
pub struct RunDetails {
    pub workflow_run_id: u64,
}

#[derive(Deserialize)]
pub struct Runs {
    pub workflow_runs: Vec<Run>,
}

#[derive(Deserialize)]
pub struct Run {
    id: u64,
    name: Option<String>,
    #[serde(default)]
    display_title: String,
    /// Null on a run that was just made.
    status: Option<String>,
    conclusion: Option<String>,
    head_sha: String,
    html_url: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    run_attempt: Option<u64>,
}

#[derive(Deserialize)]
pub struct Jobs {
    pub jobs: Vec<Job>,
}

#[derive(Deserialize)]
pub struct Job {
    name: String,
    status: String,
    conclusion: Option<String>,
    html_url: Option<String>,
    #[serde(default)]
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    name: String,
    conclusion: Option<String>,
}

#[derive(Deserialize)]
pub struct Artifacts {
    pub artifacts: Vec<Artifact>,
}

#[derive(Deserialize)]
pub struct Artifact {
    id: u64,
    name: String,
    size_in_bytes: u64,
    expired: bool,
    created_at: Option<Timestamp>,
}

impl Page for Runs {
    fn len(&self) -> usize {
        self.workflow_runs.len()
    }
}

impl Page for Jobs {
    fn len(&self) -> usize {
        self.jobs.len()
    }
}

impl Page for Artifacts {
    fn len(&self) -> usize {
        self.artifacts.len()
    }
}

impl Run {
    pub fn convert(self) -> run::Run {
        run::Run {
            id: self.id,
            titles: [self.display_title, self.name.unwrap_or_default()],
            state: run::State::of(self.status.as_deref().unwrap_or("queued"), self.conclusion.as_deref()),
            head_sha: self.head_sha,
            html_url: self.html_url,
            created_at: self.created_at,
            updated_at: self.updated_at,
            attempt: self.run_attempt.unwrap_or(1),
        }
    }
}

impl Job {
    pub fn convert(self) -> run::Job {
        let failed = |step: &Step| matches!(step.conclusion.as_deref(), Some("failure" | "timed_out" | "cancelled"));
        run::Job {
            failed_step: self.steps.into_iter().find(failed).map(|step| step.name),
            state: run::State::of(&self.status, self.conclusion.as_deref()),
            name: self.name,
            html_url: self.html_url,
        }
    }
}

impl Artifact {
    pub fn convert(self) -> run::Artifact {
        run::Artifact {
            id: self.id,
            name: self.name,
            size: self.size_in_bytes,
            expired: self.expired,
            created_at: self.created_at,
        }
    }
}
