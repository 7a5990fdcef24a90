//! Workflow runs as the caller sees them, and which of several a dispatch made. Pure.

use jiff::{SignedDuration, Timestamp};

/// GitHub's clock and ours; without a marker, only runs made within this before the dispatch count.
const NEARLY_SAME_TIME: SignedDuration = SignedDuration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub id: u64,
    /// What `run-name` gave it, and the workflow's name.
    pub titles: [String; 2],
    pub state: State,
    pub head_sha: String,
    pub html_url: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub attempt: u64,
}

/// Where a run or a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not begun: `queued`, `requested`, `pending`.
    Waiting,
    Running,
    /// A person must approve it, or a rule holds it: it does not go on by itself.
    Held,
    Succeeded,
    Cancelled,
    /// Ended, in GitHub's word: `failure`, `timed_out`, `startup_failure`, `skipped`.
    Failed(String),
    /// A word that is newer than this program: neither good nor bad.
    Other(String),
}

impl State {
    pub(super) fn of(status: &str, conclusion: Option<&str>) -> State {
        match (status, conclusion) {
            ("queued" | "requested" | "pending", _) => State::Waiting,
            ("in_progress", _) => State::Running,
            ("waiting", _) | ("completed", Some("action_required")) => State::Held,
            ("completed", Some("success" | "neutral")) => State::Succeeded,
            ("completed", Some("cancelled")) => State::Cancelled,
            // A run whose work was skipped or forgotten has built nothing.
            ("completed", Some(word @ ("failure" | "timed_out" | "startup_failure" | "skipped" | "stale"))) => {
                State::Failed(word.to_owned())
            }
            ("completed", Some(word)) => State::Other(word.to_owned()),
            ("completed", None) => State::Running,
            (word, _) => State::Other(word.to_owned()),
        }
    }

    /// Nothing more comes of it.
    pub fn is_over(&self) -> bool {
        matches!(self, State::Succeeded | State::Cancelled | State::Failed(_))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub name: String,
    pub state: State,
    pub html_url: Option<String>,
    /// The first step that went wrong.
    pub failed_step: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    pub id: u64,
    pub name: String,
    pub size: u64,
    /// Its bytes are gone.
    pub expired: bool,
    pub created_at: Option<Timestamp>,
}

/// A dispatch that was, or may have been, sent.
#[derive(Debug, Clone, Copy)]
pub struct Dispatch<'a> {
    /// Unique for this dispatch, and given as an input that the workflow's `run-name` shows.
    pub marker: &'a str,
    /// When it was written down that it would be sent: the run is not older.
    pub sent_at: Timestamp,
    /// The commit that the branch or tag had.
    pub head_sha: Option<&'a str>,
}

/// What a look for a dispatch's run brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It shows the marker.
    Marked(Box<Run>),
    /// Nothing shows the marker, and this one alone has the commit and the time: the workflow has no
    /// `run-name`, or somebody else dispatched it.
    Likely(Box<Run>),
    /// Several have the time, or one that has another commit: any of them may be it.
    Ambiguous(Vec<u64>),
    /// None is listed; lists are behind, so this proves nothing until [`LISTED_WITHIN`] has passed.
    Nothing,
}

/// How far GitHub's lists may be behind. Not documented; in practice it is seconds.
pub const LISTED_WITHIN: SignedDuration = SignedDuration::from_mins(2);

impl Dispatch<'_> {
    /// The oldest with the marker, should a dispatch ever have been doubled.
    pub(super) fn among(&self, mut runs: Vec<Run>) -> Found {
        // A run made while pages are read is listed twice.
        runs.sort_by_key(|run| (run.created_at, run.id));
        runs.dedup_by_key(|run| run.id);
        let marked = |run: &Run| run.titles.iter().any(|title| shows(title, self.marker));
        if let Some(at) = runs.iter().position(marked) {
            return Found::Marked(Box::new(runs.swap_remove(at)));
        }
        // The branch may have moved on since, so another commit proves nothing; another marker does.
        let is_of_another = |run: &Run| run.titles.iter().any(|title| shows_another(title, self.marker));
        runs.retain(|run| run.created_at >= self.sent_at - NEARLY_SAME_TIME && !is_of_another(run));
        match &mut *runs {
            [] => Found::Nothing,
            [run] if Some(&*run.head_sha) == self.head_sha => Found::Likely(Box::new(runs.swap_remove(0))),
            _ => Found::Ambiguous(runs.into_iter().map(|run| run.id).collect()),
        }
    }
}

/// A word of the same make: what stands before the first `-`, and at the end `-d` and a number.
fn shows_another(title: &str, marker: &str) -> bool {
    let Some((kind, _)) = marker.split_once('-') else { return false };
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    title.split(|c| !is_part(c)).any(|word| {
        let number = word.rsplit_once("-d").map(|(_, number)| number);
        let is_marked = number.is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()));
        is_marked && word != marker && word.split_once('-').is_some_and(|(own, _)| own == kind)
    })
}

/// As a word of its own: `run-1` is not in `run-12`.
fn shows(title: &str, marker: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !marker.is_empty()
        && title
            .match_indices(marker)
            .any(|(at, _)| !title[..at].ends_with(part) && !title[at + marker.len()..].starts_with(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: u64, title: &str, sha: &str, seconds: i64) -> Run {
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
        Run {
            id,
            titles: [title.to_owned(), "build".to_owned()],
            state: State::Waiting,
            head_sha: sha.to_owned(),
            html_url: String::new(),
            created_at: at,
            updated_at: at,
            attempt: 1,
        }
    }

    fn dispatch<'a>(sha: Option<&'a str>) -> Dispatch<'a> {
        let sent_at = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1000);
        Dispatch { marker: "run-a1", sent_at, head_sha: sha }
    }

    #[test]
    fn nothing_is_found_among_the_runs_of_others() {
        let others = || vec![run(1, "Build run-a12-d7", "sha", 1001), run(2, "run-b-d1", "other", 1002)];
        assert_eq!(dispatch(Some("sha")).among(others()), Found::Nothing);
        assert_eq!(dispatch(None).among(others()), Found::Nothing);
        assert_eq!(dispatch(None).among(vec![]), Found::Nothing);
    }

    #[test]
    fn a_marker_decides_before_commit_and_time() {
        let ours = run(7, "Build main (run-a1)", "moved on", 900);
        let runs = vec![run(8, "Build main (run-a1-b)", "sha", 1001), run(9, "x", "sha", 1002), ours.clone()];
        assert_eq!(dispatch(Some("sha")).among(runs), Found::Marked(Box::new(ours)));
    }

    #[test]
    fn a_doubled_dispatch_is_its_oldest_run() {
        let runs = vec![run(9, "run-a1", "sha", 1005), run(4, "run-a1", "sha", 1001), run(9, "run-a1", "sha", 1005)];
        assert!(matches!(dispatch(None).among(runs), Found::Marked(run) if run.id == 4));
    }

    #[test]
    fn without_a_marker_one_run_is_likely_and_two_are_nobodys() {
        let before = run(1, "build", "sha", 900);
        let one = run(2, "build", "sha", 995);
        let runs = vec![before.clone(), one.clone()];
        assert_eq!(dispatch(Some("sha")).among(runs), Found::Likely(Box::new(one.clone())));
        let runs = vec![before, one, run(3, "build", "sha", 1002)];
        assert_eq!(dispatch(Some("sha")).among(runs), Found::Ambiguous(vec![2, 3]));
    }

    #[test]
    fn a_run_of_another_commit_without_a_marker_may_be_ours_since_branches_move() {
        let moved = || vec![run(3, "build", "moved on", 1001), run(4, "run-b-d1", "sha", 1001)];
        assert_eq!(dispatch(Some("sha")).among(moved()), Found::Ambiguous(vec![3]));
        assert_eq!(dispatch(None).among(moved()), Found::Ambiguous(vec![3]));
        assert_eq!(dispatch(None).among(vec![run(3, "build", "sha", 900)]), Found::Nothing);
    }

    #[test]
    fn only_success_is_success_and_new_words_are_neither() {
        assert_eq!(State::of("completed", Some("success")), State::Succeeded);
        for word in ["failure", "timed_out", "startup_failure", "skipped", "stale"] {
            assert_eq!(State::of("completed", Some(word)), State::Failed(word.to_owned()));
        }
        for (status, conclusion) in [("paused", None), ("completed", Some("reconsidered"))] {
            let state = State::of(status, conclusion);
            assert!(matches!(state, State::Other(_)) && !state.is_over(), "{state:?}");
        }
        assert_eq!(State::of("waiting", None), State::Held);
    }
}
