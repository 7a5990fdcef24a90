//! Builds: an image is made, brought into service, tried, and what proves it is kept.
//!
//! The phases are `build_image`, `deploy_runtime`, `smoke_tests` and `capture_artifacts`. How each is
//! done says the environment's `config`:
//!
//! ```json
//! {
//!   "build":  { "github": { "workflow": "build.yml", "ref": "main", "inputs": { "image_name": "ghcr.io/org/app" } },
//!               "timeout": "30m" },
//!   "deploy": { "railway": { "project_id": "...", "environment_id": "...", "service": "app",
//!                            "variables": { "GIT_SHA": "${git_sha}" } }, "timeout": "15m" },
//!   "smoke":  { "checks": [ { "name": "health_check", "path": "/health", "expect": { "status": 200 } } ] },
//!   "artifacts": { "expires_in_days": 90 }
//! }
//! ```
//!
//! Instead of `github` there may be `command` (`program` of RUNNER_COMMANDS, `arguments`, `env`,
//! `folder`; the program writes `{"image_tag", "image_digest"}` to the file that `OPS_RESULT` names), and
//! instead of `railway` a `hook` (a request: `url`, `method`, `headers`, `body`, `timeout`, `expect`;
//! `deployment_url`). A run's metadata may say otherwise under the same names for what decides neither
//! what is executed nor where it goes: timeouts, `build.github.ref` and `.inputs`, `smoke` with paths,
//! `artifacts`. Everything else in it is refused: who may queue a run may not thereby deploy elsewhere.
//!
//! Builds of one environment take turns, and none takes the place of one that was queued after it.
//!
//! `${run_id}`, `${project_id}`, `${env_id}`, `${env_type}`, `${git_sha}`, `${git_ref}`, and from the
//! deploy on `${image}`, `${image_tag}`, `${image_digest}` are filled in. With
//! `git_ref = 'rollback-from-<run_id>'` nothing is built: the image is that of the newest build of the
//! environment that succeeded before that run.

mod capture;
mod deploy;
mod image;
mod railway;
mod rollback;
pub mod settings;
mod smoke;
mod workflow;

use super::{Settings, environment, within};
use crate::runner::kind::{Context, Kind, Phase, PhaseError, Work};
use crate::runs::work::{self, Environment};
use crate::runs::{Claimed, names};
use serde_json::{Map, Value, json};
use settings::Plan;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub const IMAGE: &str = "build_image";
pub const DEPLOY: &str = "deploy_runtime";
pub const SMOKE: &str = "smoke_tests";
pub const CAPTURE: &str = "capture_artifacts";

/// The program of RUNNER_COMMANDS that describes an image.
pub const SYFT: &str = "syft";

/// The deadlines of the configuration are shorter; these hold if it cannot be read.
const LONGEST: Duration = Duration::from_secs(7 * 3600);
const CAPTURES_FOR: Duration = Duration::from_secs(1800);

pub struct Build(pub Arc<Settings>);

/// One build as its phases see it.
struct Job<'a> {
    settings: &'a Settings,
    context: &'a Context,
    environment: Environment,
    plan: Plan,
    /// What `${name}` stands for.
    values: BTreeMap<&'static str, String>,
}

impl Kind for Build {
    fn phases(&self, run: &Claimed) -> Result<Vec<Phase>, String> {
        for (name, value) in [("git_sha", &run.git_sha), ("git_ref", &run.git_ref)] {
            let value = value.as_deref().unwrap_or_default();
            // The SQL function takes what it is given.
            if names::git_ref(value).is_err() {
                return Err(format!("{name} {value:?} is no revision of a repository"));
            }
        }
        let phases = [(IMAGE, LONGEST), (DEPLOY, LONGEST), (SMOKE, LONGEST), (CAPTURE, CAPTURES_FOR)];
        Ok(phases.map(|(name, limit)| Phase::new(name, limit)).to_vec())
    }

    fn work<'a>(&'a self, context: &'a Context) -> Work<'a> {
        Box::pin(async move {
            let job = Job::of(&self.0, context).await?;
            let phase = context.phase.name.as_str();
            if phase == IMAGE || phase == DEPLOY {
                job.is_still_wanted().await?;
            }
            match phase {
                IMAGE => within(job.plan.build_limit, "the build", image::build(&job)).await,
                DEPLOY => within(job.plan.deploy_limit, "the deployment", deploy::deploy(&job)).await,
                SMOKE => within(job.plan.smoke_limit, "the checks together", smoke::check(&job)).await,
                _ => capture::capture(&job).await,
            }
        })
    }

    fn output(&self, phases: &Map<String, Value>) -> Option<Value> {
        let mut all: Map<String, Value> = phases.values().filter_map(Value::as_object).flat_map(Map::clone).collect();
        let order = [IMAGE, DEPLOY, SMOKE, CAPTURE];
        let done: Vec<&str> = order.into_iter().filter(|name| phases.contains_key(*name)).collect();
        all.insert("phases_completed".to_owned(), json!(done));
        Some(Value::Object(all))
    }
}

impl<'a> Job<'a> {
    async fn of(settings: &'a Settings, context: &'a Context) -> Result<Job<'a>, PhaseError> {
        let environment = environment(context).await?;
        let run = &context.run;
        let is_rollback = rollback::source(run).is_some();
        let plan = Plan::read(&environment.config, &run.metadata, is_rollback)
            .map_err(|faults| PhaseError::failed(format!("environment {}: {faults}", environment.env_id)))?;
        let of = |text: &Option<String>| text.clone().unwrap_or_default();
        let mut values = BTreeMap::from([
            ("run_id", run.run_id.clone()),
            ("project_id", environment.project_id.clone()),
            ("env_id", environment.env_id.clone()),
            ("env_type", environment.env_type.clone()),
            ("git_sha", of(&run.git_sha)),
            ("git_ref", of(&run.git_ref)),
        ]);
        let image = context.output_of(IMAGE);
        for name in ["image", "image_tag", "image_digest"] {
            values.extend(image[name].as_str().map(|text| (name, text.to_owned())));
        }
        Ok(Job { settings, context, environment, plan, values })
    }

    /// Builds of an environment take turns, but one that failed comes back behind those that were queued
    /// after it: it must not put an older commit in the place of a newer one.
    async fn is_still_wanted(&self) -> Result<(), PhaseError> {
        let run_id = &self.context.run.run_id;
        let mut c = self.context.pool().acquire().await?;
        let Some(newer) = work::superseded_by(&mut c, run_id).await? else { return Ok(()) };
        Err(PhaseError::Failed(format!(
            "superseded: {newer} was queued later and is in service in environment {} already; \
             `ops-controller runs retry {run_id}` deploys this one nevertheless",
            self.environment.env_id
        )))
    }

    /// What an earlier phase of this build yielded.
    fn earlier(&self, phase: &str, name: &str) -> Option<String> {
        self.context.output_of(phase)[name].as_str().map(str::to_owned)
    }
}
