//! How one environment is built, deployed and tried: its `config`, and what a run may say otherwise.
//! Pure: all faults at once, each with the path of its field.

use crate::clients::github::Repository;
use crate::runner::kinds::command::Named;
use crate::runner::kinds::request::Request;
use crate::runner::kinds::shape::{Faults, Shape};
use crate::runs::{metadata, placeholders};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(6 * 3600);

#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// `None`: a rollback needs none.
    pub build: Option<Maker>,
    pub build_limit: Duration,
    pub deploy: Way,
    pub deploy_limit: Duration,
    pub checks: Vec<Check>,
    pub smoke_limit: Duration,
    pub keep_days: Option<i32>,
}

/// What makes the image.
#[derive(Debug, Clone, PartialEq)]
pub enum Maker {
    GitHub(Workflow),
    Command(Named),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workflow {
    /// `None`: the project's.
    pub repository: Option<String>,
    pub file: String,
    /// `None`: the run's own branch or tag.
    pub git_ref: Option<String>,
    pub inputs: BTreeMap<String, String>,
}

/// How it comes into service.
#[derive(Debug, Clone, PartialEq)]
pub enum Way {
    Railway(Service),
    /// The deployment's address, unless the answer names it.
    Hook(Box<Request>, Option<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub project_id: String,
    pub environment_id: String,
    pub name: String,
    pub variables: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    pub name: String,
    pub request: Request,
    pub retries: u64,
    pub interval: Duration,
}

impl Plan {
    /// `config`: the environment's. `metadata`: the run's.
    pub fn read(config: &Value, metadata: &Value, is_rollback: bool) -> Result<Plan, String> {
        let faults = Faults::default();
        let overrides = Overrides::read(metadata, &faults);
        let empty = json!({});
        let mut top = Shape::of(config, "config", &faults);
        let mut section = |name| Shape::of(top.get(name).unwrap_or(&empty), format!("config.{name}"), &faults);

        let mut build = section("build");
        build.one_of(&["github", "command"], !is_rollback);
        let github = build.inner("github").and_then(|github| workflow(github, &overrides));
        let command = build.inner("command").and_then(|mut command| {
            let read = Named::of_config(&mut command);
            if let Some(named) = &read {
                known(&command, "arguments", &named.arguments, &OF_A_RUN);
                known(&command, "env", named.env.values(), &OF_A_RUN);
            }
            command.end();
            read
        });
        let build_limit = build.duration("timeout", 30 * MINUTE, LONGEST);
        build.end();

        let mut deploy = section("deploy");
        deploy.one_of(&["railway", "hook"], true);
        let railway = deploy.inner("railway").and_then(service);
        let hook = deploy.inner("hook").and_then(hook);
        let deploy_limit = deploy.duration("timeout", 15 * MINUTE, LONGEST);
        deploy.end();

        let mut smoke = section("smoke");
        let checks = checks(&mut smoke, true);
        let smoke_limit = smoke.duration("timeout", 10 * MINUTE, LONGEST);
        smoke.end();
        let mut artifacts = section("artifacts");
        let keep_days = days(&mut artifacts);
        artifacts.end();
        top.end();

        let deploy = railway.map(Way::Railway).or(hook);
        let plan = deploy.map(|deploy| Plan {
            build: github.map(Maker::GitHub).or(command.map(Maker::Command)),
            build_limit: overrides.build_limit.unwrap_or(build_limit),
            deploy,
            deploy_limit: overrides.deploy_limit.unwrap_or(deploy_limit),
            checks: overrides.checks.or(checks).unwrap_or_else(|| vec![Check::default()]),
            smoke_limit: overrides.smoke_limit.unwrap_or(smoke_limit),
            keep_days: overrides.keep_days.or(keep_days),
        });
        faults.none_or(plan)
    }
}

/// What a run's metadata may decide.
#[derive(Default)]
struct Overrides {
    build_limit: Option<Duration>,
    git_ref: Option<String>,
    inputs: BTreeMap<String, String>,
    deploy_limit: Option<Duration>,
    checks: Option<Vec<Check>>,
    smoke_limit: Option<Duration>,
    keep_days: Option<i32>,
}

impl Overrides {
    fn read(given: &Value, faults: &Faults) -> Overrides {
        let mut read = Overrides::default();
        for error in given.as_object().map(metadata::of_build).unwrap_or_default() {
            faults.add(&error.field, &error.message);
        }
        let mut top = Shape::of(given, "metadata", faults);
        if let Some(mut build) = top.inner("build") {
            read.build_limit = limit(&mut build);
            if let Some(mut github) = build.inner("github") {
                read.git_ref = github.text("ref");
                read.inputs = github.pairs("inputs");
                github.end();
            }
            build.end();
        }
        if let Some(mut deploy) = top.inner("deploy") {
            read.deploy_limit = limit(&mut deploy);
            deploy.end();
        }
        if let Some(mut smoke) = top.inner("smoke") {
            read.checks = checks(&mut smoke, false);
            read.smoke_limit = limit(&mut smoke);
            smoke.end();
        }
        if let Some(mut artifacts) = top.inner("artifacts") {
            read.keep_days = days(&mut artifacts);
            artifacts.end();
        }
        read
    }
}

fn limit(shape: &mut Shape<'_>) -> Option<Duration> {
    shape.get("timeout")?;
    Some(shape.duration("timeout", LONGEST, LONGEST))
}

fn days(shape: &mut Shape<'_>) -> Option<i32> {
    shape.number("expires_in_days", 1..=36_500).and_then(|days| i32::try_from(days).ok())
}

fn workflow(mut shape: Shape<'_>, overrides: &Overrides) -> Option<Workflow> {
    let file = shape.required("workflow");
    let repository = shape.text("repository");
    if repository.as_deref().is_some_and(|slug| Repository::parse(slug).is_none()) {
        shape.fault("repository", "must be owner/repo");
    }
    let git_ref = overrides.git_ref.clone().or(shape.text("ref"));
    let mut inputs = shape.pairs("inputs");
    // Known also when the run says otherwise.
    let _ = shape.get("ref");
    inputs.extend(overrides.inputs.clone());
    known(&shape, "inputs", inputs.values(), &OF_A_RUN);
    shape.end();
    Some(Workflow { repository, file: file?, git_ref, inputs })
}

fn service(mut shape: Shape<'_>) -> Option<Service> {
    let (project_id, environment_id) = (shape.required("project_id"), shape.required("environment_id"));
    let name = shape.required("service");
    let variables = shape.pairs("variables");
    known(&shape, "variables", variables.values(), &OF_AN_IMAGE);
    shape.end();
    Some(Service { project_id: project_id?, environment_id: environment_id?, name: name?, variables })
}

fn hook(mut shape: Shape<'_>) -> Option<Way> {
    let request = Request::read(&mut shape, false, Method::POST);
    let url = shape.text("deployment_url");
    known(&shape, "deployment_url", &url, &OF_AN_IMAGE);
    let mut texts = Vec::new();
    request.iter().filter_map(|request| request.body.as_ref()).for_each(|body| strings(body, &mut texts));
    known(&shape, "body", texts, &OF_AN_IMAGE);
    shape.end();
    Some(Way::Hook(Box::new(request?), url))
}

/// What `${name}` may stand for, before there is an image and afterwards.
const OF_A_RUN: [&str; 6] = ["run_id", "project_id", "env_id", "env_type", "git_sha", "git_ref"];
const OF_AN_IMAGE: [&str; 9] =
    ["run_id", "project_id", "env_id", "env_type", "git_sha", "git_ref", "image", "image_tag", "image_digest"];

/// No other names may stand in these texts.
fn known<T: AsRef<str>>(shape: &Shape<'_>, name: &str, texts: impl IntoIterator<Item = T>, known: &[&str]) {
    let why = texts.into_iter().find_map(|text| placeholders::unknown(text.as_ref(), known));
    why.into_iter().for_each(|why| shape.fault(name, &why));
}

fn strings<'v>(value: &'v Value, into: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => into.push(text),
        Value::Array(all) => all.iter().for_each(|value| strings(value, into)),
        Value::Object(all) => all.values().for_each(|value| strings(value, into)),
        _ => {}
    }
}

/// `None`: none are given. `anywhere`: not only at the deployment.
fn checks(shape: &mut Shape<'_>, anywhere: bool) -> Option<Vec<Check>> {
    let all = shape.list("checks")?;
    let checks: Vec<Option<Check>> = all
        .into_iter()
        .map(|(at, value)| {
            let mut check = Shape::of(value, at, shape.faults);
            let name = check.required("name");
            if !anywhere && check.get("url").is_some() {
                check.fault("url", "can only be set in the environment's config; give a path");
            }
            let request = Request::read(&mut check, true, Method::GET);
            let retries = check.number("retries", 0..=100).unwrap_or(DEFAULT_RETRIES);
            let interval = check.duration("interval", DEFAULT_INTERVAL, 10 * MINUTE);
            check.end();
            Some(Check { name: name?, request: request?, retries, interval })
        })
        .collect();
    Some(checks.into_iter().flatten().collect())
}

/// What has just come up may need a moment.
const DEFAULT_RETRIES: u64 = 5;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(2);

impl Default for Check {
    fn default() -> Check {
        let mut request = Request::get("/health");
        request.expect.status = Some(200);
        Check { name: "health_check".to_owned(), request, retries: DEFAULT_RETRIES, interval: DEFAULT_INTERVAL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Value {
        json!({
            "build": { "github": { "workflow": "build.yml", "inputs": { "a": "1" } } },
            "deploy": { "railway": { "project_id": "p", "environment_id": "e", "service": "app" } },
        })
    }

    #[test]
    fn little_has_to_be_said() {
        let plan = Plan::read(&config(), &json!({ "anything": 1 }), false).expect("a plan");
        assert_eq!(plan.checks, vec![Check::default()]);
        assert_eq!((plan.build_limit, plan.keep_days), (30 * MINUTE, None));
        let Some(Maker::GitHub(workflow)) = plan.build else { panic!("no workflow") };
        assert_eq!((workflow.repository, workflow.git_ref), (None, None));
        let only_deploy = json!({ "deploy": { "hook": { "url": "https://example.com/hook" } } });
        assert_eq!(Plan::read(&only_deploy, &json!({}), true).expect("a plan").build, None);
    }

    #[test]
    fn a_run_may_say_what_decides_neither_what_is_executed_nor_where_it_goes() {
        let metadata = json!({
            "build": { "timeout": "1h", "github": { "ref": "v2", "inputs": { "a": "2", "b": "3" } } },
            "deploy": { "timeout": "1m" },
            "smoke": { "checks": [{ "name": "ready", "path": "/ready" }] },
            "artifacts": { "expires_in_days": 3 },
        });
        let plan = Plan::read(&config(), &metadata, false).expect("a plan");
        assert_eq!((plan.build_limit, plan.deploy_limit, plan.keep_days), (60 * MINUTE, MINUTE, Some(3)));
        assert_eq!(plan.checks[0].request.url, "/ready");
        let Some(Maker::GitHub(workflow)) = plan.build else { panic!("no workflow") };
        assert_eq!(workflow.git_ref.as_deref(), Some("v2"));
        assert_eq!(workflow.inputs, BTreeMap::from([("a".into(), "2".into()), ("b".into(), "3".into())]));
        for (metadata, fault) in [
            (json!({ "deploy": { "hook": { "url": "https://elsewhere" } } }), "metadata.deploy.hook is not known"),
            (json!({ "build": { "command": { "program": "make" } } }), "metadata.build.command is not known"),
            (
                json!({ "build": { "github": { "repository": "a/b" } } }),
                "metadata.build.github.repository is not known",
            ),
            (json!({ "smokee": {} }), "metadata.smokee is not known; did you mean smoke?"),
            (
                json!({ "build": { "github": { "inputs": { "a": "${image}" } } } }),
                "config.build.github.inputs has ${image}, which has no value here: there are ${run_id}, ",
            ),
            (
                json!({ "smoke": { "checks": [{ "name": "x", "url": "http://10.0.0.1/" }] } }),
                "metadata.smoke.checks[0].url can only be set in the environment's config",
            ),
        ] {
            let told = Plan::read(&config(), &metadata, false).expect_err("refused");
            assert!(told.starts_with(fault), "{told}");
        }
    }

    #[test]
    fn every_fault_names_its_field() {
        let config = json!({
            "build": { "github": { "workflw": "x", "repository": "a" }, "command": { "program": "make", "folder": "x" } },
            "deploy": {},
            "smoke": { "checks": [{ "path": "health", "expect": { "status": 99 } }, 3] },
            "artifacts": { "expires_in_days": 0 },
            "smokee": {},
        });
        let told = Plan::read(&config, &json!({}), false).expect_err("refused");
        for fault in [
            "config.smokee is not known; build, deploy, smoke, artifacts may be given",
            "config.build must have one of github, command",
            "config.build.github.workflow is missing",
            "config.build.github.workflw is not known; workflow, ",
            "config.build.github.repository must be owner/repo",
            "config.build.command.folder must be a whole path, beginning with /",
            "config.deploy must have one of railway, hook",
            "config.smoke.checks[0].name is missing",
            "config.smoke.checks[0].path must begin with /",
            "config.smoke.checks[0].expect.status must be a whole number from 100 to 599",
            "config.smoke.checks[1] must be an object",
            "config.artifacts.expires_in_days must be a whole number from 1 to 36500",
        ] {
            assert!(told.contains(fault), "{fault}: {told}");
        }
    }
}
