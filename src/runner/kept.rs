//! What a run leaves in the database: no secret that this process knows, and nothing that PostgreSQL
//! cannot keep.
//!
//! Everything that a runner writes down passes here, as every line of the log passes its writer: whoever
//! may read a run may read what a provider, a program or a database said in it.

use crate::runs::record::{each_text, storable_text};
use crate::telemetry::redact_text;
use serde_json::Value;

pub fn text(text: &str) -> String {
    storable_text(&redact_text(text))
}

/// Each text by itself: one that was escaped in JSON is as good as the secret once it was read.
pub fn value(value: Value) -> Value {
    each_text(value, &text)
}
