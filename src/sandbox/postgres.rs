//! A private PostgreSQL: the installed server in a temporary folder, on loopback only.
//!
//! It is a real server, so that `alter system`, restarts, publications and replication slots mean
//! what they mean in production. `wal_level` stays at its default `replica` and is never put on
//! the command line (unless a test asks), because there it would beat `alter system`.
//! It refuses to outlive its owner: the server dies with this process, the folder with the value.

mod binaries;
pub(in crate::sandbox) mod child;
mod folder;
mod setup;
mod template;

use child::Owned;
use folder::Folder;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use template::Template;

/// Start and crash recovery take well under a second on a folder this small; a loaded machine may
/// be ten times slower.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// A fast shutdown waits for a checkpoint and for replication to be confirmed, so not long either.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// Between choosing a free port and the server taking it, somebody else may.
const PORT_ATTEMPTS: u32 = 5;

pub const SUPERUSER: &str = "postgres";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Any password opens the door.
    Trust,
    /// Passwords are checked, as on Railway.
    Scram,
}

#[derive(Debug, Clone)]
pub struct ClusterOptions {
    pub auth: Auth,
    /// `false` switches fsync off: faster, and worthless after a power cut.
    pub durable: bool,
    /// The database `url()` names; Railway's template calls it `railway`.
    pub database: String,
    /// Appended to the server's command line, for example `["-c", "wal_level=replica"]`.
    pub extra_command_line: Vec<String>,
}

impl Default for ClusterOptions {
    fn default() -> ClusterOptions {
        let database = "railway".to_string();
        ClusterOptions { auth: Auth::Scram, durable: false, database, extra_command_line: Vec::new() }
    }
}

impl ClusterOptions {
    pub fn extra_command_line(mut self, words: Vec<String>) -> ClusterOptions {
        self.extra_command_line = words;
        self
    }
}

/// One server with its folder. All methods take `&self`; share it in an `Arc`.
#[derive(Debug)]
pub struct Cluster {
    // Before `folder`: the server must be gone when its files are removed.
    server: Mutex<Option<Owned>>,
    options: ClusterOptions,
    port: u16,
    restarts: AtomicU32,
    /// Held while starting or stopping, so that two restarts follow each other.
    changing: tokio::sync::Mutex<()>,
    folder: Folder,
    /// Kept for whoever comes next.
    template: Arc<Template>,
}

impl Cluster {
    pub async fn create(options: ClusterOptions) -> io::Result<Cluster> {
        let template = Template::shared().await?;
        let folder = Folder::create()?;
        template.copy_to(&folder.data()).await?;
        let mut cluster = Cluster {
            server: Mutex::new(None),
            options,
            port: 0,
            restarts: AtomicU32::new(0),
            changing: tokio::sync::Mutex::new(()),
            folder,
            template,
        };
        cluster.start_on_a_free_port().await?;
        cluster.create_database().await?;
        Ok(cluster)
    }

    /// For the superuser, with the password percent-encoded.
    pub fn url(&self) -> String {
        self.url_as(SUPERUSER, self.password())
    }

    pub fn url_as(&self, role: &str, password: &str) -> String {
        let (role, password) = (percent_encoded(role), percent_encoded(password));
        let (port, database) = (self.port, percent_encoded(&self.options.database));
        format!("postgresql://{role}:{password}@127.0.0.1:{port}/{database}")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn password(&self) -> &str {
        &self.template.password
    }

    pub fn database(&self) -> &str {
        &self.options.database
    }

    /// How `sqlx` connects as the superuser. Nothing is taken from PG* variables or .pgpass.
    pub fn connect_options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(SUPERUSER)
            .password(self.password())
            .database(&self.options.database)
            .ssl_mode(PgSslMode::Disable)
            .disable_statement_logging()
    }

    pub async fn connect(&self) -> sqlx::Result<PgConnection> {
        self.connect_options().connect().await
    }

    pub fn is_running(&self) -> bool {
        self.server().as_mut().is_some_and(Owned::is_running)
    }

    /// How often the server came back by `restart`.
    pub fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::SeqCst)
    }

    /// Does nothing when the server runs.
    pub async fn start(&self) -> io::Result<()> {
        let _alone = self.changing.lock().await;
        self.start_server().await
    }

    /// A fast shutdown: sessions are cut off, a checkpoint is written.
    pub async fn stop(&self) -> io::Result<()> {
        let _alone = self.changing.lock().await;
        self.stop_server().await
    }

    pub async fn restart(&self) -> io::Result<()> {
        self.restart_taking(Duration::ZERO).await
    }

    /// A restart in which the server is away for at least this long.
    pub async fn restart_taking(&self, away: Duration) -> io::Result<()> {
        let _alone = self.changing.lock().await;
        self.stop_server().await?;
        tokio::time::sleep(away).await;
        self.start_server().await?;
        self.restarts.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// A login role without any privilege of its own, in the database of `url()`.
    pub async fn create_role(&self, name: &str, password: &str) -> sqlx::Result<()> {
        let name = name.replace('"', "\"\"");
        let password = password.replace('\'', "''");
        let sql = format!("create role \"{name}\" login password '{password}'");
        let mut connection = self.connect().await?;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await?;
        connection.close().await
    }

    /// The end of the server's own log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.log_file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    async fn start_on_a_free_port(&mut self) -> io::Result<()> {
        let mut attempt = 1;
        loop {
            self.port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            self.configure()?;
            match self.start_server().await {
                Err(_) if attempt < PORT_ATTEMPTS && self.log_tail().contains("already in use") => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    async fn start_server(&self) -> io::Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let log = std::fs::File::options().create(true).append(true).open(self.log_file())?;
        let mut command = self.folder.program("postgres");
        command.arg("-D").arg(self.folder.data()).args(&self.options.extra_command_line);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // SIGQUIT is PostgreSQL's immediate shutdown: its children go with it.
        let server = child::spawn(command, libc::SIGQUIT)?;
        *self.server() = Some(server);
        self.wait_until_ready().await
    }

    async fn wait_until_ready(&self) -> io::Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        // `postgres` exists before the first start creates ours.
        let probe = self.connect_options().database("postgres");
        loop {
            if !self.is_running() {
                return Err(io::Error::other(format!("postgres ended while starting:\n{}", self.log_tail())));
            }
            let refusal = match tokio::time::timeout(Duration::from_secs(2), probe.connect()).await {
                Ok(Ok(connection)) => return connection.close().await.map_err(io::Error::other),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_string(),
            };
            if Instant::now() >= deadline {
                let text = format!("postgres not ready after {START_DEADLINE:?} ({refusal}):\n{}", self.log_tail());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stop_server(&self) -> io::Result<()> {
        // Out of the lock: `is_running` answers no from the moment the shutdown begins.
        let Some(mut server) = self.server().take() else {
            return Ok(());
        };
        server.signal(libc::SIGINT);
        if server.ended_within(STOP_DEADLINE).await {
            return Ok(());
        }
        server.signal(libc::SIGQUIT);
        if !server.ended_within(STOP_DEADLINE).await {
            server.kill();
        }
        Ok(())
    }

    fn server(&self) -> MutexGuard<'_, Option<Owned>> {
        self.server.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Takes the server away for a while, in the background.
pub fn down_for(cluster: &Arc<Cluster>, time: Duration) -> tokio::task::JoinHandle<io::Result<()>> {
    let cluster = cluster.clone();
    tokio::spawn(async move {
        let _alone = cluster.changing.lock().await;
        cluster.stop_server().await?;
        tokio::time::sleep(time).await;
        cluster.start_server().await
    })
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(server) = self.server().as_mut() {
            // Immediate shutdown: nobody will read this folder again.
            server.end(libc::SIGQUIT, Duration::from_secs(3));
        }
    }
}

/// Holds each character that breaks a URL when it is not encoded.
fn random_password() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!("p@{}:/#?%&+ {}", &hex[..16], &hex[16..]))
}

pub(in crate::sandbox) fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(encode).collect()
}
