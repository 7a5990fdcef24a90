//! The real program as a person starts it: its own process, an empty environment but for ours.

// Each test binary uses a part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ops-controller");
/// No command takes longer; one that does hangs.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The variables of a child; nothing else of this process's environment reaches it.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Environment {
        Environment(pairs.into_iter().collect())
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Environment {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    pub fn without(mut self, name: &str) -> Environment {
        self.0.remove(name);
        self
    }

    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("{name} is set"))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Path::new(PROGRAM), arguments)
    }

    fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&self.0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with_input(arguments, "").await
    }

    pub async fn run_with_input(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A program that never reads is no failure.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await;
        Ended::new(arguments, output.expect("it ends in time").expect("its output"))
    }

    /// The same for one that prints much: a pipe that nobody reads fills up, and stops it.
    pub fn start_printing_to(&self, arguments: &[&str], out: std::fs::File) -> Running {
        self.start_other_printing_to(Path::new(PROGRAM), arguments, out)
    }

    /// The same for another program than ours.
    pub fn start_other_printing_to(&self, program: &Path, arguments: &[&str], out: std::fs::File) -> Running {
        let mut command = self.command_of(program, arguments);
        command.stderr(out.try_clone().expect("a second handle")).stdout(out);
        Running { arguments: arguments.join(" "), child: Some(command.spawn().expect("it starts")) }
    }

    /// Starts a command that stays; it is killed when the child is dropped.
    pub fn start(&self, arguments: &[&str]) -> Running {
        Running { arguments: arguments.join(" "), child: Some(self.command(arguments).spawn().expect("it starts")) }
    }
}

/// What a finished command left.
#[derive(Debug)]
pub struct Ended {
    pub command: String,
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    fn new(arguments: &[&str], output: Output) -> Ended {
        Ended {
            command: arguments.join(" "),
            code: code(output.status),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Everything that a terminal would show.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    #[track_caller]
    pub fn expect_code(self, code: i32) -> Ended {
        assert_eq!(self.code, Some(code), "`{}` printed:\n{}\n{}", self.command, self.out, self.err);
        self
    }

    #[track_caller]
    pub fn expect_text(self, text: &str) -> Ended {
        assert!(self.all().contains(text), "`{}` does not say {text:?}:\n{}", self.command, self.all());
        self
    }
}

fn code(status: ExitStatus) -> Option<i32> {
    status.code()
}

/// A command that runs.
pub struct Running {
    arguments: String,
    child: Option<Child>,
}

impl Running {
    pub fn pid(&self) -> i32 {
        let id = self.child.as_ref().and_then(Child::id).expect("it runs");
        i32::try_from(id).expect("a pid")
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|c| c.try_wait().expect("a status").is_some())
    }

    /// Sends a signal to this process only, and waits for its end.
    pub async fn end_with(mut self, signal: i32) -> Ended {
        let pid = self.pid();
        // SAFETY: the child was not waited for yet, so the pid is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "the signal is sent");
        self.output().await
    }

    pub async fn output(&mut self) -> Ended {
        let child = self.child.take().expect("not waited for yet");
        let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("`{}` did not end", self.arguments)).expect("its output");
        Ended::new(&[&self.arguments], output)
    }
}
