//! A runner as a process of its own: this program, as the contender that works.

use super::contender::WORD;
use super::{Error, Place};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

pub struct Worker {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    pub fn start(place: &Place, variables: &[(&str, String)]) -> Result<Worker, Error> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([WORD, "work"]).env("PG_URL", place.cluster.url()).kill_on_drop(true);
        command.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn()?;
        let out = child.stdout.take().ok_or("no pipe")?;
        Ok(Worker { child, lines: BufReader::new(out).lines() })
    }

    /// What it says behind this word.
    pub async fn says(&mut self, word: &str, limit: Duration) -> Result<String, Error> {
        let said = async {
            while let Some(line) = self.lines.next_line().await? {
                if let Some(rest) = line.strip_prefix(word) {
                    return Ok(rest.trim().to_owned());
                }
            }
            Err(format!("the runner ended before it said {word}").into())
        };
        tokio::time::timeout(limit, said).await.map_err(|_| format!("the runner did not say {word} in {limit:?}"))?
    }

    pub fn signal(&self, signal: libc::c_int) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // SAFETY: a signal to a child of ours that has not been waited for.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// The most memory that it ever held, in MB.
    pub fn peak(&self) -> Result<f64, Error> {
        let pid = self.child.id().ok_or("it has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
        let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kilobytes * 1024.0 / 1e6)
    }

    pub async fn killed(mut self) -> Result<(), Error> {
        self.child.kill().await?;
        Ok(())
    }

    pub async fn stopped(mut self) -> Result<(), Error> {
        self.signal(libc::SIGTERM);
        tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await.map_err(|_| "it does not end")??;
        Ok(())
    }
}
