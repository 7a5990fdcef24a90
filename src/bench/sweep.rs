//! `sweep_rate`: how many schedules of the crash sweep are lived through each second.

use crate::compressed::driver::Beginning;
use crate::figure::{Answer, Error, Measured};
use crate::run;
use std::time::Instant;
use tokio::runtime::Runtime;

const ROUNDS: usize = 3;
/// Enough that the threads' ends do not matter.
const SCHEDULES: u64 = 1_000;

pub fn measure(_: &Runtime) -> Result<Vec<Answer>, Error> {
    let healthy = Beginning::healthy();
    let ways = run::ways(&healthy);
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let broken = run::first(SCHEDULES, &ways, &healthy);
        rates.push(SCHEDULES as f64 / begun.elapsed().as_secs_f64());
        if let Some(failure) = broken.first() {
            let number = failure.schedule.number;
            let replay = format!("SWEEP_SEED={number} cargo test --test sweep stopped -- --nocapture");
            return Err(format!("schedule {number} broke a promise: {}; replay: {replay}", failure.why).into());
        }
    }
    Ok(vec![Answer::Measured(Measured::median("sweep_rate", &rates))])
}
