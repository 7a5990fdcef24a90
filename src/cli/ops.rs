//! What the commands of durable runs share: their configuration, the database, errors, tables.

use super::{CONFIGURATION, ERROR, USAGE};
use ops_controller::config::OpsConfig;
use ops_controller::runner::kinds;
use ops_controller::runs::request::FieldError;
use ops_controller::runs::schema::Address;
use ops_controller::runs::{RunsError, names, runners};
use ops_controller::telemetry;
use sqlx::postgres::PgConnection;

/// What the ops database needs and nothing else, or every error on standard error.
pub fn configuration() -> Result<OpsConfig, u8> {
    let config = OpsConfig::from_env().map_err(|error| {
        eprintln!("the configuration has errors:");
        for line in &error.0 {
            eprintln!("  {line}");
        }
        eprintln!("this command needs OPS_DATABASE_URL alone; see .env.example");
        CONFIGURATION
    })?;
    telemetry::redact_all(&config.secrets());
    Ok(config)
}

pub fn address() -> Result<Address, u8> {
    address_of(&configuration()?)
}

pub fn address_of(config: &OpsConfig) -> Result<Address, u8> {
    Address::from_url(config.ops_database_url.expose(), "ops-controller").map_err(|error| failed(&error))
}

/// Connects within seconds, or says why not.
pub async fn connect() -> Result<PgConnection, u8> {
    address()?.connect().await.map_err(|error| failed(&error))
}

/// Prints an error without secrets.
pub fn failed(error: &RunsError) -> u8 {
    eprintln!("error: {}", plain(&telemetry::redact_text(&error.to_string())));
    match error {
        RunsError::Invalid(_) => USAGE,
        _ => ERROR,
    }
}

pub fn refused(errors: &[FieldError]) -> u8 {
    for error in errors {
        eprintln!("error: {} {}", plain(&error.field), error.message);
    }
    USAGE
}

/// An argument that a rule of `names` accepts.
pub fn checked(
    check: fn(&str) -> Result<(), names::Refused>,
) -> impl Fn(&str) -> Result<String, names::Refused> + Clone + Send + Sync + 'static {
    move |text| check(text).map(|()| text.to_owned())
}

/// Refuses a kind that neither this program nor a runner of the last day knows; `otherwise` ends the error.
pub async fn must_be_known(c: &mut PgConnection, kind: &str, otherwise: &str) -> Result<(), u8> {
    let mut known = runners::kinds(c).await.map_err(|error| failed(&error.into()))?;
    known.extend(kinds::NAMES.map(str::to_owned));
    known.sort();
    known.dedup();
    if known.iter().any(|k| k == kind) {
        return Ok(());
    }
    eprintln!("error: neither this program nor a runner of the last day knows the kind {kind}");
    eprintln!("  they know: {}{otherwise}", known.join(", "));
    Err(USAGE)
}

/// Who does this, as the audit log names them.
pub fn actor() -> String {
    // SAFETY: reads one number of this process.
    let user = unsafe { libc::geteuid() };
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = super::local::name_of(user, &users).map_or_else(|| format!("user {user}"), str::to_owned);
    format!("{name}@{}", ops_controller::clients::machine::hostname())
}

/// Text of others, for a terminal: nothing in it moves the cursor or ends the line.
pub fn plain(text: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().collect::<String>(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}

pub fn json(value: &impl serde::Serialize) -> u8 {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            println!("{text}");
            super::DONE
        }
        Err(error) => {
            eprintln!("error: the answer cannot be written as JSON: {error}");
            ERROR
        }
    }
}

/// What was changed, alone on standard output for scripts; what became of it, on standard error for people.
pub fn done(id: &str, became: &str) {
    eprintln!("{became}");
    println!("{}", plain(id));
}

/// The beginning of a text of others, for a column.
pub fn cut(text: &str) -> String {
    const SHOWN: usize = 60;
    let shown: String = text.chars().take(SHOWN).collect();
    if text.chars().count() > SHOWN { format!("{}…", shown.trim_end()) } else { shown }
}

/// A time to the second, in UTC, as people read it.
pub fn time(at: Option<jiff::Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

pub fn or_dash(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), plain)
}

/// Rows in aligned columns, each as wide as it must be.
pub fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(heads.get(column).map(|head| head.len())).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut text = line(heads.to_vec());
    text.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "long cell".to_owned()], vec!["ÄÖÜß".to_owned(), "b".to_owned()]];
        assert_eq!(table(&["X", "Y"], &rows), "X     Y\na     long cell\nÄÖÜß  b\n");
    }

    #[test]
    fn text_of_others_cannot_drive_the_terminal() {
        assert_eq!(plain("a\u{1b}[2J\nb\0"), "a\\u{1b}[2J\\nb\\u{0}");
    }
}
