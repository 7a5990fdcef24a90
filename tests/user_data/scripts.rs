//! The scripts, run for real among stand-ins for the commands they call.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{example, file, text};

/// A folder of stand-ins. Each logs its call to `calls` and then does what it is told.
struct Stage(TempDir);

impl Stage {
    fn new(stand_ins: &[(&str, &str)]) -> Stage {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, body) in stand_ins {
            let log = format!("echo \"{name} $*\" >> '{}/calls'", folder.path().display());
            write_script(&folder.path().join(name), &format!("#!/bin/sh\n{log}\n{body}\n"));
        }
        Stage(folder)
    }

    /// Runs one of the droplet's scripts; returns whether it succeeded, and what it called.
    fn run(&self, script: &str) -> (bool, Vec<String>) {
        let path = self.0.path().join("script");
        write_script(&path, &file(&text(&example()), &format!("/opt/trigger-supervisor/{script}")));
        let search = format!("{}:/usr/bin:/bin", self.0.path().display());
        let output = Command::new("sh").arg(&path).env("PATH", search).output().expect("sh");
        let calls = fs::read_to_string(self.0.path().join("calls")).unwrap_or_default();
        (output.status.success(), calls.lines().map(str::to_owned).collect())
    }
}

fn write_script(path: &Path, content: &str) {
    fs::write(path, content).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
}

/// `df -P` of a disk that is full to each of these percentages, one per call.
fn df(percent: &[u32]) -> String {
    let mut body = String::from("calls=$(grep -c '^df ' \"$(dirname \"$0\")/calls\")\ncase $calls in\n");
    for (call, used) in percent.iter().enumerate() {
        body += &format!("{}) used={used};;\n", call + 1);
    }
    body + "esac\necho Filesystem; echo \"/dev/vda1 100 50 50 $used% /\""
}

fn docker_calls(calls: &[String]) -> Vec<&str> {
    calls.iter().filter_map(|call| call.strip_prefix("docker ")).collect()
}

#[test]
fn a_disk_with_room_is_left_alone() {
    let stage = Stage::new(&[("df", &df(&[69])), ("docker", "")]);
    let (ok, calls) = stage.run("prune-images.sh");
    assert!(ok);
    assert!(docker_calls(&calls).is_empty(), "{calls:?}");
}

#[test]
fn defect_39_a_filling_disk_loses_what_was_unused_for_a_day_and_a_full_one_all_that_is_unused() {
    let containers = "container prune --force --filter until=24h --filter label!=com.docker.compose.project";
    let gently = ["image prune --all --force --filter until=24h"];
    let firmly = [gently[0], "image prune --all --force"];
    for (percent, images) in [(&[70, 40, 40], &gently[..]), (&[95, 90, 50], &firmly[..])] {
        let stage = Stage::new(&[("df", &df(percent)), ("docker", "")]);
        let (ok, calls) = stage.run("prune-images.sh");
        assert!(ok);
        let docker = docker_calls(&calls);
        assert_eq!(docker[0], containers);
        assert_eq!(docker[1..], *images);
    }
}

#[test]
fn the_metadata_block_stands_before_docker_starts_and_installed_packages_are_left_alone() {
    let stage = Stage::new(&[("docker", ""), ("nft", ""), ("systemctl", ""), ("apt-get", "exit 1")]);
    let (ok, first) = stage.run("install.sh");
    assert!(ok, "{first:?}");
    assert!(!first.iter().any(|call| call.starts_with("apt-get")), "{first:?}");
    let systemctl: Vec<_> = first.iter().filter_map(|call| call.strip_prefix("systemctl ")).collect();
    let place = |call| systemctl.iter().position(|c| *c == call).expect(call);
    assert_eq!(systemctl[0], "daemon-reload");
    assert!(place("enable --now trigger-supervisor-metadata.service") < place("enable --now docker.service"));
    assert_eq!(systemctl.last(), Some(&"start --no-block trigger-supervisor.service"));
    // A rerun makes the same calls and no others.
    let (ok, both) = stage.run("install.sh");
    assert!(ok);
    assert_eq!(both[first.len()..], first[..]);
}

#[test]
fn defect_34_missing_packages_are_tried_again_and_the_tries_end() {
    let nothing_helps = [("nft", ""), ("docker", "exit 1"), ("apt-get", "exit 100"), ("sleep", ""), ("systemctl", "")];
    let (ok, calls) = Stage::new(&nothing_helps).run("install.sh");
    assert!(!ok, "an install that failed is not called a success");
    let updates = calls.iter().filter(|call| call.ends_with(" update")).count();
    assert_eq!(updates, 10, "{calls:?}");
    assert!(!calls.iter().any(|call| call.starts_with("systemctl")), "{calls:?}");

    // The mirror is back at the second try: `docker compose` answers once apt has installed it.
    let docker = "test -e \"$(dirname \"$0\")/installed\"";
    let apt = "case \"$*\" in *install*) touch \"$(dirname \"$0\")/installed\";; \
               *) test \"$(grep -c update \"$(dirname \"$0\")/calls\")\" -ge 2;; esac";
    let recovers = [("nft", ""), ("docker", docker), ("apt-get", apt), ("sleep", ""), ("systemctl", "")];
    let (ok, calls) = Stage::new(&recovers).run("install.sh");
    assert!(ok, "{calls:?}");
    assert_eq!(calls.iter().filter(|call| call.ends_with(" update")).count(), 2, "{calls:?}");
}
