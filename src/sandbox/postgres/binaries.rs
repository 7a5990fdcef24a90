//! Finds the installed PostgreSQL programs and the user they may run as.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const MISSING: &str = "no PostgreSQL server programs found (initdb, postgres): install the Debian \
     package `postgresql`, or name their folder in OPS_PG_BIN";

/// The folder with `initdb` and `postgres`.
pub(super) fn folder() -> io::Result<PathBuf> {
    if let Some(named) = std::env::var_os("OPS_PG_BIN") {
        let named = PathBuf::from(named);
        if is_complete(&named) {
            return Ok(named);
        }
        let text = format!("OPS_PG_BIN names {}, which holds no initdb and postgres", named.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    installed()
        .or_else(|| install().then(installed).flatten())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, MISSING))
}

fn installed() -> Option<PathBuf> {
    from_pg_config().into_iter().chain(from_debian()).chain(from_path()).find(|folder| is_complete(folder))
}

/// On a fresh Debian or Ubuntu, as root, the package is installed, and said so; elsewhere it is the
/// user's to decide. Several tests may get here at once: the second waits for the first.
fn install() -> bool {
    static ONCE: OnceLock<bool> = OnceLock::new();
    *ONCE.get_or_init(|| {
        // SAFETY: geteuid only returns a number.
        let root = unsafe { libc::geteuid() } == 0;
        if !root || std::env::var_os("OPS_NO_INSTALL").is_some() {
            return false;
        }
        eprintln!("PostgreSQL is not installed: installing the package `postgresql` with apt-get (OPS_NO_INSTALL=1 prevents it)");
        let apt = |arguments: &[&str]| {
            let mut command = Command::new("apt-get");
            command.args(["-qq", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
            command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        apt(&["update"]) && apt(&["install", "-y", "--no-install-recommends", "postgresql"])
    })
}

fn is_complete(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file())
}

fn from_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(text.trim()))
}

/// Debian keeps each major version in its own folder; the newest comes first.
fn from_debian() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |entry: &std::fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let mut found: Vec<_> = versions.filter_map(|e| Some((number(&e)?, e.path().join("bin")))).collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, path)| path).collect()
}

fn from_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect()
}

/// Whom to become: PostgreSQL refuses to run as root, and only root can become someone else.
#[derive(Debug, Clone, Copy)]
pub(super) struct User {
    pub uid: u32,
    pub gid: u32,
}

impl User {
    /// `None` when this process is not root: then its own user serves.
    pub fn to_become() -> io::Result<Option<User>> {
        // SAFETY: geteuid cannot fail and touches no memory.
        if unsafe { libc::geteuid() } != 0 {
            return Ok(None);
        }
        let found = User::named("postgres").or_else(|| User::named("nobody"));
        let missing = "running as root, and there is no user `postgres` or `nobody` to run PostgreSQL as";
        found.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, missing))
    }

    fn named(name: &str) -> Option<User> {
        let name = CString::new(name).ok()?;
        let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
        let mut text = vec![0; 16 * 1024];
        let mut found = std::ptr::null_mut();
        // SAFETY: every pointer is valid for the length given; `entry` is read only when the call
        // says that it filled it.
        unsafe {
            let at = text.as_mut_ptr();
            let code = libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), at, text.len(), &mut found);
            if code != 0 || found.is_null() {
                return None;
            }
            let entry = entry.assume_init();
            Some(User { uid: entry.pw_uid, gid: entry.pw_gid })
        }
    }
}
