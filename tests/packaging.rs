//! The files a user starts from: `.env.example`, the compose files, the image, the unit, the workflow.

use ops_controller::config::VARIABLES;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;

const ENV_EXAMPLE: &str = include_str!("../.env.example");
const COMPOSE: &str = include_str!("../docker-compose.yml");
const OVERLAY: &str = include_str!("../docker/compose.sandbox.yml");
const DOCKERFILE: &str = include_str!("../docker/Dockerfile");
const DOCKERIGNORE: &str = include_str!("../.dockerignore");
const WORKFLOW: &str = include_str!("../.github/workflows/ci.yml");
const README: &str = include_str!("../README.md");

/// What a user must fill in: stated with a placeholder, not commented out.
const REQUIRED: [&str; 5] =
    ["DIGITALOCEAN_TOKEN", "RAILWAY_API_TOKEN", "RAILWAY_PROJECT_ID", "RAILWAY_ENVIRONMENT_ID", "DATABASE_URL"];

/// Past the capture of a passing test's output: what was not looked at must be seen.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

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
fn the_image_of_the_product_has_what_backups_and_restores_start() {
    let product = DOCKERFILE.split(" AS product").nth(1).and_then(|rest| rest.split("\nFROM ").next());
    assert!(product.expect("a stage").contains("'postgresql-client-%s ' ${PG_CLIENTS}"));
    assert!(README.contains("OPS_PG_BIN"));
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
        "stop_grace_period: 45s",
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
    for image in DOCKERFILE.lines().filter_map(|line| line.strip_prefix("ARG ")?.split_once("_IMAGE=")) {
        assert!(image.1.contains(':') && !image.1.contains(":latest"), "{image:?}");
    }
    // Whoever needs root for a step gives it back.
    let users: Vec<&str> = DOCKERFILE.lines().filter_map(|line| line.strip_prefix("USER ")).collect();
    assert_eq!(users.last(), Some(&"10001:10001"), "{users:?}");
}

#[test]
fn every_stage_and_every_copied_file_exists_and_the_product_is_the_default() {
    let mut stages: Vec<&str> = Vec::new();
    let mut last = "";
    for line in DOCKERFILE.lines() {
        if let Some(from) = line.strip_prefix("FROM ") {
            let base = from.split(" AS ").next().expect("a base");
            assert!(base.starts_with("${") || stages.contains(&base), "no stage {base}");
            stages.extend(from.split(" AS ").nth(1));
            last = base;
        }
        if let Some(copy) = line.strip_prefix("COPY --from=") {
            let mut words = copy.split_whitespace();
            let (stage, path) = (words.next().expect("a stage"), words.next().expect("a path"));
            assert!(stages.contains(&stage), "no stage {stage}");
            let made = format!("target/release/ops-controller {path}");
            assert!(DOCKERFILE.contains(&made), "{stage} makes no {path}");
        }
    }
    assert_eq!(last, "product", "a build without a target makes the product");
    // What the build reads goes to the builder.
    for needed in ["!Cargo.toml", "!Cargo.lock", "!src"] {
        assert!(DOCKERIGNORE.lines().any(|l| l == needed), "{needed}");
    }
}

#[test]
fn the_labels_say_what_the_manifest_says() {
    let label = |name: &str| {
        let start =
            DOCKERFILE.find(&format!("org.opencontainers.image.{name}=\"")).unwrap_or_else(|| panic!("no {name}"));
        DOCKERFILE[start..].split('"').nth(1).expect("a value")
    };
    assert_eq!(label("title"), env!("CARGO_PKG_NAME"));
    assert_eq!(label("description"), env!("CARGO_PKG_DESCRIPTION"));
    assert_eq!(label("licenses"), env!("CARGO_PKG_LICENSE"));
    assert!(DOCKERFILE.contains(concat!("ARG VERSION=", env!("CARGO_PKG_VERSION"), "\n")));
    for (name, argument) in [("version", "${VERSION}"), ("revision", "${REVISION}"), ("created", "${CREATED}")] {
        assert_eq!(label(name), argument);
    }
}

/// Reads both files as YAML and says what the overlay names that the whole does not have.
const MERGED: &str = r#"
import sys, yaml
class Loader(yaml.SafeLoader): pass
replaced = lambda loader, tag, node: loader.construct_sequence(node)
Loader.add_multi_constructor("!", replaced)
base, overlay = (yaml.load(open(path), Loader) for path in sys.argv[1:3])
services = {**base["services"], **overlay["services"]}
volumes = {**base["volumes"], **overlay["volumes"]}
product, clouds = overlay["services"]["ops-controller"], overlay["services"]["clouds"]
assert set(overlay["services"]) == {"ops-controller", "clouds"}, "services"
assert product["network_mode"] == "service:clouds" and product["depends_on"].keys() <= services.keys(), "network"
assert product["ports"] == [] and product["env_file"] == [], "ports and env_file are the clouds' business"
for service in (product, clouds):
    for volume in service["volumes"]:
        assert volume.split(":")[0] in volumes, volume
assert clouds["ports"] == base["services"]["ops-controller"]["ports"], "the same address as ever"
for key in ("read_only", "cap_drop", "security_opt"):
    assert clouds[key] == base["services"]["ops-controller"][key], key
print("merged")
"#;

#[test]
fn the_sandbox_overlay_fits_the_compose_file_and_keeps_the_clouds_without_rights() {
    let root = env!("CARGO_MANIFEST_DIR");
    let files = [format!("{root}/docker-compose.yml"), format!("{root}/docker/compose.sandbox.yml")];
    if !Command::new("python3").args(["-c", "import yaml"]).output().is_ok_and(|o| o.status.success()) {
        tell("skipped: no python3 with PyYAML found, so the compose files are not parsed");
        return;
    }
    let checked = Command::new("python3").args(["-c", MERGED]).args(files).output().expect("python3");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// The overlay hands the product's address and state file on through the settings of the clouds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clouds_write_the_settings_that_the_overlay_asks_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("env");
    let mut clouds = tokio::process::Command::new(env!("CARGO_BIN_EXE_ops-controller"))
        .args(["sandbox", "--clouds"])
        .arg(&file)
        .envs([("LISTEN_ADDR", "0.0.0.0:8080"), ("STATE_FILE", "/var/lib/ops-controller/state.json")])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let text = loop {
        match std::fs::read_to_string(&file) {
            Ok(text) if text.contains("WORKER_ID=") => break text,
            _ => assert!(std::time::Instant::now() < deadline, "no settings"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the databases' passwords stand there");
    for name in ["OPS_DATABASE_URL=postgres", "TARGET_DATABASE_URL=postgres"] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name}: {text}");
    }
    let pid = i32::try_from(clouds.id().expect("it runs")).expect("a pid");
    // SAFETY: a signal to our own child, which was not waited for yet.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    assert!(clouds.wait().await.expect("its end").success());
    for line in ["LISTEN_ADDR=0.0.0.0:8080", "STATE_FILE=/var/lib/ops-controller/state.json"] {
        assert!(text.lines().filter(|l| l.starts_with(&line[..12])).eq([line]), "{text}");
        let asked = line.replace('=', ": ");
        assert!(OVERLAY.lines().any(|l| l.trim() == asked), "the overlay asks for {asked}");
    }
}

/// Where there is an engine, `docker/check` takes minutes and is run by hand and by the workflow.
#[test]
fn without_a_container_engine_the_check_says_that_it_is_skipped() {
    let folder = tempfile::tempdir().expect("a folder");
    // The tools that it needs, and no engine.
    for tool in ["bash", "dirname", "sed", "env"] {
        let found = ["/usr/bin", "/bin"].iter().map(|f| std::path::Path::new(f).join(tool)).find(|p| p.exists());
        std::os::unix::fs::symlink(found.expect("a tool"), folder.path().join(tool)).expect("a link");
    }
    let run = |arguments: &[&str]| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/check");
        let ended = Command::new(script).args(arguments).env("PATH", folder.path()).output().expect("it starts");
        (ended.status.code(), String::from_utf8_lossy(&ended.stdout).into_owned())
    };
    let skipped = "skipped: no container engine (docker or podman) found\n".to_owned();
    let is_engine = |name: &str| Command::new(name).arg("info").output().is_ok_and(|o| o.status.success());
    match ["docker", "podman"].into_iter().find(|name| is_engine(name)) {
        Some(engine) => tell(&format!("not run: docker/check, which builds the image with {engine} in some minutes")),
        None => tell(&format!("docker/check {}", skipped.trim_end())),
    }
    assert_eq!(run(&[]), (Some(0), skipped.clone()));
    assert_eq!(run(&["--require"]), (Some(1), skipped));
    assert_eq!(run(&["nonsense"]).0, Some(64));
}

#[test]
fn scripts_pass_shellcheck() {
    let root = env!("CARGO_MANIFEST_DIR");
    let Ok(checked) = Command::new("shellcheck").args(["docker/check", ".ci/run"]).current_dir(root).output() else {
        tell("skipped: no shellcheck found");
        return;
    };
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn the_workflow_runs_what_everybody_runs_with_no_more_rights_than_it_needs() {
    assert!(WORKFLOW.contains("- run: .ci/run\n") && WORKFLOW.contains("- run: docker/check --require\n"));
    assert!(WORKFLOW.contains("\npermissions:\n  contents: read\n"));
    for action in WORKFLOW.lines().filter_map(|l| l.split("uses: ").nth(1)) {
        let (_, version) = action.split_once('@').expect("a version");
        let (commit, name) = version.split_once(" # v").unwrap_or_else(|| panic!("{action}: which release is it?"));
        assert!(commit.len() == 40 && commit.bytes().all(|b| b.is_ascii_hexdigit()), "{action} is not pinned");
        assert!(!name.is_empty());
    }
}

/// The unit of the README, with this build's program in the place of the installed one.
fn unit() -> String {
    let start = README.find("# /etc/systemd/system/ops-controller.service").expect("a unit");
    let unit = README[start..].split("```").next().expect("its end");
    unit.replace("/usr/local/bin/ops-controller", env!("CARGO_BIN_EXE_ops-controller"))
}

#[test]
fn the_systemd_unit_is_valid_hardened_and_does_not_restart_on_a_wrong_configuration() {
    let unit = unit();
    for line in ["RestartPreventExitStatus=64 78", "NoNewPrivileges=yes", "ProtectSystem=strict", "Restart=on-failure"]
    {
        assert!(unit.lines().any(|l| l == line), "{line}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ops-controller.service");
    std::fs::write(&path, &unit).expect("a file");
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).arg(&path).output();
    let Ok(verified) = analyze(&["verify", "--man=no"]) else {
        tell("skipped: no systemd-analyze found, so the README's unit is not verified");
        return;
    };
    let told = String::from_utf8_lossy(&verified.stderr);
    let about_ours: Vec<&str> = told.lines().filter(|l| l.contains("ops-controller")).collect();
    assert!(verified.status.success() && about_ours.is_empty(), "{told}");
    // 0 is locked away, 10 is root; older ones cannot judge a file.
    let judged = analyze(&["security", "--offline=true", "--threshold=20"]).expect("systemd-analyze");
    let judgement = String::from_utf8_lossy(&judged.stdout);
    println!("{}", judgement.lines().last().unwrap_or_default());
    assert!(judged.status.success() || judgement.is_empty(), "{judgement}");
}
