//! Into service on Railway: the service found or made, its image and variables set, deployed once,
//! and followed until that very deployment runs.

use super::Job;
use super::settings::Service;
use crate::clients::ClientError;
use crate::clients::railway::releases::{Log, Release};
use crate::clients::railway::{Reader, Writer};
use crate::plan::observation::DeploymentStatus;
use crate::plan::secret::Secret;
use crate::runner::kind::PhaseError;
use crate::runner::kinds::Interrupted;
use crate::runner::kinds::request::filled;
use crate::runs::record::{Level, Resource, ResourceName};
use crate::telemetry::redact_also;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// What is older is none of ours, however far apart the clocks are.
const RECENT: SignedDuration = SignedDuration::from_hours(1);
const LOG_TAIL: usize = 20;

struct Deploying<'a> {
    job: &'a Job<'a>,
    service: &'a Service,
    look: Reader,
    act: Writer,
    image: String,
}

pub async fn deploy(job: &Job<'_>, service: &Service) -> Result<Value, PhaseError> {
    let reader = job
        .settings
        .railway
        .as_ref()
        .ok_or_else(|| PhaseError::failed("neither RAILWAY_TOKEN nor RAILWAY_API_TOKEN is set on this runner"))?;
    let look = reader.scoped(&service.project_id, &service.environment_id);
    let act = Writer::new(look.clone(), &job.context.fence());
    let image = job.values.get("image").cloned();
    let image = image.ok_or_else(|| PhaseError::failed("the phase build_image left no image behind"))?;
    Deploying { job, service, look, act, image }.deploy().await
}

impl Deploying<'_> {
    async fn deploy(&self) -> Result<Value, PhaseError> {
        let context = self.job.context;
        let name = ResourceName { provider: "railway", kind: "deployment", name: &context.run.run_id };
        let service_id = self.service_id().await?;
        // By these, one that we made is told from those that were there.
        let since = Timestamp::now() - RECENT;
        let before: Vec<String> =
            self.look.releases_since(&service_id, since).await?.into_iter().map(|release| release.id).collect();
        let desired = json!({ "image": self.image, "since": since.to_string(), "before": before });
        let intent = context.intend(name, &desired).await?;
        let id = match &intent.external_id {
            Some(id) => id.clone(),
            None => match self.made_before(&intent, &service_id).await? {
                Some(id) => self.live(&intent, id).await?,
                None => {
                    self.prepare(&service_id).await?;
                    self.start(&intent, &service_id).await?
                }
            },
        };
        match self.follow(&id).await {
            Ok(release) => self.ended(&intent, release).await,
            Err(interrupted) => Err(interrupted.into()),
        }
    }

    /// Found, or made once.
    async fn service_id(&self) -> Result<String, PhaseError> {
        let wanted = &self.service.name;
        if let Some(found) = self.look.service_named(wanted).await? {
            return Ok(found.id);
        }
        let owner = format!("{}/{wanted}", self.service.environment_id);
        let name = ResourceName { provider: "railway", kind: "service", name: &owner };
        let intent = self.job.context.intend(name, &json!({ "name": wanted })).await?;
        let id = match self.act.create_service(wanted).await {
            Ok(id) => id,
            // Made meanwhile, or by a call whose answer was lost.
            Err(error @ ClientError::Refused { .. }) => {
                let found = self.look.service_named(wanted).await?;
                found.map(|service| service.id).ok_or(PhaseError::from(error))?
            }
            Err(error) => return Err(error.into()),
        };
        self.job.context.settle(&intent, "live", Some(&id), &json!({})).await?;
        self.job.context.note(Level::Info, &format!("Made the service {wanted}"), json!({ "service_id": id })).await?;
        Ok(id)
    }

    /// What a deploy made whose answer was lost.
    async fn made_before(&self, intent: &Resource, service_id: &str) -> Result<Option<String>, PhaseError> {
        if intent.is_new {
            return Ok(None);
        }
        let since = intent.desired["since"].as_str().and_then(|text| text.parse().ok());
        let before = intent.desired["before"].as_array().cloned().unwrap_or_default();
        let releases = self.look.releases_since(service_id, since.unwrap_or_else(|| Timestamp::now() - RECENT)).await?;
        let is_ours = |release: &Release| {
            release.image.as_deref() == Some(&*self.image) && !before.iter().any(|id| id == release.id.as_str())
        };
        // The oldest: a deploy is not sent again before this look.
        Ok(releases.into_iter().rev().find(is_ours).map(|release| release.id))
    }

    /// Setting what is set changes nothing, so this may be done again.
    async fn prepare(&self, service_id: &str) -> Result<(), PhaseError> {
        if !self.service.variables.is_empty() {
            let values = &self.job.values;
            let of = |(name, value): (&String, &String)| Ok((name.clone(), Secret::new(filled(value, values)?)));
            let variables = self.service.variables.iter().map(of).collect::<Result<_, PhaseError>>()?;
            let set = self.act.set_variables(service_id, &variables).await;
            // Railway may repeat what it was sent, and who reads a run may not read its environment.
            let secrets: Vec<Secret> = variables.into_values().collect();
            set.map_err(|error| PhaseError::from(error).reworded(|why| redact_also(&why, &secrets)))?;
        }
        Ok(self.act.set_image(service_id, &self.image).await?)
    }

    async fn start(&self, intent: &Resource, service_id: &str) -> Result<String, PhaseError> {
        let id = self.act.deploy(service_id).await?;
        self.live(intent, id).await
    }

    async fn live(&self, intent: &Resource, id: String) -> Result<String, PhaseError> {
        self.job.context.settle(intent, "live", Some(&id), &json!({})).await?;
        let said = format!("Deployed {} to {}", self.image, self.service.name);
        self.job.context.note(Level::Info, &said, json!({ "deployment_id": id })).await?;
        Ok(id)
    }

    /// Until it runs, or ended otherwise.
    async fn follow(&self, id: &str) -> Result<Release, Interrupted> {
        let mut looks = self.job.settings.looks();
        let mut told_held = false;
        loop {
            match self.look.release(id).await {
                Ok(Some(release)) => match release.status {
                    DeploymentStatus::Good if release.runs => return Ok(release),
                    DeploymentStatus::Bad | DeploymentStatus::Ended => return Ok(release),
                    DeploymentStatus::NeedsApproval if !told_held => {
                        told_held = true;
                        let said = format!("Deployment {id} waits for a person's approval at Railway");
                        self.job.context.note(Level::Warn, &said, json!({})).await?;
                    }
                    _ => {}
                },
                Ok(None) => {}
                Err(error) => {
                    looks.after(self.job.context, error).await?;
                    continue;
                }
            }
            looks.pause(self.job.context).await?;
        }
    }

    async fn ended(&self, intent: &Resource, release: Release) -> Result<Value, PhaseError> {
        let (id, word) = (&release.id, &release.word);
        if release.status == DeploymentStatus::Good && release.image.as_deref() != Some(&*self.image) {
            // Somebody set another one between our two calls.
            self.job.context.settle(intent, "failed", None, &json!({ "outcome": "another image" })).await?;
            let runs = release.image.as_deref().unwrap_or("an image that Railway does not name");
            let (image, service) = (&self.image, &self.service.name);
            return Err(PhaseError::failed(format!(
                "deployment {id} of {service} runs {runs}, not {image}: something else deploys this service at the \
                 same time"
            )));
        }
        if release.status == DeploymentStatus::Good {
            let told = json!({ "deployment_id": id, "deployment_url": release.url, "deployed_image": release.image });
            self.job.context.settle(intent, "live", None, &told).await?;
            return Ok(told);
        }
        let mut lines = self.look.log_tail(id, Log::Deploy, LOG_TAIL).await.unwrap_or_default();
        if lines.is_empty() {
            lines = self.look.log_tail(id, Log::Build, LOG_TAIL).await.unwrap_or_default();
        }
        // Queued again, the run deploys again.
        self.job.context.settle(intent, "failed", None, &json!({ "outcome": word })).await?;
        let last = lines.last().cloned().unwrap_or_default();
        self.job.context.note(Level::Error, &format!("Deployment {id} is {word}"), json!({ "log": lines })).await?;
        let why = match release.status {
            DeploymentStatus::Ended => "another deployment took its place".to_owned(),
            _ => last,
        };
        Err(PhaseError::failed(format!("deployment {id} of {} is {word}: {why}", self.service.name)))
    }
}
