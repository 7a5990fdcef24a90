//! The cloud-config document itself: packages, files with their modes, and what runs first.

use serde::Serialize;

use super::{COMPOSE_FILE, ENV_FILE};

const INSTALL: &str = "/opt/trigger-supervisor/install.sh";

/// Only root reads a file that holds a secret.
const SECRET: &str = "0600";
const PLAIN: &str = "0644";
const SCRIPT: &str = "0755";

/// Ubuntu 24.04's own. `install.sh` names the same three, should this first try fail.
const PACKAGES: [&str; 3] = ["docker.io", "docker-compose-v2", "nftables"];

#[derive(Serialize)]
struct CloudConfig<'a> {
    /// Keys only. False in both cases: with keys a password is a weaker door, without keys the only one.
    ssh_pwauth: bool,
    package_update: bool,
    /// Upgrading all of Ubuntu costs minutes of the boot deadline; unattended-upgrades does it later.
    package_upgrade: bool,
    packages: [&'static str; 3],
    write_files: Vec<File<'a>>,
    runcmd: Vec<&'static [&'static str]>,
}

#[derive(Serialize)]
struct File<'a> {
    path: &'a str,
    owner: &'static str,
    permissions: &'static str,
    content: &'a str,
}

/// cloud-init writes files before it installs packages, so Docker's first start already finds its
/// settings and the metadata block.
pub(super) fn render(env_file: &str, compose_file: &str, ssh: bool) -> String {
    let mut runcmd: Vec<&[&str]> = vec![&["sh", INSTALL]];
    if !ssh {
        // Ubuntu 24.04 starts sshd by its socket.
        runcmd.push(&["systemctl", "disable", "--now", "ssh.socket", "ssh.service"]);
    }
    let config = CloudConfig {
        ssh_pwauth: false,
        package_update: true,
        package_upgrade: false,
        packages: PACKAGES,
        write_files: files(env_file, compose_file),
        runcmd,
    };
    let json = serde_json::to_string_pretty(&config).expect("strings and lists always serialize");
    format!("#cloud-config\n{json}\n")
}

fn files<'a>(env_file: &'a str, compose_file: &'a str) -> Vec<File<'a>> {
    let file = |path, permissions, content| File { path, owner: "root:root", permissions, content };
    vec![
        file(ENV_FILE, SECRET, env_file),
        file(COMPOSE_FILE, PLAIN, compose_file),
        file("/opt/trigger-supervisor/health.conf", PLAIN, include_str!("files/health.conf")),
        file(INSTALL, SCRIPT, include_str!("files/install.sh")),
        file("/opt/trigger-supervisor/prune-images.sh", SCRIPT, include_str!("files/prune-images.sh")),
        file("/opt/trigger-supervisor/metadata-block.nft", PLAIN, include_str!("files/metadata-block.nft")),
        file("/etc/docker/daemon.json", PLAIN, include_str!("files/daemon.json")),
        file(
            "/etc/systemd/system/docker.service.d/metadata-block.conf",
            PLAIN,
            include_str!("files/docker-metadata-block.conf"),
        ),
        file(
            "/etc/systemd/system/trigger-supervisor-metadata.service",
            PLAIN,
            include_str!("files/trigger-supervisor-metadata.service"),
        ),
        file("/etc/systemd/system/trigger-supervisor.service", PLAIN, include_str!("files/trigger-supervisor.service")),
        file(
            "/etc/systemd/system/trigger-supervisor-prune.service",
            PLAIN,
            include_str!("files/trigger-supervisor-prune.service"),
        ),
        file(
            "/etc/systemd/system/trigger-supervisor-prune.timer",
            PLAIN,
            include_str!("files/trigger-supervisor-prune.timer"),
        ),
    ]
}
