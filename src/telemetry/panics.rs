//! Panics go to the log like everything else, redacted: a panic message may quote any value.

use super::redact_text;
use std::panic::PanicHookInfo;

/// Replaces the default hook, which prints the payload to stderr as it is.
pub fn install() {
    std::panic::set_hook(Box::new(|info| {
        let message = redact_text(message(info));
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        // Inside the formatting of another event there is no subscriber; then stderr is what is left.
        if tracing::enabled!(tracing::Level::ERROR) {
            tracing::error!(location, "panicked: {message}");
        } else {
            use std::io::Write;
            // `eprintln!` panics when stderr is closed.
            let _ = writeln!(std::io::stderr(), "panicked at {location}: {message}");
        }
    }));
}

fn message<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    info.payload_as_str().unwrap_or("(no message)")
}
