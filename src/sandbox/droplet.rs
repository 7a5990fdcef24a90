//! A simulated droplet: the part of a machine that the controller can notice from outside.
//!
//! It reads its own user-data as cloud-init would, then runs the supervisor it finds there on its
//! own loopback address. One call of `live` is one life of the supervisor's container; restarting
//! it is the duty of whoever keeps the machine, as it is Docker's duty on a real one. The same
//! function is run by a tokio task and by the `sandbox-droplet` subcommand, so both behave alike.
//!
//! It refuses to talk to anything but loopback: a sandbox must never reach a real webapp.

mod health;
mod supervisor;
pub mod user_data;

use std::io::Read;
use std::net::Ipv4Addr;
use std::time::Duration;

/// Where every supervisor listens.
pub const PORT: u16 = 8020;

/// What `main` exits with when the machine is up but will never run a supervisor.
pub const EXIT_REFUSED: i32 = 78;

/// What a machine is given when it is powered on.
#[derive(Debug, Clone)]
pub struct Machine {
    pub ip: Ipv4Addr,
    pub user_data: String,
    pub heartbeat_interval: Duration,
    /// Pause before the second attempt to connect; doubles each time, at most ten times itself.
    pub connect_retry: Duration,
}

/// Why a supervisor's life ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The user-data starts no supervisor: starting again would change nothing.
    Refused(String),
    /// The process ended and Docker starts it again.
    Died(String),
}

/// The machine's console, as `docker logs` and the web console would show it.
pub type Console<'a> = dyn Fn(&str) + Send + Sync + 'a;

/// One life of the supervisor: listens first, connects second, then heartbeats until it is killed.
pub async fn live(machine: &Machine, console: &Console<'_>) -> Exit {
    let exit = match user_data::supervisor_env(&machine.user_data) {
        Err(reason) => Exit::Refused(reason),
        Ok(env) => match health::Listener::bind(machine.ip, PORT).await {
            Err(error) => Exit::Died(format!("failed to listen on {}:{PORT}: {error}", machine.ip)),
            Ok(listener) => tokio::select! {
                () = listener.serve() => Exit::Died("listener ended".to_owned()),
                reason = supervisor::run(machine, &env, console) => Exit::Died(reason),
            },
        },
    };
    match &exit {
        Exit::Refused(reason) => console(&format!("cloud-init: no supervisor: {reason}")),
        Exit::Died(reason) => console(&format!("supervisor exited: {reason}")),
    }
    exit
}

/// The hidden subcommand: `sandbox-droplet IP HEARTBEAT_MS RETRY_MS`, the user-data on stdin.
///
/// The user-data holds secrets, so it is never an argument, which everyone on the host could read.
pub async fn main(args: impl Iterator<Item = String>) -> i32 {
    let machine = match parse(args).and_then(with_user_data) {
        Ok(machine) => machine,
        Err(reason) => {
            eprintln!("sandbox-droplet: {reason}");
            return 64;
        }
    };
    match live(&machine, &|line| println!("{line}")).await {
        Exit::Refused(_) => EXIT_REFUSED,
        Exit::Died(_) => 1,
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Machine, String> {
    let mut next = |name: &str| args.next().ok_or_else(|| format!("{name} is missing"));
    let ip = next("IP")?.parse().map_err(|e| format!("IP: {e}"))?;
    let heartbeat: u64 = next("HEARTBEAT_MS")?.parse().map_err(|e| format!("HEARTBEAT_MS: {e}"))?;
    let retry: u64 = next("RETRY_MS")?.parse().map_err(|e| format!("RETRY_MS: {e}"))?;
    Ok(Machine {
        ip,
        user_data: String::new(),
        heartbeat_interval: Duration::from_millis(heartbeat),
        connect_retry: Duration::from_millis(retry),
    })
}

fn with_user_data(mut machine: Machine) -> Result<Machine, String> {
    std::io::stdin()
        .read_to_string(&mut machine.user_data)
        .map_err(|e| format!("failed to read the user-data: {e}"))?;
    Ok(machine)
}
