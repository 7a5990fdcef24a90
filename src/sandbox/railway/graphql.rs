//! Executes GraphQL over plain JSON: the schema says what is an object, a list or a page.

use super::trouble::Trouble;
use super::{SDL, resolve::Root};
use apollo_compiler::executable::OperationType;
use apollo_compiler::resolvers::{Execution, FieldError, ObjectValue, ResolveInfo, ResolvedValue};
use apollo_compiler::response::{JsonMap, JsonValue};
use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, Schema};
use serde_json::{Value, json};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::OnceLock;

/// The server is always newer than the schema that was published: enums grow.
pub const FUTURE_STATUS: &str = "RECONSIDERING";
const NEWER_THAN_PUBLISHED: &str = "extend enum DeploymentStatus { RECONSIDERING }";

/// The page size when a query names none.
const PAGE: usize = 100;

/// A request as it came in.
pub(super) struct Call {
    pub document: String,
    pub operation: Option<String>,
    pub variables: Value,
}

/// What a server says of a request it will not even begin to execute.
pub(super) struct Refused {
    pub code: &'static str,
    pub messages: Vec<String>,
}

/// Checks the document and its variables, executes it, and returns the body of the answer.
pub(super) fn execute(call: &Call, root: Root<'_>, trouble: Option<&Trouble>) -> Result<Value, Refused> {
    let schema = schema()?;
    let document = parse(schema, &call.document)?;
    let operation = document.operations.get(call.operation.as_deref()).map_err(|e| bad_input(e.message()))?;
    let variables = serde_json::from_value::<JsonMap>(call.variables.clone()).map_err(bad_input)?;
    let type_name = match operation.operation_type {
        OperationType::Mutation => "Mutation",
        _ => "Query",
    };
    let context = Rc::new(Oddities {
        hole: Cell::new(trouble == Some(&Trouble::PartialData)),
        stuck_cursor: trouble == Some(&Trouble::StuckCursor),
    });
    let initial = Start { root, type_name, context };
    let execution = Execution::new(schema, &document).operation(operation);
    let execution = execution.raw_variable_values(&variables);
    let mut response = execution.execute_sync(&initial).map_err(|e| bad_input(e.message()))?;
    for error in &mut response.errors {
        // The library says who failed; Railway says only what.
        if let Some(message) = error.message.strip_prefix("resolver error: ") {
            error.message = message.to_string();
        }
    }
    Ok(serde_json::to_value(response).unwrap_or_else(|e| json!({"errors": [{"message": e.to_string()}]})))
}

/// The name under which the request is remembered and troubled.
pub(super) fn operation_name(call: &Call) -> String {
    let named = || {
        let document = schema().ok().and_then(|schema| parse(schema, &call.document).ok())?;
        let operation = document.operations.get(None).ok()?;
        operation.name.as_ref().map(|name| name.to_string())
    };
    call.operation.clone().or_else(named).unwrap_or_default()
}

fn schema() -> Result<&'static Valid<Schema>, Refused> {
    static SCHEMA: OnceLock<Result<Valid<Schema>, String>> = OnceLock::new();
    let compile = || {
        let text = format!("{SDL}\n{NEWER_THAN_PUBLISHED}\n");
        Schema::parse_and_validate(text, "schema.graphql").map_err(|e| e.to_string())
    };
    SCHEMA
        .get_or_init(compile)
        .as_ref()
        .map_err(|error| Refused { code: "INTERNAL_SERVER_ERROR", messages: vec![error.clone()] })
}

fn parse(schema: &Valid<Schema>, text: &str) -> Result<Valid<ExecutableDocument>, Refused> {
    ExecutableDocument::parse_and_validate(schema, text, "request.graphql").map_err(|failed| Refused {
        code: "GRAPHQL_VALIDATION_FAILED",
        messages: failed.errors.iter().map(|d| d.error.to_string()).collect(),
    })
}

fn bad_input(error: impl std::fmt::Display) -> Refused {
    Refused { code: "BAD_USER_INPUT", messages: vec![error.to_string()] }
}

pub(super) fn failed(message: impl Into<String>) -> FieldError {
    FieldError { message: message.into() }
}

/// What goes wrong inside this one answer.
struct Oddities {
    /// Still to be made.
    hole: Cell<bool>,
    stuck_cursor: bool,
}

struct Start<'w> {
    root: Root<'w>,
    type_name: &'static str,
    context: Rc<Oddities>,
}

impl ObjectValue for Start<'_> {
    fn type_name(&self) -> &str {
        self.type_name
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Result<ResolvedValue<'a>, FieldError> {
        let arguments = serde_json::to_value(info.arguments()).unwrap_or_default();
        let value = self.root.field(info.field_name(), &arguments)?;
        shaped(value, info, &self.context)
    }
}

/// One object of the answer, of the type the schema gives it.
struct View {
    type_name: String,
    value: Value,
    context: Rc<Oddities>,
}

impl ObjectValue for View {
    fn type_name(&self) -> &str {
        &self.type_name
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Result<ResolvedValue<'a>, FieldError> {
        let nullable = !info.field_definition().ty.is_non_null();
        if nullable && self.context.hole.replace(false) {
            return Err(failed("Problem processing request"));
        }
        // A field that was left out of the JSON is null.
        let value = self.value.get(info.field_name()).cloned().unwrap_or_default();
        shaped(value, info, &self.context)
    }
}

fn shaped<'a>(value: Value, info: &ResolveInfo<'_>, context: &Rc<Oddities>) -> Result<ResolvedValue<'a>, FieldError> {
    let declared = &info.field_definition().ty;
    let type_name = declared.inner_named_type();
    if type_name.ends_with("Connection") {
        let arguments = serde_json::to_value(info.arguments()).unwrap_or_default();
        let page = page(value, &arguments, context.stuck_cursor);
        return Ok(one(page, Some(type_name), context));
    }
    let object = info.schema().get_object(type_name).map(|_| type_name.as_str());
    match value {
        Value::Array(items) if declared.is_list() => {
            let items: Vec<_> = items.into_iter().map(|item| one(item, object, context)).collect();
            Ok(ResolvedValue::list(items))
        }
        value => Ok(one(value, object, context)),
    }
}

fn one<'a>(value: Value, object: Option<&str>, context: &Rc<Oddities>) -> ResolvedValue<'a> {
    match object {
        Some(type_name) if !value.is_null() => {
            let (type_name, context) = (type_name.to_string(), context.clone());
            ResolvedValue::object(View { type_name, value, context })
        }
        _ => ResolvedValue::Leaf(JsonValue::from(value)),
    }
}

/// A Relay page out of the whole list; cursors are ids, so that a new item shifts nothing.
fn page(list: Value, arguments: &Value, stuck: bool) -> Value {
    let nodes = list.as_array().cloned().unwrap_or_default();
    let place = |name: &str| {
        let cursor = arguments.get(name)?.as_str()?;
        nodes.iter().position(|node| node["id"] == cursor)
    };
    let number = |name: &str| arguments.get(name)?.as_u64().and_then(|n| usize::try_from(n).ok());
    let mut from = place("after").map_or(0, |at| at + 1);
    let mut to = place("before").unwrap_or(nodes.len()).max(from);
    match (number("first"), number("last")) {
        (None, Some(last)) => from = to.saturating_sub(last).max(from),
        (first, _) => to = to.min(from + first.unwrap_or(PAGE)),
    }
    let cursor = |node: &Value| node["id"].clone();
    let edges: Vec<Value> = nodes[from..to].iter().map(|n| json!({"cursor": cursor(n), "node": n})).collect();
    let mut info = json!({
        "hasNextPage": to < nodes.len(),
        "hasPreviousPage": from > 0,
        "startCursor": nodes[from..to].first().map(cursor),
        "endCursor": nodes[from..to].last().map(cursor),
    });
    if stuck {
        let same = arguments.get("after").filter(|a| !a.is_null()).cloned();
        info["endCursor"] = same.unwrap_or_else(|| info["startCursor"].clone());
        info["hasNextPage"] = true.into();
    }
    json!({"edges": edges, "pageInfo": info})
}
