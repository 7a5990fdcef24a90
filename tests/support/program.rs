//! The real program as a child process, with real signals and its status over HTTP.

use super::{DEADLINE, World};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::time::Instant;

pub const EXE: &str = env!("CARGO_BIN_EXE_ops-controller");

pub struct Program {
    child: Child,
    url: String,
    client: reqwest::Client,
    log: PathBuf,
}

impl Program {
    /// With the world's variables and nothing else.
    pub fn start(world: &World, name: &str) -> Program {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let log = world.beside(&format!("{name}.log"));
        let out = std::fs::File::create(&log).expect("a log");
        let pairs = world.pairs.iter().filter(|(n, _)| n != "LISTEN_ADDR").cloned();
        let child = Command::new(EXE)
            .env_clear()
            .envs(pairs)
            .env("LISTEN_ADDR", format!("127.0.0.1:{port}"))
            .env("LOG_FORMAT", "text")
            .stdin(Stdio::null())
            .stderr(out.try_clone().expect("a log"))
            .stdout(out)
            .spawn()
            .expect("the program");
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().expect("a client");
        Program { child, url: format!("http://127.0.0.1:{port}/status"), client, log }
    }

    /// Of its status.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        // SAFETY: a signal to our own child, which was not waited for yet.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    pub async fn status(&self) -> Option<Value> {
        self.client.get(&self.url).send().await.ok()?.json().await.ok()
    }

    /// The status code of a path, when it answers.
    pub async fn get(&self, path: &str) -> Option<u16> {
        self.client.get(self.at(path)).send().await.ok().map(|answer| answer.status().as_u16())
    }

    pub async fn text(&self, path: &str) -> String {
        self.client.get(self.at(path)).send().await.expect("an answer").text().await.expect("a text")
    }

    fn at(&self, path: &str) -> String {
        self.url.replace("/status", path)
    }

    /// Polls the status until it holds.
    pub async fn until(&self, what: &str, limit: Duration, mut holds: impl FnMut(&Value) -> bool) -> Value {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status().await.unwrap_or_default();
            if holds(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "never {what}: {status:#}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn until_logged(&self, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "never logged {text}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for its end.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("its end") {
                return status;
            }
            assert!(Instant::now() < deadline, "did not end within {limit:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every condition that counts is True.
pub fn all_true(status: &Value) -> bool {
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    status["healthy"] == true && conditions.len() == 10 && conditions.iter().all(|c| c["status"] == "True")
}
