//! Finds worker tokens in log lines, and tells a printed token from a refused one.
//!
//! Accepted is only what the bootstrap block prints: the token alone on its line, or exactly
//! `TRIGGER_WORKER_TOKEN=<token>`. A line that reports a refusal condemns every token in it.

use super::secret::Secret;
use super::token::is_token;

pub use super::token::PREFIX;

/// One log line as Railway returns it: JSON lines are taken apart into attributes.
#[derive(Debug, Clone, Default)]
pub struct LogLine {
    pub message: String,
    /// Values as Railway gives them: usually JSON-quoted.
    pub attributes: Vec<(String, String)>,
}

/// What webapps write when they refuse a token; before 4.5.9 together with the token itself.
const REFUSALS: [&str; 3] = ["no matching worker group", "worker group not found", "invalid or missing worker token"];

/// Tokens found and refused, over all lines of a search.
#[derive(Debug, Default)]
pub struct Harvest {
    printed: Vec<String>,
    refused: Vec<String>,
}

impl Harvest {
    pub fn read(&mut self, line: &LogLine) {
        let texts = || std::iter::once(line.message.as_str()).chain(line.attributes.iter().map(|(_, v)| v.as_str()));
        if !texts().any(may_hold_token) {
            return;
        }
        if texts().any(reports_refusal) {
            self.refused.extend(texts().flat_map(tokens_in));
            return;
        }
        // A lone token in an attribute is somebody's field, not the bootstrap block.
        self.printed.extend(printed_in(&line.message, true));
        self.printed.extend(line.attributes.iter().flat_map(|(_, value)| printed_in(&unquote(value), false)));
    }

    /// Tokens printed by a bootstrap and refused by no line; each once, in the order of the lines.
    pub fn tokens(&self) -> Vec<Secret> {
        let mut seen = Vec::new();
        for token in &self.printed {
            if !self.refused.contains(token) && !seen.contains(token) {
                seen.push(token.clone());
            }
        }
        seen.into_iter().map(Secret::new).collect()
    }
}

/// A cheap look before anything is parsed: almost no log line holds the prefix.
fn may_hold_token(text: &str) -> bool {
    memchr::memmem::find(text.as_bytes(), PREFIX.as_bytes()).is_some()
}

fn reports_refusal(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    REFUSALS.iter().any(|refusal| text.contains(refusal))
}

/// Every full-length token in the text, wherever it stands.
fn tokens_in(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).filter(|w| is_token(w)).map(str::to_owned).collect()
}

/// Tokens as the bootstrap block prints them; `alone` also takes a line that is only the token.
fn printed_in(text: &str, alone: bool) -> Vec<String> {
    strip_ansi(text)
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            let assigned = line.strip_prefix("TRIGGER_WORKER_TOKEN=");
            let candidate = assigned.or(alone.then_some(line))?;
            is_token(candidate).then(|| candidate.to_owned())
        })
        .collect()
}

/// Attribute values come JSON-quoted (`"\"info\""`); anything else is taken as it is.
fn unquote(value: &str) -> String {
    serde_json::from_str::<String>(value).unwrap_or_else(|_| value.to_owned())
}

fn strip_ansi(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            out.push(c);
        } else if chars.next() == Some('[') {
            // Skip to the final byte of the control sequence.
            for c in chars.by_ref() {
                if ('@'..='~').contains(&c) {
                    break;
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "tr_wgt_0123456789abcdefghijABCDEFGHIJ0123456789";
    const OTHER: &str = "tr_wgt_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";

    fn harvest(lines: &[LogLine]) -> Vec<String> {
        let mut harvest = Harvest::default();
        lines.iter().for_each(|l| harvest.read(l));
        harvest.tokens().iter().map(|t| t.expose().to_owned()).collect()
    }

    fn line(message: &str) -> LogLine {
        LogLine { message: message.into(), attributes: vec![] }
    }

    #[test]
    fn lines_without_a_token_give_nothing() {
        assert!(harvest(&[line("hello"), line("tr_wgt_short"), line("")]).is_empty());
    }

    #[test]
    fn the_bootstrap_block_gives_its_token_once_line_by_line_or_as_one_message() {
        let block = format!("Token:\n{GOOD}\n\nIf using docker compose, set:\nTRIGGER_WORKER_TOKEN={GOOD}\n");
        assert_eq!(harvest(&[line(&block)]), [GOOD]);
        let lines: Vec<_> = block.lines().map(line).collect();
        assert_eq!(harvest(&lines), [GOOD]);
        assert_eq!(harvest(&[line(&format!("\u{1b}[32m{GOOD}\u{1b}[0m"))]), [GOOD]);
    }

    #[test]
    fn defect_9_a_refused_token_is_never_taken_even_when_it_is_the_newest() {
        let refused = LogLine {
            message: "[WorkerGroupTokenService] No matching worker group found".into(),
            attributes: vec![("token".into(), format!("\"{OTHER}\""))],
        };
        let assigned = format!("TRIGGER_WORKER_TOKEN={OTHER}");
        assert_eq!(harvest(&[line(GOOD), refused, line(&assigned), line(OTHER)]), [GOOD]);
    }

    #[test]
    fn only_a_full_length_token_counts() {
        for text in [&GOOD[..46], &format!("{GOOD}x"), &format!("token {GOOD}"), &format!("\"{GOOD}\"")] {
            assert!(harvest(&[line(text)]).is_empty(), "{text}");
        }
    }

    #[test]
    fn a_block_inside_an_attribute_counts_and_a_lone_token_field_does_not() {
        let attribute = |value: String| LogLine { message: "log".into(), attributes: vec![("text".into(), value)] };
        assert_eq!(harvest(&[attribute(format!("\"set:\\nTRIGGER_WORKER_TOKEN={GOOD}\\n\""))]), [GOOD]);
        assert!(harvest(&[attribute(format!("\"{GOOD}\""))]).is_empty());
    }
}
