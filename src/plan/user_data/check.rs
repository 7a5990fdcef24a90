//! Refuses values that cannot be carried literally through JSON, YAML, an env file and compose.
//!
//! The strictest reader decides: DigitalOcean drops a droplet whose user data holds a 4-byte
//! character, YAML refuses U+007F, and compose ends a quoted value at `'` and gives `\` a meaning.

use std::fmt;

use super::{MAX_BYTES, Registry, UserData, UserDataError};

/// No token, secret or URL comes near this; a longer value is a file pasted by mistake.
const MAX_VALUE_BYTES: usize = 4096;

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    Empty,
    ControlCharacter,
    NotAscii,
    SingleQuote,
    Backslash,
    NotAHostname,
    NotAnExactVersion,
    NotAUrl,
    TooLong { bytes: usize, limit: usize },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Empty => f.write_str("is empty"),
            Problem::ControlCharacter => f.write_str("holds a control character or a line break"),
            Problem::NotAscii => f.write_str("holds a character outside ASCII"),
            Problem::SingleQuote => f.write_str("holds a single quote, which would end it in the env file"),
            Problem::Backslash => f.write_str("holds a backslash, which compose may read as an escape"),
            Problem::NotAHostname => f.write_str("is not a hostname of letters, digits, dots and hyphens"),
            Problem::NotAnExactVersion => f.write_str("is not one exact release such as v4.5.12"),
            Problem::NotAUrl => f.write_str("is not an http:// or https:// URL"),
            Problem::TooLong { bytes, limit } => {
                write!(f, "is {bytes} bytes long, the limit is {limit}")
            }
        }
    }
}

/// A release as numbers, so that releases can be compared. A pre-release counts as its release.
pub(super) type Version = (u32, u32, u32);

/// Checks all fields and returns the version as numbers.
pub(super) fn every_field(data: &UserData) -> Result<Version, UserDataError> {
    // Destructured, so that a new field cannot be forgotten here.
    let UserData {
        instance_name,
        trigger_version,
        api_url,
        otel_endpoint,
        worker_token,
        managed_secret,
        registry,
        ssh: _,
    } = data;
    hostname("instance_name", instance_name)?;
    let version = exact_version("trigger_version", trigger_version)?;
    url("api_url", api_url)?;
    url("otel_endpoint", otel_endpoint)?;
    literal("worker_token", worker_token)?;
    literal("managed_secret", managed_secret)?;
    if let Some(Registry { url, username, password }) = registry {
        literal("registry.url", url)?;
        username.map_or(Ok(()), |value| literal("registry.username", value))?;
        password.map_or(Ok(()), |value| literal("registry.password", value))?;
    }
    Ok(version)
}

/// The last look at the whole text: ASCII and within DigitalOcean's limit.
pub(super) fn finished(text: String) -> Result<String, UserDataError> {
    let refuse = |problem| Err(UserDataError { field: "user_data", problem });
    if !text.is_ascii() {
        return refuse(Problem::NotAscii);
    }
    if text.len() > MAX_BYTES {
        return refuse(Problem::TooLong { bytes: text.len(), limit: MAX_BYTES });
    }
    Ok(text)
}

fn literal(field: &'static str, value: &str) -> Result<(), UserDataError> {
    let problem = if value.is_empty() {
        Problem::Empty
    } else if value.len() > MAX_VALUE_BYTES {
        Problem::TooLong { bytes: value.len(), limit: MAX_VALUE_BYTES }
    } else if value.chars().any(char::is_control) {
        Problem::ControlCharacter
    } else if !value.is_ascii() {
        Problem::NotAscii
    } else if value.contains('\'') {
        Problem::SingleQuote
    } else if value.contains('\\') {
        Problem::Backslash
    } else {
        return Ok(());
    };
    Err(UserDataError { field, problem })
}

/// DigitalOcean's rule for droplet names, which become hostnames.
fn hostname(field: &'static str, value: &str) -> Result<(), UserDataError> {
    literal(field, value)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let edges = |c: char| c.is_ascii_alphanumeric();
    if value.len() <= 255 && value.chars().all(allowed) && value.starts_with(edges) && value.ends_with(edges) {
        Ok(())
    } else {
        Err(UserDataError { field, problem: Problem::NotAHostname })
    }
}

fn url(field: &'static str, value: &str) -> Result<(), UserDataError> {
    literal(field, value)?;
    let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && !value.contains(' ') => Ok(()),
        _ => Err(UserDataError { field, problem: Problem::NotAUrl }),
    }
}

/// `v4`, `latest` and the like move under a running droplet, so only `vX.Y.Z[-suffix]` is taken.
fn exact_version(field: &'static str, value: &str) -> Result<Version, UserDataError> {
    literal(field, value)?;
    parse_version(value).ok_or(UserDataError { field, problem: Problem::NotAnExactVersion })
}

fn parse_version(value: &str) -> Option<Version> {
    let text = value.strip_prefix('v')?;
    let (numbers, suffix) = match text.split_once('-') {
        Some((numbers, suffix)) => (numbers, Some(suffix)),
        None => (text, None),
    };
    let tag = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    if value.len() > 128 || suffix.is_some_and(|s| s.is_empty() || !s.chars().all(tag)) {
        return None;
    }
    let mut parts = numbers.split('.').map(number);
    let version = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(version)
}

/// `parse` alone would take `+4`.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn only_one_exact_release_is_a_version() {
        assert_eq!(parse_version("v4.0.0"), Some((4, 0, 0)));
        assert_eq!(parse_version("v4.5.12"), Some((4, 5, 12)));
        assert_eq!(parse_version("v4.0.0-beta.12"), Some((4, 0, 0)));
        for bad in ["", "v", "v4", "v4.5", "4.5.12", "latest", "v4-beta", "v4.5.12-", "v4.+5.1", "v4.5.12.1", "v4..1"] {
            assert_eq!(parse_version(bad), None, "{bad:?}");
        }
    }
}
