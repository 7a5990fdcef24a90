//! A claim from a long queue, on connections that have planned nothing yet.

use super::contender::KIND;
use super::{Error, Place};
use crate::figure::{Answer, Measured, median, percentile};
use ops_controller::runs::queue::{self, RunnerId};
use sqlx::PgConnection;
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
    let (short, long) = (Place::new().await?, Place::new().await?);
    fill(&short, SHORT).await?;
    fill(&long, LONG).await?;
    let (mut of_short, mut of_long) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        let (mut a, mut b) = (short.c().await?, long.c().await?);
        // In turns: both see the same disk, and what else this machine does.
        for _ in 0..CLAIMS {
            of_short.push(claim(&mut a).await?);
            of_long.push(claim(&mut b).await?);
        }
    }
    let growth = Measured::median("claim_growth", &of_long).beside(
        format!("the same with {SHORT} queued"),
        &[median(&of_long)],
        &[median(&of_short)],
    );
    Ok(vec![Answer::Measured(Measured::of("claim", percentile(&of_long, 0.99), &of_long)), Answer::Measured(growth)])
}

/// Nobody has looked at the table since: the planner guesses.
async fn fill(place: &Place, queued: u32) -> Result<(), Error> {
    place.afresh().await?;
    place.execute(&format!("insert into ops.runs (kind) select '{KIND}' from generate_series(1, {queued})")).await?;
    place.execute("checkpoint").await
}

async fn claim(c: &mut PgConnection) -> Result<f64, Error> {
    let began = Instant::now();
    let claimed =
        queue::claim(c, &RunnerId("bench".to_owned()), &[KIND.to_owned()], 1, Duration::from_secs(60)).await?;
    match claimed.len() {
        1 => Ok(began.elapsed().as_secs_f64() * 1000.0),
        _ => Err("nothing was claimed".into()),
    }
}
