//! What somebody asks to be queued: read from JSON, held to the database's rules, every error at once.
//! Pure; HTTP and the command line share it.
//!
//! Unknown fields are refused: a misspelt `run_at` would run at once.

use super::NewRun;
use super::metadata;
use super::names::{self, Refused};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// One thing that is wrong with what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    pub field: String,
    /// What it must be.
    pub message: String,
}

/// A new run: a build as the runner's document has it, or a run of any kind.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum RunRequest {
    Build(BuildRequest),
    Kind(KindRequest),
}

/// A build of a commit for one of a project's environments.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildRequest {
    #[schema(pattern = "^[a-z0-9][a-z0-9-]{0,62}$")]
    pub project_id: String,
    /// The type of the environment.
    #[schema(pattern = "^(dev|staging|prod)$")]
    pub env: String,
    #[schema(pattern = "^[0-9A-Fa-f]{4,64}$")]
    pub git_sha: String,
    // As `names::git_ref` has it, which takes letters and digits alone beyond ASCII, too.
    #[schema(pattern = "^(?!.*\\.\\.)(?!.*/$)[0-9A-Za-z\\u00a1-\\uffff][0-9A-Za-z\\u00a1-\\uffff._/@+=#-]{0,254}$")]
    pub git_ref: String,
    #[schema(required = false, nullable)]
    pub metadata: Map<String, Value>,
}

/// A run of a kind that a runner knows.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KindRequest {
    #[schema(pattern = "^[a-z][a-z0-9_]{0,62}$")]
    pub kind: String,
    /// Where it works, with `env`; a custom run needs both for its `sql` phases.
    #[schema(pattern = "^[a-z0-9][a-z0-9-]{0,62}$")]
    pub project_id: Option<String>,
    /// The type of the project's environment, with `project_id`.
    #[schema(pattern = "^(dev|staging|prod)$")]
    pub env: Option<String>,
    /// What the kind asks for.
    #[schema(required = false, nullable)]
    pub input: Map<String, Value>,
    #[schema(required = false, nullable)]
    pub metadata: Map<String, Value>,
    /// 1 is the most urgent; without it 5.
    #[schema(minimum = 1, maximum = 9)]
    pub priority: Option<i16>,
    /// Not before then; without it now.
    pub run_at: Option<Timestamp>,
    /// Without it 3.
    #[schema(minimum = 1, maximum = 100)]
    pub max_attempts: Option<i32>,
    /// Of all runs with the same key, one is under way.
    #[schema(pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,200}$")]
    pub concurrency_key: Option<String>,
}

impl RunRequest {
    /// `kind` tells them apart.
    pub fn from_json(fields: Map<String, Value>) -> Result<RunRequest, Vec<FieldError>> {
        if fields.contains_key("kind") {
            kind(fields).map(RunRequest::Kind)
        } else {
            build(fields).map(RunRequest::Build)
        }
    }
}

impl KindRequest {
    /// All but the environment, which the database knows by its id: see `queue::enqueue_kind`.
    pub fn new_run(self, idempotency_key: Option<String>) -> NewRun {
        let plain = NewRun::of_kind(self.kind);
        NewRun {
            input: Value::Object(self.input),
            metadata: Value::Object(self.metadata),
            priority: self.priority.unwrap_or(plain.priority),
            run_at: self.run_at,
            max_attempts: self.max_attempts.unwrap_or(plain.max_attempts),
            project_id: self.project_id,
            concurrency_key: self.concurrency_key,
            idempotency_key,
            ..plain
        }
    }
}

fn build(fields: Map<String, Value>) -> Result<BuildRequest, Vec<FieldError>> {
    let mut f = Fields::new(fields);
    let request = BuildRequest {
        project_id: f.required_text("project_id", names::project_id),
        env: f.required_text("env", names::environment),
        git_sha: f.required_text("git_sha", names::git_sha),
        git_ref: f.required_text("git_ref", names::git_ref),
        metadata: f.document("metadata"),
    };
    f.errors.extend(metadata::of_build(&request.metadata));
    f.end(request)
}

fn kind(fields: Map<String, Value>) -> Result<KindRequest, Vec<FieldError>> {
    let mut f = Fields::new(fields);
    let request = KindRequest {
        kind: f.required_text("kind", names::kind),
        project_id: f.text("project_id", names::project_id),
        env: f.text("env", names::environment),
        input: f.document("input"),
        metadata: f.document("metadata"),
        priority: f.number("priority", 1, 9).and_then(|n| i16::try_from(n).ok()),
        run_at: f.time("run_at"),
        max_attempts: f.number("max_attempts", 1, 100).and_then(|n| i32::try_from(n).ok()),
        concurrency_key: f.text("concurrency_key", names::key),
    };
    match request.kind.as_str() {
        "build" => {
            f.refuse("kind", "must not be given for a build: it is queued by project_id, env, git_sha and git_ref");
        }
        // Their runs belong to a row, which says what is dumped or put back, and who allowed it.
        "backup" => f.refuse("kind", "must not be backup, which is queued by ops.create_backup alone"),
        "restore" => f.refuse("kind", "must not be restore, which is queued by ops.restore_backup alone"),
        "custom" => {
            let place = if request.env.is_some() { &metadata::OF_A_PLACE[..] } else { &[] };
            // It has no commit: that is a build's.
            let known: Vec<&str> = ["run_id"].iter().chain(place).copied().collect();
            f.errors.extend(metadata::of_custom(&request.metadata, &known));
        }
        _ => {}
    }
    if f.errors.is_empty() && request.project_id.is_some() != request.env.is_some() {
        let (missing, given) = if request.env.is_none() { ("env", "project_id") } else { ("project_id", "env") };
        f.refuse(missing, &format!("is required with {given}"));
    }
    f.end(request)
}

/// Why something is asked for.
pub fn reason(fields: Map<String, Value>) -> Result<Option<String>, Vec<FieldError>> {
    let mut f = Fields::new(fields);
    let reason = f.text("reason", names::reason);
    f.end(reason)
}

/// Nothing can be said.
pub fn nothing(fields: Map<String, Value>) -> Result<(), Vec<FieldError>> {
    Fields::new(fields).end(())
}

/// An object that is taken apart field by field; what is left over at the end is unknown.
struct Fields {
    given: Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Fields {
    fn new(given: Map<String, Value>) -> Fields {
        Fields { given, errors: Vec::new() }
    }

    fn refuse(&mut self, field: &str, message: &str) {
        self.errors.push(FieldError { field: field.to_owned(), message: message.to_owned() });
    }

    /// Null is the same as nothing.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.given.remove(name).filter(|value| !value.is_null())
    }

    fn text(&mut self, name: &str, check: fn(&str) -> Result<(), Refused>) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => match check(&text) {
                Ok(()) => return Some(text),
                Err(why) => self.refuse(name, why),
            },
            _ => self.refuse(name, "must be a string"),
        }
        None
    }

    fn required_text(&mut self, name: &str, check: fn(&str) -> Result<(), Refused>) -> String {
        let before = self.errors.len();
        let text = self.text(name, check);
        if text.is_none() && self.errors.len() == before {
            self.refuse(name, "is required");
        }
        text.unwrap_or_default()
    }

    fn number(&mut self, name: &str, least: i64, most: i64) -> Option<i64> {
        let value = self.take(name)?;
        let number = value.as_i64().filter(|n| (least..=most).contains(n));
        if number.is_none() {
            self.refuse(name, &format!("must be a whole number from {least} to {most}"));
        }
        number
    }

    fn time(&mut self, name: &str) -> Option<Timestamp> {
        let value = self.take(name)?;
        let time = value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
        // What lies before 1970 was no time to run at, but a mistake in the making of it.
        let time = time.filter(|time| *time >= Timestamp::UNIX_EPOCH);
        if time.is_none() {
            self.refuse(name, "must be a time like 2026-01-31T12:00:00Z");
        }
        time
    }

    fn document(&mut self, name: &str) -> Map<String, Value> {
        let Some(value) = self.take(name) else { return Map::new() };
        if let Some(path) = names::nul_in(&value) {
            self.refuse(&format!("{name}{path}"), "must not hold the character \\u0000, which cannot be stored");
        }
        if value.to_string().len() > names::LARGEST_DOCUMENT {
            self.refuse(name, "must be 1 MiB or less");
        }
        match value {
            Value::Object(map) => return map,
            _ => self.refuse(name, "must be an object"),
        }
        Map::new()
    }

    fn end<T>(mut self, done: T) -> Result<T, Vec<FieldError>> {
        let unknown: Vec<String> = self.given.keys().take(20).cloned().collect();
        for name in unknown {
            let shown: String = name.chars().take(100).collect();
            self.refuse(&shown, "is no field of this request");
        }
        if self.errors.is_empty() { Ok(done) } else { Err(self.errors) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<RunRequest, Vec<FieldError>> {
        let Value::Object(map) = value else { panic!("an object") };
        RunRequest::from_json(map)
    }

    fn refused(value: Value) -> Vec<String> {
        let errors = read(value).expect_err("it is refused");
        errors.into_iter().map(|e| format!("{} {}", e.field, e.message)).collect()
    }

    #[test]
    fn a_build_needs_no_more_than_the_document_gives() {
        let build = read(json!({"project_id": "p", "env": "dev", "git_sha": "abc123", "git_ref": "main"}));
        let Ok(RunRequest::Build(build)) = build else { panic!("{build:?}") };
        assert_eq!((build.project_id.as_str(), build.metadata.len()), ("p", 0));
    }

    #[test]
    fn every_error_is_told_at_once_by_its_field() {
        let errors = refused(json!({"project_id": "P'; --", "env": "test", "git_sha": 7, "metadata": [], "extra": 1}));
        let fields: Vec<_> = errors.iter().filter_map(|e| e.split(' ').next()).collect();
        assert_eq!(fields, ["project_id", "env", "git_sha", "git_ref", "metadata", "extra"]);
    }

    #[test]
    fn numbers_times_and_keys_have_bounds() {
        for (field, value) in [
            ("priority", json!(0)),
            ("priority", json!(10)),
            ("priority", json!(5.5)),
            ("priority", json!("5")),
            ("max_attempts", json!(-1)),
            ("max_attempts", json!(101)),
            ("run_at", json!("tomorrow")),
            ("run_at", json!("-009999-01-01T00:00:00Z")),
            ("run_at", json!(1)),
            ("concurrency_key", json!("")),
            ("input", json!({"x": "\0"})),
            ("metadata", json!("x".repeat(2 << 20))),
        ] {
            let errors = refused(json!({"kind": "x", field: value}));
            assert!(errors[0].starts_with(field), "{field}: {errors:?}");
        }
        for (kind, fix) in [("build", "git_sha"), ("backup", "ops.create_backup"), ("restore", "ops.restore_backup")] {
            let errors = refused(json!({"kind": kind, "input": {}}));
            assert!(errors[0].contains(fix), "{errors:?}");
        }
        assert_eq!(refused(json!({"kind": "x", "env": "dev"})), ["project_id is required with env"]);
        assert_eq!(refused(json!({"kind": "x", "project_id": "shop"})), ["env is required with project_id"]);
    }

    #[test]
    fn what_is_not_given_has_the_defaults_of_the_queue() {
        let Ok(RunRequest::Kind(request)) = read(json!({"kind": "mail", "input": {"to": "x"}, "priority": null}))
        else {
            panic!("a kind")
        };
        let run = request.new_run(Some("key".to_owned()));
        assert_eq!((run.priority, run.max_attempts, run.run_at), (5, 3, None));
        assert_eq!((run.input, run.idempotency_key.as_deref()), (json!({"to": "x"}), Some("key")));
    }
}
