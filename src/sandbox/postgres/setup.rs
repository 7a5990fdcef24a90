//! What lies on disk: the data folder, its settings, and the programs that work on it.

use super::binaries::User;
use super::{Auth, Cluster, SUPERUSER};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

impl Cluster {
    pub(super) async fn initialise(&self) -> io::Result<()> {
        let password_file = self.folder.path().join("password");
        self.write_private(&password_file, &self.password)?;
        let auth = if self.options.auth == Auth::Trust { "trust" } else { "scram-sha-256" };
        let mut initdb = self.program("initdb");
        initdb.args(["--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C.UTF-8"]);
        initdb.args(["--username", SUPERUSER, "--auth", auth, "--pwfile"]).arg(&password_file);
        initdb.arg("--pgdata").arg(self.data());
        let output = tokio::task::spawn_blocking(move || initdb.output()).await??;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(io::Error::other(format!("initdb failed: {}", reason.trim())));
        }
        std::fs::remove_file(password_file)
    }

    /// Settings live in the file, the weakest place, so that `alter system` wins over each of them.
    pub(super) fn configure(&self) -> io::Result<()> {
        let sockets = self.folder.path().display().to_string().replace('\'', "''");
        let fsync = if self.options.durable { "on" } else { "off" };
        let text = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{sockets}'\n\
             shared_buffers = 16MB\nmax_connections = 60\nfsync = {fsync}\n\
             timezone = 'UTC'\nlog_timezone = 'UTC'\n",
            self.port
        );
        let ours = self.data().join("ops.conf");
        self.write_private(&ours, &text)?;
        let main = self.data().join("postgresql.conf");
        let mut settings = std::fs::read_to_string(&main)?;
        if !settings.ends_with("include 'ops.conf'\n") {
            settings.push_str("\ninclude 'ops.conf'\n");
            std::fs::write(&main, settings)?;
        }
        Ok(())
    }

    pub(super) async fn create_database(&self) -> io::Result<()> {
        let name = self.options.database.replace('"', "\"\"");
        if name == "postgres" {
            return Ok(());
        }
        let create = async {
            let mut connection = self.connect_options().database("postgres").connect().await?;
            let sql = format!("create database \"{name}\"");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
            connection.close().await
        };
        create.await.map_err(io::Error::other)
    }

    /// One of PostgreSQL's programs, as the user it may run as, in a folder that user may enter.
    pub(super) fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.current_dir(self.folder.path());
        command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        for variable in ["PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGOPTIONS"] {
            command.env_remove(variable);
        }
        if let Some(User { uid, gid }) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// The client program `name` of the same installation, when there is one.
    pub(in crate::sandbox) fn client_program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    fn write_private(&self, path: &Path, text: &str) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(path, text)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        match self.user {
            Some(User { uid, gid }) => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}
