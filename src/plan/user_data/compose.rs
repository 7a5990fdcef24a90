//! The compose project on the droplet: the supervisor, the Docker socket proxy, the health proxy.
//!
//! Three networks keep three kinds of strangers apart:
//! - `supervisor`: task containers and the workload API. It has no published port, because the API
//!   has no authentication and answers with a run's environment variables.
//! - `docker-proxy`: internal, only the supervisor and the socket proxy.
//! - `health`: only the supervisor and the health proxy, which alone publishes a port.
//!
//! What the socket proxy does not do: `POST` with `CONTAINERS` is what starting a run takes, and
//! whoever may create containers may create a privileged one that mounts `/`. So the supervisor is
//! as good as root on its droplet, and the proxy (like `:ro` on the socket, which limits nothing)
//! does not change that. It closes the rest of the API (exec, build, volumes, secrets, deletes) and
//! gives the socket to a container that task code cannot reach. The boundary that holds is the
//! droplet: it runs nothing else, and its secrets are worth one worker group.

use std::collections::BTreeMap;

use serde::Serialize;

/// Pinned: a moving tag would change a running droplet's parts without a new revision.
const DOCKER_PROXY_IMAGE: &str = "tecnativa/docker-socket-proxy:v0.4.2";
const HEALTH_IMAGE: &str = "nginx:1.29.8-alpine";

type Map<V> = BTreeMap<&'static str, V>;

#[derive(Serialize)]
struct Compose {
    /// The containers are then called `trigger-supervisor-1` and so on.
    name: &'static str,
    services: Map<Service>,
    networks: Map<Network>,
}

#[derive(Serialize)]
struct Service {
    image: String,
    restart: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    env_file: Vec<&'static str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    environment: Map<&'static str>,
    networks: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ports: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    volumes: Vec<&'static str>,
    read_only: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tmpfs: Vec<&'static str>,
    cap_drop: [&'static str; 1],
    security_opt: [&'static str; 1],
    #[serde(skip_serializing_if = "Map::is_empty")]
    depends_on: Map<Dependency>,
    healthcheck: HealthCheck,
    logging: Logging,
}

#[derive(Serialize)]
struct Dependency {
    condition: &'static str,
}

#[derive(Serialize)]
struct HealthCheck {
    test: Vec<&'static str>,
    interval: &'static str,
    timeout: &'static str,
    retries: u32,
    start_period: &'static str,
}

#[derive(Serialize)]
struct Logging {
    driver: &'static str,
    options: Map<&'static str>,
}

#[derive(Serialize)]
struct Network {
    /// The name Docker itself knows, without the project's prefix: runners are attached by it.
    name: &'static str,
    internal: bool,
}

pub(super) fn render(trigger_version: &str) -> String {
    let network = |name, internal| (name, Network { name, internal });
    let compose = Compose {
        name: "trigger",
        services: Map::from([
            ("supervisor", supervisor(trigger_version)),
            ("docker-proxy", docker_proxy()),
            ("health", health()),
        ]),
        networks: Map::from([network("supervisor", false), network("docker-proxy", true), network("health", false)]),
    };
    serde_json::to_string_pretty(&compose).expect("strings and lists always serialize") + "\n"
}

fn supervisor(trigger_version: &str) -> Service {
    // 127.0.0.1, because `localhost` may be ::1 first, where the supervisor does not listen.
    let probe = "require('http').get('http://127.0.0.1:8020/health', r => process.exit(r.statusCode === 200 ? 0 : 1)).on('error', () => process.exit(1))";
    Service {
        user: Some("node"),
        env_file: vec![super::ENV_FILE],
        networks: vec!["supervisor", "docker-proxy", "health"],
        // The image's package manager writes below its own folders.
        read_only: false,
        depends_on: Map::from([("docker-proxy", Dependency { condition: "service_started" })]),
        ..service(format!("ghcr.io/triggerdotdev/supervisor:{trigger_version}"), vec!["CMD", "node", "-e", probe])
    }
}

fn docker_proxy() -> Service {
    Service {
        // Image pull, container create and start, network attach, info. Of what the proxy opens by
        // default, EVENTS is closed; PING and VERSION tell no more than Docker's version.
        environment: Map::from([
            ("POST", "1"),
            ("CONTAINERS", "1"),
            ("IMAGES", "1"),
            ("INFO", "1"),
            ("NETWORKS", "1"),
            ("EVENTS", "0"),
            ("LOG_LEVEL", "warning"),
        ]),
        networks: vec!["docker-proxy"],
        volumes: vec!["/var/run/docker.sock:/var/run/docker.sock:ro"],
        tmpfs: vec!["/run", "/tmp"],
        ..service(DOCKER_PROXY_IMAGE.to_owned(), vec!["CMD", "nc", "-z", "127.0.0.1", "2375"])
    }
}

fn health() -> Service {
    Service {
        // nginx's own user in this image; a port above 1024 needs no root.
        user: Some("101:101"),
        // Past the image's entrypoint, which wants to edit its default configuration.
        entrypoint: Some(vec!["nginx", "-g", "daemon off;"]),
        networks: vec!["health"],
        ports: vec!["8020:8020"],
        volumes: vec!["/opt/trigger-supervisor/health.conf:/etc/nginx/nginx.conf:ro"],
        tmpfs: vec!["/tmp:mode=1777"],
        // Whether nginx itself is up; whether the supervisor is, is what it answers with.
        ..service(HEALTH_IMAGE.to_owned(), vec!["CMD", "nc", "-z", "127.0.0.1", "8020"])
    }
}

/// What all three share: no capabilities, nothing writable, bounded logs, restarted by Docker.
fn service(image: String, probe: Vec<&'static str>) -> Service {
    Service {
        image,
        restart: "unless-stopped",
        user: None,
        entrypoint: None,
        env_file: vec![],
        environment: Map::new(),
        networks: vec![],
        ports: vec![],
        volumes: vec![],
        read_only: true,
        tmpfs: vec![],
        cap_drop: ["ALL"],
        security_opt: ["no-new-privileges:true"],
        depends_on: Map::new(),
        healthcheck: HealthCheck { test: probe, interval: "30s", timeout: "10s", retries: 5, start_period: "30s" },
        logging: Logging { driver: "local", options: Map::from([("max-size", "20m"), ("max-file", "5")]) },
    }
}
