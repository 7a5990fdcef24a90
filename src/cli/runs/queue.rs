//! `runs queue`: the same request as over HTTP, from arguments.

use super::failed;
use crate::cli::{DONE, USAGE, ops};
use clap::Args;
use ops_controller::runs::request::{FieldError, RunRequest};
use ops_controller::runs::{names, queue};
use serde_json::{Map, Value};

/// Two ways: clap would name the arguments of the first alone.
const USAGES: &str = "ops-controller runs queue --project P --env ENV --sha SHA --ref REF [OPTIONS]
       ops-controller runs queue --kind KIND [--project P --env ENV] [OPTIONS]";

#[derive(Args)]
#[command(override_usage = USAGES)]
pub struct Queue {
    /// A build of this project
    #[arg(long, required_unless_present = "kind", requires = "env")]
    project: Option<String>,
    /// in its environment of this type: dev, staging or prod
    #[arg(long, required_unless_present = "kind", requires = "project")]
    env: Option<String>,
    /// from this commit
    #[arg(long, required_unless_present = "kind")]
    sha: Option<String>,
    /// of this branch or tag
    #[arg(long = "ref", value_name = "REF", required_unless_present = "kind")]
    git_ref: Option<String>,
    /// Or a run of this kind, for a project's environment or for none
    #[arg(long, conflicts_with_all = ["sha", "git_ref"])]
    kind: Option<String>,
    /// with this JSON object as its input
    #[arg(long, value_name = "JSON", requires = "kind")]
    input: Option<String>,
    /// 1 is the most urgent, 9 the least
    #[arg(long, requires = "kind")]
    priority: Option<i64>,
    /// Not before then, such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", requires = "kind")]
    run_at: Option<String>,
    #[arg(long, value_name = "N", requires = "kind")]
    max_attempts: Option<i64>,
    /// Of all runs with the same key, one is under way
    #[arg(long, value_name = "KEY", requires = "kind")]
    concurrency_key: Option<String>,
    /// Queue it although neither this program nor a runner of the last day knows the kind
    #[arg(long, requires = "kind")]
    force: bool,
    /// A JSON object that stays with the run
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// Queue it once: who asks again with the same key gets the run that is there
    #[arg(long)]
    key: Option<String>,
    /// Print JSON instead of the id alone: {"run_id", "status", "queued_at", "is_new"}
    #[arg(long)]
    json: bool,
}

impl Queue {
    pub async fn run(self) -> Result<u8, u8> {
        let request = RunRequest::from_json(self.fields()?).map_err(|errors| ops::refused(&as_arguments(errors)))?;
        if let Some(Err(why)) = self.key.as_deref().map(names::key) {
            return Err(ops::refused(&[FieldError { field: "key".to_owned(), message: why.to_owned() }]));
        }
        let mut c = ops::connect().await?;
        let queued = match request {
            RunRequest::Build(build) => queue::enqueue_build(&mut c, &build, self.key.as_deref()).await,
            RunRequest::Kind(request) => {
                if !self.force {
                    ops::must_be_known(&mut c, &request.kind, "; --force queues it all the same").await?;
                }
                queue::enqueue_kind(&mut c, request, self.key).await
            }
        };
        let queued = queued.map_err(failed)?;
        if self.json {
            return Ok(ops::json(&queued));
        }
        ops::done(&queued.run_id, if queued.is_new { "queued" } else { "it was queued before, with the same key" });
        Ok(DONE)
    }

    /// The request's JSON, under the names that it has over HTTP.
    fn fields(&self) -> Result<Map<String, Value>, u8> {
        let texts = [
            ("project_id", &self.project),
            ("env", &self.env),
            ("git_sha", &self.sha),
            ("git_ref", &self.git_ref),
            ("kind", &self.kind),
            ("run_at", &self.run_at),
            ("concurrency_key", &self.concurrency_key),
        ];
        let numbers = [("priority", self.priority), ("max_attempts", self.max_attempts)];
        let mut fields = Map::new();
        fields.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.clone()?.into()))));
        fields.extend(numbers.into_iter().filter_map(|(name, number)| Some((name.to_owned(), number?.into()))));
        for (name, text) in [("input", &self.input), ("metadata", &self.metadata)] {
            let Some(text) = text else { continue };
            let value = serde_json::from_str(text).map_err(|error| {
                eprintln!("error: --{name} is no JSON: {error}");
                USAGE
            })?;
            fields.insert(name.to_owned(), value);
        }
        Ok(fields)
    }
}

/// Fields by the names of their arguments, which is what was typed.
fn as_arguments(errors: Vec<FieldError>) -> Vec<FieldError> {
    const OTHERWISE: [(&str, &str); 3] = [("project_id", "project"), ("git_sha", "sha"), ("git_ref", "ref")];
    let flag = |field: &str| {
        let name = OTHERWISE.iter().find(|(theirs, _)| *theirs == field).map_or(field, |(_, ours)| ours);
        format!("--{}", name.replace('_', "-"))
    };
    let named = |error: FieldError| {
        // What stands in a document has its path there.
        let (name, rest) = error.field.split_once('.').map_or((&*error.field, ""), |(name, rest)| (name, rest));
        if !rest.is_empty() {
            return FieldError { field: format!("{}: {rest}", flag(name)), message: error.message };
        }
        let field = flag(name);
        let texts = OTHERWISE.iter().fold(error.message, |text, (theirs, _)| text.replace(theirs, &flag(theirs)));
        FieldError { field, message: texts.replace(", env,", ", --env,") }
    };
    errors.into_iter().map(named).collect()
}
