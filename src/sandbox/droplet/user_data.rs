//! Reads user-data the way cloud-init does, as far as a supervisor's environment file needs it.
//!
//! Only the JSON subset of YAML is understood. Whatever a real machine would reject or mistake is
//! refused with a reason, because a droplet that starts anyway would hide the mistake.

use serde::Deserialize;
use std::collections::BTreeMap;

const HEADER: &str = "#cloud-config\n";
const ENV_FILE: &str = "/opt/trigger-supervisor/supervisor.env";

/// What the supervisor needs to start; it throws at import when one is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupervisorEnv {
    pub api_url: String,
    pub token: String,
    pub managed_secret: String,
    pub instance_name: String,
    /// The tag of the supervisor's image, which is what a real one reports as its version.
    pub version: String,
}

#[derive(Deserialize)]
struct CloudConfig {
    #[serde(default)]
    write_files: Vec<WriteFile>,
}

#[derive(Deserialize)]
struct WriteFile {
    path: String,
    #[serde(default)]
    content: String,
    permissions: Option<String>,
    encoding: Option<String>,
}

/// The supervisor's environment, or why this machine will never run one.
pub fn supervisor_env(user_data: &str) -> Result<SupervisorEnv, String> {
    let file = env_file(user_data)?;
    let vars = variables(&file.content)?;
    let var = |name: &str| match vars.get(name) {
        Some(value) if !value.is_empty() => Ok(value.clone()),
        _ => Err(format!("{name} is missing in {ENV_FILE}")),
    };
    Ok(SupervisorEnv {
        api_url: var("TRIGGER_API_URL")?.trim_end_matches('/').to_owned(),
        token: var("TRIGGER_WORKER_TOKEN")?,
        managed_secret: var("MANAGED_WORKER_SECRET")?,
        instance_name: var("TRIGGER_WORKER_INSTANCE_NAME")?,
        version: image_tag(user_data).unwrap_or_else(|| "unknown".to_owned()),
    })
}

fn env_file(user_data: &str) -> Result<WriteFile, String> {
    if user_data.is_empty() {
        return Err("there is no user-data".to_owned());
    }
    let text = user_data.strip_prefix(HEADER).ok_or("user-data does not start with #cloud-config")?;
    let config: CloudConfig = serde_json::from_str(text).map_err(|e| format!("user-data is no JSON: {e}"))?;
    // A later entry overwrites the file of an earlier one.
    let file = config
        .write_files
        .into_iter()
        .rev()
        .find(|f| f.path == ENV_FILE)
        .ok_or_else(|| format!("write_files has no {ENV_FILE}"))?;
    if file.permissions.as_deref() != Some("0600") {
        return Err(format!("{ENV_FILE} holds secrets but its permissions are not 0600"));
    }
    if let Some(encoding) = &file.encoding {
        return Err(format!("{ENV_FILE} has encoding {encoding}, which this machine does not read"));
    }
    Ok(file)
}

fn variables(content: &str) -> Result<BTreeMap<String, String>, String> {
    let mut vars = BTreeMap::new();
    for line in content.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // The line itself may be a secret, so no message quotes it.
        let (name, value) = line.split_once('=').ok_or_else(|| format!("{ENV_FILE} has a line without ="))?;
        let value = unquoted(value).ok_or_else(|| format!("{name} in {ENV_FILE} has an open quote"))?;
        vars.insert(name.trim().to_owned(), value.to_owned());
    }
    Ok(vars)
}

fn unquoted(value: &str) -> Option<&str> {
    for quote in ['\'', '"'] {
        if let Some(rest) = value.strip_prefix(quote) {
            return rest.strip_suffix(quote);
        }
    }
    Some(value)
}

/// The tag in `…/triggerdotdev/supervisor:TAG`, without the leading `v`, wherever it stands.
fn image_tag(user_data: &str) -> Option<String> {
    let (_, rest) = user_data.split_once("triggerdotdev/supervisor:")?;
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))).unwrap_or(rest.len());
    let tag = &rest[..end];
    let tag = tag.strip_prefix('v').unwrap_or(tag);
    (!tag.is_empty()).then(|| tag.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn user_data(content: &str, permissions: &str) -> String {
        let file = json!({"path": ENV_FILE, "content": content, "permissions": permissions});
        let config = json!({"write_files": [file], "runcmd": ["docker run ghcr.io/triggerdotdev/supervisor:v4.5.8"]});
        format!("{HEADER}{config}")
    }

    const GOOD: &str = "# a comment\nTRIGGER_API_URL='http://127.0.0.1:1/'\nTRIGGER_WORKER_TOKEN=\"t=1\"\n\
                        MANAGED_WORKER_SECRET=s\nTRIGGER_WORKER_INSTANCE_NAME=w\n";

    #[test]
    fn values_may_stand_in_either_quotes_or_none() {
        let env = supervisor_env(&user_data(GOOD, "0600")).expect("good user-data");
        assert_eq!(env.api_url, "http://127.0.0.1:1");
        assert_eq!(env.token, "t=1");
        assert_eq!(env.managed_secret, "s");
        assert_eq!(env.version, "4.5.8");
    }

    #[test]
    fn a_readable_secret_file_is_refused() {
        let reason = supervisor_env(&user_data(GOOD, "0644")).expect_err("refused");
        assert!(reason.contains("0600"), "{reason}");
    }

    #[test]
    fn a_missing_variable_is_named() {
        let reason = supervisor_env(&user_data("TRIGGER_API_URL=x", "0600")).expect_err("refused");
        assert!(reason.contains("TRIGGER_WORKER_TOKEN"), "{reason}");
    }

    #[test]
    fn text_that_is_no_cloud_config_is_refused() {
        assert!(supervisor_env("").is_err());
        assert!(supervisor_env("#!/bin/sh\necho").is_err());
        assert!(supervisor_env("#cloud-config\nruncmd: [x]").is_err());
    }
}
