//! `cold_start`: how soon a container is seen to live.
//!
//! From right before exec of `ops-controller run` to the end of the first 200 of /healthz, asked for
//! every fifth of a millisecond. Its clouds and database refuse every connection.

use crate::figure::{Answer, Error, Measured, median, rounded};
use crate::support::program::EXE;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const RUNS: usize = 20;
const DEADLINE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_micros(200);

pub fn measure(_: &Runtime) -> Result<Vec<Answer>, Error> {
    // Reads the binary into the page cache.
    once()?;
    let times = (0..RUNS).map(|_| once()).collect::<Result<Vec<f64>, Error>>()?;
    let slowest = times.iter().copied().fold(0.0, f64::max);
    let figure = Measured::of("cold_start", slowest, &times).detail("median_ms", rounded(median(&times)));
    Ok(vec![Answer::Measured(figure)])
}

/// Milliseconds.
fn once() -> Result<f64, Error> {
    let folder = tempfile::tempdir()?;
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new(EXE);
    command.arg("run").env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.envs([
        ("DIGITALOCEAN_TOKEN", "dop_v1_nobody"),
        ("RAILWAY_API_TOKEN", "nobody"),
        ("RAILWAY_PROJECT_ID", "project"),
        ("RAILWAY_ENVIRONMENT_ID", "environment"),
        ("DATABASE_URL", "postgresql://user:secret@127.0.0.1:1/railway"),
        ("RAILWAY_API_URL", "http://127.0.0.1:1/graphql/v2"),
        ("DIGITALOCEAN_API_URL", "http://127.0.0.1:1"),
    ]);
    command.env("LISTEN_ADDR", address.to_string()).env("STATE_FILE", folder.path().join("state.json"));
    let begun = Instant::now();
    let _child = Ended(command.spawn()?);
    while !answers(address) {
        if begun.elapsed() > DEADLINE {
            return Err(format!("{EXE} did not answer within {} s", DEADLINE.as_secs()).into());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
}

/// Does not outlive its measurement.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
