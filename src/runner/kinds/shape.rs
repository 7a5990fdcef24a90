//! Reads JSON that people have written: every fault at once, each with the path of its field.
//!
//! What is not known is a fault, too: a misspelt field must not pass as one that was left out.

use crate::config::parse_duration;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The faults of one document.
#[derive(Default)]
pub struct Faults(RefCell<Vec<String>>);

impl Faults {
    pub fn add(&self, at: &str, what: &str) {
        self.0.borrow_mut().push(format!("{at} {what}"));
    }

    /// What was read, if all of it was right.
    pub fn none_or<T>(self, read: Option<T>) -> Result<T, String> {
        match (self.0.into_inner(), read) {
            (faults, Some(read)) if faults.is_empty() => Ok(read),
            (faults, _) => Err(faults.join("; ")),
        }
    }
}

/// One object of it.
pub struct Shape<'a> {
    at: String,
    fields: Option<&'a Map<String, Value>>,
    known: Vec<&'static str>,
    pub faults: &'a Faults,
}

impl<'a> Shape<'a> {
    pub fn of(value: &'a Value, at: impl Into<String>, faults: &'a Faults) -> Shape<'a> {
        let shape = Shape { at: at.into(), fields: value.as_object(), known: Vec::new(), faults };
        if shape.fields.is_none() {
            faults.add(&shape.at, "must be an object");
        }
        shape
    }

    /// The path of a field.
    pub fn path(&self, name: &str) -> String {
        if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) }
    }

    pub fn fault(&self, name: &str, what: &str) {
        self.faults.add(&self.path(name), what);
    }

    /// Null is as if it were not there.
    pub fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.fields?.get(name).filter(|value| !value.is_null())
    }

    fn read<T>(&mut self, name: &'static str, must: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        let found = read(self.get(name)?);
        if found.is_none() {
            self.fault(name, must);
        }
        found
    }

    pub fn text(&mut self, name: &'static str) -> Option<String> {
        let plain = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        self.read(name, "must be a text that is not empty", plain)
    }

    pub fn required(&mut self, name: &'static str) -> Option<String> {
        let is_there = self.fields.is_none_or(|fields| fields.get(name).is_some_and(|value| !value.is_null()));
        if !is_there {
            self.fault(name, "is missing");
        }
        self.text(name)
    }

    pub fn number(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let must = format!("must be a whole number from {} to {}", range.start(), range.end());
        self.read(name, &must, |value| value.as_u64().filter(|n| range.contains(n)))
    }

    pub fn duration(&mut self, name: &'static str, default: Duration, most: Duration) -> Duration {
        let must = format!("must be a duration such as 500ms, 30s or 10m, at most {} s", most.as_secs());
        let fits =
            |value: &Value| value.as_str().and_then(parse_duration).filter(|time| !time.is_zero() && *time <= most);
        self.read(name, &must, fits).unwrap_or(default)
    }

    pub fn texts(&mut self, name: &'static str) -> Vec<String> {
        let all = |value: &Value| value.as_array()?.iter().map(|v| v.as_str().map(str::to_owned)).collect();
        self.read(name, "must be a list of texts", all).unwrap_or_default()
    }

    pub fn pairs(&mut self, name: &'static str) -> BTreeMap<String, String> {
        let pair = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        let all = |value: &Value| value.as_object()?.iter().map(pair).collect();
        self.read(name, "must be an object of texts", all).unwrap_or_default()
    }

    pub fn object(&mut self, name: &'static str) -> Option<&'a Map<String, Value>> {
        self.read(name, "must be an object", Value::as_object)
    }

    pub fn inner(&mut self, name: &'static str) -> Option<Shape<'a>> {
        let value = self.get(name)?;
        Some(Shape::of(value, self.path(name), self.faults))
    }

    /// Each with its path.
    pub fn list(&mut self, name: &'static str) -> Option<Vec<(String, &'a Value)>> {
        let all = self.read(name, "must be a list", Value::as_array)?;
        let path = self.path(name);
        Some(all.iter().enumerate().map(|(index, value)| (format!("{path}[{index}]"), value)).collect())
    }

    /// Of these, at most one, and whether one of them must be there.
    pub fn one_of(&self, names: &[&str], required: bool) {
        let given = |name: &&&str| self.fields.is_some_and(|f| f.get(**name).is_some_and(|v| !v.is_null()));
        let count = names.iter().filter(given).count();
        if self.fields.is_some() && (count > 1 || (required && count == 0)) {
            let at = if self.at.is_empty() { "the document" } else { &self.at };
            self.faults.add(at, &format!("must have one of {}", names.join(", ")));
        }
    }

    /// Nothing else may be there.
    pub fn end(self) {
        let unknown = self.fields.into_iter().flatten().filter(|(name, _)| !self.known.contains(&name.as_str()));
        for (name, _) in unknown {
            self.fault(name, &format!("is not known; {} may be given", self.known.join(", ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_right_and_what_is_left_out_is_no_fault() {
        let value = json!({ "name": "a", "count": 3, "list": [1], "nothing": null });
        let faults = Faults::default();
        let mut shape = Shape::of(&value, "top", &faults);
        assert_eq!(shape.required("name").as_deref(), Some("a"));
        assert_eq!((shape.number("count", 0..=9), shape.text("nothing")), (Some(3), None));
        assert_eq!(shape.duration("timeout", Duration::from_secs(3), Duration::from_secs(9)), Duration::from_secs(3));
        assert_eq!(shape.list("list").expect("a list")[0].0, "top.list[0]");
        shape.end();
        assert_eq!(faults.none_or(Some(1)), Ok(1));
    }

    #[test]
    fn every_fault_is_named_by_its_path() {
        let value = json!({ "count": 12, "wait": "soon", "inner": { "x": 1, "tests": [1] }, "map": { "a": 1 }, "a": 1, "b": 1 });
        let faults = Faults::default();
        let mut shape = Shape::of(&value, "", &faults);
        shape.one_of(&["a", "b"], true);
        let _ = (shape.get("a"), shape.get("b"));
        shape.required("name");
        shape.number("count", 0..=9);
        shape.duration("wait", Duration::ZERO, Duration::from_secs(9));
        shape.pairs("map");
        let mut inner = shape.inner("inner").expect("an object");
        inner.texts("tests");
        inner.end();
        shape.end();
        let told = faults.none_or(Some(())).expect_err("faults");
        assert_eq!(
            told,
            "the document must have one of a, b; name is missing; count must be a whole number from 0 to 9; \
             wait must be a duration such as 500ms, 30s or 10m, at most 9 s; map must be an object of texts; \
             inner.tests must be a list of texts; inner.x is not known; tests may be given"
        );
    }
}
