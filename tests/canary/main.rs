//! Secret canary: a distinct value in every secret, and none of it in anything that the program emits.
//!
//! An hour of operation in compressed time with everything going wrong, providers that repeat our
//! secrets in their errors included; and the real program as a process, with all its commands. What
//! is searched: logs at trace level, /status, /metrics, plan, why, doctor, config, errors, panics,
//! process arguments. Beside that: the modes of the files in which secrets have to lie.

#[path = "../support/binary.rs"]
mod binary;
#[path = "../compressed/mod.rs"]
mod compressed;

mod canaries;
mod emitted;
mod errors;
mod hour;
mod process;
mod runs;
mod search;
mod story;
mod surfaces;
mod world;

use canaries::Canary;
use hour::Log;
use search::Search;
use std::path::Path;
use std::process::Command;

/// In a process of its own: telemetry and panics are the process's, and so is its standard output.
fn hour_in_a_process(log: Log) {
    const FOLDER: &str = "CANARY_FOLDER";
    let name = log.test();
    if let Some(folder) = std::env::var_os(FOLDER) {
        return hour::live(log, Path::new(&folder));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child.args(["--exact", name, "--nocapture"]).env(FOLDER, folder.path()).env_remove("RUST_BACKTRACE");
    let output = child.output().expect("it starts");
    let printed = [output.stdout, output.stderr].concat();
    let surfaces = std::fs::read(folder.path().join(hour::SURFACES)).unwrap_or_default();
    let found = std::fs::read_to_string(folder.path().join(hour::FOUND)).unwrap_or_default();

    let mut canaries = hour::canaries();
    canaries.extend(found.lines().map(|token| Canary::new("a rotated worker token", token)));
    let mut search = Search::of(&canaries);
    search.assert_none("the log", &printed);
    let logged = search.lines;
    search.assert_none("what is shown", &surfaces);
    let tail = String::from_utf8_lossy(&printed[printed.len().saturating_sub(4000)..]).into_owned();
    assert!(output.status.success(), "the hour failed:\n{tail}");
    println!("{name}: {} bytes, {logged} lines logged, {} in all", search.bytes, search.lines);
    assert!(canaries.len() > hour::canaries().len(), "no token was rotated");
    assert!(logged > 500, "{logged} lines are no hour at trace level");
    assert!(search.bytes > 1_000_000, "{} bytes are too few to say anything", search.bytes);
}

#[test]
fn an_hour_of_trouble_leaves_no_secret_in_a_json_log_nor_in_what_is_shown() {
    hour_in_a_process(Log::Json);
}

#[test]
fn an_hour_of_trouble_leaves_no_secret_in_a_text_log_nor_in_what_is_shown() {
    hour_in_a_process(Log::Text);
}

/// The redacting writer is the last line of defence; what we say ourselves does not need it.
#[test]
fn what_the_program_says_itself_holds_no_secret_even_where_no_writer_hides_it() {
    hour_in_a_process(Log::Plain);
}
