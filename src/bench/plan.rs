//! `plan_N`: digest and plan with one droplet of ours, in service, and N strangers in the listing.
//!
//! The listing is asked for by tag, so strangers are not to be expected; they must cost nothing much.

use crate::figure::{Answer, Error, Measured, median, percentile, rounded};
use crate::world::World;
use ops_controller::plan::{digest, plan};
use std::hint::black_box;
use std::time::Instant;
use tokio::runtime::Runtime;

const RUNS: usize = 500;
const STRANGERS: [(&str, u64); 3] = [("plan_1", 1), ("plan_100", 100), ("plan_10000", 10_000)];

pub fn measure(_: &Runtime) -> Result<Vec<Answer>, Error> {
    STRANGERS.into_iter().map(|(name, strangers)| with(name, strangers)).collect()
}

fn with(name: &'static str, strangers: u64) -> Result<Answer, Error> {
    let mut world = World::settled();
    for id in 1_000_000..1_000_000 + strangers {
        world.add(id, &format!("stranger-{id}"));
        // As marked as a droplet of another deployment of this very program.
        world.droplet(id).tags.iter_mut().for_each(|tag| tag.push('x'));
    }
    let before = world.state.clone();
    let mut times = Vec::with_capacity(RUNS);
    for run in 0..RUNS + 20 {
        let mut state = before.clone();
        let begun = Instant::now();
        digest(&world.desired, &mut state, black_box(&world.seen));
        let planned = black_box(plan(&world.desired, &state, black_box(&world.seen)));
        let took = begun.elapsed().as_secs_f64() * 1e3;
        if !planned.is_settled() || state.supervisor.droplets.len() != 1 {
            return Err(format!("{name}: strangers are taken for ours").into());
        }
        // The first ones find cold caches.
        if run >= 20 {
            times.push(took);
        }
    }
    let figure = Measured::of(name, percentile(&times, 0.99), &times);
    Ok(Answer::Measured(figure.detail("p50_ms", rounded(median(&times)))))
}
