//! The client for GitHub and the simulated GitHub, together over real HTTP.

use jiff::Timestamp;
use ops_controller::clients::budget::Budget;
use ops_controller::clients::fence::{Fenced, Grant, uptime};
use ops_controller::clients::github::run::{Dispatch, Found, Run, State};
use ops_controller::clients::github::{Cancelled, Reader, Repository, Workflow, Writer};
use ops_controller::clients::{ClientError, Fence, Seam};
use ops_controller::plan::secret::Secret;
use ops_controller::sandbox::github::{Fate, GitHub, GitHubOptions, Trouble};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Nothing here takes nearly that long; a loaded machine may.
const DEADLINE: Duration = Duration::from_secs(30);

struct World {
    github: GitHub,
    reader: Reader,
    writer: Writer,
    workflow: Workflow,
}

impl World {
    async fn start() -> World {
        World::with(GitHubOptions::default()).await
    }

    async fn with(options: GitHubOptions) -> World {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let github = GitHub::start(options).await.expect("a simulator");
        let reader = reader(&github, Some(&github.options().token));
        let writer = Writer::new(reader.clone(), &Fence::unguarded());
        let workflow = Workflow::parse("acme/app", "build.yml").expect("a workflow");
        World { github, reader, writer, workflow }
    }

    fn repository(&self) -> &Repository {
        &self.workflow.repository
    }

    async fn dispatch(&self, marker: &str) -> Result<Option<u64>, ClientError> {
        let inputs = [("run_id", marker), ("git_sha", "5ca1ab1e0000")];
        let inputs: BTreeMap<_, _> = inputs.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        self.writer.dispatch(&self.workflow, "main", &inputs).await.map(|d| d.run_id)
    }

    async fn find(&self, marker: &str, sent_at: Timestamp, head_sha: Option<&str>) -> Found {
        let dispatch = Dispatch { marker, sent_at, head_sha };
        self.reader.find(&self.workflow, &dispatch).await.expect("a list")
    }

    async fn run(&self, id: u64) -> Run {
        self.reader.run(self.repository(), id).await.expect("an answer").expect("a run")
    }

    async fn run_until(&self, id: u64, fits: impl Fn(&Run) -> bool) -> Run {
        within(async || Some(self.run(id).await).filter(&fits)).await
    }

    fn dispatches(&self) -> usize {
        self.github.requests().iter().filter(|r| r.method == "POST" && r.path.ends_with("/dispatches")).count()
    }
}

fn reader(github: &GitHub, token: Option<&str>) -> Reader {
    let token = token.map(Secret::new);
    Reader::new(&github.url(), token.as_ref(), &Seam::default(), Arc::new(Budget::default())).expect("a client")
}

async fn within<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let poll = async {
        loop {
            match look().await {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, poll).await.expect("in time")
}

#[tokio::test]
async fn nothing_is_dispatched_by_looking() {
    let world = World::start().await;
    assert_eq!(world.find("run-a", Timestamp::now(), Some("sha")).await, Found::Nothing);
    assert_eq!(world.reader.run(world.repository(), 1).await, Ok(None));
    assert!(world.github.runs().is_empty());
    assert!(world.github.requests().iter().all(|r| r.method == "GET" && r.authorized));
    world.github.stop().await;
}

#[tokio::test]
async fn a_dispatched_run_is_followed_to_its_image() {
    let world = World::start().await;
    let id = world.dispatch("run-a").await.expect("accepted").expect("its id");
    let first = world.run(id).await;
    assert_eq!(first.attempt, 1);
    assert_eq!(Some(first.head_sha), world.github.commit("main"));
    let run = world.run_until(id, |run| run.state.is_over()).await;
    assert_eq!(run.state, State::Succeeded);
    let result = world.reader.build_result(world.repository(), id).await.expect("an answer").expect("a result");
    assert_eq!(result.image_tag, "ghcr.io/acme/app:5ca1ab1");
    assert_eq!(result.image_digest, GitHub::digest_of("5ca1ab1e0000"));
    assert_eq!(result.pinned(), format!("ghcr.io/acme/app@{}", result.image_digest));
    assert_eq!(world.reader.budget().limit, Some(5000));
    world.github.stop().await;
}

#[tokio::test]
async fn the_token_does_not_follow_to_the_store() {
    let world = World::start().await;
    let id = world.dispatch("run-a").await.expect("accepted").expect("its id");
    world.run_until(id, |run| run.state.is_over()).await;
    let result = world.reader.build_result(world.repository(), id).await;
    let asked = world.github.store_requests();
    assert!(matches!(asked.as_slice(), [one] if !one.authorized && one.status == 200), "{result:?} {asked:?}");
    world.github.stop().await;
}

#[tokio::test]
async fn a_lost_answer_is_resolved_by_looking_and_not_by_dispatching_again() {
    for trouble in [Trouble::AnswerLost, Trouble::BadGatewayAfter] {
        let world = World::start().await;
        let before = Timestamp::now();
        world.github.inject("dispatch", trouble);
        let error = world.dispatch("run-a").await.expect_err("no answer");
        assert!(!error.is_definite() && matches!(error, ClientError::NoAnswer { .. }), "{error:?}");
        let Found::Marked(run) = world.find("run-a", before, None).await else { panic!("not found") };
        assert_eq!(Some(run.id), world.github.runs().first().map(|run| run.id));
        assert_eq!((world.dispatches(), world.github.runs().len()), (1, 1), "sent once");
        world.github.stop().await;
    }
}

#[tokio::test]
async fn a_dispatch_that_a_gateway_ate_made_nothing_and_was_not_repeated() {
    let world = World::start().await;
    world.github.inject("dispatch", Trouble::BadGateway);
    let error = world.dispatch("run-a").await.expect_err("no answer");
    assert!(!error.is_definite(), "{error:?}");
    assert_eq!(world.find("run-a", Timestamp::now(), None).await, Found::Nothing);
    assert_eq!(world.dispatches(), 1);
    world.github.stop().await;
}

#[tokio::test]
async fn a_server_that_tells_no_id_gets_one_dispatch_and_its_run_is_found() {
    let world = World::with(GitHubOptions { tells_run_id: false, ..GitHubOptions::default() }).await;
    let before = Timestamp::now();
    assert_eq!(world.dispatch("run-a-d1").await, Ok(None));
    assert_eq!(world.github.runs().len(), 1, "the refused question made no run");
    assert!(matches!(world.find("run-a-d1", before, None).await, Found::Marked(_)));
    assert_eq!(world.find("run-ab-d1", before, None).await, Found::Nothing, "only its own");
    world.github.stop().await;
}

#[tokio::test]
async fn a_run_that_the_list_does_not_show_yet_is_found_later() {
    let hour = Duration::from_secs(3600);
    let world = World::with(GitHubOptions { list_lag: hour, ..GitHubOptions::default() }).await;
    let before = Timestamp::now();
    let id = world.dispatch("run-a").await.expect("accepted").expect("its id");
    assert_eq!(world.find("run-a", before, None).await, Found::Nothing);
    assert_eq!(world.run(id).await.id, id, "by its id it is there at once");
    world.github.set_list_lag(Duration::ZERO);
    assert!(matches!(world.find("run-a", before, None).await, Found::Marked(run) if run.id == id));
    world.github.stop().await;
}

#[tokio::test]
async fn untitled_runs_are_told_apart_by_commit_and_time_or_not_at_all() {
    let world = World::with(GitHubOptions { titled_by: None, ..GitHubOptions::default() }).await;
    let (before, main) = (Timestamp::now(), world.github.commit("main").expect("a branch"));
    let id = world.dispatch("run-a").await.expect("accepted").expect("its id");
    let found = world.find("run-a", before, Some(&main)).await;
    assert!(matches!(found, Found::Likely(run) if run.id == id));
    // The branch may have moved on since.
    assert_eq!(world.find("run-a", before, Some("another commit")).await, Found::Ambiguous(vec![id]));
    let other = world.dispatch("run-b").await.expect("accepted").expect("its id");
    assert_eq!(world.find("run-a", before, Some(&main)).await, Found::Ambiguous(vec![id, other]));
    world.github.stop().await;
}

#[tokio::test]
async fn a_list_longer_than_a_page_is_read_to_its_end() {
    let world = World::start().await;
    let before = Timestamp::now();
    let id = world.dispatch("run-first").await.expect("accepted").expect("its id");
    for n in 0..100 {
        world.dispatch(&format!("run-{n}")).await.expect("accepted");
    }
    assert!(matches!(world.find("run-first", before, None).await, Found::Marked(run) if run.id == id));
    world.github.stop().await;
}

#[tokio::test]
async fn a_failing_run_names_its_job_and_step() {
    let world = World::start().await;
    world.github.next_run(Fate::Fails);
    let id = world.dispatch("run-a").await.expect("accepted").expect("its id");
    let run = world.run_until(id, |run| run.state.is_over()).await;
    assert_eq!(run.state, State::Failed("failure".to_owned()));
    let job = world.reader.jobs(world.repository(), id).await.expect("jobs").remove(0);
    assert_eq!((job.name.as_str(), job.failed_step.as_deref()), ("build", Some("Build and push the image")));
    assert_eq!(world.reader.build_result(world.repository(), id).await, Ok(None));
    world.github.stop().await;
}

#[tokio::test]
async fn a_stuck_run_goes_on_until_it_is_cancelled() {
    let options = GitHubOptions { queued: Duration::ZERO, building: Duration::ZERO, ..GitHubOptions::default() };
    let world = World::with(options).await;
    for (fate, state) in
        [(Fate::Hangs, State::Running), (Fate::StaysQueued, State::Waiting), (Fate::WaitsForApproval, State::Held)]
    {
        world.github.next_run(fate);
        let id = world.dispatch("run-a").await.expect("accepted").expect("its id");
        assert_eq!(world.run(id).await.state, state);
        let jobs = world.reader.jobs(world.repository(), id).await.expect("jobs");
        assert!(jobs.iter().all(|job| job.state == State::Running && job.failed_step.is_none()), "{jobs:?}");
        assert_eq!(jobs.len(), usize::from(state == State::Running));
        assert_eq!(world.reader.build_result(world.repository(), id).await, Ok(None), "nothing before its end");
        assert_eq!(world.writer.cancel(world.repository(), id).await, Ok(Cancelled::Asked));
        let run = world.run_until(id, |run| run.state.is_over()).await;
        assert_eq!(run.state, State::Cancelled);
        assert_eq!(world.writer.cancel(world.repository(), id).await, Ok(Cancelled::AlreadyOver));
    }
    world.github.stop().await;
}

#[tokio::test]
async fn an_accepted_dispatch_may_make_no_run_at_all() {
    let world = World::start().await;
    world.github.next_run(Fate::NeverMade);
    let id = world.dispatch("run-a").await.expect("accepted").expect("an id all the same");
    assert_eq!(world.reader.run(world.repository(), id).await, Ok(None));
    assert_eq!(world.find("run-a", Timestamp::now(), None).await, Found::Nothing);
    world.github.stop().await;
}

#[tokio::test]
async fn a_result_that_is_none_is_refused_and_never_deployed() {
    let world = World::start().await;
    for (content, says) in [
        ("{}", "must hold result.json with the texts image_tag and image_digest"),
        (r#"{"image_tag": "a b", "image_digest": "sha256:0"}"#, "no image reference"),
        (r#"{"image_tag": "app:1", "image_digest": "latest"}"#, "64 hexadecimal digits"),
    ] {
        world.github.set_result(content);
        let id = world.dispatch("run-a").await.expect("accepted").expect("its id");
        world.run_until(id, |run| run.state.is_over()).await;
        let error = world.reader.build_result(world.repository(), id).await.expect_err("refused");
        assert!(error.is_definite() && error.to_string().contains(says), "{error}");
    }
    world.github.expire_artifacts();
    let last = world.github.runs().last().expect("a run").id;
    assert_eq!(world.reader.build_result(world.repository(), last).await, Ok(None), "its bytes are gone");
    world.github.stop().await;
}

#[tokio::test]
async fn refusals_are_definite_and_name_the_thing() {
    let world = World::start().await;
    let refused = async |workflow: &str, git_ref: &str, input: &str| {
        let workflow = Workflow::parse("acme/app", workflow).expect("a workflow");
        let inputs = BTreeMap::from([(input.to_owned(), "x".to_owned())]);
        let error = world.writer.dispatch(&workflow, git_ref, &inputs).await.expect_err("refused");
        assert!(error.is_definite(), "{error:?}");
        error.to_string()
    };
    let missing = refused("other.yml", "main", "run_id").await;
    assert_eq!(missing, "workflow other.yml of acme/app (or the token may not see it) does not exist");
    assert!(refused("build.yml", "nowhere", "run_id").await.contains("422 No ref found for: nowhere"));
    assert!(refused("build.yml", "main", "colour").await.contains("Unexpected inputs provided: [\"colour\"]"));
    assert!(world.github.runs().is_empty());
    world.github.stop().await;
}

#[tokio::test]
async fn tokens_that_are_wrong_or_may_only_read_are_told_apart() {
    let world = World::start().await;
    let ask = async |token: Option<&str>| {
        let writer = Writer::new(reader(&world.github, token), &Fence::unguarded());
        writer.dispatch(&world.workflow, "main", &BTreeMap::new()).await.expect_err("refused")
    };
    let wrong = ask(Some("ghp_wrong")).await;
    assert!(matches!(&wrong, ClientError::Unauthorized { .. }) && !wrong.to_string().contains("ghp_"), "{wrong}");
    let reads = ask(Some(&world.github.options().reading_token)).await;
    assert!(matches!(reads, ClientError::Forbidden { .. }), "{reads}");
    assert!(matches!(ask(None).await, ClientError::NotFound { .. }), "a private repository is not shown to strangers");
    world.github.stop().await;
}

#[tokio::test]
async fn a_limit_is_kept_and_no_missing_right() {
    let world = World::start().await;
    world.github.inject("dispatch", Trouble::SecondaryLimit { retry_after: Some(7) });
    let limited = world.dispatch("run-a").await.expect_err("limited");
    assert_eq!(limited, ClientError::RateLimited { provider: "GitHub", seconds: 7 });
    let asked = world.github.requests().len();
    assert!(world.dispatch("run-a").await.expect_err("still paused").is_rate_limit());
    assert_eq!(world.github.requests().len(), asked, "nobody is asked during the pause");

    let other = reader(&world.github, Some(&world.github.options().token));
    world.github.inject("run", Trouble::SecondaryLimit { retry_after: None });
    let limited = other.run(world.repository(), 1).await.expect_err("limited");
    assert_eq!(limited, ClientError::RateLimited { provider: "GitHub", seconds: 60 }, "a minute without a hint");

    world.github.spend_rate_limit(5_000);
    let third = reader(&world.github, Some(&world.github.options().token));
    assert!(third.run(world.repository(), 1).await.expect_err("used up").is_rate_limit());
    assert_eq!(third.budget().remaining, Some(0));
    assert!(world.github.runs().is_empty());
    world.github.stop().await;
}

#[tokio::test]
async fn reads_get_over_a_gateway_that_stumbles() {
    let world = World::start().await;
    let id = world.dispatch("run-a").await.expect("accepted").expect("its id");
    for call in ["run", "list runs"] {
        world.github.inject(call, Trouble::BadGateway);
    }
    assert_eq!(world.run(id).await.id, id);
    assert!(matches!(world.find("run-a", Timestamp::now(), None).await, Found::Marked(_)));
    world.run_until(id, |run| run.state.is_over()).await;
    for call in ["artifacts", "download"] {
        world.github.inject(call, Trouble::AnswerLost);
    }
    assert!(world.reader.build_result(world.repository(), id).await.expect("an answer").is_some());
    world.github.stop().await;
}

#[tokio::test]
async fn nothing_is_written_once_the_lease_is_lost() {
    let world = World::start().await;
    let grant = Grant::new("the run's lease", uptime() + DEADLINE, || Ok(()));
    let writer = Writer::new(world.reader.clone(), &Fence::granted(vec![grant.clone()]));
    let send = async || writer.dispatch(&world.workflow, "main", &BTreeMap::new()).await;
    let id = send().await.expect("within the lease").run_id.expect("its id");
    grant.end(Fenced::new("another runner has the run"));
    assert!(matches!(send().await, Err(ClientError::Fenced(_))));
    assert!(matches!(writer.cancel(world.repository(), id).await, Err(ClientError::Fenced(_))));
    assert_eq!((world.dispatches(), world.github.runs().len()), (1, 1));
    assert!(writer.look().run(world.repository(), id).await.expect("an answer").is_some(), "looking goes on");
    world.github.stop().await;
}

#[tokio::test]
async fn what_has_not_changed_costs_nothing() {
    let world = World::start().await;
    world.github.next_run(Fate::StaysQueued);
    let id = world.dispatch("run-a").await.expect("accepted").expect("its id");
    let client = reqwest::Client::builder().no_proxy().user_agent("test").timeout(DEADLINE).build().expect("a client");
    let ask = async |tag: &str| {
        let url = format!("{}/repos/acme/app/actions/runs/{id}", world.github.url());
        let request = client.get(url).bearer_auth(&world.github.options().token).header("if-none-match", tag);
        let answer = request.send().await.expect("an answer");
        let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
        (answer.status().as_u16(), header("etag"), header("x-ratelimit-remaining"))
    };
    let (status, tag, remaining) = ask("\"none\"").await;
    assert_eq!(status, 200);
    assert_eq!(ask(&tag).await, (304, tag.clone(), remaining));
    world.github.stop().await;
}
