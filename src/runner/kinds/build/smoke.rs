//! The third phase: what was deployed is asked, and must answer as expected.
//!
//! All checks are made, also behind one that failed: their results are told together.

use super::settings::Check;
use super::{DEPLOY, Job};
use crate::runner::kind::PhaseError;
use crate::runs::record::Level;
use serde_json::{Value, json};
use std::time::Duration;

pub async fn check(job: &Job<'_>) -> Result<Value, PhaseError> {
    let mut results = Vec::new();
    let mut failures = Vec::new();
    for check in &job.plan.checks {
        let (took, tries, failure) = perform(job, check).await?;
        let status = if failure.is_none() { "passed" } else { "failed" };
        let result = json!({ "name": check.name, "status": status, "duration_ms": took.as_millis() as u64 });
        let mut payload = result.clone();
        payload["tries"] = json!(tries);
        payload["error"] = json!(failure);
        let level = if failure.is_none() { Level::Info } else { Level::Error };
        let said = format!("Check {} {status} after {} ms", check.name, took.as_millis());
        job.context.note(level, &said, payload).await?;
        failures.extend(failure.map(|why| format!("check {}: {why}", check.name)));
        results.push(result);
    }
    match failures.is_empty() {
        true => Ok(json!({ "smoke_tests": results })),
        false => Err(PhaseError::Failed(failures.join("; "))),
    }
}

/// Its last try's time, how many tries, and why it is not met.
async fn perform(job: &Job<'_>, check: &Check) -> Result<(Duration, u64, Option<String>), PhaseError> {
    let mut request = check.request.clone();
    if request.url.starts_with('/') {
        let base = job.earlier(DEPLOY, "deployment_url").ok_or_else(|| {
            let text = "the deployment has no address: give the service a domain, the hook a deployment_url, \
                        or the check a whole url";
            PhaseError::failed(format!("check {}: {text}", check.name))
        })?;
        request.url = format!("{}{}", base.trim_end_matches('/'), request.url);
    }
    let mut last = (Duration::ZERO, None);
    for tries in 1..=check.retries + 1 {
        if tries > 1 {
            tokio::select! {
                _ = job.context.told_to_stop() => return Err(super::super::stopped()),
                () = tokio::time::sleep(check.interval) => {}
            }
        }
        let began = tokio::time::Instant::now();
        last = match job.settings.caller.send(&format!("check {}", check.name), &request).await {
            Ok(reply) => match request.unmet(&reply) {
                None => return Ok((reply.took, tries, None)),
                Some(why) => (reply.took, Some(format!("{}: {why}", request.shown()))),
            },
            Err(error) => (began.elapsed(), Some(error.about(&request.shown()).to_string())),
        };
    }
    Ok((last.0, check.retries + 1, last.1))
}
