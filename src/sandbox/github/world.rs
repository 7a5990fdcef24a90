//! The repository's branches and its workflow's runs. A run's state follows from the time alone.

use super::server::Recorded;
use super::trouble::Trouble;
use super::{GitHub, GitHubOptions};
use crate::sandbox::calendar::Calendar;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

const FIRST_RUN: u64 = 17_000_000_000;
const FIRST_ARTIFACT: u64 = 4_000_000_000;

/// What becomes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Succeeds,
    /// Its build step fails.
    Fails,
    /// It is never given a machine.
    StaysQueued,
    /// Its build step never ends.
    Hangs,
    /// A person has to approve it.
    WaitsForApproval,
    /// The dispatch is accepted and no run is made, as when the workflow's file is broken.
    NeverMade,
}

#[derive(Debug, Clone)]
pub(super) struct Run {
    pub id: u64,
    pub number: u64,
    pub git_ref: String,
    pub head_sha: String,
    pub inputs: BTreeMap<String, String>,
    pub fate: Fate,
    pub created: Instant,
    pub cancelled: Option<Instant>,
    pub artifacts_expired: bool,
    /// Instead of what the workflow would write.
    pub result: Option<String>,
}

/// What tests may know of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunView {
    pub id: u64,
    pub head_sha: String,
    pub inputs: BTreeMap<String, String>,
    pub status: &'static str,
    pub conclusion: Option<&'static str>,
}

/// GitHub's two words for where a run stands, and since when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub status: &'static str,
    pub conclusion: Option<&'static str>,
    pub since: Instant,
}

impl Run {
    pub fn standing(&self, options: &GitHubOptions) -> Standing {
        let now = Instant::now();
        let standing = |status, conclusion, since| Standing { status, conclusion, since };
        if let Some(over) = self.cancelled.map(|at| at + options.cancelling).filter(|over| *over <= now) {
            return standing("completed", Some("cancelled"), over);
        }
        let begun = self.created + options.queued;
        let over = begun + options.building;
        match self.fate {
            Fate::WaitsForApproval => standing("waiting", None, self.created),
            Fate::StaysQueued => standing("queued", None, self.created),
            _ if now < begun => standing("queued", None, self.created),
            Fate::Hangs => standing("in_progress", None, begun),
            _ if now < over => standing("in_progress", None, begun),
            Fate::Fails => standing("completed", Some("failure"), over),
            _ => standing("completed", Some("success"), over),
        }
    }

    pub fn view(&self, options: &GitHubOptions) -> RunView {
        let Standing { status, conclusion, .. } = self.standing(options);
        let (head_sha, inputs) = (self.head_sha.clone(), self.inputs.clone());
        RunView { id: self.id, head_sha, inputs, status, conclusion }
    }

    pub fn artifact_id(&self) -> u64 {
        FIRST_ARTIFACT + self.number
    }

    /// The commit that was asked to be built, else the branch's.
    fn commit(&self) -> &str {
        self.inputs.get("git_sha").filter(|sha| !sha.is_empty()).unwrap_or(&self.head_sha)
    }

    /// The content of `result.json`.
    pub fn result(&self, options: &GitHubOptions) -> String {
        let of_commit = || {
            let given = |name: &str| self.inputs.get(name).filter(|v| !v.is_empty()).cloned();
            let name = given("image_name").unwrap_or_else(|| format!("ghcr.io/{}", options.repository));
            let short: String = self.commit().chars().take(7).collect();
            let tag = given("image_tag").unwrap_or_else(|| format!("{name}:{short}"));
            let result: Value = json!({ "image_tag": tag, "image_digest": GitHub::digest_of(self.commit()) });
            result.to_string()
        };
        self.result.clone().unwrap_or_else(of_commit)
    }
}

pub(super) struct State {
    pub calendar: Calendar,
    pub refs: BTreeMap<String, String>,
    /// Oldest first.
    pub runs: Vec<Run>,
    pub fates: VecDeque<Fate>,
    pub troubles: Vec<(&'static str, Trouble)>,
    pub result: Option<String>,
    pub list_lag: Duration,
    pub requests: Vec<Recorded>,
    pub store_requests: Vec<Recorded>,
    /// Requests of this hour.
    pub spent: u32,
    pub began: Instant,
    pub answered: u64,
}

impl State {
    pub fn new(calendar: Calendar, refs: BTreeMap<String, String>, list_lag: Duration) -> State {
        State {
            calendar,
            refs,
            runs: Vec::new(),
            fates: VecDeque::new(),
            troubles: Vec::new(),
            result: None,
            list_lag,
            requests: Vec::new(),
            store_requests: Vec::new(),
            spent: 0,
            began: Instant::now(),
            answered: 0,
        }
    }

    /// The id of the new run; of one that is never made, too.
    pub fn dispatch(&mut self, git_ref: &str, head_sha: String, inputs: BTreeMap<String, String>) -> u64 {
        let fate = self.fates.pop_front().unwrap_or(Fate::Succeeds);
        let number = self.runs.last().map_or(0, |run| run.number) + 1;
        let id = FIRST_RUN + number;
        if fate != Fate::NeverMade {
            self.runs.push(Run {
                id,
                number,
                git_ref: git_ref.to_owned(),
                head_sha,
                inputs,
                fate,
                created: Instant::now(),
                cancelled: None,
                artifacts_expired: false,
                result: self.result.clone(),
            });
        }
        id
    }

    pub fn run(&self, id: &str) -> Option<&Run> {
        let id: u64 = id.parse().ok()?;
        self.runs.iter().find(|run| run.id == id)
    }

    /// The oldest order for this call; it is spent.
    pub fn trouble(&mut self, call: &str) -> Option<Trouble> {
        let at = self.troubles.iter().position(|(of, _)| *of == call)?;
        Some(self.troubles.remove(at).1)
    }

    /// Limit, what is left, and the second at which there is more; `false` when nothing was left.
    pub fn rate(&mut self, limit: u32, counts: bool) -> ([(&'static str, String); 5], bool) {
        const HOUR: Duration = Duration::from_secs(3600);
        if self.began.elapsed() >= HOUR {
            (self.began, self.spent) = (Instant::now(), 0);
        }
        let granted = self.spent < limit;
        self.spent += u32::from(counts && granted);
        let used = self.spent.min(limit);
        let reset = self.calendar.at(self.began + HOUR).as_second();
        let headers = [
            ("x-ratelimit-limit", limit.to_string()),
            ("x-ratelimit-remaining", (limit - used).to_string()),
            ("x-ratelimit-used", used.to_string()),
            ("x-ratelimit-reset", reset.to_string()),
            ("x-ratelimit-resource", "core".to_owned()),
        ];
        (headers, granted)
    }
}
