//! Secrets that are known by their shape alone: tokens nobody has registered yet.

use crate::plan::secret::REDACTED;
use aho_corasick::{AhoCorasick, MatchKind};
use std::borrow::Cow;
use std::sync::LazyLock;

/// What follows a prefix.
enum Rest {
    /// The prefix is part of the secret; letters, digits, `_` and `-` follow.
    Token,
    /// The prefix stays; a run of at least so many characters up to a blank or quote is the secret.
    Word(usize),
    /// `scheme://user:PASSWORD@host`: a password may hold `/`, so the last `@` of the word counts.
    DatabaseUrl,
    /// Any other URL: an `@` in its path is no password.
    Url,
}

const SHAPES: &[(&str, Rest)] = &[
    ("tr_wgt_", Rest::Token),
    ("dop_v1_", Rest::Token),
    ("doo_v1_", Rest::Token),
    ("dor_v1_", Rest::Token),
    ("ghp_", Rest::Token),
    ("gho_", Rest::Token),
    ("ghs_", Rest::Token),
    ("ghu_", Rest::Token),
    ("ghr_", Rest::Token),
    ("github_pat_", Rest::Token),
    ("Bearer ", Rest::Word(1)),
    // In lower case it is also an ordinary word.
    ("bearer ", Rest::Word(16)),
    ("password=", Rest::Word(1)),
    ("postgres://", Rest::DatabaseUrl),
    ("postgresql://", Rest::DatabaseUrl),
    ("://", Rest::Url),
];

/// `None` only if the fixed list above could not be compiled, which a test rules out.
static PREFIXES: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    let prefixes = SHAPES.iter().map(|(prefix, _)| prefix);
    AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(prefixes).ok()
});

/// The line without any secret of a known shape; borrowed when there is none.
pub fn redact(line: &[u8]) -> Cow<'_, [u8]> {
    let Some(prefixes) = PREFIXES.as_ref() else { return Cow::Borrowed(line) };
    let mut out: Vec<u8> = Vec::new();
    let mut done = 0;
    for found in prefixes.find_iter(line) {
        // A prefix inside what is already replaced.
        if found.start() < done {
            continue;
        }
        let rest = SHAPES.get(found.pattern().as_usize()).map_or(&Rest::Url, |(_, rest)| rest);
        if let Some((start, end)) = secret_at(line, found.start(), found.end(), rest) {
            out.extend_from_slice(&line[done..start]);
            out.extend_from_slice(REDACTED.as_bytes());
            done = end;
        }
    }
    if done == 0 {
        return Cow::Borrowed(line);
    }
    out.extend_from_slice(&line[done..]);
    Cow::Owned(out)
}

/// Where the secret of a prefix at `start..end` begins and ends.
fn secret_at(line: &[u8], start: usize, end: usize, rest: &Rest) -> Option<(usize, usize)> {
    let tail = &line[end..];
    match rest {
        Rest::Token => {
            let run = run(tail, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
            (run > 0).then_some((start, end + run))
        }
        Rest::Word(least) => {
            let run = word(tail);
            // What was replaced before stays as it is.
            let done = tail.starts_with(REDACTED.as_bytes());
            (run >= *least && !done).then_some((end, end + run))
        }
        Rest::DatabaseUrl => password(&tail[..word(tail)], end),
        Rest::Url => {
            let authority = run(tail, |b| !ends_word(b) && !matches!(b, b'/' | b'?' | b'#'));
            password(&tail[..authority], end)
        }
    }
}

fn password(text: &[u8], offset: usize) -> Option<(usize, usize)> {
    let at = memchr::memrchr(b'@', text)?;
    let colon = memchr::memchr(b':', &text[..at])?;
    let password = &text[colon + 1..at];
    (!password.is_empty() && password != REDACTED.as_bytes()).then_some((offset + colon + 1, offset + at))
}

fn word(text: &[u8]) -> usize {
    run(text, |b| !ends_word(b))
}

fn ends_word(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'' | b'`' | b'<' | b'>' | b'\\')
}

fn run(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|b| !belongs(*b)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(text: &str) -> String {
        String::from_utf8_lossy(&redact(text.as_bytes())).into_owned()
    }

    #[test]
    fn tokens_headers_and_passwords_go_and_the_text_around_them_stays() {
        for (given, wanted) in [
            ("token tr_wgt_0aZ9, next", "token [redacted], next"),
            ("{\"a\":\"dop_v1_0123abcd\"}", "{\"a\":\"[redacted]\"}"),
            ("authorization: Bearer x.y-z end", "authorization: Bearer [redacted] end"),
            ("postgres://user:p/w@d@host/db?x=1", "postgres://user:[redacted]@host/db?x=1"),
            (
                "postgresql://u:p@h and postgresql://u:q@h",
                "postgresql://u:[redacted]@h and postgresql://u:[redacted]@h",
            ),
            ("https://git:token@example.com/a@b", "https://git:[redacted]@example.com/a@b"),
            ("host=h password=pw dbname=d", "host=h password=[redacted] dbname=d"),
            ("\\\"tr_wgt_abc\\\"", "\\\"[redacted]\\\""),
        ] {
            assert_eq!(redacted(given), wanted);
            assert_eq!(redacted(wanted), wanted, "a second time changes nothing");
        }
    }

    #[test]
    fn a_line_without_secrets_is_not_copied() {
        for line in
            ["tr_wgt_ and 40 letters", "sent as bearer token", "https://host:80/a@b", "postgres://user@host/db", ""]
        {
            assert!(matches!(redact(line.as_bytes()), Cow::Borrowed(_)), "{line}");
        }
    }
}
