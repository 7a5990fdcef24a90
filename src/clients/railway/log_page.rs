//! One raw page of logs: searched as bytes, and parsed only where a token may stand.
//!
//! Almost no page holds one, and parsing is tens of times dearer than searching.

mod scan;

use super::{parse_body, wire};
use crate::clients::ClientError;
use crate::plan::logs::{self, Harvest, LogLine};
use memchr::{memchr, memmem};
use scan::{Needle, scan};

/// Stands once in every line, and never in a text: there its quotes are escaped.
const KEY: Needle = Needle { text: b"\"timestamp\":", rare: [9, 11] };
const PREFIX: Needle = Needle { text: logs::PREFIX.as_bytes(), rare: [2, 3] };

/// What one page of logs brought.
#[derive(Debug)]
pub struct LogPage {
    pub lines: usize,
    /// RFC 3339 of the oldest line: the next page ends there.
    pub oldest: Option<String>,
}

impl LogPage {
    /// Takes an answer's body into the harvest.
    pub fn read(body: &[u8], request_id: Option<&str>, harvest: &mut Harvest) -> Result<LogPage, ClientError> {
        let (page, may_hold_token) = LogPage::skim(body);
        // Errors are short; a body that could hold one or a token is read properly.
        if may_hold_token || page.lines == 0 {
            let logs: wire::Logs = parse_body("search logs", body, request_id)?;
            for line in logs.deployment_logs {
                harvest.read(&LogLine {
                    message: line.message,
                    attributes: line.attributes.into_iter().map(|a| (a.key, a.value)).collect(),
                });
            }
        }
        Ok(page)
    }

    /// Counts lines, takes the oldest timestamp (lines come oldest first), and looks for the token's
    /// prefix, all without parsing the page.
    fn skim(body: &[u8]) -> (LogPage, bool) {
        let (lines, may_hold_token) = scan(body, KEY, PREFIX);
        let oldest = || {
            let rest = &body[memmem::find(body, KEY.text)? + KEY.text.len()..];
            let open = memchr(b'"', rest)?;
            let close = memchr(b'"', &rest[open + 1..])?;
            std::str::from_utf8(&rest[open + 1..open + 1 + close]).ok().map(str::to_owned)
        };
        (LogPage { lines, oldest: oldest() }, may_hold_token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "tr_wgt_0123456789abcdefghijABCDEFGHIJ0123456789";

    #[test]
    fn a_page_is_skimmed_for_its_length_and_its_oldest_line() {
        let (empty, _) = LogPage::skim(br#"{"data":{"deploymentLogs":[]}}"#);
        assert_eq!((empty.lines, empty.oldest), (0, None));
        let (page, _) = LogPage::skim(br#"{"data":{"deploymentLogs":[{"timestamp":"2026-01-01T00:00:00Z","message":"a"},{"timestamp": "2026-01-02T00:00:00Z"}]}}"#);
        assert_eq!((page.lines, page.oldest.as_deref()), (2, Some("2026-01-01T00:00:00Z")));
    }

    #[test]
    fn a_token_anywhere_in_a_page_is_harvested_and_near_misses_are_not() {
        let line = |message: &str| format!(r#"{{"timestamp":"2026-01-01T00:00:00Z","message":"{message}"}}"#);
        for place in [0, 1, 999] {
            let mut lines = vec![line("tr_id wgt-1 tr_wgt-"); 1000];
            lines[place] = line(TOKEN);
            let body = format!(r#"{{"data":{{"deploymentLogs":[{}]}}}}"#, lines.join(","));
            let mut harvest = Harvest::default();
            let page = LogPage::read(body.as_bytes(), None, &mut harvest).expect("a page");
            assert_eq!(page.lines, 1000);
            assert_eq!(harvest.tokens().iter().map(|t| t.expose()).collect::<Vec<_>>(), [TOKEN]);
        }
    }

    #[test]
    fn an_answer_without_lines_is_parsed_so_that_an_error_is_not_an_empty_page() {
        let mut harvest = Harvest::default();
        let refused = br#"{"data":null,"errors":[{"message":"Not Authorized"}]}"#;
        assert!(matches!(LogPage::read(refused, None, &mut harvest), Err(ClientError::Forbidden { .. })));
        assert!(LogPage::read(b"<html>", None, &mut harvest).is_err());
        assert!(LogPage::read(br#"{"data":{"deploymentLogs":[]}}"#, None, &mut harvest).is_ok());
    }
}
