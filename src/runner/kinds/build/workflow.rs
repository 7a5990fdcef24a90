//! An image by a GitHub Actions workflow: dispatched once, found again, followed, cancelled with its run.
//!
//! The workflow must have the input `run_id` and show it: `run-name: build ${{ inputs.run_id }}`. By that
//! a dispatch whose answer was lost is told from one that never arrived.

use super::settings::Workflow as Wanted;
use super::{Job, image};
use crate::clients::github::run::{Dispatch, Found, LISTED_WITHIN, Run, State};
use crate::clients::github::{Cancelled, Reader, Repository, Workflow, Writer};
use crate::runner::held::Stop;
use crate::runner::kind::PhaseError;
use crate::runner::kinds::request::filled;
use crate::runner::kinds::{Interrupted, stopped};
use crate::runs::record::{Level, Resource, ResourceName};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// An artifact may be listed a moment after its run has ended.
const LOOKS_FOR_RESULT: usize = 6;

const LAST_LOOKS: Duration = Duration::from_millis(200);

struct Following<'a> {
    job: &'a Job<'a>,
    wanted: &'a Wanted,
    workflow: Workflow,
    look: &'a Reader,
    act: Writer,
}

pub async fn build(job: &Job<'_>, wanted: &Wanted) -> Result<Value, PhaseError> {
    let look = job.settings.github.as_ref().ok_or_else(|| {
        PhaseError::failed("GITHUB_TOKEN is not set on this runner: it needs one that may run workflows")
    })?;
    let slug = wanted.repository.clone().or(job.environment.repo_slug.clone()).ok_or_else(|| {
        let project = &job.environment.project_id;
        PhaseError::failed(format!("project {project} has no repo_slug, and config.build.github no repository"))
    })?;
    let workflow = Workflow::parse(&slug, &wanted.file)
        .ok_or_else(|| PhaseError::failed(format!("{} of {slug} is no workflow's name", wanted.file)))?;
    let act = Writer::new(look.clone(), &job.context.fence());
    Following { job, wanted, workflow, look, act }.build().await
}

impl Following<'_> {
    async fn build(&self) -> Result<Value, PhaseError> {
        loop {
            let context = self.job.context;
            let name = ResourceName { provider: "github", kind: "workflow_run", name: &context.run.run_id };
            let desired = json!({ "workflow": self.workflow.to_string(), "sent_at": Timestamp::now().to_string() });
            let intent = context.intend(name, &desired).await?;
            let id = match intent.external_id.as_deref().and_then(|id| id.parse().ok()) {
                Some(id) => id,
                None => match self.begun(&intent).await? {
                    Some(id) => id,
                    // It never arrived: from the beginning.
                    None => {
                        context.settle(&intent, "failed", None, &json!({ "outcome": "never made" })).await?;
                        continue;
                    }
                },
            };
            return match self.follow(id).await {
                Ok(run) => self.ended(&intent, run).await,
                Err(Interrupted::Stopped(Stop::Cancelled)) => self.cancel(&intent, id).await,
                Err(other) => Err(other.into()),
            };
        }
    }

    /// `None`: what was sent before surely made none.
    async fn begun(&self, intent: &Resource) -> Result<Option<u64>, PhaseError> {
        let begun = match intent.is_new {
            true => self.dispatch(intent).await.map(Some),
            false => self.found(intent).await,
        };
        match begun {
            Err(Interrupted::Stopped(Stop::Cancelled)) => self.cancel_unseen(intent).await,
            begun => Ok(begun?),
        }
    }

    /// No attempt comes after a cancelled one, so what was dispatched and is not listed yet is looked for
    /// as long as a phase that is told to stop may live.
    async fn cancel_unseen<T>(&self, intent: &Resource) -> Result<T, PhaseError> {
        let marker = self.marker(intent);
        loop {
            if let Ok(Found::Marked(run)) = self.look.find(&self.workflow, &self.sent(intent, &marker)).await {
                let id = self.live(intent, run.id).await?;
                self.cancel(intent, id).await?;
            }
            tokio::time::sleep(LAST_LOOKS).await;
        }
    }

    /// The dispatch that may have arrived.
    fn sent<'m>(&'m self, intent: &Resource, marker: &'m str) -> Dispatch<'m> {
        let sent_at = intent.desired["sent_at"].as_str().and_then(|text| text.parse().ok());
        let head_sha = self.job.context.run.git_sha.as_deref().filter(|sha| sha.len() == 40);
        Dispatch { marker, sent_at: sent_at.unwrap_or_else(Timestamp::now), head_sha }
    }

    /// Another one for each intent: a build that is queued again after a failure dispatches again.
    fn marker(&self, intent: &Resource) -> String {
        format!("{}-d{}", self.job.context.run.run_id, intent.resource_id)
    }

    async fn dispatch(&self, intent: &Resource) -> Result<u64, Interrupted> {
        let run = &self.job.context.run;
        let own = run.git_ref.clone().unwrap_or_default();
        let own = own.strip_prefix("refs/heads/").or(own.strip_prefix("refs/tags/")).unwrap_or(&own);
        let git_ref = self.wanted.git_ref.as_deref().unwrap_or(own);
        let fill = |(name, value): (&String, &String)| Ok((name.clone(), filled(value, &self.job.values)?));
        let mut inputs = self.wanted.inputs.iter().map(fill).collect::<Result<BTreeMap<_, _>, PhaseError>>()?;
        let of = |name: &str| self.job.values.get(name).cloned().unwrap_or_default();
        for name in ["git_sha", "git_ref"] {
            inputs.entry(name.to_owned()).or_insert_with(|| of(name));
        }
        inputs.insert("run_id".to_owned(), self.marker(intent));
        let dispatched = match self.act.dispatch(&self.workflow, git_ref, &inputs).await {
            Ok(dispatched) => dispatched,
            Err(error) => {
                if error.is_definite() {
                    // Surely nothing was made: the next attempt may ask again.
                    self.job.context.settle(intent, "failed", None, &json!({ "outcome": "refused" })).await?;
                }
                return Err(error.into());
            }
        };
        match dispatched.run_id {
            Some(id) => Ok(self.live(intent, id).await?),
            None => {
                let found = self.found(intent).await?;
                let none = || PhaseError::transient(format!("{} made no run of its dispatch", self.workflow));
                Ok(found.ok_or_else(none)?)
            }
        }
    }

    async fn live(&self, intent: &Resource, id: u64) -> Result<u64, PhaseError> {
        let observed = json!({ "run_id": id });
        self.job.context.settle(intent, "live", Some(&id.to_string()), &observed).await?;
        let said = format!("Dispatched {}: workflow run {id}", self.workflow);
        self.job.context.note(Level::Info, &said, json!({ "workflow_run": id })).await?;
        Ok(id)
    }

    /// The run that an earlier dispatch made; `None` when it surely made none.
    async fn found(&self, intent: &Resource) -> Result<Option<u64>, Interrupted> {
        let marker = self.marker(intent);
        let dispatch = self.sent(intent, &marker);
        let mut looks = self.job.settings.looks();
        loop {
            let listed_by_now = Timestamp::now().duration_since(dispatch.sent_at) > LISTED_WITHIN;
            match self.look.find(&self.workflow, &dispatch).await {
                Ok(Found::Marked(run)) => return Ok(Some(self.live(intent, run.id).await?)),
                Ok(Found::Likely(run)) if listed_by_now => {
                    let said =
                        format!("{} does not show its input run_id in run-name: taking run {}", self.workflow, run.id);
                    self.job.context.note(Level::Warn, &said, json!({ "workflow_run": run.id })).await?;
                    return Ok(Some(self.live(intent, run.id).await?));
                }
                Ok(Found::Ambiguous(ids)) if listed_by_now => {
                    let text = format!(
                        "{} has runs {ids:?} that may be this one's: give it `run-name: build ${{{{ inputs.run_id }}}}`",
                        self.workflow
                    );
                    return Err(PhaseError::Failed(text).into());
                }
                Ok(Found::Nothing) if listed_by_now => return Ok(None),
                Ok(Found::Nothing | Found::Likely(_) | Found::Ambiguous(_)) => looks.pause(self.job.context).await?,
                Err(error) => looks.after(self.job.context, error).await?,
            }
        }
    }

    async fn follow(&self, id: u64) -> Result<Run, Interrupted> {
        let mut looks = self.job.settings.looks();
        let mut told_held = false;
        loop {
            match self.look.run(&self.workflow.repository, id).await {
                Ok(Some(run)) if run.state.is_over() => return Ok(run),
                Ok(Some(run)) if run.state == State::Held && !told_held => {
                    told_held = true;
                    let said = format!("Workflow run {id} waits for a person's approval: {}", run.html_url);
                    self.job.context.note(Level::Warn, &said, json!({})).await?;
                }
                // Right after a dispatch it may not be there yet.
                Ok(_) => {}
                Err(error) => {
                    looks.after(self.job.context, error).await?;
                    continue;
                }
            }
            looks.pause(self.job.context).await?;
        }
    }

    async fn ended(&self, intent: &Resource, run: Run) -> Result<Value, PhaseError> {
        let repository = &self.workflow.repository;
        let how = match &run.state {
            State::Succeeded => return self.result(intent, &run).await,
            State::Failed(word) => word.clone(),
            State::Cancelled => "being cancelled".to_owned(),
            other => format!("{other:?}"),
        };
        let place = self.failed_step(repository, run.id).await;
        self.job.context.settle(intent, "failed", None, &json!({ "outcome": how })).await?;
        let at = run.html_url;
        Err(PhaseError::failed(format!("workflow run {} of {repository} ended with {how}{place}: {at}", run.id)))
    }

    /// Where it broke, as far as GitHub says.
    async fn failed_step(&self, repository: &Repository, id: u64) -> String {
        let jobs = self.look.jobs(repository, id).await.unwrap_or_default();
        let failed = jobs.into_iter().find(|job| matches!(job.state, State::Failed(_)));
        match failed.map(|job| (job.name, job.failed_step)) {
            Some((job, Some(step))) => format!(" in step {step} of job {job}"),
            Some((job, None)) => format!(" in job {job}"),
            None => String::new(),
        }
    }

    async fn result(&self, intent: &Resource, run: &Run) -> Result<Value, PhaseError> {
        let mut looks = self.job.settings.looks();
        for _ in 0..LOOKS_FOR_RESULT {
            match self.look.build_result(&self.workflow.repository, run.id).await {
                Ok(Some(result)) => {
                    let mut told = image::told(&result);
                    self.job.context.settle(intent, "live", None, &told).await?;
                    told["workflow_run"] = json!(run.html_url);
                    return Ok(told);
                }
                Ok(None) => looks.pause(self.job.context).await.map_err(|_| stopped())?,
                Err(error) => looks.after(self.job.context, error).await?,
            }
        }
        self.job.context.settle(intent, "failed", None, &json!({ "outcome": "no result" })).await?;
        let text = format!("workflow run {} succeeded and left no artifact ops-result with result.json", run.id);
        Err(PhaseError::Failed(text))
    }

    async fn cancel(&self, intent: &Resource, id: u64) -> Result<Value, PhaseError> {
        let said = match self.act.cancel(&self.workflow.repository, id).await? {
            Cancelled::Asked => format!("Workflow run {id} is told to cancel"),
            Cancelled::AlreadyOver => format!("Workflow run {id} had ended before it could be cancelled"),
        };
        self.job.context.settle(intent, "failed", None, &json!({ "outcome": "cancelled" })).await?;
        self.job.context.note(Level::Info, &said, json!({ "workflow_run": id })).await?;
        Err(stopped())
    }
}
