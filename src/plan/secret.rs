//! A value that must never be printed.
//!
//! `secrecy` has no `PartialEq`, and the planner must compare; so this is our own. It refuses to
//! show itself: `Debug` and `Display` print a fixed word, and it serialises only through
//! [`expose`](Secret::expose) or the state file's own field attribute.

use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

/// What is printed instead of a secret: no prefix, no length.
pub const REDACTED: &str = "[redacted]";

impl Secret {
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// The value itself, for the wire and for the state file. Every use is a place to review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// `#[serde(serialize_with = "secret::exposed")]` for the one place that must keep a secret: the
/// state file (mode 0600). Anywhere else a `Secret` serialises as the redaction.
pub fn exposed<S: serde::Serializer>(secret: &Secret, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(secret.expose())
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_neither_itself_nor_a_prefix() {
        let secret = Secret::new("dop_v1_abcdef");
        for text in [format!("{secret}"), format!("{secret:?}"), serde_json::to_string(&secret).expect("serialises")] {
            assert!(!text.contains("dop"), "{text}");
        }
    }
}
