//! What a run's metadata must say, and the names in it that have a meaning. Pure; who queues a run and who
//! executes it ask the same, because SQL queues what it is given.
//!
//! The rest of the metadata is the run's own, but a name that is nearly one of ours is refused: what was
//! meant would be left out, and the run would succeed without it.

use super::placeholders;
use super::request::FieldError;
use crate::spelling::nearest;
use serde_json::{Map, Value};

/// What a build's metadata may decide, and what its environment's config says.
pub const OF_A_BUILD: [&str; 4] = ["build", "deploy", "smoke", "artifacts"];
const OF_A_CUSTOM_RUN: [&str; 1] = ["phases"];

/// What `${name}` may stand for in a custom run, as far as the run has it.
pub const OF_A_PLACE: [&str; 2] = ["project_id", "env_id"];

pub fn of_build(metadata: &Map<String, Value>) -> Vec<FieldError> {
    misspelt(metadata, &OF_A_BUILD)
}

/// `known`: the names that have a value in this run.
pub fn of_custom(metadata: &Map<String, Value>, known: &[&str]) -> Vec<FieldError> {
    let mut errors = misspelt(metadata, &OF_A_CUSTOM_RUN);
    let phases = match metadata.get("phases") {
        None | Some(Value::Null) => {
            errors.push(error("phases", "is required: a custom run does what this list says"));
            return errors;
        }
        Some(Value::Array(phases)) if !phases.is_empty() => phases,
        Some(_) => {
            errors.push(error("phases", "must be a list of phases, and not an empty one"));
            return errors;
        }
    };
    for (index, phase) in phases.iter().enumerate() {
        let with = &phase["with"];
        let arguments = with["arguments"].as_array().into_iter().flatten().map(|text| ("arguments", text));
        let env = with["env"].as_object().into_iter().flatten().map(|(_, text)| ("env", text));
        let texts = arguments.chain(env).filter_map(|(name, text)| Some((name, text.as_str()?)));
        errors.extend(texts.filter_map(|(name, text)| {
            placeholders::unknown(text, known).map(|why| error(&format!("phases[{index}].with.{name}"), &why))
        }));
    }
    errors
}

fn misspelt(metadata: &Map<String, Value>, ours: &[&str]) -> Vec<FieldError> {
    let slip =
        |name: &String| nearest(name, ours).map(|meant| error(name, &format!("is not known; did you mean {meant}?")));
    metadata.keys().filter_map(slip).collect()
}

fn error(name: &str, message: &str) -> FieldError {
    FieldError { field: format!("metadata.{name}"), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(errors: Vec<FieldError>) -> Vec<String> {
        errors.into_iter().map(|e| format!("{} {}", e.field, e.message)).collect()
    }

    fn custom(metadata: Value) -> Vec<String> {
        told(of_custom(metadata.as_object().expect("an object"), &["run_id"]))
    }

    #[test]
    fn what_is_the_runs_own_is_nobodys_business() {
        let phases = json!([{ "name": "a", "uses": "command", "with": { "arguments": ["${run_id}", "$${x}"] } }, 7]);
        assert!(custom(json!({ "phases": phases, "by": "ci", "ticket": 7 })).is_empty());
        assert!(of_build(json!({ "by": "ci", "smoke": {} }).as_object().expect("an object")).is_empty());
    }

    #[test]
    fn a_custom_run_without_anything_to_do_is_refused() {
        assert_eq!(custom(json!({})), ["metadata.phases is required: a custom run does what this list says"]);
        assert_eq!(custom(json!({ "phase": [{}] }))[0], "metadata.phase is not known; did you mean phases?");
        for phases in [json!([]), json!({}), json!("a")] {
            assert_eq!(
                custom(json!({ "phases": phases })),
                ["metadata.phases must be a list of phases, and not an empty one"]
            );
        }
    }

    #[test]
    fn names_that_are_nearly_ours_and_placeholders_without_a_value_are_refused() {
        let smokee = json!({ "smokee": {} });
        let refused = told(of_build(smokee.as_object().expect("an object")));
        assert_eq!(refused, ["metadata.smokee is not known; did you mean smoke?"]);
        let with = json!({ "arguments": ["a", "${git_sha}"], "env": { "INPUT_X": "${x}" } });
        let refused = custom(json!({ "phases": [{}, { "with": with }] }));
        assert!(refused[0].starts_with("metadata.phases[1].with.arguments has ${git_sha}, which has no value here"));
        assert!(refused[1].starts_with("metadata.phases[1].with.env has ${x}"), "{refused:?}");
    }
}
