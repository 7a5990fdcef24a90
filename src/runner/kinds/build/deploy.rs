//! The second phase: the image comes into service, by Railway or by a hook.

use super::settings::Way;
use super::{Job, railway};
use crate::runner::kind::PhaseError;
use crate::runner::kinds::request::{Request, filled, refused};
use crate::runs::record::ResourceName;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

pub async fn deploy(job: &Job<'_>) -> Result<Value, PhaseError> {
    match &job.plan.deploy {
        Way::Railway(service) => railway::deploy(job, service).await,
        Way::Hook(request, url) => by_hook(job, request, url.as_deref()).await,
    }
}

/// Safe to be sent again: its idempotency key is of the run and of this intent, which ends with a refusal.
/// So a hook that remembers answers does not answer a deliberate retry from its memory.
async fn by_hook(job: &Job<'_>, hook: &Request, url: Option<&str>) -> Result<Value, PhaseError> {
    let mut request = hook.clone();
    let mut body: Map<String, Value> =
        job.values.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let own = hook.body.as_ref().map(|body| fill(body, job)).transpose()?;
    match own {
        Some(Value::Object(own)) => body.extend(own),
        Some(other) => drop(body.insert("body".to_owned(), other)),
        None => {}
    }
    request.body = Some(Value::Object(body));
    let run_id = &job.context.run.run_id;
    let name = ResourceName { provider: "hook", kind: "deployment", name: run_id };
    let intent = job.context.intend(name, &json!({ "image": job.values.get("image") })).await?;
    let key = HeaderValue::try_from(format!("{run_id}:{}", intent.resource_id))
        .map_err(|_| PhaseError::failed("the run's id is no header"))?;
    request.headers.insert(HeaderName::from_static("idempotency-key"), key);
    job.context.fence().check().map_err(|_| PhaseError::Lost)?;
    let reply = match job.settings.caller.send("call deploy hook", &request).await {
        Ok(reply) => match hook.unmet(&reply) {
            None => Ok(reply),
            Some(why) => Err(refused(&reply, format!("{why}{}", request.said(&reply.body)))),
        },
        Err(error) => Err(error),
    };
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => {
            if matches!(error, PhaseError::Failed(_)) {
                job.context.settle(&intent, "failed", None, &json!({ "outcome": "refused" })).await?;
            }
            // Its path may be what lets one in.
            return Err(error.about(&format!("the deploy hook at {}", hook.host())));
        }
    };
    let said: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let text = |name: &str| said[name].as_str().map(|text| hook.without_headers(text));
    let url = text("deployment_url").or(url.map(|url| filled(url, &job.values)).transpose()?);
    let id = text("deployment_id").unwrap_or_else(|| run_id.clone());
    // Each hook counts as it likes: its ids are unique with the run's.
    job.context.settle(&intent, "live", Some(&format!("{run_id}/{id}")), &json!({ "deployment_id": id })).await?;
    // The image as it was asked for: what a hook really does is its own.
    Ok(json!({ "deployment_id": id, "deployment_url": url, "deployed_image": job.values.get("image") }))
}

fn fill(value: &Value, job: &Job<'_>) -> Result<Value, PhaseError> {
    Ok(match value {
        Value::String(text) => Value::String(filled(text, &job.values)?),
        Value::Array(all) => Value::Array(all.iter().map(|value| fill(value, job)).collect::<Result<_, _>>()?),
        Value::Object(all) => {
            let one = |(name, value): (&String, &Value)| Ok::<_, PhaseError>((name.clone(), fill(value, job)?));
            Value::Object(all.iter().map(one).collect::<Result<_, _>>()?)
        }
        other => other.clone(),
    })
}
