//! What the phases of a custom run are to be. Pure: all faults of the list at once.

use crate::runner::kind::Phase;
use crate::runner::kinds::command::Named;
use crate::runner::kinds::request::Request;
use crate::runner::kinds::shape::{Faults, Shape};
use crate::runs::{metadata, placeholders};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(300);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// More is several runs.
const MOST_PHASES: usize = 100;

/// Statements that would end the transaction, or begin another.
const TRANSACTIONS_OWN: [&str; 8] = ["begin", "start", "commit", "end", "rollback", "abort", "savepoint", "prepare"];

pub struct Spec {
    pub phase: Phase,
    pub uses: Uses,
    /// Whatever fails is tried so often, which the runner does only with what may pass by itself.
    pub tries: u64,
}

pub enum Uses {
    Http(Request),
    Command(Named),
    Sql(Vec<String>),
    Run(NewChild),
}

/// A run to be queued, for the same project, environment and revision.
pub struct NewChild {
    pub kind: String,
    pub input: Value,
    pub metadata: Value,
}

/// `known`: the names that have a value in this run.
pub fn read(metadata: &Value, known: &[&str]) -> Result<Vec<Spec>, String> {
    let faults = Faults::default();
    // The rest of the metadata is the run's own.
    for error in metadata.as_object().map(|map| metadata::of_custom(map, known)).unwrap_or_default() {
        faults.add(error.field.trim_start_matches("metadata."), &error.message);
    }
    let mut top = Shape::of(metadata, "", &faults);
    let list = if metadata["phases"].is_array() { top.list("phases").unwrap_or_default() } else { Vec::new() };
    if list.len() > MOST_PHASES {
        faults.add("phases", &format!("are {}, more than {MOST_PHASES}", list.len()));
    }
    let (mut names, mut group) = (BTreeSet::new(), Vec::new());
    let mut all = Vec::new();
    for (at, value) in list {
        let mut shape = Shape::of(value, at, &faults);
        let name = shape.required("name").unwrap_or_default();
        if !name.is_empty() && !is_name(&name) {
            shape.fault("name", "must be letters, digits, - and _, beginning with a letter, at most 63");
        } else if !name.is_empty() && !names.insert(name.clone()) {
            shape.fault("name", &format!("{name:?} is used twice"));
        }
        let uses = uses(&mut shape, known);
        let timeout = shape.duration("timeout", TIMEOUT, LONGEST);
        let retries = shape.number("retries", 0..=20).unwrap_or_default();
        let beside = shape.text("parallel_with");
        match &beside {
            Some(other) if !group.contains(other) => {
                shape.fault("parallel_with", "must name the phase right before, or one that begins together with it");
            }
            Some(_) => {}
            None => group.clear(),
        }
        group.push(name.clone());
        shape.end();
        let phase = Phase { beside_previous: beside.is_some(), ..Phase::new(name, timeout) };
        all.extend(uses.map(|uses| Spec { phase, uses, tries: retries + 1 }));
    }
    faults.none_or(Some(all))
}

fn uses(shape: &mut Shape<'_>, known: &[&str]) -> Option<Uses> {
    let word = shape.required("uses");
    let empty = json!({});
    let given = shape.get("with");
    let mut with = Shape::of(given.unwrap_or(&empty), shape.path("with"), shape.faults);
    let read = match word?.as_str() {
        "http" => request(&mut with).map(Uses::Http),
        "command" => Named::of_run(&mut with).map(Uses::Command),
        "sql" => statements(&mut with).map(Uses::Sql),
        "run" => child(&mut with, known).map(Uses::Run),
        _ => {
            shape.fault("uses", "must be http, command, sql or run");
            return None;
        }
    };
    with.end();
    read
}

fn request(with: &mut Shape<'_>) -> Option<Request> {
    let request = Request::read(with, false, Method::GET)?;
    if placeholders::unknown(&request.url, &[]).is_some() {
        with.fault("url", "has a ${name}: those are filled in in a program's arguments and env alone");
    }
    Some(request)
}

fn statements(with: &mut Shape<'_>) -> Option<Vec<String>> {
    if with.text("database").is_some_and(|database| database != "environment") {
        with.fault("database", "can only be \"environment\": phases do not work on the database of the runs");
    }
    let statements = with.texts("statements");
    if statements.is_empty() || statements.iter().any(|statement| statement.trim().is_empty()) {
        with.fault("statements", "must be a list of statements, none of them empty");
    }
    let ends = |statement: &&String| {
        let word: String = begun(statement).chars().take_while(char::is_ascii_alphabetic).collect();
        TRANSACTIONS_OWN.contains(&word.to_ascii_lowercase().as_str())
    };
    if let Some(statement) = statements.iter().find(ends) {
        with.fault("statements", &format!("has {statement:?}: all of them are one transaction already"));
    }
    Some(statements)
}

/// The statement from its first word on: comments, and empty statements before it, hide nothing.
fn begun(statement: &str) -> &str {
    let mut rest = statement;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';');
        rest = match (rest.strip_prefix("--"), rest.strip_prefix("/*")) {
            (Some(line), _) => line.split_once(['\n', '\r']).map_or("", |(_, rest)| rest),
            (_, Some(inner)) => behind_comment(inner),
            _ => return rest,
        };
    }
}

/// PostgreSQL's comments may hold others.
fn behind_comment(mut rest: &str) -> &str {
    let mut depth = 1;
    while depth > 0 {
        let Some(at) = rest.find(['/', '*']) else { return "" };
        let mark = &rest[at..];
        let (change, length) = match mark {
            _ if mark.starts_with("/*") => (1, 2),
            _ if mark.starts_with("*/") => (-1, 2),
            _ => (0, 1),
        };
        depth += change;
        rest = &mark[length..];
    }
    rest
}

/// `known`: a child has the same place and revision.
fn child(with: &mut Shape<'_>, known: &[&str]) -> Option<NewChild> {
    let kind = with.required("kind");
    let object = |value: Option<&serde_json::Map<String, Value>>| Value::Object(value.cloned().unwrap_or_default());
    let input = object(with.object("input"));
    let metadata = object(with.object("metadata"));
    if kind.as_deref() == Some("custom")
        && let Err(why) = read(&metadata, known)
    {
        with.faults.add(&format!("{}:", with.path("metadata")), &why);
    }
    Some(NewChild { kind: kind?, input, metadata })
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 63
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(metadata: &Value) -> Result<Vec<Spec>, String> {
        super::read(metadata, &["run_id"])
    }

    fn told(phases: Value) -> String {
        read(&json!({ "phases": phases })).err().expect("faults")
    }

    #[test]
    fn a_run_without_phases_is_a_fault_and_so_is_a_child_without_them() {
        for (metadata, fault) in [
            (json!({}), "phases is required"),
            (json!({ "phases": [], "anything": 1 }), "phases must be a list of phases, and not an empty one"),
            (json!({ "phase": [] }), "phase is not known; did you mean phases?; phases is required"),
        ] {
            let told = read(&metadata).err().expect("a fault");
            assert!(told.starts_with(fault), "{told}");
        }
        let child = json!([{ "name": "c", "uses": "run", "with": { "kind": "custom", "metadata": { "phases": [] } } }]);
        assert!(told(child).starts_with("phases[0].with.metadata: phases must be a list"));
    }

    #[test]
    fn a_name_without_a_value_is_a_fault_wherever_it_stands() {
        let of = |uses: &str, with: Value| json!([{ "name": "p", "uses": uses, "with": with }]);
        let fault = told(of("command", json!({ "program": "p", "arguments": ["${git_sha}"] })));
        assert!(
            fault.starts_with("phases[0].with.arguments has ${git_sha}, which has no value here: there are ${run_id}")
        );
        assert!(
            told(of("http", json!({ "url": "http://x/${run_id}" }))).starts_with("phases[0].with.url has a ${name}")
        );
        assert!(
            read(&json!({ "phases": of("command", json!({ "program": "p", "arguments": ["${run_id}"] })) })).is_ok()
        );
    }

    #[test]
    fn phases_side_by_side_name_one_of_their_group() {
        let get = |name: &str, beside: Value| json!({ "name": name, "uses": "http", "with": { "url": "http://x/" }, "parallel_with": beside, "retries": 2 });
        let list = json!([get("a", Value::Null), get("b", json!("a")), get("c", json!("a")), get("d", Value::Null)]);
        let all = read(&json!({ "phases": list })).expect("a list");
        assert_eq!(all.iter().map(|s| s.phase.beside_previous).collect::<Vec<_>>(), [false, true, true, false]);
        assert!(all.iter().all(|s| s.tries == 3 && s.phase.retries == 0));
        let late = json!([get("a", Value::Null), get("d", Value::Null), get("b", json!("a"))]);
        assert!(told(late).starts_with("phases[2].parallel_with must name the phase right before"));
        assert!(told(json!([get("a", json!("a"))])).contains("phases[0].parallel_with"));
    }

    #[test]
    fn no_comment_hides_a_statement_that_ends_the_transaction() {
        let of = |statement: &str| json!([{ "name": "s", "uses": "sql", "with": { "statements": [statement] } }]);
        for hidden in ["-- x\ncommit", "/* a /* b */ */ Rollback", "; ;\tabort", "/**/--\n/*-*/;end", "--x\rcommit"] {
            assert!(told(of(hidden)).contains("one transaction already"), "{hidden:?}");
        }
        for fine in ["/* commit */ select 1", "-- commit\nselect 1", "select 1 -- ; commit", "/* open", "--"] {
            assert!(read(&json!({ "phases": of(fine) })).is_ok(), "{fine:?}");
        }
    }

    #[test]
    fn a_run_chooses_neither_a_folder_nor_a_variable_that_changes_what_a_program_does() {
        let of = |with: Value| json!([{ "name": "c", "uses": "command", "with": with }]);
        for name in
            ["BASH_ENV", "LD_PRELOAD", "PATH", "NODE_OPTIONS", "input_x", "OPS_RESULT", "", "INPUT_A=B", "INPUT_\0"]
        {
            let fault = told(of(json!({ "program": "p", "env": { (name): "x" } })));
            assert!(fault.ends_with("a run's variables begin with INPUT_"), "{fault}");
        }
        let fault = told(of(json!({ "program": "p", "folder": "/" })));
        assert!(fault.contains("with.folder is not known; program, arguments, env may be given"), "{fault}");
        assert!(read(&json!({ "phases": of(json!({ "program": "p", "env": { "INPUT_A1": "x" } })) })).is_ok());
    }

    #[test]
    fn all_faults_of_the_list_are_told_by_index_and_field() {
        let told = told(json!([
            { "uses": "http", "with": { "url": "ftp://x" } },
            { "name": "a b", "uses": "command", "with": {} },
            { "name": "s", "uses": "sql", "with": { "statements": ["", "Commit;"], "database": "ops" } },
            { "name": "s", "uses": "magic" },
            { "name": "r", "uses": "run", "with": { "kind": "custom", "input": 3, "when": "now" }, "timeout": "2 weeks" },
            7,
        ]));
        for fault in [
            "phases[0].name is missing",
            "phases[0].with.url must be an http:// or https:// address",
            "phases[1].name must be letters",
            "phases[1].with.program is missing",
            "phases[2].with.database can only be",
            "phases[2].with.statements must be a list of statements",
            "phases[2].with.statements has \"Commit;\"",
            "phases[3].name \"s\" is used twice",
            "phases[3].uses must be http, command, sql or run",
            "phases[4].with.input must be an object",
            "phases[4].with.when is not known; kind, input, metadata may be given",
            "phases[4].timeout must be a duration",
            "phases[5] must be an object",
        ] {
            assert!(told.contains(fault), "{fault}: {told}");
        }
    }
}
