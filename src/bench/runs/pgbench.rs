//! What the server itself can do: PostgreSQL's own load generator, on the same tables or on the least
//! that a queue can be.

use super::{Error, Place};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The least that a queue can be, with a backlog.
const LEAST: &str = "
    create table lim_q (
        id bigserial primary key, kind text not null default 'probe', payload jsonb not null default '{\"i\": 1}',
        state text not null default 'ready', priority int not null default 0, run_at timestamptz not null default now(),
        attempts int not null default 0, lease_until timestamptz, worker text, finished_at timestamptz
    );
    insert into lim_q (payload)
        select jsonb_build_object('i', g, 'msg', 'hello world, sixty-four bytes or so of payload') from generate_series(1, 100000) g;
    create index lim_q_ready on lim_q (priority, run_at, id) where state = 'ready';
    vacuum analyze lim_q;
    create table lim_ins (
        id bigserial primary key, kind text not null, payload jsonb not null, state text not null default 'ready',
        created_at timestamptz not null default now()
    );
    checkpoint;
";

/// One row in, one commit.
pub const INSERT: &str = "insert into lim_ins (kind, payload) values ('probe', '{\"i\":1,\"msg\":\"hello world, sixty-four bytes or so of payload..\"}');\n";
/// One row claimed, a commit, and finished, another.
pub const CLAIM_FINISH: &str = "with c as (select id from lim_q where state = 'ready' and run_at <= now() order by priority, run_at, id limit 1 for update skip locked) update lim_q q set state = 'running', attempts = attempts + 1, lease_until = now() + interval '30 s', worker = 'w' from c where q.id = c.id returning q.id \\gset\nupdate lim_q set state = 'done', finished_at = now(), lease_until = null where id = :id and state = 'running';\n";

pub fn program() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.into_iter().rev().chain(std::env::split_paths(&path)).map(|f| f.join("pgbench")).find(|p| p.is_file())
}

/// The tables that the scripts above work on.
pub async fn prepare(place: &Place) -> Result<(), Error> {
    place.execute("drop table if exists lim_q, lim_ins").await?;
    for statement in LEAST.split_inclusive(';').map(str::trim).filter(|s| !s.is_empty()) {
        place.execute(statement).await?;
    }
    Ok(())
}

/// Transactions of the script in a second, with so many clients for so many seconds.
pub fn rate(place: &Place, script: &str, clients: u32, seconds: u32) -> Result<f64, Error> {
    let program = program().ok_or("pgbench is not installed")?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), script)?;
    let output = Command::new(program)
        .args(["-n", "-M", "prepared", "-f"])
        .arg(file.path())
        .args(["-c", &clients.to_string(), "-j", "2", "-T", &seconds.to_string(), &place.cluster.url()])
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rate = text.split("tps = ").last().and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse().ok());
    rate.ok_or_else(|| format!("pgbench: {}", String::from_utf8_lossy(&output.stderr)).into())
}
