//! Checks a request's body against what the provider's schema asks for.
//!
//! A missing or wrongly typed field is refused as the provider would. A field the provider does
//! not know is ignored there, silently; here it is remembered, because it is always a mistake.

use super::answer::Answer;
use serde_json::{Map, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Flag,
    Object,
    /// A number or a text: an image or a key.
    Reference,
    Texts,
    Numbers,
    References,
    Objects,
}

pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
}

pub const fn required(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: true }
}

pub const fn optional(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, required: false }
}

/// The body as an object that keeps to `fields`; unknown fields go to `unknown`.
pub fn checked<'a>(
    body: &'a Value,
    fields: &[Field],
    unknown: &mut Vec<String>,
) -> Result<&'a Map<String, Value>, Answer> {
    let Some(map) = body.as_object() else {
        return Err(Answer::unprocessable("Request body must be a JSON object."));
    };
    unknown.extend(map.keys().filter(|k| fields.iter().all(|f| f.name != *k)).cloned());
    for field in fields {
        match map.get(field.name) {
            None if field.required => {
                return Err(Answer::unprocessable(format!("{} can't be blank", field.name)));
            }
            // The provider reads an explicit null of an optional field as absent.
            None => {}
            Some(Value::Null) if !field.required => {}
            Some(value) if is_of(field.kind, value) => {}
            Some(_) => return Err(Answer::unprocessable(format!("{} is invalid", field.name))),
        }
    }
    Ok(map)
}

fn is_of(kind: Kind, value: &Value) -> bool {
    let all = |kind: Kind| value.as_array().is_some_and(|items| items.iter().all(|i| is_of(kind, i)));
    match kind {
        Kind::Text => value.is_string(),
        Kind::Flag => value.is_boolean(),
        Kind::Object => value.is_object(),
        Kind::Reference => value.is_string() || value.is_u64(),
        Kind::Texts => all(Kind::Text),
        Kind::References => all(Kind::Reference),
        Kind::Objects => all(Kind::Object),
        Kind::Numbers => value.as_array().is_some_and(|items| items.iter().all(Value::is_u64)),
    }
}

/// The texts of a list that `checked` has passed; absent and null are empty.
pub fn texts(map: &Map<String, Value>, name: &str) -> Vec<String> {
    let items = map.get(name).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

pub fn numbers(map: &Map<String, Value>, name: &str) -> Vec<u64> {
    let items = map.get(name).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_u64).collect()
}

pub fn text<'a>(map: &'a Map<String, Value>, name: &str) -> &'a str {
    map.get(name).and_then(Value::as_str).unwrap_or_default()
}
