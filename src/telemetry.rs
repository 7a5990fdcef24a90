//! Logs, metrics, redaction: what this process says about itself.
//!
//! Logs go to stdout, one event per line: JSON unless stdout is a terminal. Every line passes the
//! redacting writer last, so that a secret which got past the types still is not printed. Metrics
//! are in [`metrics`].

pub mod metrics;
mod panics;
mod redact;
mod shapes;
mod spellings;
mod writer;

use crate::config::LogFormat;
use crate::plan::secret::Secret;
use redact::Redactor;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use thiserror::Error;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};
use writer::RedactingWriter;

/// The process's own: stdout, panics and [`redact_text`] share what it knows.
static REDACTOR: LazyLock<Arc<Redactor>> = LazyLock::new(Arc::default);
static TELEMETRY: OnceLock<Telemetry> = OnceLock::new();

/// What can be changed while the process runs.
#[derive(Clone)]
pub struct Telemetry {
    redactor: Arc<Redactor>,
    filter: reload::Handle<EnvFilter, Registry>,
}

/// The level is not one of the levels, and no filter.
#[derive(Debug, Error)]
#[error("not a log level: use error, warn, info, debug, trace, or a filter such as ops_controller=debug")]
pub struct BadLevel;

impl Telemetry {
    /// Replaces the level, as after a SIGHUP. A bad one leaves the old one.
    pub fn set_level(&self, level: &str) -> Result<(), BadLevel> {
        let filter = filter(level)?;
        // Fails only when the subscriber is gone, and then there is nothing to set.
        let _ = self.filter.reload(filter);
        Ok(())
    }

    /// Adds the secrets of a configuration that was read again. The old ones stay known: they may
    /// still be valid, and may still stand in errors.
    pub fn add_secrets(&self, secrets: &[Secret]) {
        self.redactor.add_configured(secrets);
    }
}

/// Sets up logging to stdout for the whole process, and the panic hook. Called again it applies the
/// level and the secrets and returns the same handle; the format stays the first one's.
pub fn init(format: Option<LogFormat>, level: &str, secrets: &[Secret]) -> Telemetry {
    REDACTOR.add_configured(secrets);
    if let Some(telemetry) = TELEMETRY.get() {
        warn_if_bad(telemetry.set_level(level));
        return telemetry.clone();
    }
    TELEMETRY
        .get_or_init(|| {
            let terminal = std::io::stdout().is_terminal();
            let format = format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
            let sink = Arc::new(Mutex::new(std::io::stdout()));
            let writer = RedactingWriter { redactor: Arc::clone(&REDACTOR), sink, format };
            let (telemetry, subscriber) = build(writer, EnvFilter::new("info"), terminal);
            // Fails when a test has already set its own: then that one keeps the events.
            let _ = tracing::subscriber::set_global_default(subscriber);
            panics::install();
            warn_if_bad(telemetry.set_level(level));
            telemetry
        })
        .clone()
}

/// The same set-up with its own redactor and another sink, for `tracing::subscriber::with_default`.
pub fn to_sink(
    format: LogFormat,
    level: &str,
    secrets: &[Secret],
    sink: impl Write + Send + 'static,
) -> Result<(Telemetry, impl Subscriber + Send + Sync + 'static), BadLevel> {
    let redactor = Arc::new(Redactor::default());
    redactor.add_configured(secrets);
    let writer = RedactingWriter { redactor, sink: Arc::new(Mutex::new(sink)), format };
    Ok(build(writer, filter(level)?, false))
}

/// A secret found at run time, such as a worker token: from now on no line shows it.
pub fn redact(secret: &Secret) {
    redact_all(std::slice::from_ref(secret));
}

/// The same for several, at the price of one.
pub fn redact_all(secrets: &[Secret]) {
    REDACTOR.add_found(secrets);
}

/// The text without secrets, for what does not go through the log: HTTP errors, terminal output.
pub fn redact_text(text: &str) -> String {
    REDACTOR.redact_text(text)
}

/// The same without secrets that only this text is to be searched for.
pub fn redact_also(text: &str, secrets: &[Secret]) -> String {
    let redactor = Redactor::default();
    redactor.add_found(secrets);
    redactor.redact_text(text)
}

fn build(
    writer: RedactingWriter,
    level: EnvFilter,
    colours: bool,
) -> (Telemetry, impl Subscriber + Send + Sync + 'static) {
    let (level, filter) = reload::Layer::new(level);
    let telemetry = Telemetry { redactor: Arc::clone(&writer.redactor), filter };
    let lines = match writer.format {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(writer)
            .boxed(),
        LogFormat::Text => fmt::layer().with_ansi(colours).with_writer(writer).boxed(),
    };
    (telemetry, Registry::default().with(level).with(lines))
}

/// A bare level means this program; its libraries stay at `warn`, because theirs would bury ours,
/// and PostgreSQL's notices to our own statements are said by our own lines. A filter that names
/// them still reaches them.
fn filter(level: &str) -> Result<EnvFilter, BadLevel> {
    let level = level.trim();
    match level.parse::<LevelFilter>() {
        // Its pools say that a connection was lost, which whoever used it says with the reason.
        Ok(bare) if bare >= LevelFilter::WARN => EnvFilter::try_new(format!(
            "warn,sqlx::postgres::notice=off,sqlx::pool=error,sqlx_core=error,ops_controller={bare}"
        )),
        _ => EnvFilter::try_new(level),
    }
    .map_err(|_| BadLevel)
}

fn warn_if_bad(result: Result<(), BadLevel>) {
    if let Err(bad) = result {
        tracing::warn!("LOG_LEVEL is {bad}");
    }
}
