//! The supervisor's environment as an env file that compose reads literally.
//!
//! Every value stands in single quotes: compose interpolates `$` in bare and in double-quoted
//! values, and reads `#` after a space as a comment, but takes a single-quoted value as it is.
//! What single quotes cannot carry (`'`, and `\`, whose meaning differs between compose releases)
//! was refused by `check`. `format: raw` would do without quotes, but needs a newer compose than
//! Ubuntu 24.04 was released with.

use std::fmt::Write;

use super::check::Version;
use super::{Registry, UserData};

/// Before this release the supervisor speaks Docker API v1.41 unless told otherwise.
const NEGOTIATES_DOCKER_API: Version = (4, 1, 2);

/// The oldest API that Docker 29 still answers; Docker 25 to 28 answer it too.
const DOCKER_API_VERSION: &str = "v1.44";

pub(super) fn render(data: &UserData, version: Version) -> String {
    let mut text = String::from("# The supervisor's environment. Holds secrets.\n");
    for (key, value) in variables(data, version) {
        writeln!(text, "{key}='{value}'").expect("writing to a String does not fail");
    }
    text
}

fn variables<'a>(data: &UserData<'a>, version: Version) -> Vec<(&'static str, &'a str)> {
    let mut variables = vec![
        ("TRIGGER_API_URL", data.api_url),
        ("TRIGGER_WORKER_TOKEN", data.worker_token),
        ("MANAGED_WORKER_SECRET", data.managed_secret),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", data.otel_endpoint),
        // Unset, it would be a new UUID, and a new row in the platform's database, per start.
        ("TRIGGER_WORKER_INSTANCE_NAME", data.instance_name),
        // What task containers are told to call: the supervisor's name on their own network.
        ("TRIGGER_WORKLOAD_API_DOMAIN", "supervisor"),
        ("TRIGGER_WORKLOAD_API_PORT_EXTERNAL", "8020"),
        ("DOCKER_HOST", "tcp://docker-proxy:2375"),
        ("DOCKER_RUNNER_NETWORKS", "supervisor"),
        ("DOCKER_ENFORCE_MACHINE_PRESETS", "1"),
        ("DOCKER_AUTOREMOVE_EXITED_CONTAINERS", "1"),
        // Known since 4.0.0, off by default: without it the supervisor takes more runs than fit.
        ("RESOURCE_MONITOR_ENABLED", "1"),
    ];
    if version < NEGOTIATES_DOCKER_API {
        variables.push(("DOCKER_API_VERSION", DOCKER_API_VERSION));
    }
    // Two of three make the supervisor skip the login, so it is all or nothing.
    if let Some(Registry { url, username: Some(username), password: Some(password) }) = data.registry {
        variables.push(("DOCKER_REGISTRY_URL", url));
        variables.push(("DOCKER_REGISTRY_USERNAME", username));
        variables.push(("DOCKER_REGISTRY_PASSWORD", password));
    }
    variables
}
