//! `idle`: what a healthy daemon holds and burns while nothing happens.
//!
//! The release binary as its own process, at the default pace of one cycle a minute; the simulated
//! clouds run in this process. One minute is watched, with one cycle in its middle.

use crate::figure::{Answer, Error, Measured, rounded};
use crate::support::World;
use crate::support::program::{Program, all_true};
use std::time::Duration;
use tokio::runtime::Runtime;

const WATCHED: Duration = Duration::from_secs(60);
/// The next cycle comes a minute after the last; this puts it well within the minute that is watched.
const SETTLE: Duration = Duration::from_secs(20);
const HEALTHY_WITHIN: Duration = Duration::from_secs(120);
/// Other controllers of the same kind, idle on this machine; not measured in this run.
const SEEN_ELSEWHERE: [(&str, u32); 2] = [("python3_requests_psycopg2_mb", 32), ("node_pg_axios_mb", 68)];

pub fn measure(runtime: &Runtime) -> Result<Vec<Answer>, Error> {
    runtime.block_on(watch())
}

async fn watch() -> Result<Vec<Answer>, Error> {
    let mut world = World::booted().await;
    world.set("CHECK_INTERVAL", "1");
    let program = Program::start(&world, "idle");
    program.until("healthy", HEALTHY_WITHIN, all_true).await;
    tokio::time::sleep(SETTLE).await;
    let first = cycle(&program).await;
    let before = Usage::of(program.pid())?;
    tokio::time::sleep(WATCHED).await;
    let after = Usage::of(program.pid())?;
    let cycles = cycle(&program).await - first;
    let healthy = program.status().await.is_some_and(|status| all_true(&status));
    drop(program);
    world.stop().await;
    if !healthy {
        return Err("it did not stay healthy".into());
    }
    let ticks = after.ticks - before.ticks;
    let figure = Measured::exactly("idle", after.resident_mb, 1)
        .detail("peak_mb", rounded(after.peak_mb))
        .detail("cpu_ticks_in_60_s", ticks)
        .detail("cpu_ms_per_tick", 1000 / ticks_per_second())
        .detail("cycles", cycles);
    let elsewhere = SEEN_ELSEWHERE.iter().map(|(name, mb)| ((*name).to_owned(), (*mb).into())).collect();
    Ok(vec![Answer::Measured(figure.detail("seen_elsewhere", serde_json::Value::Object(elsewhere)))])
}

async fn cycle(program: &Program) -> u64 {
    program.status().await.and_then(|status| status["cycle"]["number"].as_u64()).unwrap_or_default()
}

fn ticks_per_second() -> i64 {
    // SAFETY: asks for a number of the system.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1)
}

/// Of another process, from /proc.
struct Usage {
    resident_mb: f64,
    peak_mb: f64,
    /// User and system time.
    ticks: u64,
}

impl Usage {
    fn of(pid: u32) -> Result<Usage, Error> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let megabytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field))?;
            let kibibytes: f64 = line.trim_start_matches(':').trim().trim_end_matches("kB").trim().parse().ok()?;
            Some(kibibytes * 1024.0 / 1e6)
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name before the bracket may hold anything.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
        let (Some(resident_mb), Some(peak_mb)) = (megabytes("VmRSS"), megabytes("VmHWM")) else {
            return Err(format!("/proc/{pid}/status has no VmRSS").into());
        };
        Ok(Usage { resident_mb, peak_mb, ticks })
    }
}
