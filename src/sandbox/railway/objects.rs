//! The project as JSON, in the field names of the schema. What is left out is null.

use super::world::{Service, Variable, World};
use crate::sandbox::webapp::deployments::{Deployment, LogLine};
use crate::sandbox::webapp::seed;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// DateTime as Railway writes it.
pub(super) fn date_time(at: Timestamp) -> String {
    format!("{at:.3}")
}

pub(super) fn project(world: &World) -> Value {
    let options = &world.options;
    let services: Vec<Value> = world.services().iter().map(|s| service(world, s)).collect();
    let staging = seed::uuid(options.seed, "environment staging", 0);
    let begun = services.first().map(|s| s["createdAt"].clone());
    json!({
        "id": options.project_id,
        "name": "trigger-dev",
        "createdAt": begun,
        "updatedAt": begun,
        "services": services,
        "environments": [
            environment_named(world, &options.environment_id, "production"),
            environment_named(world, &staging, "staging"),
        ],
    })
}

fn environment_named(world: &World, id: &str, name: &str) -> Value {
    json!({
        "id": id,
        "name": name,
        "projectId": world.options.project_id,
        "canAccess": true,
        "configEtag": seed::hex(world.options.seed, id, 0, 16),
        "isEphemeral": false,
        "unmergedChangesCount": 0,
        "createdAt": "2026-01-05T09:00:00.000Z",
        "updatedAt": "2026-01-05T09:00:00.000Z",
        "serviceInstances": [],
        "variables": [],
    })
}

pub(super) fn environment(world: &World) -> Value {
    let services = world.services();
    let mut found = environment_named(world, &world.options.environment_id, "production");
    found["serviceInstances"] = services.iter().map(|s| service_instance(world, s)).collect();
    found["variables"] = services.iter().flat_map(|s| variable_kinds(world, s)).collect();
    found
}

pub(super) fn service(world: &World, service: &Service) -> Value {
    json!({
        "id": service.id,
        "name": service.name,
        "projectId": world.options.project_id,
        "createdAt": date_time(service.created_at),
        "updatedAt": date_time(service.created_at),
    })
}

pub(super) fn service_instance(world: &World, service: &Service) -> Value {
    let newest_first = || service.deployments.iter().rev();
    let deployed = |d: &Deployment| deployment(world, service, d);
    json!({
        "id": service.instance_id,
        "serviceId": service.id,
        "serviceName": service.name,
        "environmentId": world.options.environment_id,
        "createdAt": date_time(service.created_at),
        "updatedAt": date_time(service.created_at),
        "source": {"image": service.image, "repo": service.repo},
        "numReplicas": 1,
        "restartPolicyType": "ON_FAILURE",
        "restartPolicyMaxRetries": 10,
        "sleepApplication": false,
        "latestDeployment": newest_first().next().map(deployed),
        "activeDeployments": newest_first().filter(|d| d.is_active()).map(deployed).collect::<Vec<_>>(),
    })
}

pub(super) fn deployment(world: &World, service: &Service, deployment: &Deployment) -> Value {
    let updated = date_time(deployment.status_updated_at);
    let active = deployment.is_active();
    json!({
        "id": deployment.id,
        "status": deployment.status,
        "statusUpdatedAt": updated,
        "createdAt": date_time(deployment.created_at),
        "updatedAt": updated,
        "deploymentStopped": deployment.instance_status == "REMOVED",
        "canRedeploy": active,
        "canRollback": deployment.status == "REMOVED",
        "serviceId": service.id,
        "environmentId": world.options.environment_id,
        "projectId": world.options.project_id,
        "meta": {"image": deployment.image},
        "staticUrl": service.address.map(|address| address.to_string()),
        "url": service.address.map(|address| address.to_string()),
        "instances": [{"id": deployment.instance_id, "status": deployment.instance_status}],
    })
}

/// Names without values.
fn variable_kinds(world: &World, service: &Service) -> Vec<Value> {
    let kind = |(name, variable): (&String, &Variable)| {
        json!({
            "id": seed::uuid(world.options.seed, &format!("{}/{name}", service.id), 0),
            "name": name,
            "serviceId": service.id,
            "environmentId": world.options.environment_id,
            "isSealed": variable.sealed,
            "references": references(variable),
            "createdAt": date_time(service.created_at),
            "updatedAt": date_time(service.created_at),
        })
    };
    service.variables.iter().map(kind).collect()
}

/// What stands between `${{` and `}}`.
fn references(variable: &Variable) -> Vec<String> {
    let template = variable.template.as_deref().unwrap_or_default();
    let parts = template.split("${{").skip(1);
    parts.filter_map(|part| part.split_once("}}")).map(|(name, _)| name.to_string()).collect()
}

/// The flat map of the EnvironmentVariables scalar. Sealed ones are never in it.
pub(super) fn variables(service: &Service, unrendered: bool) -> Value {
    let shown = |variable: &Variable| match &variable.template {
        Some(template) if unrendered => json!(template),
        _ => json!(variable.value),
    };
    let open = service.variables.iter().filter(|(_, variable)| !variable.sealed);
    Value::Object(open.map(|(name, variable)| (name.clone(), shown(variable))).collect::<Map<_, _>>())
}

pub(super) fn log(world: &World, service: &Service, deployment: &Deployment, line: &LogLine) -> Value {
    // Attribute values are JSON themselves: a text keeps its quotes.
    let attribute = |(key, value): &(String, Value)| json!({"key": key, "value": value.to_string()});
    json!({
        "timestamp": format!("{:.9}", line.at),
        "message": line.message,
        "severity": line.severity,
        "tags": {
            "deploymentId": deployment.id,
            "deploymentInstanceId": deployment.instance_id,
            "environmentId": world.options.environment_id,
            "projectId": world.options.project_id,
            "serviceId": service.id,
        },
        "attributes": line.attributes.iter().map(attribute).collect::<Vec<_>>(),
    })
}
