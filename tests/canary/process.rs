//! What can be seen of processes and files from outside: arguments, and modes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The command lines of a process and of everything below it. Processes that end meanwhile are left
/// out; the count says how many were read.
pub fn arguments(root: u32) -> (usize, Vec<u8>) {
    let mut family = BTreeSet::from([root]);
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .expect("processes")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    loop {
        let children = parents.iter().filter(|(_, parent)| family.contains(parent)).map(|(pid, _)| *pid);
        let grown: BTreeSet<u32> = children.chain(family.iter().copied()).collect();
        if grown.len() == family.len() {
            break;
        }
        family = grown;
    }
    let lines: Vec<Vec<u8>> = family.iter().filter_map(|pid| fs::read(format!("/proc/{pid}/cmdline")).ok()).collect();
    (lines.len(), lines.join(&b'\n'))
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// Nobody but the owner may read anything in the state's folder, nor the folder.
#[track_caller]
pub fn assert_private(folder: &Path, expected: &[&str]) {
    assert_eq!(mode(folder), 0o700, "{}", folder.display());
    let files: Vec<PathBuf> = fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    let names: Vec<String> =
        files.iter().map(|p| p.file_name().expect("a name").to_string_lossy().into_owned()).collect();
    for wanted in expected {
        assert!(names.iter().any(|name| name.starts_with(wanted)), "{wanted} is not among {names:?}");
    }
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it exists").permissions().mode() & 0o7777
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn an_argument_of_a_child_is_seen() {
        let mut child = Command::new("sh");
        let child = child.args(["-c", "read line", "told-as-an-argument"]).stdin(Stdio::piped()).spawn();
        let mut child = child.expect("a shell");
        let deadline = Instant::now() + Duration::from_secs(10);
        // A process that was started a moment ago may have no arguments to show yet.
        let is_seen = loop {
            let (count, lines) = arguments(std::process::id());
            let is_seen = count >= 2 && memchr::memmem::find(&lines, b"told-as-an-argument").is_some();
            if is_seen || Instant::now() > deadline {
                break is_seen;
            }
            std::thread::yield_now();
        };
        drop(child.stdin.take());
        child.wait().expect("it ends");
        assert!(is_seen);
    }

    #[test]
    fn a_file_that_others_may_read_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("state.json");
        fs::write(&file, "secret").expect("written");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("changed");
        for (bits, is_private) in [(0o600, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(bits)).expect("changed");
            let checked = std::panic::catch_unwind(|| assert_private(folder.path(), &["state.json"]));
            assert_eq!(checked.is_ok(), is_private, "{bits:o}");
        }
    }
}
