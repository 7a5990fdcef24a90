//! `log_scan`: our search of raw log pages beside `grep -oE` and ripgrep on the same file.
//!
//! Ours is the function that the controller gives every answer of Railway to: it counts the lines,
//! takes the oldest timestamp, looks for the token's prefix, and parses the one page that has it. The
//! figure is of a whole process, from its start to its end, as grep's is: it maps the file, because an
//! answer lies in memory when the search begins. Beside it, in one process and without its start: the
//! same mapped, and the same with each page read by read(2) into one buffer that is used again.

use crate::figure::{Answer, Error, Measured, median, rounded};
use crate::log_file::{self, PAGE, TOKEN, Written};
use ops_controller::clients::railway::log_page::LogPage;
use ops_controller::plan::logs::Harvest;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;
use tokio::runtime::Runtime;

pub const AS_A_PROCESS: &str = "--search-this-file";
const PATTERN: &str = "tr_wgt_[A-Za-z0-9]{40}";
/// Now and then a run takes half as long again, on all sides: enough that the median is of the others.
const ROUNDS: usize = 41;

pub fn measure(_: &Runtime) -> Result<Vec<Answer>, Error> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("logs.json");
    let written = log_file::write(&path)?;
    eprintln!(
        "  {} MB in {} lines, {} bytes each",
        written.bytes / 1_000_000,
        written.lines,
        written.bytes / written.lines
    );
    let ours = || {
        let mut command = Command::new("/proc/self/exe");
        command.arg(AS_A_PROCESS).arg(&path);
        command
    };
    let grep = || {
        let mut command = Command::new("grep");
        command.env("LC_ALL", "C").args(["-oE", PATTERN]).arg(&path);
        command
    };
    let ripgrep = || {
        let mut command = Command::new("rg");
        command.args(["-j1", "-o", "--no-line-number", PATTERN]).arg(&path);
        command
    };
    let has_ripgrep = Command::new("rg").arg("--version").stdout(Stdio::null()).status().is_ok();
    let speed = |seconds: f64| written.bytes as f64 / 1e6 / seconds;
    let (mut own, mut greps, mut rips, mut mapped, mut read) = (vec![], vec![], vec![], vec![], vec![]);
    // The first round only warms the page cache.
    for round in 0..=ROUNDS {
        let expected = format!("{TOKEN} {}", written.lines);
        let times = (timed(ours(), &expected)?, timed(grep(), TOKEN)?);
        let rip = if has_ripgrep { Some(timed(ripgrep(), TOKEN)?) } else { None };
        let within = (in_this_process(&path, &written, by_mapping)?, in_this_process(&path, &written, by_reading)?);
        if round > 0 {
            own.push(speed(times.0));
            greps.push(speed(times.1));
            rips.extend(rip.map(speed));
            mapped.push(speed(within.0));
            read.push(speed(within.1));
        }
    }
    let ratio = |ours: &[f64], theirs: &[f64]| {
        rounded(median(&ours.iter().zip(theirs).map(|(a, b)| a / b).collect::<Vec<_>>()))
    };
    let mut figure = Measured::median("log_scan", &own)
        .beside(format!("`LC_ALL=C grep -oE '{PATTERN}'`, MB/s"), &own, &greps)
        .detail("in_process_mapped_mb_s", rounded(median(&mapped)))
        .detail("in_process_read_mb_s", rounded(median(&read)))
        .detail("in_process_read_to_grep", ratio(&read, &greps));
    figure = match has_ripgrep {
        true => {
            figure.detail("ripgrep_j1_mb_s", rounded(median(&rips))).detail("ratio_to_ripgrep_j1", ratio(&own, &rips))
        }
        false => figure.detail("ripgrep", "not installed (apt-get install ripgrep)"),
    };
    Ok(vec![Answer::Measured(figure)])
}

/// Seconds from the start of a process to its end; it must have found what is there.
fn timed(mut command: Command, expected: &str) -> Result<f64, Error> {
    let begun = Instant::now();
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let took = begun.elapsed().as_secs_f64();
    match String::from_utf8_lossy(&output.stdout).trim() == expected {
        true => Ok(took),
        false => Err(format!("{command:?} did not find the token once").into()),
    }
}

fn in_this_process(
    path: &Path,
    written: &Written,
    search: fn(&Path) -> Result<(usize, Harvest), Error>,
) -> Result<f64, Error> {
    let begun = Instant::now();
    let (lines, harvest) = search(path)?;
    let took = begun.elapsed().as_secs_f64();
    let found: Vec<String> = harvest.tokens().iter().map(|t| t.expose().to_owned()).collect();
    match lines == written.lines && found == [TOKEN] {
        true => Ok(took),
        false => Err(format!("found {found:?} in {lines} lines").into()),
    }
}

/// Started as a process of its own: prints the tokens and the number of lines.
pub fn as_a_process(path: &str) -> ExitCode {
    match by_mapping(Path::new(path)) {
        Ok((lines, harvest)) => {
            let tokens: Vec<String> = harvest.tokens().iter().map(|t| t.expose().to_owned()).collect();
            println!("{} {lines}", tokens.join(" "));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {path}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn by_mapping(path: &Path) -> Result<(usize, Harvest), Error> {
    let file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len())?;
    let flags = libc::MAP_PRIVATE;
    // SAFETY: a new mapping of a whole file that is open; nothing else lies at an address of our own.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, flags, file.as_raw_fd(), 0) };
    if start == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: mapped with this length, readable, and never written or shortened by anybody.
    let bytes = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) };
    let mut harvest = Harvest::default();
    let mut lines = 0;
    for page in bytes.chunks(PAGE) {
        lines += LogPage::read(page, None, &mut harvest)?.lines;
    }
    // SAFETY: what was mapped above, and nothing refers to it any more.
    unsafe { libc::munmap(start, length) };
    Ok((lines, harvest))
}

fn by_reading(path: &Path) -> Result<(usize, Harvest), Error> {
    let mut file = File::open(path)?;
    let mut page = vec![0; PAGE];
    let mut harvest = Harvest::default();
    let mut lines = 0;
    let mut left = file.metadata()?.len();
    while left > 0 {
        file.read_exact(&mut page)?;
        left = left.saturating_sub(PAGE as u64);
        lines += LogPage::read(&page, None, &mut harvest)?.lines;
    }
    Ok((lines, harvest))
}
