//! What Railway knows of a running program: deployments, their states and their log lines.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Two lines written at once still get different times, as Railway's nanoseconds give them.
const NEXT_LINE: SignedDuration = SignedDuration::from_micros(1);

/// A sandbox may run for weeks; like Railway's, its memory of lines and requests is bounded.
pub(in crate::sandbox) const REMEMBERED: usize = 10_000;

/// Forgets the oldest, in portions, so that adding stays cheap.
pub(in crate::sandbox) fn forget_oldest<T>(list: &mut Vec<T>) {
    if list.len() >= 2 * REMEMBERED {
        list.drain(..list.len() - REMEMBERED);
    }
}

#[derive(Debug, Clone)]
pub struct LogLine {
    pub at: Timestamp,
    pub message: String,
    pub severity: &'static str,
    /// What Railway parsed away from a JSON line, beside its message.
    pub attributes: Vec<(String, Value)>,
}

/// Statuses are Railway's own words; an unknown one is as welcome as it is over there.
#[derive(Debug, Clone)]
pub struct Deployment {
    pub id: String,
    pub image: String,
    pub created_at: Timestamp,
    pub status: String,
    pub status_updated_at: Timestamp,
    pub instance_id: String,
    pub instance_status: &'static str,
    pub lines: Vec<LogLine>,
    /// What was logged before there was a process.
    pub build_lines: Vec<LogLine>,
    /// Everything in this deployment happened that much earlier than the clock says.
    pub age: SignedDuration,
}

impl Deployment {
    pub fn new(id: String, instance_id: String, image: String, age: SignedDuration) -> Deployment {
        let now = Timestamp::now() - age;
        Deployment {
            id,
            image,
            created_at: now,
            status: "INITIALIZING".to_string(),
            status_updated_at: now,
            instance_id,
            instance_status: "INITIALIZING",
            lines: Vec::new(),
            build_lines: Vec::new(),
            age,
        }
    }

    /// Those that may be serving; a newer one that is still being built is not among them.
    pub fn is_active(&self) -> bool {
        ["SUCCESS", "SLEEPING", "CRASHED"].contains(&self.status.as_str())
    }

    pub fn set(&mut self, status: &str, instance: &'static str) {
        self.status = status.to_string();
        self.instance_status = instance;
        self.status_updated_at = Timestamp::now() - self.age;
    }

    /// A program printed this; each line becomes a message of its own.
    pub fn print(&mut self, text: &str, severity: &'static str) {
        for line in text.split('\n') {
            self.push(line.to_string(), severity, Vec::new());
        }
    }

    /// The builder, or whoever pulls the image, printed this line.
    pub fn print_build(&mut self, text: &str, severity: &'static str) {
        let at = Timestamp::now() - self.age;
        self.build_lines.push(LogLine { at, message: text.to_string(), severity, attributes: Vec::new() });
    }

    /// A program printed one line of JSON; Railway keeps `message` and turns the rest to attributes.
    pub fn print_json(&mut self, message: &str, severity: &'static str, attributes: &[(&str, &str)]) {
        let level = ("level".to_string(), Value::from(severity));
        let rest = attributes.iter().map(|(key, value)| (key.to_string(), Value::from(*value)));
        self.push(message.to_string(), severity, std::iter::once(level).chain(rest).collect());
    }

    fn push(&mut self, message: String, severity: &'static str, attributes: Vec<(String, Value)>) {
        let now = Timestamp::now() - self.age;
        let at = match self.lines.last() {
            Some(last) if last.at >= now => last.at + NEXT_LINE,
            _ => now,
        };
        forget_oldest(&mut self.lines);
        self.lines.push(LogLine { at, message, severity, attributes });
    }
}
