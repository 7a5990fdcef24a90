//! What lies on disk: the server's settings, and its database.

use super::{Auth, Cluster};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use std::io;
use std::path::PathBuf;

impl Cluster {
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
        let data = self.folder.data();
        self.folder.write_private(&data.join("ops.conf"), &text)?;
        if self.options.auth == Auth::Trust {
            let everybody = "local all all trust\nhost all,replication all 127.0.0.1/32 trust\n";
            self.folder.write_private(&data.join("pg_hba.conf"), everybody)?;
        }
        let main = data.join("postgresql.conf");
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

    /// The client program `name` of the same installation, when there is one.
    pub(in crate::sandbox) fn client_program(&self, name: &str) -> PathBuf {
        self.folder.program_file(name)
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}
