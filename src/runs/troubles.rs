//! What keeps this process from working on runs, in the words of those who found it; for those who ask.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One sentence for each thing that is away; shared by everybody who holds a clone.
#[derive(Debug, Clone, Default)]
pub struct Troubles(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Troubles {
    /// True: nothing was wrong with it before.
    pub fn found(&self, with: &'static str, what: String) -> bool {
        self.all().insert(with, what).is_none()
    }

    /// True: something was wrong with it before.
    pub fn passed(&self, with: &'static str) -> bool {
        self.all().remove(with).is_some()
    }

    pub fn list(&self) -> Vec<String> {
        self.all().values().cloned().collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_in_its_last_words_until_it_has_passed() {
        let troubles = Troubles::default();
        assert!(troubles.list().is_empty() && !troubles.passed("store"));
        assert!(troubles.found("store", "away".into()) && !troubles.found("store", "full".into()));
        assert_eq!(troubles.clone().list(), ["full"]);
        assert!(troubles.passed("store") && troubles.list().is_empty());
    }
}
