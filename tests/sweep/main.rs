//! Stopped anywhere, with anything going wrong besides, the controller keeps its promises.
//!
//! A schedule names a scenario, the point at which the program is stopped (before, during and after
//! each outbound call, and around each write of its state), what goes wrong with which calls, how far
//! lists lag, how long the program stays away, and perhaps a second stop. In each moment: no more
//! droplets of ours than allowed, nothing foreign touched, one restart for one change, and healthy
//! said only when it was. In the end: one droplet, no open intent, and a token that somebody knows.
//!
//! `SWEEP=100000 cargo test --release --test sweep` runs that many schedules; a failure prints its
//! number, and `SWEEP_SEED=<number>` replays it alone, with the program's log.
//!
//! That it finds bugs is shown by `tests/sweep/mutate`: each patch in `mutations/` breaks one rule of
//! the program. What the sweep said at 2,400 schedules:
//!
//! | the program... | what was noticed |
//! | --- | --- |
//! | drops the intent before a create | 102 schedules, 3 droplets of ours at once |
//! | creates although it could not look | 108 schedules, a create while one that is the same served or booted |
//! | ignores the spec's tag | already without trouble: healthy, and the token is refused |
//! | deletes what is not marked as ours | already without trouble: a foreign droplet was touched |
//! | counts Unknown as healthy | already without trouble: healthy, and the database is down |
//! | repeats a POST whose answer was lost | 23 schedules, 3 droplets of ours at once |

#[path = "../compressed/mod.rs"]
mod compressed;
#[path = "../support/dice.rs"]
mod dice;
mod month;
mod run;
mod scenario;
mod schedule;

use compressed::driver::Beginning;
use run::Failure;
use schedule::{Schedule, Ways};
use std::process::Command;
use std::time::Instant;

/// Every point of every scenario at least once, and each scenario a hundred times more.
const SCHEDULES: u64 = 2_800;
/// More of them would say the same.
const SHOWN: usize = 5;

#[test]
fn without_trouble_every_scenario_comes_to_its_end() {
    let ways = run::ways(&Beginning::healthy());
    for (scenario, way) in scenario::Scenario::ALL.iter().zip(&ways) {
        println!("{scenario:?}: {} points", way.len());
        assert!(way.len() > 10, "{scenario:?}: a way of {} points is too short to be true", way.len());
    }
    let points: usize = ways.iter().map(Vec::len).sum();
    assert!(points as u64 <= SCHEDULES, "{points} points, and only {SCHEDULES} schedules for them");
}

/// A patch that does not apply any more shows nothing.
#[test]
fn every_mutation_still_fits_the_program() {
    let root = env!("CARGO_MANIFEST_DIR");
    let folder = std::fs::read_dir(format!("{root}/tests/sweep/mutations")).expect("the mutations");
    let patches: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(patches.len(), 6);
    for patch in patches {
        // Works outside of a repository, too.
        let git = Command::new("git").args(["apply", "--check"]).arg(&patch).current_dir(root).output();
        let Ok(git) = git else { return eprintln!("skipped: git is not installed, so no patch was tried") };
        assert!(git.status.success(), "{}: {}", patch.display(), String::from_utf8_lossy(&git.stderr));
    }
}

#[test]
fn stopped_anywhere_it_keeps_its_promises() {
    let healthy = Beginning::healthy();
    let ways = run::ways(&healthy);
    if let Ok(number) = std::env::var("SWEEP_SEED") {
        return replay(number.parse().expect("SWEEP_SEED is a number"), &ways, &healthy);
    }
    let count = std::env::var("SWEEP").map_or(SCHEDULES, |n| n.parse().expect("SWEEP is a number"));
    let begun = Instant::now();
    let broken = run::first(count, &ways, &healthy);
    let seconds = begun.elapsed().as_secs_f64();
    println!("{count} schedules in {seconds:.1} s: {:.0} each second", count as f64 / seconds);
    assert!(broken.is_empty(), "{} of {count} schedules broke a promise:\n\n{}", broken.len(), told(&broken));
}

fn replay(number: u64, ways: &Ways, healthy: &Beginning) {
    let filter = tracing_subscriber::EnvFilter::new("ops_controller=debug");
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    let schedule = Schedule::of(number, ways);
    println!(
        "{schedule:#?}\nat {:?}",
        ways[scenario::Scenario::ALL.iter().position(|s| *s == schedule.scenario).expect("one")][schedule.at]
    );
    run::run(&schedule, healthy).expect("every promise is kept");
}

fn told(failures: &[Failure]) -> String {
    let mut text = String::new();
    for Failure { schedule, why } in failures.iter().take(SHOWN) {
        text.push_str(&format!(
            "{why}\n{schedule:?}\nreplay: SWEEP_SEED={} cargo test --test sweep stopped -- --nocapture\n\n",
            schedule.number
        ));
    }
    text
}
