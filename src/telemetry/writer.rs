//! Where log lines go: collected per event, redacted, written at once.

use super::redact::Redactor;
use crate::config::LogFormat;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use tracing_subscriber::fmt::MakeWriter;

/// No line of ours comes near it; a provider's answer that got into one must not fill the memory.
pub const LONGEST_LINE: usize = 256 * 1024;

pub type Sink = Arc<Mutex<dyn Write + Send>>;

/// Makes one [`Line`] per event.
#[derive(Clone)]
pub struct RedactingWriter {
    pub redactor: Arc<Redactor>,
    pub sink: Sink,
    pub format: LogFormat,
}

impl<'a> MakeWriter<'a> for RedactingWriter {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { to: self, text: Vec::new(), too_long: false }
    }
}

/// One event's text. Nothing is written before it is complete: a secret may lie across two writes.
pub struct Line<'a> {
    to: &'a RedactingWriter,
    text: Vec<u8>,
    too_long: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.text.len() + part.len() > LONGEST_LINE {
            self.too_long = true;
            self.text = Vec::new();
        }
        if !self.too_long {
            self.text.extend_from_slice(part);
        }
        Ok(part.len())
    }

    /// Does nothing: a flush in the middle of an event would cut a secret in two.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if self.too_long {
            // Cut, it could end in half a secret, and would be no JSON.
            self.text = dropped(self.to.format);
        }
        let line = self.to.redactor.redact(&self.text);
        let mut sink = self.to.sink.lock().unwrap_or_else(PoisonError::into_inner);
        // A closed stdout must not end the daemon, and there is nowhere left to report it.
        let _ = sink.write_all(&line).and_then(|()| sink.flush());
    }
}

fn dropped(format: LogFormat) -> Vec<u8> {
    let message = format!("a log line of more than {LONGEST_LINE} bytes was dropped");
    let now = jiff::Timestamp::now();
    match format {
        LogFormat::Json => format!(
            "{{\"timestamp\":\"{now}\",\"level\":\"WARN\",\"message\":\"{message}\",\"target\":\"{}\"}}\n",
            module_path!()
        ),
        LogFormat::Text => format!("{now}  WARN {}: {message}\n", module_path!()),
    }
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::secret::Secret;

    #[test]
    fn a_secret_that_lies_across_writes_and_flushes_is_found() {
        let redactor = Arc::new(Redactor::default());
        redactor.add_configured(&[Secret::new("some-secret")]);
        let sink = Arc::new(Mutex::new(Vec::new()));
        let writer = RedactingWriter { redactor, sink: sink.clone(), format: LogFormat::Text };
        let mut line = writer.make_writer();
        for part in ["before some-", "sec", "ret after\n"] {
            line.write_all(part.as_bytes()).and_then(|()| line.flush()).expect("memory");
        }
        drop(line);
        assert_eq!(*sink.lock().expect("not poisoned"), b"before [redacted] after\n");
    }
}
