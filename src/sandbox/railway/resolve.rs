//! The root fields: who may ask, what is asked for, and what a mutation sets in motion.

use super::graphql::failed;
use super::world::{Service, World};
use super::{apps, logs, objects, restart};
use crate::sandbox::webapp::deployments::Deployment;
use crate::sandbox::webapp::seed;
use apollo_compiler::resolvers::FieldError;
use serde_json::{Value, json};
use std::sync::Arc;

/// Whose token came with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    Account,
    /// Knows one environment of one project, and nobody's account.
    Project,
}

pub(super) struct Root<'w> {
    pub world: &'w Arc<World>,
    pub caller: Caller,
}

impl Root<'_> {
    pub fn field(&self, name: &str, arguments: &Value) -> Result<Value, FieldError> {
        let world = self.world;
        match name {
            "me" => self.only(Caller::Account, "Not Authorized").map(|()| me(world)),
            "apiToken" => self.only(Caller::Account, "Not Authorized").map(|()| api_token(world)),
            "projectToken" => self.only(Caller::Project, "Project Token not found").map(|()| project_token(world)),
            "project" => self.project(text(arguments, "id")).map(|()| objects::project(world)),
            "environment" => self.environment(arguments, "id").map(|()| objects::environment(world)),
            "service" => self.service(arguments, "id").map(|s| objects::service(world, &s)),
            "serviceInstance" => self.instance(arguments).map(|s| objects::service_instance(world, &s)),
            "variables" | "variablesForServiceDeployment" => self.variables(arguments),
            "deployments" => self.deployments(&arguments["input"]),
            "deployment" => self.deployment(arguments, "id").map(|(s, d)| objects::deployment(world, &s, &d)),
            "deploymentLogs" => {
                let (service, deployment) = self.deployment(arguments, "deploymentId")?;
                logs::of_deployment(world, &service, &deployment, &deployment.lines, arguments)
            }
            "buildLogs" => {
                let (service, deployment) = self.deployment(arguments, "deploymentId")?;
                logs::of_deployment(world, &service, &deployment, &deployment.build_lines, arguments)
            }
            "environmentLogs" => {
                self.environment(arguments, "environmentId")?;
                logs::of_environment(world, arguments)
            }
            "deploymentRestart" => {
                let (service, deployment) = self.deployment(arguments, "id")?;
                restart::same_deployment(world, &service, &deployment).map(|()| json!(true))
            }
            "serviceInstanceRedeploy" => {
                let service = self.instance(arguments)?;
                restart::new_deployment(world, "serviceInstanceRedeploy", &service).map(|_| json!(true))
            }
            "serviceInstanceDeployV2" => {
                let service = self.instance(arguments)?;
                restart::new_deployment(world, "serviceInstanceDeployV2", &service).map(|id| json!(id))
            }
            "serviceCreate" => {
                let input = &arguments["input"];
                self.project(text(input, "projectId"))?;
                if !input["environmentId"].is_null() {
                    self.environment(input, "environmentId")?;
                }
                apps::create(world, input).map(|service| objects::service(world, &service))
            }
            "serviceInstanceUpdate" => {
                let service = self.instance(arguments)?;
                apps::update(world, &service, &arguments["input"]);
                Ok(json!(true))
            }
            "variableCollectionUpsert" => {
                let input = &arguments["input"];
                self.environment(input, "environmentId")?;
                apps::set_variables(world, &self.service(input, "serviceId")?, input).map(|()| json!(true))
            }
            _ => Err(failed(format!("{name} is not simulated"))),
        }
    }

    fn only(&self, caller: Caller, refusal: &str) -> Result<(), FieldError> {
        if self.caller == caller { Ok(()) } else { Err(failed(refusal)) }
    }

    /// A project token cannot tell a foreign project from none.
    fn refusal(&self, what: &str) -> FieldError {
        match self.caller {
            Caller::Account => failed(format!("{what} not found")),
            Caller::Project => failed("Not Authorized"),
        }
    }

    fn project(&self, id: &str) -> Result<(), FieldError> {
        if id == self.world.options.project_id { Ok(()) } else { Err(self.refusal("Project")) }
    }

    /// The environment under `name`, and its project when that is given too.
    fn environment(&self, arguments: &Value, name: &str) -> Result<(), FieldError> {
        if let Some(project) = arguments["projectId"].as_str() {
            self.project(project)?;
        }
        let known = text(arguments, name) == self.world.options.environment_id;
        if known { Ok(()) } else { Err(self.refusal("Environment")) }
    }

    fn service(&self, arguments: &Value, name: &str) -> Result<Service, FieldError> {
        self.world.service(text(arguments, name)).ok_or_else(|| failed("Service not found"))
    }

    fn instance(&self, arguments: &Value) -> Result<Service, FieldError> {
        self.environment(arguments, "environmentId")?;
        self.world.service(text(arguments, "serviceId")).ok_or_else(|| failed("ServiceInstance not found"))
    }

    fn variables(&self, arguments: &Value) -> Result<Value, FieldError> {
        self.environment(arguments, "environmentId")?;
        if arguments["serviceId"].is_null() {
            // Shared variables: this project has none.
            return Ok(json!({}));
        }
        let service = self.service(arguments, "serviceId")?;
        Ok(objects::variables(&service, arguments["unrendered"] == true))
    }

    fn deployment(&self, arguments: &Value, name: &str) -> Result<(Service, Deployment), FieldError> {
        let id = text(arguments, name);
        for service in self.world.services() {
            if let Some(deployment) = service.deployments.iter().find(|d| d.id == id).cloned() {
                return Ok((service, deployment));
            }
        }
        Err(failed("Deployment not found"))
    }

    /// Newest first; every part of the input narrows.
    fn deployments(&self, input: &Value) -> Result<Value, FieldError> {
        if let Some(project) = input["projectId"].as_str() {
            self.project(project)?;
        }
        if let Some(environment) = input["environmentId"].as_str() {
            self.environment(&json!({"id": environment}), "id")?;
        }
        let status = &input["status"];
        let listed = |list: &Value, status: &str| list.as_array().map(|l| l.iter().any(|s| s == status));
        let mut found = Vec::new();
        for service in self.world.services() {
            if input["serviceId"].as_str().is_some_and(|id| id != service.id) {
                continue;
            }
            for deployment in &service.deployments {
                let wanted = listed(&status["in"], &deployment.status).unwrap_or(true);
                if wanted && !listed(&status["notIn"], &deployment.status).unwrap_or(false) {
                    found.push((deployment.created_at, objects::deployment(self.world, &service, deployment)));
                }
            }
        }
        found.sort_by_key(|(created, _)| std::cmp::Reverse(*created));
        Ok(found.into_iter().map(|(_, deployment)| deployment).collect())
    }
}

fn text<'a>(arguments: &'a Value, name: &str) -> &'a str {
    arguments[name].as_str().unwrap_or_default()
}

fn me(world: &World) -> Value {
    let id = seed::uuid(world.options.seed, "user", 0);
    json!({"id": id, "email": "owner@example.com", "name": "Owner"})
}

fn api_token(world: &World) -> Value {
    let id = seed::uuid(world.options.seed, "workspace", 0);
    json!({"workspaces": [{"id": id, "name": "Owner's Projects"}]})
}

fn project_token(world: &World) -> Value {
    let options = &world.options;
    json!({
        "id": seed::uuid(options.seed, "project token", 0),
        "name": "ops-controller",
        "createdAt": "2026-01-05T09:00:00.000Z",
        "projectId": options.project_id,
        "environmentId": options.environment_id,
        "project": objects::project(world),
        "environment": objects::environment(world),
    })
}
