//! What a supervisor droplet is told at its birth: one cloud-config text, rendered from typed values.
//!
//! The text is JSON after `#cloud-config`, and JSON is YAML, so no value can end a string and
//! become an instruction. Scripts and units are constant files (`files/`) into which nothing is
//! interpolated: values reach them only through the env file and the compose file.
//!
//! What the droplet then does:
//! - Docker and compose come from Ubuntu's own packages; nothing is piped from the web into a shell.
//! - `trigger-supervisor.service` brings the compose project up and retries until it stands.
//! - Port 8020 answers `/health` and nothing else. The workload API, which has no authentication,
//!   stays on the `supervisor` network (see [`compose`]).
//! - Containers cannot reach the metadata service, which would show them this text with its
//!   secrets; the host can. Docker does not start without that block.
//! - Logs are bounded, and unused task images go when the disk fills.
//!
//! What it refuses: a value it cannot carry literally (named by field, never echoed), a version
//! that is not one exact release, and a text past DigitalOcean's 64 KiB.
//!
//! ufw is not used: Docker's published ports bypass it, so it would only look like protection. The
//! cloud firewall is the outer layer, the health proxy the inner one. SSH is opened nowhere here;
//! password logins are off, and without keys sshd is stopped, because nobody could log in. The
//! root password that DigitalOcean mails then still serves its recovery console.

mod check;
mod cloud_config;
mod compose;
mod env_file;

use std::fmt;

pub use check::Problem;

/// Bump when the rendered text changes: it is part of the droplet's fingerprint, so that running
/// droplets are replaced by ones that are told the new text.
pub const REVISION: u32 = 1;

/// DigitalOcean's limit for user data.
pub const MAX_BYTES: usize = 64 * 1024;

/// Where the supervisor's environment lives on the droplet.
pub const ENV_FILE: &str = "/opt/trigger-supervisor/supervisor.env";

/// Where the compose project lives on the droplet.
pub const COMPOSE_FILE: &str = "/opt/trigger-supervisor/compose.json";

/// What a supervisor droplet is told at its birth. Holds secrets, so it has no `Debug`.
pub struct UserData<'a> {
    /// The droplet's name. The supervisor reports under it, so heartbeats can be matched to droplets.
    pub instance_name: &'a str,
    /// One exact release with its `v`, such as `v4.5.12`: it is the image tag.
    pub trigger_version: &'a str,
    pub api_url: &'a str,
    pub otel_endpoint: &'a str,
    pub worker_token: &'a str,
    pub managed_secret: &'a str,
    pub registry: Option<Registry<'a>>,
    /// Whether the droplet is created with SSH keys.
    pub ssh: bool,
}

/// Where task images are pulled from. The supervisor logs in only when it knows all three.
pub struct Registry<'a> {
    pub url: &'a str,
    pub username: Option<&'a str>,
    pub password: Option<&'a str>,
}

/// A value that cannot be carried. Names the field and what is wrong, never the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserDataError {
    pub field: &'static str,
    pub problem: Problem,
}

impl fmt::Display for UserDataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.problem)
    }
}

impl std::error::Error for UserDataError {}

/// Renders the text for `user_data` of a droplet create request.
///
/// # Errors
/// The first field whose value cannot be carried literally.
pub fn render(data: &UserData) -> Result<String, UserDataError> {
    let version = check::every_field(data)?;
    let env = env_file::render(data, version);
    let text = cloud_config::render(&env, &compose::render(data.trigger_version), data.ssh);
    check::finished(text)
}
