//! Railway's log filter language: words, "quoted phrases", `@name:value`, AND, OR, `-`, parentheses.
//!
//! Words and phrases are substrings of the message, never of an attribute. There are no wildcards
//! and no regular expressions. What cannot be parsed is taken as text, since nobody documents
//! an error.

use crate::sandbox::webapp::deployments::LogLine;
use serde_json::Value;

#[derive(Debug, PartialEq)]
pub(super) enum Filter {
    Text(String),
    Attribute(String, String),
    Not(Box<Filter>),
    All(Vec<Filter>),
    Any(Vec<Filter>),
}

impl Filter {
    pub fn parse(text: &str) -> Filter {
        let mut words = words(text);
        words.reverse();
        any(&mut words)
    }

    pub fn accepts(&self, service: &str, deployment: &str, line: &LogLine) -> bool {
        match self {
            Filter::Text(text) => line.message.contains(text),
            Filter::Attribute(name, value) => match name.as_str() {
                "service" => service == value,
                "deployment" => deployment == value,
                "level" => line.severity == value,
                _ => line.attributes.iter().any(|(key, seen)| key == name && plain(seen) == *value),
            },
            Filter::Not(filter) => !filter.accepts(service, deployment, line),
            Filter::All(filters) => filters.iter().all(|f| f.accepts(service, deployment, line)),
            Filter::Any(filters) => filters.iter().any(|f| f.accepts(service, deployment, line)),
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

#[derive(Debug, PartialEq)]
enum Word {
    Open,
    Close,
    And,
    Or,
    Minus,
    Term(Filter),
}

fn words(text: &str) -> Vec<Word> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, after) = match first {
            '(' => (Word::Open, &rest[1..]),
            ')' => (Word::Close, &rest[1..]),
            '-' => (Word::Minus, &rest[1..]),
            _ => term(rest),
        };
        found.push(word);
        rest = after.trim_start();
    }
    found
}

fn term(text: &str) -> (Word, &str) {
    if let Some(quoted) = text.strip_prefix('"') {
        let (phrase, rest) = quoted.split_once('"').unwrap_or((quoted, ""));
        return (Word::Term(Filter::Text(phrase.to_string())), rest);
    }
    let end = text.find(|c: char| c.is_whitespace() || c == '(' || c == ')').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let word = match word {
        "AND" => Word::And,
        "OR" => Word::Or,
        _ => match word.strip_prefix('@').and_then(|pair| pair.split_once(':')) {
            Some((name, value)) => Word::Term(Filter::Attribute(name.to_string(), value.trim_matches('"').to_string())),
            None => Word::Term(Filter::Text(word.to_string())),
        },
    };
    (word, rest)
}

/// The words come from the end of the vector, which holds them in reverse.
fn any(words: &mut Vec<Word>) -> Filter {
    let mut choices = vec![all(words)];
    while words.last() == Some(&Word::Or) {
        words.pop();
        choices.push(all(words));
    }
    if choices.len() == 1 { choices.remove(0) } else { Filter::Any(choices) }
}

fn all(words: &mut Vec<Word>) -> Filter {
    let mut parts = Vec::new();
    loop {
        match words.pop() {
            // Two terms side by side must both hold, with or without AND between them.
            Some(Word::And) => {}
            Some(Word::Term(filter)) => parts.push(filter),
            Some(Word::Minus) => parts.push(Filter::Not(Box::new(negated(words)))),
            Some(Word::Open) => parts.push(group(words)),
            Some(end @ (Word::Or | Word::Close)) => {
                words.push(end);
                return Filter::All(parts);
            }
            None => return Filter::All(parts),
        }
    }
}

fn negated(words: &mut Vec<Word>) -> Filter {
    match words.pop() {
        Some(Word::Term(filter)) => filter,
        Some(Word::Open) => group(words),
        _ => Filter::Text("-".to_string()),
    }
}

fn group(words: &mut Vec<Word>) -> Filter {
    let inner = any(words);
    if words.last() == Some(&Word::Close) {
        words.pop();
    }
    inner
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(filter: &str, message: &str) -> bool {
        let line = LogLine {
            at: jiff::Timestamp::UNIX_EPOCH,
            message: message.to_string(),
            severity: "error",
            attributes: vec![("token".to_string(), Value::from("hidden"))],
        };
        Filter::parse(filter).accepts("service-1", "deployment-1", &line)
    }

    #[test]
    fn words_phrases_and_their_combinations() {
        assert!(accepts("worker token", "the worker lost its token"));
        assert!(!accepts("\"worker token\"", "the worker lost its token"));
        assert!(accepts("nothing OR lost", "the worker lost its token"));
        assert!(!accepts("worker AND -lost", "the worker lost its token"));
        assert!(accepts("(nothing OR worker) AND -(gone OR found)", "the worker lost its token"));
        assert!(accepts("", "anything"));
        assert!(accepts("\"open", "left open"));
    }

    #[test]
    fn attributes_are_asked_by_name_and_never_by_text() {
        assert!(accepts("@token:hidden AND @level:error", "message"));
        assert!(accepts("@service:service-1", "message"));
        assert!(!accepts("@service:service-2", "message"));
        assert!(!accepts("hidden", "message"));
    }
}
