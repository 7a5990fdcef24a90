//! The ways in which one secret can be written: as it is, percent-encoded, in base64 or hexadecimal, escaped.
//!
//! A provider's error, a URL or a header repeats a secret in the spelling of its own format; each
//! spelling is as good as the secret itself.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use std::collections::BTreeSet;

/// A core of base64 shorter than this would be found by chance in ordinary words.
const SHORTEST_CORE: usize = 8;

/// Every spelling of `secret` that is worth looking for, itself included.
pub fn spellings(secret: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::from([secret.to_owned()]);
    percent(secret, &mut all);
    in_base64(secret, &mut all);
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    all.extend([hex.to_uppercase(), hex]);
    // Three times: a provider's error quotes a JSON body, a field shows that as Debug, the log is JSON.
    for _ in 0..3 {
        let once: Vec<String> = all.iter().flat_map(|text| escaped(text)).collect();
        all.extend(once);
    }
    all
}

/// RFC 3986, JavaScript's `encodeURIComponent`, the userinfo of a URL, and forms; hex in both cases.
fn percent(secret: &str, all: &mut BTreeSet<String>) {
    let keeps: [&[u8]; 3] = [b"-._~", b"-._~!'()*", b"-._~!'()*$&+,%"];
    for keep in keeps {
        for upper in [true, false] {
            let text = percent_encoded(secret, keep, upper);
            all.insert(text.replace("%20", "+"));
            all.insert(text);
        }
    }
}

fn percent_encoded(text: &str, keep: &[u8], upper: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || keep.contains(&b) => out.push(char::from(b)),
            b if upper => out.push_str(&format!("%{b:02X}")),
            b => out.push_str(&format!("%{b:02x}")),
        }
    }
    out
}

/// Alone, and inside a longer text such as `user:secret` of basic authentication: there the first
/// and last characters mix with the neighbours, and what is between depends only on the offset.
fn in_base64(secret: &str, all: &mut BTreeSet<String>) {
    for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
        all.insert(engine.encode(secret));
    }
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for offset in 0..3 {
            let text = engine.encode([&[0; 3][..offset], secret.as_bytes()].concat());
            let first = (offset * 8).div_ceil(6);
            let end = (offset + secret.len()) * 8 / 6;
            if let Some(core) = text.get(first..end).filter(|core| core.len() >= SHORTEST_CORE) {
                all.insert(core.to_owned());
            }
        }
    }
}

/// As JSON (plain, with `\/`, as Go writes it), and as Rust's Debug.
fn escaped(text: &str) -> [String; 4] {
    let json = inner(serde_json::Value::from(text).to_string());
    let slashes = json.replace('/', "\\/");
    let go = json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    [json, slashes, go, inner(format!("{text:?}"))]
}

/// Without the quotes around it.
fn inner(quoted: String) -> String {
    quoted.strip_prefix('"').and_then(|t| t.strip_suffix('"')).map(str::to_owned).unwrap_or(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_inside_a_basic_header_is_known_at_every_offset() {
        let secret = "pa55-w0rd-of-some-length";
        for user in ["", "u", "us", "use"] {
            let header = STANDARD.encode(format!("{user}:{secret}\n"));
            let known = spellings(secret);
            assert!(known.iter().any(|s| s != secret && header.contains(s.as_str())), "{header}");
        }
    }

    #[test]
    fn a_secret_is_known_as_go_and_other_careful_servers_write_it_in_json() {
        assert!(spellings("a<b>c&d\"e").contains("a\\u003cb\\u003ec\\u0026d\\\"e"));
    }

    #[test]
    fn a_secret_is_known_as_a_database_writes_bytes() {
        let known = spellings("pw\u{e9}");
        assert!(known.contains("7077c3a9") && known.contains("7077C3A9"));
    }

    #[test]
    fn a_plain_secret_has_few_spellings_and_an_odd_one_has_many() {
        assert!(spellings("abcdefgh1234").len() < 12);
        assert!(spellings("a\"b/c d\\e%é").len() < 500);
    }
}
