//! The command line: parses, calls one function per command, prints, exits.
//!
//! Exit codes: 0 done · 1 error · 2 `plan --detailed-exitcode` with changes pending · 64 usage ·
//! 75 try later (rate limit, or another controller acts) · 78 configuration.

mod cli;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    // Everything this program writes holds, or lies beside, secrets.
    // SAFETY: umask only sets a number of this process, and no other thread runs yet.
    unsafe { libc::umask(0o077) };
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { cli::USAGE } else { 0 });
        }
    };
    let command = cli.command.unwrap_or(Command::Run);
    if !matches!(command, Command::Run | Command::Runner | Command::Sandbox { .. } | Command::SandboxDroplet { .. }) {
        // `status | head` ends quietly, as other tools do. The daemon must not die of a closed socket.
        // SAFETY: sets a disposition of this process before any other thread runs.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Fails only when a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let patience = match &command {
        // Its tasks hold folders that are removed when they are dropped.
        Command::Sandbox { .. } => Duration::from_secs(10),
        // A blocked reader of standard input, or a slow name server, must not keep the process alive.
        _ => Duration::from_millis(100),
    };
    let code = runtime.block_on(cli::dispatch(command));
    runtime.shutdown_timeout(patience);
    ExitCode::from(code)
}
