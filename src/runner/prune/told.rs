//! What a pass came to: what went or would go, and what stays and why.

use serde::Serialize;
use std::collections::BTreeMap;

/// Of what stays for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    pub what: String,
    pub why: String,
    pub count: u64,
    /// One of them.
    pub example: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    gone: BTreeMap<String, u64>,
    kept: Vec<Kept>,
    /// Why something could not be removed that should have been.
    pub trouble: Option<String>,
}

impl Report {
    pub fn went(&mut self, what: &str, count: i64) {
        let count = u64::try_from(count).unwrap_or_default();
        if count > 0 {
            *self.gone.entry(what.to_owned()).or_default() += count;
        }
    }

    pub fn stays(&mut self, what: &str, why: &str, id: &str) {
        match self.kept.iter_mut().find(|kept| kept.what == what && kept.why == why) {
            Some(kept) => kept.count += 1,
            None => {
                self.kept.push(Kept { what: what.to_owned(), why: why.to_owned(), count: 1, example: id.to_owned() })
            }
        }
    }

    /// By what it was.
    pub fn gone(&self) -> impl Iterator<Item = (String, u64)> {
        self.gone.clone().into_iter()
    }

    pub fn kept(&self) -> &[Kept] {
        &self.kept
    }

    pub fn has_removed(&self) -> bool {
        !self.gone.is_empty()
    }

    /// `3 artifacts, 12 events`
    pub fn told(&self) -> String {
        self.gone.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
    }
}
