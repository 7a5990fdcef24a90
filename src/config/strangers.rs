//! Names that are set and are not ours: the misspelt ones, and what stands in `ENV_FILE` for nothing.
//!
//! The environment is everybody's, so only what is nearly ours counts there; `ENV_FILE` is ours alone.

use super::source::Source;
use super::variables::{VARIABLES, Variable};
use crate::spelling::distance;

/// Names that a file shared with compose may hold for somebody else.
const OF_OTHERS: [&str; 8] =
    ["TZ", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "RUST_LOG", "RUST_BACKTRACE"];

/// A name that is not ours.
pub struct Stranger {
    pub name: String,
    /// The variable that was probably meant.
    pub nearest: Option<&'static str>,
}

impl Stranger {
    /// Begins with the name.
    pub fn warning(&self) -> String {
        match self.nearest {
            Some(ours) => format!("{} is not a variable of ops-controller; did you mean {ours}?", self.name),
            // The second line of a secret, perhaps, that ends in the padding of base64.
            None if !is_name(&self.name) => {
                "ENV_FILE has a line before whose = stands no name in capitals; it is not read".to_owned()
            }
            None => format!("{} in ENV_FILE is not a variable of ops-controller, and is not read", self.name),
        }
    }
}

pub fn strangers(source: &Source) -> Vec<Stranger> {
    let mut found: Vec<Stranger> = Vec::new();
    for (name, in_file) in source.foreign() {
        let upper = name.to_ascii_uppercase();
        let nearest = nearest(&upper);
        let of_others = OF_OTHERS.contains(&upper.as_str()) || upper.starts_with("COMPOSE_");
        if (nearest.is_some() || (in_file && !of_others)) && !found.iter().any(|s| s.name == name) {
            found.push(Stranger { name: name.to_owned(), nearest });
        }
    }
    found
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

fn nearest(upper: &str) -> Option<&'static str> {
    let base = upper.strip_suffix("_FILE");
    // In `NAME_FILE` only the names of secrets count.
    let away = |v: &Variable| match base.filter(|_| v.secret) {
        Some(base) => distance(base, v.name).min(distance(upper, v.name)),
        None => distance(upper, v.name),
    };
    let long = VARIABLES.iter().filter(|v| v.name.len() >= 6);
    long.map(|v| (away(v), v.name)).min().filter(|(d, _)| *d <= 2).map(|(_, name)| name)
}
