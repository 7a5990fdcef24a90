//! A file of raw log pages, the same at every run: what Railway answers, one answer after the other.
//!
//! Each page is padded to the same length, so that the file can be taken apart as the answers came.
//! Every line is near a hit: `tr_id` in each, `wgt-` in some. One token stands at 99 %.

use crate::dice::Dice;
use crate::figure::Error;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

/// About a thousand lines, as many as are asked for at once.
pub const PAGE: usize = 360 << 10;
const PAGES: usize = 543;
pub const TOKEN: &str = "tr_wgt_CANARYbenchCANARYbenchCANARYbenchCANARYb";
const HEAD: &str = "{\"data\":{\"deploymentLogs\":[\n";
const FOOT: &str = "\n]}}";

/// What is to be found again.
pub struct Written {
    pub bytes: usize,
    pub lines: usize,
}

pub fn write(path: &Path) -> Result<Written, Error> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut dice = Dice(7);
    let mut lines = 0;
    for page in 0..PAGES {
        let mut text = String::from(HEAD);
        let mut in_page = 0;
        loop {
            let holds_token = page == PAGES * 99 / 100 && in_page == 500;
            let line = line(&mut dice, lines, holds_token.then_some(TOKEN));
            if text.len() + line.len() + 2 + FOOT.len() + 1 > PAGE {
                break;
            }
            if in_page > 0 {
                text.push_str(",\n");
            }
            text.push_str(&line);
            in_page += 1;
            lines += 1;
        }
        text.push_str(FOOT);
        // White space behind the answer; the next one begins on a line of its own.
        let padding = PAGE - text.len() - 1;
        writeln!(text, "{:padding$}", "")?;
        file.write_all(text.as_bytes())?;
    }
    file.flush()?;
    Ok(Written { bytes: PAGES * PAGE, lines })
}

fn line(dice: &mut Dice, number: usize, token: Option<&str>) -> String {
    let message = match token {
        Some(token) => token.to_owned(),
        None => message(dice),
    };
    let level = ["info", "info", "info", "warn", "error", "debug"][dice.below(6)];
    let (day, hour, minute) = (1 + number % 28, number % 24, number % 60);
    let (second, nano) = (dice.below(60), dice.below(1_000_000_000));
    format!(
        "{{\"timestamp\":\"2026-01-{day:02}T{hour:02}:{minute:02}:{second:02}.{nano:09}Z\",\"severity\":\"{level}\",\
         \"message\":\"{message}\",\"tags\":{{\"projectId\":\"{}\",\"deploymentId\":\"{}\",\"serviceId\":\"{}\"}},\
         \"attributes\":[{{\"key\":\"level\",\"value\":\"\\\"{level}\\\"\"}},{{\"key\":\"tr_id\",\"value\":\"\\\"{}\\\"\"}}]}}",
        uuid(dice),
        uuid(dice),
        uuid(dice),
        hex(dice, 16),
    )
}

fn message(dice: &mut Dice) -> String {
    let (id, n) = (hex(dice, 8), dice.below(5000));
    match dice.below(6) {
        0 => format!("GET /api/v1/projects/{id} 200 {n}ms"),
        1 => format!("trace {id} exported, {n} spans"),
        2 => format!("connected to postgres://app:***@db-{id}.internal:5432/prod in {n}ms"),
        3 => format!("retrying transport for {id}, attempt {n}"),
        4 => format!("token refresh for wgt-{id} took {n}ms"),
        _ => format!("Error: connect ECONNREFUSED at {id} (node:net:{n}:16)"),
    }
}

fn hex(dice: &mut Dice, digits: usize) -> String {
    let mut text = String::with_capacity(digits);
    while text.len() < digits {
        let _ = write!(text, "{:016x}", dice.roll());
    }
    text.truncate(digits);
    text
}

fn uuid(dice: &mut Dice) -> String {
    [8, 4, 4, 4, 12].map(|digits| hex(dice, digits)).join("-")
}
