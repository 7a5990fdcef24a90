//! The last line of defence: no known secret leaves this process in text, in any of its spellings.
//!
//! `Secret` already refuses to print itself; this catches what got past the types: a provider that
//! repeats a token in its error, a URL with its password, a panic message. It promises nothing for a
//! secret that was never registered and has no known shape.

use super::shapes;
use super::spellings::spellings;
use crate::plan::secret::{REDACTED, Secret};
use aho_corasick::AhoCorasick;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Shorter ones are part of ordinary words: replacing `pg` everywhere would destroy the log, and
/// what is left would still show where it stood.
const SHORTEST: usize = 4;
/// Secrets known at once. A deployment has about ten; tokens found at run time come one by one.
const MOST: usize = 512;

/// Knows the secrets, and replaces them.
#[derive(Default)]
pub struct Redactor {
    known: Mutex<Vec<Known>>,
    /// Rebuilt outside this lock, so that a panic while building can still be logged.
    automaton: RwLock<Option<Arc<AhoCorasick>>>,
}

struct Known {
    value: String,
    /// From configuration; the others are the first to be forgotten.
    configured: bool,
}

impl Redactor {
    /// Secrets of the configuration.
    pub fn add_configured(&self, secrets: &[Secret]) {
        self.add(secrets, true);
    }

    /// Secrets found at run time.
    pub fn add_found(&self, secrets: &[Secret]) {
        self.add(secrets, false);
    }

    fn add(&self, secrets: &[Secret], configured: bool) {
        let mut known = lock(&self.known);
        let mut changed = false;
        for value in secrets.iter().map(Secret::expose).filter(|v| v.len() >= SHORTEST) {
            if let Some(known) = known.iter_mut().find(|k| k.value == value) {
                known.configured |= configured;
                continue;
            }
            if known.len() >= MOST {
                let oldest = known.iter().position(|k| !k.configured).unwrap_or(0);
                known.remove(oldest);
            }
            known.push(Known { value: value.to_owned(), configured });
            changed = true;
        }
        if changed {
            let all = known.iter().flat_map(|k| spellings(&k.value));
            // Fails only past four thousand million states; the previous one is kept then.
            if let Ok(automaton) = AhoCorasick::new(all.filter(|s| s.len() >= SHORTEST)) {
                *self.automaton.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(automaton));
            }
        }
    }

    /// The line without secrets; borrowed when there is none, after one pass of a prefiltered search.
    pub fn redact<'a>(&self, line: &'a [u8]) -> Cow<'a, [u8]> {
        let automaton = self.automaton.read().unwrap_or_else(PoisonError::into_inner).clone();
        let values = match automaton {
            Some(automaton) => replace_values(&automaton, line),
            None => Cow::Borrowed(line),
        };
        match values {
            Cow::Borrowed(line) => shapes::redact(line),
            Cow::Owned(line) => Cow::Owned(shapes::redact(&line).into_owned()),
        }
    }

    pub fn redact_text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.redact(text.as_bytes())).into_owned()
    }
}

/// Overlapping matches are one: the end of a second secret must not survive the first.
fn replace_values<'a>(automaton: &AhoCorasick, line: &'a [u8]) -> Cow<'a, [u8]> {
    if !automaton.is_match(line) {
        return Cow::Borrowed(line);
    }
    let mut spans: Vec<(usize, usize)> = automaton.find_overlapping_iter(line).map(|m| (m.start(), m.end())).collect();
    spans.sort_unstable();
    let mut merged: Vec<(usize, usize)> = Vec::with_capacity(spans.len());
    for (start, end) in spans {
        match merged.last_mut() {
            Some(last) if start < last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    let mut out = Vec::with_capacity(line.len());
    let mut done = 0;
    for (start, end) in merged {
        out.extend_from_slice(&line[done..start]);
        out.extend_from_slice(REDACTED.as_bytes());
        done = end;
    }
    out.extend_from_slice(&line[done..]);
    Cow::Owned(out)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
