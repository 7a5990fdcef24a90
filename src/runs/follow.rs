//! Reads a run's events as they come, each once and in order, until the run is finished.
//!
//! Numbers of events are given before their transactions commit, so a later one can show first. What
//! shows for the first time is therefore held until the next look; by then whatever came before it shows, too.

use super::look::{self, Event, Events};
use sqlx::Row;
use sqlx::postgres::PgConnection;
use std::time::Duration;

/// Between looks: a look is one or two probes of an index.
pub const EVERY: Duration = Duration::from_millis(200);
/// Events of one look.
const BATCH: i64 = 500;

/// Where somebody is who follows a run.
#[derive(Debug, Clone)]
pub struct Follow {
    run_id: String,
    /// The last event that was given out.
    after: i64,
    /// The last event that was seen.
    seen: i64,
    /// The run was finished at the look before.
    was_finished: bool,
}

/// What a look has brought.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    pub events: Vec<Event>,
    /// There may be more at once.
    pub is_full: bool,
    /// The run is finished with this status, and everything was given out.
    pub ended: Option<String>,
}

impl Follow {
    pub fn new(run_id: impl Into<String>, after: i64) -> Follow {
        Follow { run_id: run_id.into(), after, seen: after, was_finished: false }
    }

    /// `None`: there is no such run.
    pub async fn look(&mut self, c: &mut PgConnection) -> Result<Option<Look>, sqlx::Error> {
        // First, so that the events of a finished run are complete.
        let sql = "select status::text, finished_at is not null,
                          coalesce(finished_at < now() - interval '1 second', false)
                   from ops.runs where run_id = $1";
        let Some(row) = sqlx::query(sql).bind(&self.run_id).fetch_optional(&mut *c).await? else { return Ok(None) };
        let (status, is_finished, is_settled): (String, bool, bool) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let page = look::events(c, &self.run_id, self.after, BATCH).await?;
        Ok(Some(self.judge(page, status, is_finished, is_settled)))
    }

    /// Pure.
    fn judge(&mut self, page: Events, status: String, is_finished: bool, is_settled: bool) -> Look {
        let Events { mut events, next } = page;
        let is_whole = is_settled || (is_finished && self.was_finished);
        let newest = events.last().map_or(self.seen, |event| event.seq);
        let is_full = next.is_some();
        if !is_whole {
            events.retain(|event| event.seq <= self.seen);
        }
        self.seen = self.seen.max(newest);
        self.was_finished = is_finished;
        self.after = events.last().map_or(self.after, |event| event.seq);
        Look { is_full: is_full && !events.is_empty(), ended: (is_whole && !is_full).then_some(status), events }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(seqs: &[i64]) -> Events {
        let event = |seq: &i64| Event {
            event_id: format!("evt-{seq}"),
            seq: *seq,
            run_id: "run-1".to_owned(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            level: "info".to_owned(),
            message: "x".to_owned(),
            payload: serde_json::Value::Null,
            phase: None,
            attempt: None,
        };
        Events { events: seqs.iter().map(event).collect(), next: None }
    }

    fn seqs(look: &Look) -> Vec<i64> {
        look.events.iter().map(|e| e.seq).collect()
    }

    #[test]
    fn what_commits_late_is_given_out_in_its_place() {
        let mut follow = Follow::new("run-1", 0);
        assert_eq!(seqs(&follow.judge(events(&[1, 3]), "running".to_owned(), false, false)), [0i64; 0]);
        assert_eq!(seqs(&follow.judge(events(&[1, 2, 3, 4]), "running".to_owned(), false, false)), [1, 2, 3]);
        assert_eq!(seqs(&follow.judge(events(&[4]), "running".to_owned(), false, false)), [4]);
    }

    #[test]
    fn the_end_is_told_after_everything_and_once_nothing_can_follow() {
        let mut follow = Follow::new("run-1", 4);
        let look = follow.judge(events(&[5]), "success".to_owned(), true, false);
        assert_eq!((seqs(&look), look.ended), (vec![], None));
        let look = follow.judge(events(&[5, 6]), "success".to_owned(), true, false);
        assert_eq!((seqs(&look), look.ended.as_deref()), (vec![5, 6], Some("success")));
    }

    #[test]
    fn a_run_that_ended_long_ago_needs_one_look() {
        let look = Follow::new("run-1", 0).judge(events(&[1, 2]), "failed".to_owned(), true, true);
        assert_eq!((seqs(&look), look.ended.as_deref()), (vec![1, 2], Some("failed")));
    }
}
