//! Railway's answers about the platform, by operation. The documents themselves are held against the
//! official schema elsewhere; here only their answers count.

use super::platform::Platform;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub const PROJECT: &str = "8d4b2a2c-0000-4000-8000-000000000001";
pub const ENVIRONMENT: &str = "8d4b2a2c-0000-4000-8000-000000000002";
pub const WEBAPP: &str = "https://trigger.example.org";
const WEBAPP_ID: &str = "service-webapp";
const FIRST_DEPLOYMENT: &str = "deployment-webapp-1";
const DATABASE_DEPLOYMENT: &str = "deployment-postgres-1";

/// `None`: a mutation or query that this Railway does not know.
pub fn data(platform: &mut Platform, now: Timestamp, operation: &str, variables: &Value) -> Option<Value> {
    match operation {
        "Observe" => Some(observe(platform, now, variables)),
        "Deployments" => Some(deployments(now)),
        "DeploymentLogs" => Some(logs(platform, now, variables)),
        "DeploymentRestart" if variables["id"] == DATABASE_DEPLOYMENT => {
            platform.ask_for_restart(now);
            Some(json!({"deploymentRestart": true}))
        }
        _ => None,
    }
}

fn observe(platform: &Platform, now: Timestamp, variables: &Value) -> Value {
    let database = if platform.is_up(now) { "RUNNING" } else { "RESTARTING" };
    let services = [
        ("service-postgres", "Postgres", DATABASE_DEPLOYMENT, database),
        (WEBAPP_ID, "trigger.dev", FIRST_DEPLOYMENT, "RUNNING"),
        ("service-redis", "redis", "deployment-redis-1", "RUNNING"),
    ];
    let edges: Vec<Value> = services
        .into_iter()
        .map(|(id, name, deployment, instance)| {
            let deployment = json!({
                "id": deployment, "status": "SUCCESS", "deploymentStopped": false,
                "instances": [{"id": "instance-1", "status": instance}],
            });
            json!({"node": {
                "serviceId": id, "serviceName": name, "latestDeployment": deployment, "activeDeployments": [deployment],
            }})
        })
        .collect();
    let mut data = json!({"environment": {
        "id": ENVIRONMENT,
        "serviceInstances": {"edges": edges, "pageInfo": {"hasNextPage": false, "endCursor": null}},
    }});
    if variables["withWebapp"] == true && variables["webappId"] == WEBAPP_ID {
        let managed = &platform.managed_secret;
        data["webapp"] = json!({"MANAGED_WORKER_SECRET": managed, "API_ORIGIN": WEBAPP, "APP_ORIGIN": WEBAPP});
        for (name, value) in &platform.other_variables {
            data["webapp"][name] = json!(value);
        }
    }
    data
}

fn deployments(now: Timestamp) -> Value {
    let made = now - SignedDuration::from_hours(48);
    let edge = json!({"node": {"id": FIRST_DEPLOYMENT, "createdAt": made.to_string()}});
    json!({"deployments": {"edges": [edge], "pageInfo": {"hasNextPage": false, "endCursor": null}}})
}

fn logs(platform: &Platform, now: Timestamp, variables: &Value) -> Value {
    let at = (now - SignedDuration::from_hours(48)).to_string();
    let line = |message: String| json!({"timestamp": at, "message": message, "attributes": []});
    let mut lines = vec![line("prisma migrations done".to_owned())];
    if variables["deploymentId"] == FIRST_DEPLOYMENT
        && let Some(token) = &platform.printed_token
    {
        lines.push(line(format!(
            "Trigger.dev Bootstrap - Worker Token\n\nToken:\n{token}\n\nTRIGGER_WORKER_TOKEN={token}\n"
        )));
    }
    json!({"deploymentLogs": lines})
}
