//! A claim from a long queue, on connections that have planned nothing yet.

use super::contender::KIND;
use super::{Error, Place};
use crate::figure::{Answer, Measured, median, percentile};
use ops_controller::runs::queue::{self, RunnerId};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const SHORT: u32 = 4_000;
const LONG: u32 = 400_000;
/// Connections, and claims on each of them.
const CONNECTIONS: usize = 20;
const CLAIMS: usize = 50;

pub fn measure(runtime: &Runtime) -> Result<Vec<Answer>, crate::figure::Error> {
    runtime.block_on(both())
}

async fn both() -> Result<Vec<Answer>, Error> {
    let place = Place::new().await?;
    let short = claims(&place, SHORT).await?;
    let long = claims(&place, LONG).await?;
    let growth = Measured::median("claim_growth", &long).beside(
        format!("the same with {SHORT} queued"),
        &[median(&long)],
        &[median(&short)],
    );
    Ok(vec![Answer::Measured(Measured::of("claim", percentile(&long, 0.99), &long)), Answer::Measured(growth)])
}

async fn claims(place: &Place, queued: u32) -> Result<Vec<f64>, Error> {
    place.afresh().await?;
    // Nobody has looked at the table since: the planner guesses.
    place.execute(&format!("insert into ops.runs (kind) select '{KIND}' from generate_series(1, {queued})")).await?;
    place.execute("checkpoint").await?;
    let (me, kinds) = (RunnerId("bench".to_owned()), [KIND.to_owned()]);
    let mut took = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut c = place.c().await?;
        for _ in 0..CLAIMS {
            let began = Instant::now();
            let claimed = queue::claim(&mut c, &me, &kinds, 1, Duration::from_secs(60)).await?;
            took.push(began.elapsed().as_secs_f64() * 1000.0);
            if claimed.len() != 1 {
                return Err("nothing was claimed".into());
            }
        }
    }
    Ok(took)
}
