//! What a runner offers to do: the kinds that its settings let it execute, and which of them it claims now.
//!
//! A kind is left out for good when a setting is missing, and held while something outside is not there.
//! What this refuses: to leave out or to hold anything without saying why.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A kind that is not executed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    pub kind: String,
    /// Names the variable that brings it.
    pub why: String,
}

#[derive(Debug, Default)]
pub struct Offer {
    left_out: Vec<LeftOut>,
    /// Kinds that are not claimed for now, each with what is missing.
    held: Mutex<BTreeMap<String, String>>,
}

impl Offer {
    pub fn without(left_out: Vec<LeftOut>) -> Offer {
        Offer { left_out, held: Mutex::default() }
    }

    /// Why a kind is left out for good; `None`: it is not.
    pub fn left_out(&self, kind: &str) -> Option<&str> {
        self.left_out.iter().find(|left| left.kind == kind).map(|left| left.why.as_str())
    }

    pub fn hold(&self, kinds: &[String], why: &str) {
        self.held().extend(kinds.iter().map(|kind| (kind.clone(), why.to_owned())));
    }

    pub fn release(&self, kinds: &[String]) {
        self.held().retain(|kind, _| !kinds.contains(kind));
    }

    /// What is missing for a kind right now; `None`: it is claimed.
    pub fn missing(&self, kind: &str) -> Option<String> {
        self.held().get(kind).cloned()
    }

    /// Of these kinds, those that are claimed now.
    pub fn claimed<'a>(&self, kinds: impl Iterator<Item = &'a String>) -> Vec<String> {
        let held = self.held();
        kinds.filter(|kind| !held.contains_key(*kind)).cloned().collect()
    }

    /// One sentence: what is worked on, and why not on the rest.
    pub fn told<'a>(&self, kinds: impl Iterator<Item = &'a String>) -> String {
        let claimed = self.claimed(kinds);
        let mut text = if claimed.is_empty() { "works on nothing".to_owned() } else { "works on ".to_owned() };
        text.push_str(&claimed.join(", "));
        let left = self.left_out.iter().map(|left| (left.kind.clone(), left.why.clone()));
        let held: Vec<_> = self.held().iter().map(|(kind, why)| (kind.clone(), format!("for now, {why}"))).collect();
        let mut why: Vec<(String, Vec<String>)> = Vec::new();
        for (kind, reason) in left.chain(held) {
            match why.iter_mut().find(|(told, _)| *told == reason) {
                Some((_, kinds)) => kinds.push(kind),
                None => why.push((reason, vec![kind])),
            }
        }
        for (reason, kinds) in why {
            let _ = write!(text, "; not on {}: {reason}", kinds.join(", "));
        }
        text
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn an_offer_of_everything_says_what_it_is_and_nothing_else() {
        let offer = Offer::default();
        let kinds = names(&["build", "custom"]);
        assert_eq!(offer.told(kinds.iter()), "works on build, custom");
        assert_eq!((offer.claimed(kinds.iter()), offer.missing("build")), (kinds, None));
    }

    #[test]
    fn what_is_not_worked_on_is_told_with_its_reason_once() {
        let left = |kind: &str| LeftOut { kind: kind.to_owned(), why: "X is not set".to_owned() };
        let offer = Offer::without(vec![left("backup"), left("restore")]);
        let kinds = names(&["build", "custom"]);
        offer.hold(&names(&["build"]), "the store is away");
        let told = "works on custom; not on backup, restore: X is not set; not on build: for now, the store is away";
        assert_eq!(offer.told(kinds.iter()), told);
        offer.hold(&kinds, "gone");
        assert!(offer.told(kinds.iter()).starts_with("works on nothing; "));
        offer.release(&kinds);
        assert_eq!(offer.claimed(kinds.iter()), kinds);
    }
}
