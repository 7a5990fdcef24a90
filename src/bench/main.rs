//! `cargo bench`: the figures that the README promises, each a line of JSON on standard output.
//!
//! What is measured is the release binary and the library as it is shipped; what it is compared with
//! runs in the same minute. Explanations and progress go to standard error. Nothing here is a test:
//! a slow machine misses a target, and says so by exit code 1.

mod cold_start;
mod cycle;
mod figure;
mod idle;
mod list;
mod log_file;
mod log_scan;
mod plan;
mod runs;
mod size;
mod status;
mod sweep;

/// The worlds that the tests use: one source for what a healthy deployment looks like.
#[path = "../../tests/support/mod.rs"]
mod support;
#[path = "../../tests/plan/world.rs"]
#[allow(dead_code)]
mod world;

#[path = "../../tests/support/dice.rs"]
mod dice;

/// The crash sweep, as the tests run it.
#[path = "../../tests/compressed/mod.rs"]
mod compressed;
#[path = "../../tests/sweep/run.rs"]
#[allow(dead_code)]
mod run;
#[path = "../../tests/sweep/scenario.rs"]
mod scenario;
#[path = "../../tests/sweep/schedule.rs"]
mod schedule;

use figure::{Answer, Error, TABLE_HEAD};
use list::{FIGURES, Figure};
use std::process::ExitCode;
use tokio::runtime::Runtime;

const USAGE: &str = "\
Measures the figures of the README; one line of JSON each.

cargo bench                   all of them, about five minutes after the build
cargo bench -- NAME...        only these
cargo bench -- --table        rows for the README's table instead of JSON
cargo bench -- --list         their names
cargo bench -- contender WORD  the part of a peer in a harness that compares queues (setup, enqueue, work,
                              produce, paced; PG_URL, N, TARGET, SECS, CONC, GAP_MS in the environment)
cargo bench -- --help         this

NODE=/path/to/node            the node that /status is compared with (default: the one in PATH)

Exit codes: 0 every target is reached or skipped · 1 a target is missed, or a figure failed · 64 usage
";

type Measure = fn(&Runtime) -> Result<Vec<Answer>, Error>;

/// What measures, and the figures that come of it together.
const MEASURES: [(Measure, &[&str]); 13] = [
    (log_scan::measure, &["log_scan"]),
    (plan::measure, &["plan_1", "plan_100", "plan_10000"]),
    (cold_start::measure, &["cold_start"]),
    (idle::measure, &["idle"]),
    (status::measure, &["status_rps", "status_p99"]),
    (cycle::measure, &["cycle", "requests_digitalocean", "requests_railway"]),
    (sweep::measure, &["sweep_rate"]),
    (runs::drain::measure, &["drain", "drain_memory"]),
    (runs::single::measure, &["steady", "one_at_a_time"]),
    (runs::claim::measure, &["claim", "claim_growth"]),
    (runs::pickup::measure, &["pickup_p50", "pickup_p99", "pickup_unheard"]),
    (runs::chaos::measure, &["nothing_lost", "nothing_lost_restart"]),
    (size::measure, &["binary_size", "image_size"]),
];

fn main() -> ExitCode {
    // cargo adds --bench to what it passes on.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [flag, file] = arguments.as_slice()
        && flag == log_scan::AS_A_PROCESS
    {
        return log_scan::as_a_process(file);
    }
    if let [word, operation] = arguments.as_slice()
        && word == runs::contender::WORD
    {
        return runs::contender::main(operation);
    }
    let flags: Vec<&str> = arguments.iter().filter(|a| a.starts_with('-')).map(String::as_str).collect();
    let names: Vec<&str> = arguments.iter().filter(|a| !a.starts_with('-')).map(String::as_str).collect();
    let unknown: Vec<&str> = names.iter().filter(|name| Figure::named(name).is_none()).copied().collect();
    match flags.as_slice() {
        ["--help" | "-h"] => print!("{USAGE}"),
        ["--list"] => FIGURES.iter().for_each(|f| println!("{}", f.name)),
        [] | ["--table"] if unknown.is_empty() => return run(&names, !flags.is_empty()),
        _ => {
            eprintln!("error: no such figure or option: {}\n\n{USAGE}", arguments.join(" "));
            return ExitCode::from(64);
        }
    }
    ExitCode::SUCCESS
}

fn run(names: &[&str], as_table: bool) -> ExitCode {
    // As the program itself is set up.
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    if as_table {
        println!("{TABLE_HEAD}");
    }
    let wanted = |name: &str| names.is_empty() || names.contains(&name);
    let mut good = true;
    for (measure, brings) in MEASURES.iter().filter(|(_, brings)| brings.iter().any(|name| wanted(name))) {
        eprintln!("measuring {} ...", brings.join(", "));
        // A world that could not be set up panics, as it does in the tests; the other figures go on.
        let answers = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| measure(&runtime)));
        let answers = match answers {
            Ok(Ok(answers)) => answers,
            Ok(Err(error)) => {
                eprintln!("error: {} could not be measured: {error}", brings.join(", "));
                good = false;
                continue;
            }
            Err(_) => {
                eprintln!("error: {} could not be measured", brings.join(", "));
                good = false;
                continue;
            }
        };
        for answer in answers.iter().filter(|answer| wanted(answer.name())) {
            let Some(figure) = Figure::named(answer.name()) else { continue };
            println!("{}", if as_table { answer.row(figure) } else { answer.line(figure) });
            if answer.is_missed(figure) {
                eprintln!("missed: {}, {}", figure.name, figure.target);
                good = false;
            }
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
