//! The files a user starts from: `.env.example`, `docker-compose.yml` and the image.

use ops_controller::config::VARIABLES;
use std::collections::BTreeMap;

const ENV_EXAMPLE: &str = include_str!("../.env.example");
const COMPOSE: &str = include_str!("../docker-compose.yml");
const DOCKERFILE: &str = include_str!("../docker/Dockerfile");

/// What a user must fill in: stated with a placeholder, not commented out.
const REQUIRED: [&str; 5] =
    ["DIGITALOCEAN_TOKEN", "RAILWAY_API_TOKEN", "RAILWAY_PROJECT_ID", "RAILWAY_ENVIRONMENT_ID", "DATABASE_URL"];

/// `NAME=value` and `#NAME=value` lines; the flag says whether it is commented out.
fn stated() -> BTreeMap<&'static str, (bool, &'static str)> {
    let mut stated = BTreeMap::new();
    for line in ENV_EXAMPLE.lines() {
        let (commented, rest) = line.strip_prefix('#').map_or((false, line), |rest| (true, rest));
        let Some((name, value)) = rest.split_once('=') else {
            continue;
        };
        if !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
            assert!(stated.insert(name, (commented, value)).is_none(), "{name} stands twice");
        }
    }
    stated
}

/// In a container stdout is no terminal; the example states what then applies.
fn default_stated(name: &str, default: Option<&'static str>) -> &'static str {
    default.unwrap_or(if name == "LOG_FORMAT" { "json" } else { "" })
}

#[test]
fn the_example_states_every_variable_once_with_its_default_and_no_other() {
    let mut stated = stated();
    for variable in VARIABLES {
        let name = variable.name;
        let (commented, value) = stated.remove(name).unwrap_or_else(|| panic!("{name} is not stated"));
        if REQUIRED.contains(&name) {
            assert!(!commented && !value.is_empty(), "{name} must be filled in");
        } else {
            assert_eq!(value, default_stated(name, variable.default), "{name}");
        }
    }
    assert!(stated.is_empty(), "no variables of ours: {:?}", stated.keys());
}

#[test]
fn an_empty_default_is_commented_out() {
    for (name, (commented, value)) in stated() {
        assert!(commented || !value.is_empty(), "{name}= would set it to nothing");
    }
}

#[test]
fn the_sidecar_publishes_on_loopback_and_runs_without_rights() {
    for line in [
        "- \"127.0.0.1:8080:8080\"",
        "LISTEN_ADDR: 0.0.0.0:8080",
        "read_only: true",
        "- ALL",
        "- no-new-privileges:true",
        "- state:/var/lib/ops-controller",
        "stop_grace_period: 15s",
    ] {
        assert!(COMPOSE.lines().any(|l| l.trim() == line), "{line}");
    }
    assert!(!COMPOSE.contains("network_mode") && !COMPOSE.contains("docker.sock"));
}

#[test]
fn the_image_is_not_root_and_its_health_check_asks_the_daemon() {
    assert!(DOCKERFILE.contains("\nUSER 10001:10001\n"));
    assert!(DOCKERFILE.contains("CMD [\"ops-controller\", \"healthcheck\"]"));
    assert!(DOCKERFILE.contains("cargo build --release --locked"));
    for image in DOCKERFILE.lines().filter_map(|line| line.strip_prefix("FROM ")) {
        assert!(image.contains(':') && !image.contains(":latest"), "{image}");
    }
}
