//! GitHub's REST API, as far as workflows go: dispatch one, find the run it made, follow it, take its result.
//!
//! A dispatch is sent once. It has no idempotency key, so whoever lost its answer looks with
//! [`Reader::find`] before asking for another. A workflow's result is an artifact, never a log line.

mod archive;
mod names;
pub mod result;
pub mod run;
mod wire;

use super::budget::{Budget, Remaining};
use super::error::ClientError;
use super::fence::Fence;
use super::http::{Answer, Http};
use super::retry;
use super::seam::Seam;
use crate::plan::secret::Secret;
use jiff::SignedDuration;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Url};
use result::BuildResult;
use run::{Artifact, Dispatch, Found, Job, Run};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use names::{Repository, Workflow};

const PROVIDER: &str = "GitHub";
pub const PUBLIC_API: &str = "https://api.github.com";
/// The oldest version that is still served, and the one that GitHub's own servers for companies have.
const API_VERSION: &str = "2022-11-28";
/// GitHub itself gives up after ten seconds.
const TIMEOUT: Duration = Duration::from_secs(20);
const PER_PAGE: usize = 100;
/// GitHub's filtered lists end at a thousand.
const MAX_PAGES: usize = 10;
/// How far its clock and ours may lie apart: a run's time of creation is GitHub's.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(10);

/// What was sent is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatched {
    /// `None` from a server that does not say it: then the run has to be found.
    pub run_id: Option<u64>,
    pub request_id: Option<String>,
}

/// What became of a wish to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// Asked for; the run ends some time later.
    Asked,
    /// It had ended before.
    AlreadyOver,
}

#[derive(Clone)]
pub struct Reader {
    http: Http,
    /// Where artifacts lie: another host, which must not see the token.
    store: Http,
    base: String,
}

/// The writing half.
#[derive(Clone)]
pub struct Writer {
    /// Its calls are fenced.
    reader: Reader,
    look: Reader,
}

impl Reader {
    pub fn new(
        base_url: &str,
        token: Option<&Secret>,
        seam: &Seam,
        budget: Arc<Budget>,
    ) -> Result<Reader, ClientError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
        headers.insert(HeaderName::from_static("x-github-api-version"), HeaderValue::from_static(API_VERSION));
        if let Some(token) = token {
            let mut value =
                HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| ClientError::Unauthorized {
                    provider: PROVIDER,
                    message: "the token holds characters that no header can carry".into(),
                })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let local = crate::config::is_loopback_url(base_url);
        let apart = Arc::new(Budget::default());
        Ok(Reader {
            http: Http::new(PROVIDER, TIMEOUT, headers, seam, budget, local)?,
            store: Http::new("GitHub's artifact store", TIMEOUT, HeaderMap::new(), seam, apart, local)?,
            base: base_url.trim_end_matches('/').to_owned(),
        })
    }

    pub fn budget(&self) -> Remaining {
        self.http.budget().show()
    }

    /// Whether the token is taken at all. A server that limits nobody's rate knows no such page.
    pub async fn accepts_token(&self) -> Result<(), ClientError> {
        match self.get::<Value>("read rate limit", "the rate limit", "rate_limit", &[]).await {
            Ok(_) | Err(ClientError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Which run a dispatch made, if it made one. To be asked before dispatching again.
    pub async fn find(&self, workflow: &Workflow, dispatch: &Dispatch<'_>) -> Result<Found, ClientError> {
        let since = format!(">={:.0}", dispatch.sent_at - CLOCKS_APART);
        let path = format!("{}/runs", workflow.path());
        let query = [("event", "workflow_dispatch"), ("created", since.as_str())];
        let pages = self.pages::<wire::Runs>("list workflow runs", &workflow.to_string(), &path, &query).await?;
        Ok(dispatch.among(pages.into_iter().flat_map(|page| page.workflow_runs).map(wire::Run::convert).collect()))
    }

    /// `None` when there is none, or none yet: right after a dispatch, 404 proves nothing.
    pub async fn run(&self, repository: &Repository, id: u64) -> Result<Option<Run>, ClientError> {
        let subject = format!("workflow run {id} of {repository}");
        match self.get::<wire::Run>("read workflow run", &subject, &format!("{}/{id}", runs(repository)), &[]).await {
            Ok(run) => Ok(Some(run.convert())),
            Err(ClientError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The jobs of a run's last attempt.
    pub async fn jobs(&self, repository: &Repository, run: u64) -> Result<Vec<Job>, ClientError> {
        let (subject, path) =
            (format!("workflow run {run} of {repository}"), format!("{}/{run}/jobs", runs(repository)));
        let pages = self.pages::<wire::Jobs>("list jobs", &subject, &path, &[("filter", "latest")]).await?;
        Ok(pages.into_iter().flat_map(|page| page.jobs).map(wire::Job::convert).collect())
    }

    /// Newest first; `name` narrows to one name.
    pub async fn artifacts(
        &self,
        repository: &Repository,
        run: u64,
        name: Option<&str>,
    ) -> Result<Vec<Artifact>, ClientError> {
        let subject = format!("workflow run {run} of {repository}");
        let path = format!("{}/{run}/artifacts", runs(repository));
        let query: Vec<_> = name.map(|name| ("name", name)).into_iter().collect();
        let pages = self.pages::<wire::Artifacts>("list artifacts", &subject, &path, &query).await?;
        let mut all: Vec<Artifact> =
            pages.into_iter().flat_map(|page| page.artifacts).map(wire::Artifact::convert).collect();
        all.sort_by_key(|artifact| std::cmp::Reverse((artifact.created_at, artifact.id)));
        Ok(all)
    }

    /// The bytes of an artifact as they are stored: a ZIP archive, or the file itself.
    pub async fn download(&self, repository: &Repository, artifact: u64) -> Result<Vec<u8>, ClientError> {
        let what = "download artifact";
        let path = format!("{}/artifacts/{artifact}/zip", repository.path());
        retry::read(|| async {
            let place = self.http.redirected(what, self.http.client().get(self.url(&path))).await;
            let place = place.map_err(|error| named(error, &format!("artifact {artifact} of {repository}")))?;
            let place = self.safe(&place).ok_or_else(|| unusable(what, "sent to an address without encryption"))?;
            // The address is a credential of its own, for a minute: it is fetched at once and never shown.
            Ok(self.store.send(what, self.store.client().get(place)).await?.body)
        })
        .await
    }

    /// What a run says it built, by its artifact `ops-result`; `None` when it left none.
    pub async fn build_result(&self, repository: &Repository, run: u64) -> Result<Option<BuildResult>, ClientError> {
        let artifacts = self.artifacts(repository, run, Some(result::ARTIFACT)).await?;
        // A server that does not know the filter answers with all of them.
        let Some(artifact) = artifacts.iter().find(|a| a.name == result::ARTIFACT && !a.expired) else {
            return Ok(None);
        };
        let refused = |why: String| ClientError::Refused {
            provider: PROVIDER,
            status: 200,
            message: format!("artifact {} of workflow run {run} {why}", result::ARTIFACT),
        };
        if artifact.size > result::LARGEST as u64 {
            return Err(refused(format!("has {} bytes; it must hold {} alone", artifact.size, result::FILE)));
        }
        BuildResult::read(&self.download(repository, artifact.id).await?).map(Some).map_err(refused)
    }

    /// Encrypted, or on this machine as GitHub itself is then.
    fn safe(&self, place: &str) -> Option<Url> {
        let url = Url::parse(place).ok()?;
        let local = || crate::config::is_loopback_url(place) && crate::config::is_loopback_url(&self.base);
        (url.scheme() == "https" || local()).then_some(url)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    async fn get<T: DeserializeOwned>(
        &self,
        what: &str,
        subject: &str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, ClientError> {
        let answer = retry::read(|| self.http.send(what, self.http.client().get(self.url(path)).query(query))).await;
        parse(what, &answer.map_err(|error| named(error, subject))?)
    }

    async fn pages<T: DeserializeOwned + wire::Page>(
        &self,
        what: &str,
        subject: &str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<T>, ClientError> {
        let per_page = PER_PAGE.to_string();
        let mut pages: Vec<T> = Vec::new();
        for number in 1..=MAX_PAGES {
            let number = number.to_string();
            let mut query = query.to_vec();
            query.extend([("page", number.as_str()), ("per_page", per_page.as_str())]);
            let page: T = self.get(what, subject, path, &query).await?;
            let is_last = page.len() < PER_PAGE;
            pages.push(page);
            if is_last {
                return Ok(pages);
            }
        }
        // A list that was not read to its end must not look complete.
        Err(unusable(what, &format!("more than {MAX_PAGES} pages")))
    }
}

impl Writer {
    pub fn new(look: Reader, fence: &Fence) -> Writer {
        Writer { reader: Reader { http: look.http.fenced(fence), ..look.clone() }, look }
    }

    /// The look before an act.
    pub fn look(&self) -> &Reader {
        &self.look
    }

    /// Sent once; `git_ref` is a branch or tag, GitHub takes no commit here. An error that is not
    /// definite leaves the outcome open: [`Reader::find`] resolves it.
    pub async fn dispatch(
        &self,
        workflow: &Workflow,
        git_ref: &str,
        inputs: &BTreeMap<String, String>,
    ) -> Result<Dispatched, ClientError> {
        let body = json!({ "ref": git_ref, "inputs": inputs, "return_run_details": true });
        let answer = match self.post_dispatch(workflow, &body).await {
            // A server older than this wish refuses it; surely nothing was dispatched.
            Err(ClientError::Refused { status: 400 | 422, message, .. }) if message.contains("return_run_details") => {
                self.post_dispatch(workflow, &json!({ "ref": git_ref, "inputs": inputs })).await?
            }
            answer => answer?,
        };
        // Accepted is accepted, whatever the body looks like: an older server sends none.
        let details = serde_json::from_slice::<wire::RunDetails>(&answer.body).ok();
        Ok(Dispatched { run_id: details.map(|d| d.workflow_run_id), request_id: answer.request_id })
    }

    async fn post_dispatch(&self, workflow: &Workflow, body: &Value) -> Result<Answer, ClientError> {
        let url = self.reader.url(&format!("{}/dispatches", workflow.path()));
        self.post("dispatch workflow", &workflow.to_string(), self.reader.http.client().post(url).json(body)).await
    }

    pub async fn cancel(&self, repository: &Repository, run: u64) -> Result<Cancelled, ClientError> {
        let url = self.reader.url(&format!("{}/{run}/cancel", runs(repository)));
        let subject = format!("workflow run {run} of {repository}");
        match self.post("cancel workflow run", &subject, self.reader.http.client().post(url)).await {
            Ok(_) => Ok(Cancelled::Asked),
            Err(ClientError::Refused { status: 409, .. }) => Ok(Cancelled::AlreadyOver),
            Err(error) => Err(error),
        }
    }

    async fn post(&self, what: &str, subject: &str, request: RequestBuilder) -> Result<Answer, ClientError> {
        self.reader.http.send(what, request).await.map_err(|error| named(error, subject))
    }
}

fn runs(repository: &Repository) -> String {
    format!("{}/runs", repository.path())
}

/// GitHub says 404 also of what a token may not see, and 3xx of what was renamed.
fn named(error: ClientError, subject: &str) -> ClientError {
    match error {
        ClientError::NotFound { provider, .. } => {
            ClientError::NotFound { provider, what: format!("{subject} (or the token may not see it)") }
        }
        ClientError::Refused { provider, status: status @ 300..400, .. } => ClientError::Refused {
            provider,
            status,
            message: format!("{subject} has moved ({status}): give the repository's present name"),
        },
        error => error,
    }
}

fn unusable(what: &str, why: &str) -> ClientError {
    ClientError::NoAnswer { provider: PROVIDER, message: format!("{what}: {why}") }
}

fn parse<T: DeserializeOwned>(what: &str, answer: &Answer) -> Result<T, ClientError> {
    serde_json::from_slice(&answer.body).map_err(|e| {
        let place = format!("line {} column {}", e.line(), e.column());
        unusable(what, &format!("{} with an unexpected body ({place})", answer.status.as_u16()))
    })
}
