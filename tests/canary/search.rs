//! Looks for any twelve characters in a row of any canary, in every spelling.
//!
//! The spellings are written anew here: the program's own list must not be what it is held against.
//! Twelve in a row find a whole secret, a prefix, and what is left when only a part was hidden.

use crate::canaries::Canary;
use aho_corasick::AhoCorasick;
use std::collections::{BTreeMap, BTreeSet};

/// Fewer would be found by chance; a secret of fewer characters would be no canary.
pub const WINDOW: usize = 12;

pub struct Search {
    automaton: AhoCorasick,
    /// Of which canary each pattern is a part, and in which spelling.
    origins: Vec<(String, &'static str)>,
    pub bytes: u64,
    pub lines: u64,
}

impl Search {
    pub fn of(canaries: &[Canary]) -> Search {
        let mut patterns: BTreeMap<Vec<u8>, (String, &'static str)> = BTreeMap::new();
        for canary in canaries {
            assert!(canary.value.len() >= WINDOW && canary.value.is_ascii(), "{} is no canary", canary.name);
            for start in 0..=canary.value.len() - WINDOW {
                for (spelling, text) in spellings(&canary.value[start..start + WINDOW]) {
                    patterns.entry(text.into_bytes()).or_insert_with(|| (canary.name.clone(), spelling));
                }
            }
        }
        let (patterns, origins): (Vec<_>, Vec<_>) = patterns.into_iter().unzip();
        Search { automaton: AhoCorasick::new(patterns).expect("patterns"), origins, bytes: 0, lines: 0 }
    }

    /// What is in the text, each with the place where it first stands.
    pub fn hits(&mut self, text: &[u8]) -> Vec<String> {
        self.bytes += text.len() as u64;
        self.lines += text.iter().filter(|b| **b == b'\n').count() as u64;
        let mut seen = BTreeSet::new();
        let mut hits = Vec::new();
        for found in self.automaton.find_overlapping_iter(text) {
            let (name, spelling) = &self.origins[found.pattern().as_usize()];
            if seen.insert((name, spelling)) {
                let around = &text[found.start().saturating_sub(160)..(found.end() + 60).min(text.len())];
                hits.push(format!("{name} ({spelling}): …{}…", String::from_utf8_lossy(around)));
            }
        }
        hits
    }

    #[track_caller]
    pub fn assert_none(&mut self, what: &str, text: &[u8]) {
        let hits = self.hits(text);
        assert!(hits.is_empty(), "{what} shows {} secrets:\n{}", hits.len(), hits.join("\n"));
    }
}

/// Every spelling of a piece, named.
pub fn spellings(piece: &str) -> Vec<(&'static str, String)> {
    let percent = |keep: &[u8], upper: bool| -> String {
        let encode = |b: u8| match (b, upper) {
            (b, _) if b.is_ascii_alphanumeric() || keep.contains(&b) => char::from(b).to_string(),
            (b, true) => format!("%{b:02X}"),
            (b, false) => format!("%{b:02x}"),
        };
        piece.bytes().map(encode).collect()
    };
    let inner = |quoted: String| quoted[1..quoted.len() - 1].to_owned();
    let json = inner(serde_json::Value::from(piece).to_string());
    let mut all = vec![
        ("raw", piece.to_owned()),
        ("percent-encoded", percent(b"-._~", true)),
        ("percent-encoded", percent(b"-._~", false)),
        ("percent-encoded like a component", percent(b"-._~!'()*", true)),
        ("percent-encoded in a URL's password", percent(b"-._~!'()*$&+,%", true)),
        ("form-encoded", percent(b"-._*", true).replace("%20", "+")),
        ("JSON with slashes", json.replace('/', "\\/")),
        ("JSON as Go writes it", json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")),
        ("JSON in JSON", inner(serde_json::Value::from(json.as_str()).to_string())),
        ("JSON", json),
        ("debug", inner(format!("{piece:?}"))),
        ("hex", piece.bytes().map(|b| format!("{b:02x}")).collect()),
        ("HEX", piece.bytes().map(|b| format!("{b:02X}")).collect()),
    ];
    for (name, alphabet) in [("base64", b"+/"), ("URL-safe base64", b"-_")] {
        all.extend((0..3).map(|offset| (name, base64_core(piece, offset, alphabet))));
    }
    all
}

/// The characters that depend on the piece alone when it begins `offset` bytes behind a multiple of 3.
fn base64_core(piece: &str, offset: usize, last_two: &[u8; 2]) -> String {
    let digits: Vec<u8> = (b'A'..=b'Z').chain(b'a'..=b'z').chain(b'0'..=b'9').chain(*last_two).collect();
    let bits: Vec<bool> = piece.bytes().flat_map(|b| (0..8).rev().map(move |n| b >> n & 1 == 1)).collect();
    let skipped = (6 - offset * 8 % 6) % 6;
    let sextets = bits[skipped..].chunks_exact(6);
    sextets.map(|six| six.iter().fold(0, |n, bit| n * 2 + usize::from(*bit))).map(|n| char::from(digits[n])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

    fn odd() -> Vec<Canary> {
        vec![Canary::new("ODD", crate::canaries::value("DATABASE_URL"))]
    }

    /// A sink as careless as `println!`.
    fn leaked(text: &str) -> Vec<String> {
        Search::of(&odd()).hits(format!("a line before it\nsome text {text} and more\n").as_bytes())
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        let mut search = Search::of(&odd());
        search.assert_none("a plain text", b"one line\nand [redacted] in another\n");
        assert_eq!((search.bytes, search.lines), (35, 2));
    }

    #[test]
    fn a_secret_that_leaks_on_purpose_is_caught_in_each_spelling() {
        let secret = odd().remove(0).value;
        let upper: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let lower = upper.split('%').enumerate().map(|(n, part)| match n {
            0 => part.to_owned(),
            _ => format!("%{}{}", part[..2].to_lowercase(), &part[2..]),
        });
        let mut address = url::Url::parse("postgresql://user@host/db").expect("a URL");
        address.set_password(Some(&secret)).expect("a password");
        let mut spelled = vec![
            secret.clone(),
            lower.collect(),
            upper,
            address.to_string(),
            serde_json::json!({ "password": secret }).to_string(),
            serde_json::Value::from(serde_json::json!({ "password": secret }).to_string()).to_string(),
            serde_json::json!(secret).to_string().replace('/', "\\/"),
            format!("{:?}", Some(&secret)),
            secret.bytes().map(|b| format!("{b:02x}")).collect(),
            secret.bytes().map(|b| format!("{b:02X}")).collect(),
        ];
        for user in ["", "u", "us", "use", "user:"] {
            let text = format!("{user}{secret}{user}");
            spelled.extend([STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].iter().map(|e| e.encode(&text)));
        }
        for text in spelled {
            assert!(!leaked(&text).is_empty(), "not caught: {text}");
        }
    }

    #[test]
    fn a_prefix_a_middle_and_an_end_are_caught_and_eleven_characters_are_not() {
        let secret = odd().remove(0).value;
        let end = secret.len() - WINDOW;
        for part in [&secret[..WINDOW], &secret[9..9 + WINDOW], &secret[end..]] {
            assert!(!leaked(part).is_empty(), "not caught: {part}");
        }
        assert!(leaked(&secret[..WINDOW - 1]).is_empty());
    }

    #[test]
    fn each_secret_variable_has_a_canary_of_its_own() {
        let mut all = crate::canaries::of_variables();
        all.extend(crate::canaries::of_railway());
        let starts: BTreeSet<&str> = all.iter().map(|c| &c.value[..WINDOW]).collect();
        assert!(all.len() > 10 && starts.len() == all.len(), "{all:?}");
    }
}
