//! `WorkerTokenReady`: which worker token is good, and where to look for one.
//!
//! A token counts only when the database knows its hash; the webapp's answer to `connect` then
//! proves the managed secret as well. Tokens in logs are taken only out of the bootstrap block:
//! webapps before 4.5.9 also log every token they reject, newest last.

use super::action::{Action, Planned};
use super::backed_off;
use super::condition::{ConditionType, Finding, Reason};
use super::configuration::Configuration;
use super::desired::{Desired, hex_sha256};
use super::observation::{DatabaseView, Observation, Probe, Seen, WorkerGroup};
use super::secret::Secret;
use super::state::{CachedToken, ProbeRecord, State, TokenSource};
use jiff::Timestamp;

const KIND: ConditionType = ConditionType::WorkerTokenReady;

/// `tr_wgt_` and forty letters or digits.
pub const PREFIX: &str = "tr_wgt_";
const BODY: usize = 40;

/// A search that found nothing is repeated this often: a new deployment may have printed a token.
const SEARCH_AGAIN_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_mins(5);
/// A refused (token, secret, origin) is not shown to the webapp again sooner: it logs refusals.
const REJECTED_PROBE_AGAIN_AFTER: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// Tokens that were accepted once and are kept in case they are again.
const FORMER_TOKENS: usize = 3;

/// Whether the text is exactly one worker token.
pub fn is_token(text: &str) -> bool {
    text.strip_prefix(PREFIX).is_some_and(|body| body.len() == BODY && body.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// The token that is to be used, and whether the database knows it.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    Accepted {
        token: Secret,
        source: TokenSource,
        group: WorkerGroup,
    },
    /// A token is there, and the database surely does not know it.
    Rejected {
        source: TokenSource,
    },
    /// A token is there (or not), and the database could not be asked.
    Unknown {
        reason: String,
    },
    /// The webapp has not made its tables yet.
    NoTables,
    /// There is no token.
    Missing,
}

/// The first of manual and cached token that is set, held against the database.
pub fn standing(desired: &Desired, state: &State, database: &Seen<DatabaseView>) -> Standing {
    let groups = match database {
        Seen::Unknown { reason } => return Standing::Unknown { reason: reason.clone() },
        Seen::Known(DatabaseView { worker_groups: None, .. }) => return Standing::NoTables,
        Seen::Known(DatabaseView { worker_groups: Some(groups), .. }) => groups,
    };
    let candidate = match (&desired.manual_token, &state.token) {
        (Some(token), _) => (token.clone(), TokenSource::Manual),
        (None, Some(cached)) => (cached.value.clone(), cached.source),
        (None, None) => return Standing::Missing,
    };
    let (token, source) = candidate;
    match known_group(groups, &token) {
        Some(group) => Standing::Accepted { token, source, group: group.clone() },
        None => Standing::Rejected { source },
    }
}

/// The worker group that has this token.
pub fn known_group<'a>(groups: &'a [WorkerGroup], token: &Secret) -> Option<&'a WorkerGroup> {
    let hash = hex_sha256(token.expose().as_bytes());
    groups.iter().find(|g| g.token_hash == hash)
}

/// Whether the logs are to be searched in this cycle.
pub fn wants_search(desired: &Desired, state: &State, database: &Seen<DatabaseView>, now: Timestamp) -> bool {
    if desired.manual_token.is_some() {
        return false;
    }
    let groups = database.known().and_then(|d| d.worker_groups.as_ref());
    // Without a worker group there is no token to find.
    groups.is_some_and(|g| !g.is_empty())
        && !matches!(standing(desired, state, database), Standing::Accepted { .. })
        && state.search.finished_at.is_none_or(|at| now.duration_since(at) >= SEARCH_AGAIN_AFTER)
}

/// One hash over everything that a probe proves.
pub fn probe_inputs(token: &Secret, configuration: &Configuration) -> String {
    let Configuration { managed_secret, api_url, registry_domain: _ } = configuration;
    hex_sha256(format!("{}\n{}\n{api_url}", token.expose(), managed_secret.expose()).as_bytes())
}

/// Whether the webapp may be asked: a refusal is logged there with the secret in clear, so a
/// combination that was refused is left alone for a while.
pub fn may_probe(state: &State, inputs: &str, now: Timestamp) -> bool {
    match &state.probe {
        Some(ProbeRecord { inputs: seen, accepted: false, at }) if seen == inputs => {
            now.duration_since(*at) >= REJECTED_PROBE_AGAIN_AFTER
        }
        _ => true,
    }
}

/// Takes what was seen into the state: found, refused and issued tokens, and the search's end.
pub fn digest(desired: &Desired, state: &mut State, seen: &Observation, configuration: Option<&Configuration>) {
    let now = seen.at;
    if let Some(search) = &seen.search {
        state.search.windows.clone_from(&search.searched);
        state.search.finished_at = search.complete.then_some(now);
    }
    if seen.probe != Some(Probe::Accepted) {
        // Acceptance counts from the first of its answers in a row.
        state.probe = state.probe.take().filter(|p| !p.accepted);
    }
    let Some(groups) = seen.database.known().and_then(|d| d.worker_groups.as_ref()) else { return };
    if let Some(pending) = &state.pending_token
        && known_group(groups, &pending.value).is_some()
    {
        state.token = Some(CachedToken {
            value: pending.value.clone(),
            source: TokenSource::Rotated,
            found_at: pending.issued_at,
        });
        state.pending_token = None;
    }
    if !groups.is_empty() && state.token.as_ref().is_some_and(|t| known_group(groups, &t.value).is_none()) {
        // Not accepted here and now: look again from the beginning. It is kept aside, because the
        // look may have been at a wrong or restored database, and no log may hold it any more.
        state.former_tokens.extend(state.token.take());
        let surplus = state.former_tokens.len().saturating_sub(FORMER_TOKENS);
        state.former_tokens.drain(..surplus);
        if seen.search.is_none() {
            state.search = Default::default();
        }
    }
    if state.token.is_none()
        && let Some(position) = state.former_tokens.iter().position(|t| known_group(groups, &t.value).is_some())
    {
        state.token = Some(state.former_tokens.remove(position));
    }
    if let Some(search) = &seen.search
        && let Some(token) = search.found.iter().find(|t| known_group(groups, t).is_some())
    {
        state.token = Some(CachedToken { value: token.clone(), source: TokenSource::Logs, found_at: now });
    }
    if let (Some(probe), Some(configuration)) = (&seen.probe, configuration)
        && let Standing::Accepted { token, .. } = standing(desired, state, &seen.database)
    {
        let inputs = probe_inputs(&token, configuration);
        match probe {
            Probe::Accepted if state.probe.as_ref().is_some_and(|p| p.accepted && p.inputs == inputs) => {}
            Probe::Accepted => state.probe = Some(ProbeRecord { inputs, accepted: true, at: now }),
            Probe::Rejected => state.probe = Some(ProbeRecord { inputs, accepted: false, at: now }),
            Probe::Unreachable(_) => {}
        }
    }
}

/// The token for supervisors, when it is proven; the finding; and, opted in, a rotation.
pub fn plan(
    desired: &Desired,
    state: &State,
    seen: &Observation,
    configuration: Option<&Configuration>,
) -> (Option<Secret>, Finding, Vec<Planned>) {
    match standing(desired, state, &seen.database) {
        Standing::Unknown { reason } => (None, Finding::unknown(KIND, reason), vec![]),
        Standing::NoTables => (
            None,
            Finding::no(
                KIND,
                Reason::MigrationsPending,
                "the table \"WorkerGroupToken\" does not exist: the webapp's migrations have not run yet",
            ),
            vec![],
        ),
        Standing::Rejected { source: TokenSource::Manual } => (
            None,
            Finding::no(
                KIND,
                Reason::TokenRejected,
                "the database does not know the token in TRIGGER_WORKER_TOKEN: correct it, or unset it to search the webapp's logs",
            ),
            vec![],
        ),
        Standing::Rejected { .. } | Standing::Missing => missing(desired, state, seen),
        Standing::Accepted { token, source, group } => accepted(state, seen, configuration, token, source, &group),
    }
}

fn accepted(
    state: &State,
    seen: &Observation,
    configuration: Option<&Configuration>,
    token: Secret,
    source: TokenSource,
    group: &WorkerGroup,
) -> (Option<Secret>, Finding, Vec<Planned>) {
    let origin = match source {
        TokenSource::Manual => "from TRIGGER_WORKER_TOKEN",
        TokenSource::Logs => "found in the webapp's logs",
        TokenSource::Imported => "imported from the predecessor's state",
        TokenSource::Rotated => "issued by rotation",
    };
    let Some(configuration) = configuration else {
        let message = format!(
            "token {origin} belongs to worker group {}; the webapp is not asked without configuration",
            group.name
        );
        return (None, Finding::new(KIND, super::condition::Status::Unknown, Reason::WaitingForOther, message), vec![]);
    };
    let inputs = probe_inputs(&token, configuration);
    let refused_before = state.probe.as_ref().is_some_and(|p| p.inputs == inputs && !p.accepted);
    match &seen.probe {
        Some(Probe::Accepted) => {
            let message = format!("token {origin} is accepted for worker group {}", group.name);
            (Some(token), Finding::yes(KIND, message), vec![])
        }
        Some(Probe::Unreachable(why)) => {
            let message = format!("the webapp could not be asked at {}: {why}", configuration.api_url);
            (None, Finding::unknown(KIND, message), vec![])
        }
        Some(Probe::Rejected) => (None, probe_rejected(group), vec![]),
        None if refused_before => (None, probe_rejected(group), vec![]),
        None => (None, Finding::unknown(KIND, "the webapp was not asked in this cycle"), vec![]),
    }
}

fn probe_rejected(group: &WorkerGroup) -> Finding {
    Finding::no(
        KIND,
        Reason::ProbeRejected,
        format!(
            "the database knows the token (worker group {}), yet the webapp refuses it together with MANAGED_WORKER_SECRET: \
             redeploy the webapp if that variable was changed, or correct it",
            group.name
        ),
    )
}

fn missing(desired: &Desired, state: &State, seen: &Observation) -> (Option<Secret>, Finding, Vec<Planned>) {
    let groups = seen.database.known().and_then(|d| d.worker_groups.as_deref()).unwrap_or_default();
    if groups.is_empty() {
        let message = "the database has no worker group: set TRIGGER_BOOTSTRAP_ENABLED=1 and \
                       TRIGGER_BOOTSTRAP_WORKER_GROUP_NAME on the webapp and redeploy it, or create a group and set TRIGGER_WORKER_TOKEN";
        return (None, Finding::no(KIND, Reason::TokenNotFound, message), vec![]);
    }
    let windows = &state.search.windows;
    if state.search.finished_at.is_none() {
        match &seen.railway {
            Seen::Unknown { reason } => return (None, Finding::unknown(KIND, reason), vec![]),
            Seen::Known(view) if view.webapp.found().is_none() => {
                let message = "the webapp, whose logs hold the token, is not found: ConfigurationReady comes first";
                return (None, Finding::no(KIND, Reason::WaitingForOther, message), vec![]);
            }
            Seen::Known(_) => {}
        }
        let progress = match seen.search.as_ref().and_then(|s| s.error.as_ref()) {
            Some(error) => format!("the webapp's logs could not be searched: {error}"),
            None => format!("searching the webapp's logs ({} windows so far)", windows.len()),
        };
        return (None, Finding::no(KIND, Reason::SearchingLogs, progress), vec![]);
    }
    let searched = match windows.len() {
        0 => "the webapp has no deployment whose logs could be searched".to_owned(),
        n => format!("searched {n} log windows: {}", summary(windows)),
    };
    let actions = rotation(desired, groups);
    let refused = actions.first().and_then(|p| backed_off(state, &p.action.key(), seen.at));
    if let Some((failure, until)) = refused {
        let message = format!("a new token could not be issued, which is tried again after {until}: {}", failure.error);
        return (None, Finding::no(KIND, Reason::ChangeFailed, message), vec![]);
    }
    let advice = if desired.rotate_lost_token {
        match groups {
            [_] => "a new token is being issued (ROTATE_LOST_TOKEN)",
            _ => "ROTATE_LOST_TOKEN cannot choose among several worker groups: set TRIGGER_WORKER_TOKEN",
        }
    } else {
        "the token is printed only once, at the first boot, and logs expire: set TRIGGER_WORKER_TOKEN, or set \
         ROTATE_LOST_TOKEN=true to issue a new one (cuts off supervisors that use the old one)"
    };
    let message = format!("no worker token that the database knows; {searched}; {advice}");
    (None, Finding::no(KIND, Reason::TokenNotFound, message), actions)
}

/// The first and last windows; a hundred deployments would drown the message.
fn summary(windows: &[String]) -> String {
    match windows {
        [] => "none".to_owned(),
        [first, .., last] if windows.len() > 4 => format!("{first} … {last}"),
        _ => windows.join("; "),
    }
}

fn rotation(desired: &Desired, groups: &[WorkerGroup]) -> Vec<Planned> {
    match groups {
        [group] if desired.rotate_lost_token => vec![Planned {
            action: Action::RotateToken {
                group_id: group.id.clone(),
                group_name: group.name.clone(),
                old_hash: group.token_hash.clone(),
            },
            reason: "the token is lost and ROTATE_LOST_TOKEN is set".into(),
            monthly_usd: None,
        }],
        _ => vec![],
    }
}
