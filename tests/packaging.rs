//! The files a user starts from: `.env.example`, `docker-compose.yml` and the image.

use std::collections::BTreeMap;

const ENV_EXAMPLE: &str = include_str!("../.env.example");
const COMPOSE: &str = include_str!("../docker-compose.yml");
const DOCKERFILE: &str = include_str!("../docker/Dockerfile");

/// Every variable, and the default that `.env.example` states for it.
const DEFAULTS: &[(&str, &str)] = &[
    ("SUPERVISOR_REGION", "nyc1"),
    ("SUPERVISOR_SIZE", "s-2vcpu-2gb"),
    ("SUPERVISOR_IMAGE", "ubuntu-24-04-x64"),
    ("SUPERVISOR_SSH_KEYS", ""),
    ("SUPERVISOR_HEALTH_SOURCES", "0.0.0.0/0,::/0"),
    ("RAILWAY_TOKEN", ""),
    ("DB_SERVICE_NAME", "Postgres"),
    ("WEBAPP_SERVICE_NAME", "trigger.dev"),
    ("REGISTRY_SERVICE_NAME", "registry"),
    ("PG_VOLUME_GB", ""),
    ("TRIGGER_VERSION", "v4.0.0"),
    ("TRIGGER_WORKER_TOKEN", ""),
    ("ROTATE_LOST_TOKEN", "false"),
    ("ALLOW_LOCAL_ORIGIN", "false"),
    ("IS_ACTIVE", "true"),
    ("CHECK_INTERVAL", "1"),
    ("AUTO_DISABLE", "false"),
    ("HEALTHY_CYCLES_BEFORE_DISABLE", "3"),
    ("DISABLED_CHECK_INTERVAL", "15m"),
    ("PROGRESS_INTERVAL", "5s"),
    ("SUPERVISOR_BOOT_DEADLINE", "10m"),
    ("SUPERVISOR_UNHEALTHY_AFTER", "3"),
    ("HEARTBEAT_STALE_AFTER", "90s"),
    ("CREATE_SETTLE", "90s"),
    ("RESTART_DEADLINE", "10m"),
    ("MAX_DROPLETS", "2"),
    ("MAX_CREATES_PER_HOUR", "3"),
    ("MAX_DELETES_PER_CYCLE", "1"),
    ("MAX_MONTHLY_USD", "100"),
    ("STATE_FILE", "/var/lib/ops-controller/state.json"),
    ("LISTEN_ADDR", "127.0.0.1:8080"),
    ("API_TOKEN", ""),
    ("LOG_FORMAT", "json"),
    ("LOG_LEVEL", "info"),
    ("ENV_FILE", ""),
    ("RAILWAY_API_URL", "https://backboard.railway.com/graphql/v2"),
    ("DIGITALOCEAN_API_URL", "https://api.digitalocean.com"),
];

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

#[test]
fn the_example_states_every_variable_once_with_its_default_and_no_other() {
    let stated = stated();
    for (name, default) in DEFAULTS {
        assert_eq!(stated.get(name).map(|(_, value)| value), Some(default), "{name}");
    }
    for name in REQUIRED {
        let (commented, value) = stated[name];
        assert!(!commented && !value.is_empty(), "{name}");
    }
    assert_eq!(stated.len(), DEFAULTS.len() + REQUIRED.len());
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
