//! What the droplet gets: packages, files with their modes, the environment, the containers.

use ops_controller::plan::user_data::{ENV_FILE, Registry};
use serde_json::{Value, json};

use super::{compose, document, env, example, file, files, text, variable};

const SERVICES: [&str; 3] = ["supervisor", "docker-proxy", "health"];

fn scripts() -> Vec<(String, String)> {
    let is_script = |path: &str| path.ends_with(".sh");
    files(&text(&example()))
        .into_iter()
        .filter(|(path, ..)| is_script(path))
        .map(|(path, _, content)| (path, content))
        .collect()
}

#[test]
fn the_same_values_render_the_same_text() {
    assert_eq!(text(&example()), text(&example()));
    assert!(text(&example()).is_ascii());
}

#[test]
fn defect_27_only_root_reads_the_secrets_and_they_are_in_one_file() {
    let data = example();
    for (path, permissions, content) in files(&text(&data)) {
        let expected = match path.as_str() {
            ENV_FILE => "0600",
            path if path.ends_with(".sh") => "0755",
            _ => "0644",
        };
        assert_eq!(permissions, expected, "{path}");
        let secrets = [data.worker_token, data.managed_secret, "example-password"];
        let holds_secret = secrets.iter().any(|secret| content.contains(secret));
        assert_eq!(holds_secret, path == ENV_FILE, "{path}");
    }
    let document = document(&text(&data));
    for written in document["write_files"].as_array().expect("a list") {
        assert_eq!(written["owner"], "root:root");
    }
}

#[test]
fn defect_27_containers_cannot_reach_the_metadata_and_docker_waits_for_that() {
    let text = text(&example());
    let block = file(&text, "/opt/trigger-supervisor/metadata-block.nft");
    assert!(block.contains("hook prerouting priority raw") && block.contains("169.254.169.254"));
    let docker = file(&text, "/etc/systemd/system/docker.service.d/metadata-block.conf");
    assert!(docker.contains("Requires=trigger-supervisor-metadata.service"));
    assert!(docker.contains("After=trigger-supervisor-metadata.service"));
    let unit = file(&text, "/etc/systemd/system/trigger-supervisor-metadata.service");
    assert!(unit.contains("metadata-block.nft") && unit.contains("RemainAfterExit=yes"));
}

#[test]
fn defect_30_only_the_health_proxy_publishes_a_port_and_only_health_passes_it() {
    let data = example();
    let compose = compose(&data);
    assert_eq!(compose["services"]["health"]["ports"], json!(["8020:8020"]));
    for name in ["supervisor", "docker-proxy"] {
        let service = &compose["services"][name];
        assert!(service.get("ports").is_none() && service.get("expose").is_none(), "{name}");
    }
    for name in SERVICES {
        assert!(compose["services"][name].get("network_mode").is_none(), "{name}");
    }
    let conf = file(&text(&data), "/opt/trigger-supervisor/health.conf");
    let locations: Vec<_> = conf.lines().map(str::trim).filter(|l| l.starts_with("location")).collect();
    assert_eq!(locations, ["location = /health {", "location / {"]);
    assert_eq!(conf.matches("proxy_pass $").count(), 1);
    assert!(conf.contains("return 404;"));
}

#[test]
fn defect_31_the_docker_proxy_is_reached_by_the_supervisor_alone_and_opens_what_it_needs() {
    let compose = compose(&example());
    assert_eq!(compose["networks"]["docker-proxy"]["internal"], true);
    let members = |network: &str| -> Vec<&str> {
        let on = |name: &&str| {
            let networks = compose["services"][name]["networks"].as_array().expect("a list");
            networks.contains(&json!(network))
        };
        SERVICES.into_iter().filter(on).collect()
    };
    assert_eq!(members("docker-proxy"), ["supervisor", "docker-proxy"]);
    assert_eq!(members("health"), ["supervisor", "health"]);
    assert_eq!(members("supervisor"), ["supervisor"]);
    let granted = compose["services"]["docker-proxy"]["environment"].as_object().expect("a map");
    let open: Vec<_> = granted.iter().filter(|(_, v)| *v == "1").map(|(k, _)| k.as_str()).collect();
    assert_eq!(open, ["CONTAINERS", "IMAGES", "INFO", "NETWORKS", "POST"]);
    assert_eq!(granted["EVENTS"], "0");
}

#[test]
fn containers_are_not_root_where_that_is_possible_and_hold_no_capabilities() {
    let compose = compose(&example());
    assert_eq!(compose["services"]["supervisor"]["user"], "node");
    assert_eq!(compose["services"]["health"]["user"], "101:101");
    assert!(compose["services"]["supervisor"].get("volumes").is_none(), "no shared volume");
    for name in SERVICES {
        let service = &compose["services"][name];
        assert_eq!(service["cap_drop"], json!(["ALL"]));
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]));
        assert!(service.get("privileged").is_none());
    }
}

#[test]
fn defect_32_ssh_takes_no_passwords_and_without_keys_does_not_listen() {
    let with = |ssh| {
        let document = document(&text(&super::UserData { ssh, ..example() }));
        assert_eq!(document["ssh_pwauth"], false);
        document["runcmd"].as_array().expect("a list").clone()
    };
    let install = json!(["sh", "/opt/trigger-supervisor/install.sh"]);
    let close = json!(["systemctl", "disable", "--now", "ssh.socket", "ssh.service"]);
    assert_eq!(Value::from(with(true)), json!([install]));
    assert_eq!(Value::from(with(false)), json!([install, close]));
}

#[test]
fn defect_33_no_command_is_a_shell_string_and_no_script_needs_bash() {
    let document = document(&text(&example()));
    for command in document["runcmd"].as_array().expect("a list") {
        assert!(command.is_array(), "{command}");
    }
    for (path, content) in scripts() {
        assert!(content.starts_with("#!/bin/sh\n") && content.contains("\nset -eu\n"), "{path}");
        for bashism in ["[[", "{1..", "function ", "<<<", "pipefail", "$RANDOM"] {
            assert!(!content.contains(bashism), "{path} uses {bashism}");
        }
    }
}

#[test]
fn defect_34_compose_declares_its_networks_and_systemd_retries_until_they_stand() {
    let data = example();
    let compose = compose(&data);
    for name in ["supervisor", "docker-proxy", "health"] {
        let network = &compose["networks"][name];
        assert_eq!(network["name"], name);
        assert!(network.get("external").is_none());
    }
    let unit = file(&text(&data), "/etc/systemd/system/trigger-supervisor.service");
    for line in [
        "Restart=on-failure",
        "RestartMaxDelaySec=2min",
        "StartLimitIntervalSec=0",
        "ExecStartPre=/usr/bin/systemctl start docker.service",
    ] {
        assert!(unit.lines().any(|l| l == line), "{line}");
    }
    assert!(unit.contains("/usr/bin/docker compose --file /opt/trigger-supervisor/compose.json up"));
    for name in SERVICES {
        assert_eq!(compose["services"][name]["restart"], "unless-stopped");
        assert!(compose["services"][name]["healthcheck"]["test"].is_array());
    }
}

#[test]
fn defects_35_and_36_and_41_the_environment_is_what_the_supervisor_reads() {
    let env = env(&example());
    for (key, value) in [
        ("TRIGGER_API_URL", "https://trigger.example.com"),
        ("TRIGGER_WORKER_TOKEN", "tr_wgt_example"),
        ("MANAGED_WORKER_SECRET", "example-managed-secret"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://trigger.example.com/otel"),
        ("TRIGGER_WORKER_INSTANCE_NAME", "trigger-supervisor-nyc1-0a1b2c3d"),
        ("TRIGGER_WORKLOAD_API_DOMAIN", "supervisor"),
        ("TRIGGER_WORKLOAD_API_PORT_EXTERNAL", "8020"),
        ("DOCKER_HOST", "tcp://docker-proxy:2375"),
        ("DOCKER_RUNNER_NETWORKS", "supervisor"),
        ("DOCKER_ENFORCE_MACHINE_PRESETS", "1"),
        ("DOCKER_AUTOREMOVE_EXITED_CONTAINERS", "1"),
        // Defect 40: a small droplet takes only the runs that fit.
        ("RESOURCE_MONITOR_ENABLED", "1"),
    ] {
        assert_eq!(variable(&env, key).as_deref(), Some(value), "{key}");
    }
    for dead in ["ENFORCE_MACHINE_PRESETS", "TRIGGER_DEQUEUE_INTERVAL_MS", "DEBUG"] {
        assert_eq!(variable(&env, dead), None, "{dead}");
    }
}

#[test]
fn defect_37_registry_credentials_are_passed_only_when_all_three_are_known() {
    let names = ["DOCKER_REGISTRY_URL", "DOCKER_REGISTRY_USERNAME", "DOCKER_REGISTRY_PASSWORD"];
    let known = |username, password| {
        let registry = Some(Registry { url: "registry.example.com", username, password });
        let env = env(&super::UserData { registry, ..example() });
        names.iter().filter(|name| variable(&env, name).is_some()).count()
    };
    assert_eq!(known(Some("user"), Some("password")), 3);
    assert_eq!(known(Some("user"), None), 0);
    assert_eq!(known(None, Some("password")), 0);
    assert_eq!(known(None, None), 0);
    let without = super::UserData { registry: None, ..example() };
    assert!(!env(&without).contains("DOCKER_REGISTRY"));
}

#[test]
fn defect_38_a_supervisor_before_4_1_2_is_told_an_api_that_docker_29_answers() {
    let api = |trigger_version| {
        let env = env(&super::UserData { trigger_version, ..example() });
        variable(&env, "DOCKER_API_VERSION")
    };
    for old in ["v4.0.0", "v4.0.0-beta.12", "v4.1.1"] {
        assert_eq!(api(old).as_deref(), Some("v1.44"), "{old}");
    }
    for new in ["v4.1.2", "v4.2.0", "v4.5.12", "v5.0.0"] {
        assert_eq!(api(new), None, "{new}");
    }
}

#[test]
fn defect_39_images_are_pinned_logs_bounded_and_unused_images_removed() {
    let data = example();
    let compose = compose(&data);
    for name in SERVICES {
        let service = &compose["services"][name];
        let image = service["image"].as_str().expect("a text");
        let (_, tag) = image.rsplit_once(':').expect("a tag");
        let exact = tag.split('.').count() == 3 && tag.chars().any(|c| c.is_ascii_digit());
        assert!(exact, "{image} is pinned to one release");
        assert_eq!(service["logging"]["driver"], "local");
        assert_eq!(service["logging"]["options"], json!({"max-file": "5", "max-size": "20m"}));
    }
    assert_eq!(compose["services"]["supervisor"]["image"], "ghcr.io/triggerdotdev/supervisor:v4.5.12");
    let text = text(&data);
    let daemon: Value = serde_json::from_str(&file(&text, "/etc/docker/daemon.json")).expect("JSON");
    assert_eq!(daemon["log-driver"], "local");
    assert_eq!(daemon["log-opts"], json!({"max-file": "5", "max-size": "20m"}));
    assert!(file(&text, "/opt/trigger-supervisor/install.sh").contains("trigger-supervisor-prune.timer"));
}

#[test]
fn packages_are_the_distributions_and_nothing_is_piped_from_the_web() {
    let text = text(&example());
    let packages = document(&text)["packages"].clone();
    assert_eq!(packages, json!(["docker.io", "docker-compose-v2", "nftables"]));
    let install = file(&text, "/opt/trigger-supervisor/install.sh");
    assert!(install.contains("docker.io docker-compose-v2 nftables"), "the retry names the same");
    for (path, content) in scripts() {
        assert!(!content.contains("curl") && !content.contains("wget"), "{path}");
    }
}

#[test]
fn constant_files_are_written_as_they_are() {
    let other = super::UserData {
        instance_name: "another",
        trigger_version: "v4.0.0",
        api_url: "https://other.example.com",
        otel_endpoint: "https://other.example.com/otel",
        worker_token: "other-token",
        managed_secret: "other-secret",
        registry: None,
        ssh: true,
    };
    let changed: Vec<_> = files(&text(&example()))
        .into_iter()
        .zip(files(&text(&other)))
        .filter(|(one, two)| one != two)
        .map(|(one, _)| one.0)
        .collect();
    assert_eq!(changed, [ENV_FILE, super::COMPOSE_FILE]);
}
