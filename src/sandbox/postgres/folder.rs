//! A temporary folder that the server's user may enter, and PostgreSQL's programs, run as that user.

use super::binaries::{self, User};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

#[derive(Debug)]
pub(super) struct Folder {
    bin: PathBuf,
    /// `None`: the one we are.
    user: Option<User>,
    folder: TempDir,
}

impl Folder {
    pub fn create() -> io::Result<Folder> {
        let folder = tempfile::Builder::new().prefix("ops-postgres-").tempdir()?;
        let ours = Folder { bin: binaries::folder()?, user: User::to_become()?, folder };
        ours.give(ours.path())?;
        Ok(ours)
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn program_file(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.program_file(name));
        command.current_dir(self.path());
        command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        for variable in ["PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGOPTIONS"] {
            command.env_remove(variable);
        }
        if let Some(User { uid, gid }) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    pub fn write_private(&self, path: &Path, text: &str) -> io::Result<()> {
        std::fs::write(path, text)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        self.give(path)
    }

    fn give(&self, path: &Path) -> io::Result<()> {
        match self.user {
            Some(User { uid, gid }) => chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }
}

/// To its end; what it said is the error.
pub(super) async fn run(mut command: Command) -> io::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("{name} failed: {}", reason.trim())));
    }
    Ok(())
}
