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
/// So much of a long secret's beginning gives it away: a provider that shortens what it repeats leaves
/// that. Fewer characters could be an ordinary word, or the prefix that all tokens of a kind share.
const HEAD: usize = 12;
/// Secrets known at once. A deployment has about ten; tokens found at run time come one by one.
const MOST: usize = 512;

/// Knows the secrets, and replaces them.
#[derive(Default)]
pub struct Redactor {
    known: Mutex<Vec<Known>>,
    /// Rebuilt outside this lock, so that a panic while building can still be logged.
    patterns: RwLock<Option<Arc<Patterns>>>,
}

/// All spellings of all secrets, found by their heads.
struct Patterns {
    automaton: AhoCorasick,
    spellings: Vec<String>,
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
            // Fails only past four thousand million states; the previous one is kept then.
            if let Some(patterns) = Patterns::of(&known) {
                *self.patterns.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(patterns));
            }
        }
    }

    /// The line without secrets; borrowed when there is none, after one pass of a prefiltered search.
    pub fn redact<'a>(&self, line: &'a [u8]) -> Cow<'a, [u8]> {
        let patterns = self.patterns.read().unwrap_or_else(PoisonError::into_inner).clone();
        let values = match patterns {
            Some(patterns) => patterns.replace(line),
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

impl Patterns {
    fn of(known: &[Known]) -> Option<Patterns> {
        let (mut heads, mut all) = (Vec::new(), Vec::new());
        for Known { value, .. } in known {
            for spelling in spellings(value).into_iter().filter(|s| s.len() >= SHORTEST) {
                heads.push(spelling.as_bytes()[..head(value, &spelling)].to_vec());
                all.push(spelling);
            }
        }
        Some(Patterns { automaton: AhoCorasick::new(heads).ok()?, spellings: all })
    }

    /// How far a secret goes on behind a match of its head.
    fn rest(&self, pattern: usize, head: &[u8], behind: &[u8]) -> usize {
        let spelling = self.spellings.get(pattern).map(String::as_bytes).unwrap_or_default();
        let rest = spelling.get(head.len()..).unwrap_or_default();
        rest.iter().zip(behind).take_while(|(a, b)| a == b).count()
    }

    /// Overlapping matches are one: the end of a second secret must not survive the first.
    fn replace<'a>(&self, line: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.automaton.is_match(line) {
            return Cow::Borrowed(line);
        }
        let found = self.automaton.find_overlapping_iter(line);
        let whole = found.map(|m| {
            let rest = self.rest(m.pattern().as_usize(), &line[m.range()], &line[m.end()..]);
            (m.start(), m.end() + rest)
        });
        without(line, whole.collect())
    }
}

/// How much of a spelling is looked for. An address begins like any other: all of it counts.
fn head(secret: &str, spelling: &str) -> usize {
    match secret.len() > HEAD && !secret.contains("://") {
        true => spelling.len().min(HEAD),
        false => spelling.len(),
    }
}

fn without(line: &[u8], mut spans: Vec<(usize, usize)>) -> Cow<'_, [u8]> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_secret_that_was_cut_short_goes_too() {
        let redactor = Redactor::default();
        redactor.add_configured(&[Secret::new("a-secret/of some length"), Secret::new("postgresql://u:pw@h/d")]);
        for (given, wanted) in [
            ("<a-secret/of some length>", "<[redacted]>"),
            ("<a-secret/of some…", "<[redacted]…"),
            ("a%2Dsecret a-secret%2Fof%20so more", "a%2Dsecret [redacted] more"),
            ("YS1zZWNyZXQvb2Yg...", "[redacted]..."),
            ("a-secret/o is eleven too few", "a-secret/o is eleven too few"),
            ("postgresql://v@h", "postgresql://v@h"),
        ] {
            assert_eq!(redactor.redact_text(given), wanted);
        }
    }
}
