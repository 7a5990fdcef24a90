//! What names and values of runs may look like, as the database's domains and constraints have it. Pure.
//!
//! The database has the last word; here the words are those of who asks, and every error is found at once.

use serde_json::Value;

pub const STATUSES: [&str; 6] = ["queued", "claimed", "running", "success", "failed", "cancelled"];
pub const ENVIRONMENTS: [&str; 3] = ["dev", "staging", "prod"];
/// Keys are looked up by an index, whose entries are short.
pub const LONGEST_KEY: usize = 200;
/// Of a document, as text; what is larger is an artifact.
pub const LARGEST_DOCUMENT: usize = 1 << 20;

/// Why a value is refused: what it must be.
pub type Refused = &'static str;

fn is_made_of(text: &str, first: fn(char) -> bool, rest: fn(char) -> bool, longest: usize) -> bool {
    text.len() <= longest && text.chars().next().is_some_and(first) && text.chars().skip(1).all(rest)
}

fn is_lower(c: char) -> bool {
    c.is_ascii_lowercase()
}

fn is_lower_or_digit(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

pub fn run_id(text: &str) -> Result<(), Refused> {
    let rest = text.strip_prefix("run-").unwrap_or_default();
    let is_name = |c| is_lower_or_digit(c) || c == '-';
    match is_made_of(rest, is_name, is_name, 96) {
        true => Ok(()),
        false => Err("must be the id of a run: run- and lower-case letters, digits or hyphens"),
    }
}

pub fn kind(text: &str) -> Result<(), Refused> {
    match is_made_of(text, is_lower, |c| is_lower_or_digit(c) || c == '_', 63) {
        true => Ok(()),
        false => Err("must be a lower-case letter, then at most 62 lower-case letters, digits or underscores"),
    }
}

pub fn project_id(text: &str) -> Result<(), Refused> {
    match is_made_of(text, is_lower_or_digit, |c| is_lower_or_digit(c) || c == '-', 63) {
        true => Ok(()),
        false => Err("must be at most 63 lower-case letters, digits or hyphens, and not begin with a hyphen"),
    }
}

pub fn environment(text: &str) -> Result<(), Refused> {
    if ENVIRONMENTS.contains(&text) { Ok(()) } else { Err("must be dev, staging or prod") }
}

pub fn status(text: &str) -> Result<(), Refused> {
    if STATUSES.contains(&text) {
        Ok(())
    } else {
        Err("must be queued, claimed, running, success, failed or cancelled")
    }
}

/// A whole commit id, or its beginning.
pub fn git_sha(text: &str) -> Result<(), Refused> {
    let is_hex = |c: char| c.is_ascii_hexdigit();
    match text.len() >= 4 && is_made_of(text, is_hex, is_hex, 64) {
        true => Ok(()),
        false => Err("must be 4 to 64 hexadecimal digits"),
    }
}

/// A branch or tag, and less than git allows: the name goes into requests, workflows and the arguments of
/// programs, where it must never be an option, a second word, or something that a shell would read.
pub fn git_ref(text: &str) -> Result<(), Refused> {
    let fits = |c: char| c.is_alphanumeric() || "._/@+=#-".contains(c);
    let is_fine = text.starts_with(char::is_alphanumeric) && text.chars().count() <= 255 && text.chars().all(fits);
    match is_fine && !text.contains("..") && !text.ends_with('/') {
        true => Ok(()),
        false => Err("must be a branch or tag: a letter or digit, then at most 254 letters, digits or ._/@+=#-, \
                      without .. and not ending in /"),
    }
}

/// A key by which equal things are told: `Idempotency-Key`, `concurrency_key`, an environment's id.
pub fn key(text: &str) -> Result<(), Refused> {
    let is_fine = !text.is_empty() && text.chars().count() <= LONGEST_KEY && !text.contains(char::is_control);
    if is_fine { Ok(()) } else { Err("must be 1 to 200 characters, none of them a control character") }
}

/// Words of a person.
pub fn reason(text: &str) -> Result<(), Refused> {
    let is_fine = !text.trim().is_empty() && text.chars().count() <= 1000 && !text.contains('\0');
    if is_fine { Ok(()) } else { Err("must be 1 to 1000 characters") }
}

/// Where in a document a character is that the database cannot store.
pub fn nul_in(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(values) => {
            values.iter().enumerate().find_map(|(i, value)| nul_in(value).map(|path| format!("[{i}]{path}")))
        }
        Value::Object(map) => map.iter().find_map(|(name, value)| match name.contains('\0') {
            true => Some(format!(".{}", name.replace('\0', "\\u0000"))),
            false => nul_in(value).map(|path| format!(".{name}{path}")),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_of_the_documents_are_accepted() {
        run_id("run-0191f2a0-7b1c-7def-8123-456789abcdef").expect("an id of ours");
        run_id("run-20260214-120000-abc1234").expect("an id of the scripts");
        kind("build").expect("a kind");
        project_id("test-project").expect("a project");
        git_sha("abc123def456").expect("a short sha");
        git_ref("refs/heads/feature/test").expect("a ref");
        for text in ["rollback-from-run-1", "v1.0.0", "feature/a=b", "größe/ünï", "user@host/x+1#2"] {
            git_ref(text).expect(text);
        }
    }

    #[test]
    fn statements_in_names_are_refused() {
        for text in ["", "'; drop table ops.runs; --", "run-x'", "a\0b", "RUN-1", "x y", "../..", "é"] {
            for check in [run_id, kind, project_id, environment, git_sha, status] {
                assert!(check(text).is_err(), "{text:?}");
            }
        }
        assert!(run_id("run-").is_err());
        let long = "x".repeat(256);
        for text in [
            "",
            "a b",
            "a\nb",
            "a..b",
            "-x",
            "--upload-pack=x",
            "/x",
            "x/",
            "../x",
            "a\\b",
            "a\0b",
            "a:b",
            "$(x)",
            &long,
        ] {
            assert!(git_ref(text).is_err(), "{text:?}");
        }
        assert!(key("").is_err() && key("a\nb").is_err() && key(&"x".repeat(201)).is_err() && key("a b").is_ok());
    }

    #[test]
    fn a_character_that_cannot_be_stored_is_found_where_it_is() {
        assert_eq!(nul_in(&json!({"a": [1, {"b": "x\0"}]})).as_deref(), Some(".a[1].b"));
        assert_eq!(nul_in(&json!({"a\0": 1})).as_deref(), Some(".a\\u0000"));
        assert_eq!(nul_in(&json!({"a": ["\u{1}", null]})), None);
    }
}
