//! `cycle` and `requests_*`: what a healthy cycle takes, and what it costs at the providers.
//!
//! The controller runs in this process and talks HTTP and SQL to the sandbox over loopback; the state
//! file is written and synced as ever. Its clock is put forward a minute before each cycle, the default
//! pace, so that everything that is remembered for less than that is asked for again.

use crate::figure::{Answer, Error, Measured, percentile, rounded};
use crate::support::World;
use jiff::SignedDuration;
use std::time::Instant;
use tokio::runtime::Runtime;

const CYCLES: usize = 300;
/// Ten whole rotations of what is read seldom.
const COUNTED: usize = 240;

pub fn measure(runtime: &Runtime) -> Result<Vec<Answer>, Error> {
    runtime.block_on(cycles())
}

async fn cycles() -> Result<Vec<Answer>, Error> {
    let mut world = World::booted().await;
    world.set("CHECK_INTERVAL", "1");
    let mut driver = world.healthy().await;
    let mut times = Vec::with_capacity(CYCLES);
    world.forget_requests();
    let mut asked = (0, 0);
    for number in 1..=CYCLES {
        driver.skip(SignedDuration::from_mins(1));
        let begun = Instant::now();
        let status = driver.cycle().await;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        if !status.healthy {
            return Err(format!("cycle {number} was not healthy: {}", crate::support::explain(&status)).into());
        }
        if number == COUNTED {
            asked = (world.sandbox.digitalocean.requests().len(), world.sandbox.railway.requests().len());
        }
    }
    let writes = world.writes();
    world.stop().await;
    if !writes.is_empty() {
        return Err(format!("healthy cycles changed something: {writes:?}").into());
    }
    let each = |requests: usize| requests as f64 / COUNTED as f64;
    let p50 = percentile(&times, 0.5);
    Ok(vec![
        Answer::Measured(Measured::of("cycle", p50, &times).detail("p99_ms", rounded(percentile(&times, 0.99)))),
        Answer::Measured(
            Measured::exactly("requests_digitalocean", each(asked.0), COUNTED).detail("requests", asked.0),
        ),
        Answer::Measured(Measured::exactly("requests_railway", each(asked.1), COUNTED).detail("requests", asked.1)),
    ])
}
