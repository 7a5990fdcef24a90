//! What came out of the program, kept for the search.

use crate::binary::{DEADLINE, Ended, Environment, Running};
use crate::process::arguments;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Everything that came out, and where.
#[derive(Default)]
pub struct Emitted(pub Vec<(String, Vec<u8>)>);

impl Emitted {
    pub fn add(&mut self, what: &str, text: impl Into<Vec<u8>>) {
        self.0.push((what.to_owned(), text.into()));
    }

    pub fn ended(&mut self, what: &str, ended: &Ended) {
        self.add(&format!("`{}` {what}", ended.command), ended.all());
    }

    pub fn command_lines(&mut self) {
        let (count, lines) = arguments(std::process::id());
        assert!(count > 5, "{count} processes: the sandbox's own are missing");
        self.add("the processes' arguments", lines);
    }
}

/// A process whose log goes to a file.
pub struct Logged {
    process: Running,
    log: PathBuf,
}

impl Logged {
    pub fn start(env: &Environment, arguments: &[&str], log: PathBuf) -> Logged {
        let process = env.start_printing_to(arguments, File::create(&log).expect("a file"));
        Logged { process, log }
    }

    /// Another program than ours.
    pub fn start_other(env: &Environment, program: &Path, arguments: &[&str], log: PathBuf) -> Logged {
        let process = env.start_other_printing_to(program, arguments, File::create(&log).expect("a file"));
        Logged { process, log }
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: the child was not waited for yet, so the pid is still its own.
        assert_eq!(unsafe { libc::kill(self.process.pid(), signal) }, 0, "the signal is sent");
    }

    pub async fn until<T>(&mut self, what: &str, mut look: impl AsyncFnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(found) = look(&log).await {
                return found;
            }
            let end = &log[log.floor_char_boundary(log.len().saturating_sub(3000))..];
            assert!(!self.process.has_ended() && Instant::now() < deadline, "never {what}:\n{end}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn until_log(&mut self, text: &str) {
        self.until(text, async |log| log.contains(text).then_some(())).await;
    }

    /// Where it says that it listens.
    pub async fn address(&mut self) -> String {
        let found = self.until("listening", async |log| {
            let (_, rest) = log.split_once("listens on http://")?;
            Some(rest.split(['"', ' ', '\n']).next()?.to_owned())
        });
        found.await
    }

    pub async fn end(self, emitted: &mut Emitted) {
        self.process.end_with(libc::SIGTERM).await.expect_code(0);
        let name = self.log.file_name().expect("a name").to_string_lossy().into_owned();
        emitted.add(&format!("the log {name}"), fs::read(&self.log).expect("a log"));
    }
}
