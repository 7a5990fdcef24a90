//! `status_rps` and `status_p99`: GET /status under load, beside node's own http server.
//!
//! The release binary, healthy, as its own process; node answers the very same JSON, put together anew
//! by JSON.stringify for each request. wrk shares the machine's processors with what it loads, so only
//! the ratio of runs that alternate counts.

use crate::figure::{Answer, Error, Measured, median, rounded};
use crate::support::World;
use crate::support::program::{Program, all_true};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::runtime::Runtime;

const FIGURES: [&str; 2] = ["status_rps", "status_p99"];
const ROUNDS: usize = 5;
const CONNECTIONS: &str = "-c64";
const HEALTHY_WITHIN: Duration = Duration::from_secs(120);
const SERVER: &str = "
const status = JSON.parse(require('fs').readFileSync(process.argv[1]));
const server = require('http').createServer((_, answer) => {
  answer.writeHead(200, { 'content-type': 'application/json' });
  answer.end(JSON.stringify(status));
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
";

pub fn measure(runtime: &Runtime) -> Result<Vec<Answer>, Error> {
    let skipped = |why: &str| Ok(FIGURES.map(|name| Answer::Skipped(name, why.to_owned())).into());
    if Command::new("wrk").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return skipped("wrk is missing: apt-get install wrk");
    }
    let node = std::env::var("NODE").unwrap_or_else(|_| "node".to_owned());
    let Ok(version) = Command::new(&node).arg("--version").output() else {
        return skipped("node is missing: npm install node@22, then NODE=node_modules/node/bin/node");
    };
    let version = String::from_utf8(version.stdout)?.trim().to_owned();
    let (world, program) = runtime.block_on(async {
        let mut world = World::booted().await;
        world.set("CHECK_INTERVAL", "1");
        let program = Program::start(&world, "status");
        program.until("healthy", HEALTHY_WITHIN, all_true).await;
        (world, program)
    });
    let body = runtime.block_on(program.status()).ok_or("no status")?.to_string();
    let file = world.beside("status.json");
    std::fs::write(&file, &body)?;
    let theirs = Node::start(&node, &file)?;
    let rounds = alternate(program.url(), &theirs.url);
    drop(theirs);
    drop(program);
    runtime.block_on(world.stop());
    let (ours, theirs) = rounds?;
    let of = |runs: &[Load], part: fn(&Load) -> f64| runs.iter().map(part).collect::<Vec<f64>>();
    let figure = |name, part: fn(&Load) -> f64, unit| {
        let (ours, theirs) = (of(&ours, part), of(&theirs, part));
        Measured::median(name, &ours).beside(format!("node {version}, {unit}"), &ours, &theirs)
    };
    let rps = figure(FIGURES[0], |l| l.requests_per_second, "requests/s").detail("body_bytes", body.len());
    let p99 = figure(FIGURES[1], |l| l.p99_ms, "ms")
        .detail("p50_ms", rounded(median(&of(&ours, |l| l.p50_ms))))
        .detail("compared_p50_ms", rounded(median(&of(&theirs, |l| l.p50_ms))));
    Ok(vec![Answer::Measured(rps), Answer::Measured(p99)])
}

/// One run of each in turn; who is first alternates, too.
fn alternate(ours: &str, theirs: &str) -> Result<(Vec<Load>, Vec<Load>), Error> {
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for url in [ours, theirs] {
        Load::of(url, "-d1s")?;
    }
    for round in 0..ROUNDS {
        let order = if round % 2 == 0 { [true, false] } else { [false, true] };
        for is_ours in order {
            let (url, loads) = if is_ours { (ours, &mut own) } else { (theirs, &mut other) };
            let load = Load::of(url, "-d5s")?;
            let who = if is_ours { "ours" } else { "node" };
            eprintln!("  {who}: {:.0} requests/s, p99 {:.2} ms", load.requests_per_second, load.p99_ms);
            loads.push(load);
        }
    }
    Ok((own, other))
}

/// One run of wrk.
struct Load {
    requests_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

impl Load {
    fn of(url: &str, duration: &str) -> Result<Load, Error> {
        let output = Command::new("wrk").args(["-t1", CONNECTIONS, duration, "--latency", url]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let field = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
        if field("Non-2xx").is_some() || field("Socket errors").is_some() {
            return Err(format!("{url} did not answer every request with 200:\n{text}").into());
        }
        let load = || {
            Some(Load {
                requests_per_second: field("Requests/sec:")?.parse().ok()?,
                p50_ms: milliseconds(field("50%")?)?,
                p99_ms: milliseconds(field("99%")?)?,
            })
        };
        load().ok_or_else(|| format!("wrk said:\n{text}").into())
    }
}

/// `812.00us`, `1.30ms`, `1.02s`.
fn milliseconds(text: &str) -> Option<f64> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let value: f64 = text[..at].parse().ok()?;
    match &text[at..] {
        "us" => Some(value / 1e3),
        "ms" => Some(value),
        "s" => Some(value * 1e3),
        _ => None,
    }
}

/// The other server; it does not outlive its measurement.
struct Node {
    child: Child,
    url: String,
}

impl Node {
    fn start(node: &str, body: &std::path::Path) -> Result<Node, Error> {
        let mut command = Command::new(node);
        command.arg("-e").arg(SERVER).arg(body).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut node = Node { child: command.spawn()?, url: String::new() };
        let mut port = String::new();
        BufReader::new(node.child.stdout.take().ok_or("no pipe")?).read_line(&mut port)?;
        node.url = format!("http://127.0.0.1:{}/status", port.trim());
        Ok(node)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
