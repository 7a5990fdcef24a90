//! What clients of the HTTP interface rely on, asked over real connections.

use ops_controller::clients::Seam;
use ops_controller::config::Config;
use ops_controller::controller::daemon::{Controls, Daemon};
use ops_controller::http::{self, Writes};
use ops_controller::plan::mode::Shown;
use ops_controller::plan::secret::Secret;
use ops_controller::sandbox::{Options, Sandbox};
use ops_controller::telemetry::metrics;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN: &str = "a-token-for-writes";

/// A daemon with its HTTP interface; both end when it is stopped.
struct Served {
    address: SocketAddr,
    controls: Controls,
    client: reqwest::Client,
    daemon: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Served {
    async fn start(writes: Writes) -> Served {
        Served::with(writes, Vec::new(), true).await
    }

    /// Without a world of its own, the daemon's providers refuse every connection.
    async fn with(writes: Writes, world: Vec<(String, String)>, runs: bool) -> Served {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().expect("a folder");
        let mut pairs: Vec<(String, String)> = [
            ("DIGITALOCEAN_TOKEN", "dop_v1_nobody"),
            ("RAILWAY_API_TOKEN", "nobody"),
            ("RAILWAY_PROJECT_ID", "project"),
            ("RAILWAY_ENVIRONMENT_ID", "environment"),
            ("DATABASE_URL", "postgresql://user:secret@127.0.0.1:1/railway"),
            ("RAILWAY_API_URL", "http://127.0.0.1:1/graphql/v2"),
            ("DIGITALOCEAN_API_URL", "http://127.0.0.1:1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        pairs.extend(world);
        pairs.push(("STATE_FILE".to_owned(), folder.path().join("state.json").display().to_string()));
        let config = Config::from_pairs(pairs).expect("a configuration");
        let again = config.clone();
        let daemon = Daemon::new(config, move || Ok(again.clone()), Seam::default());
        let controls = daemon.controls();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let routes = http::router(controls.clone(), Some(metrics::install()), writes, None);
        tokio::spawn(http::serve(listener, routes, controls.clone()));
        // The daemon's future may not move between threads, so it gets one of its own.
        let run = move || tokio::runtime::Handle::current().block_on(daemon.run(|_, _| {})).expect("a daemon");
        let daemon = runs.then(|| tokio::task::spawn_blocking(run));
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15)).build().expect("a client");
        let mut served = Served { address, controls, client, daemon, _folder: folder };
        if runs {
            served.until(|status| status["mode"] != "standby").await;
        }
        served
    }

    /// Waits for a published status.
    async fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            loop {
                let status = self.controls.status.borrow_and_update().clone();
                let status = serde_json::to_value(&*status).expect("JSON");
                if fits(&status) {
                    return status;
                }
                self.controls.status.changed().await.expect("the daemon runs");
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the status comes in time")
    }

    async fn ask(&self, method: Method, path: &str) -> reqwest::Response {
        self.client.request(method, format!("http://{}{path}", self.address)).send().await.expect("an answer")
    }

    async fn write(&self, path: &str, authorization: Option<&str>) -> reqwest::Response {
        let request = self.client.post(format!("http://{}{path}", self.address));
        let request = match authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        request.send().await.expect("an answer")
    }

    /// What a raw text on the connection is answered with; empty when the connection is closed.
    async fn raw(&self, bytes: &[u8]) -> String {
        let talk = async {
            let mut stream = TcpStream::connect(self.address).await.expect("a connection");
            // A server may close while the rest is written.
            let _ = stream.write_all(bytes).await;
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        };
        tokio::time::timeout(Duration::from_secs(15), talk).await.expect("an answer or a closed connection")
    }

    async fn stop(mut self) {
        self.controls.stop.cancel();
        if let Some(daemon) = self.daemon.take() {
            tokio::time::timeout(PATIENCE, daemon).await.expect("it stops in time").expect("it does not panic");
        }
    }
}

/// Holds the answer to RFC 9457 and to this code; returns its sentence.
async fn problem(answer: reqwest::Response, status: StatusCode, code: &str) -> String {
    assert_eq!(answer.status(), status);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let body: Value = answer.json().await.expect("JSON");
    let mut keys: Vec<_> = body.as_object().expect("an object").keys().cloned().collect();
    keys.sort();
    assert_eq!(keys, ["code", "detail", "status", "title", "type"]);
    assert_eq!(body["type"], "about:blank");
    assert_eq!(body["status"], status.as_u16());
    assert_eq!(body["title"], status.canonical_reason().expect("a known status"));
    assert_eq!(body["code"], code, "{body}");
    body["detail"].as_str().expect("a sentence").to_owned()
}

/// One line of the exposition format: a comment, or a name with labels and a number.
fn is_exposition_line(line: &str) -> bool {
    if let Some(comment) = line.strip_prefix("# ") {
        return comment.starts_with("TYPE ") || comment.starts_with("HELP ");
    }
    let Some((series, value)) = line.rsplit_once(' ') else { return false };
    let number = value.parse::<f64>().is_ok() || matches!(value, "+Inf" | "-Inf" | "NaN");
    let (name, labels) = series.split_once('{').map_or((series, None), |(name, rest)| (name, Some(rest)));
    let name_fits = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'));
    let labels_fit = labels.is_none_or(|l| {
        l.strip_suffix('}').is_some_and(|l| l.is_empty() || l.split("\",").all(|pair| pair.contains("=\"")))
    });
    number && name_fits && labels_fit
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_of_a_healthy_deployment_has_every_documented_key() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = Sandbox::start(Options::short_delays()).await.expect("a sandbox");
    let mut served = Served::with(Writes::NoToken, world.environment(), true).await;
    served.until(|status| status["healthy"] == true).await;
    let answer = served.ask(Method::GET, "/status").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let status: Value = answer.json().await.expect("JSON");
    assert_eq!(status["healthy"], true);
    assert_eq!(status["mode"], "active");
    assert!(status["healthy_cycles"].as_u64().is_some_and(|n| n >= 1), "{status:#}");
    let conditions = status["conditions"].as_array().expect("conditions");
    let kinds: Vec<_> = conditions.iter().filter_map(|c| c["type"].as_str()).collect();
    for kind in [
        "ConfigurationReady",
        "WorkerTokenReady",
        "WalLevelLogical",
        "ReplicaIdentityFull",
        "PublicationReady",
        "ReplicationSlotHealthy",
        "FirewallReady",
        "SupervisorDeployed",
        "SupervisorReachable",
        "SupervisorConnected",
    ] {
        assert!(kinds.contains(&kind), "{kind} is missing in {kinds:?}");
    }
    for condition in conditions {
        assert!(matches!(condition["status"].as_str(), Some("True" | "False" | "Unknown")), "{condition}");
        assert!(condition["reason"].as_str().is_some_and(|r| !r.is_empty()), "{condition}");
        assert!(condition["message"].as_str().is_some_and(|m| !m.is_empty()), "{condition}");
        assert!(is_time(&condition["last_transition_time"]), "{condition}");
    }
    let cycle = &status["cycle"];
    assert!(cycle["number"].as_u64().is_some_and(|n| n > 1), "{cycle}");
    assert!(is_time(&cycle["started_at"]), "{cycle}");
    assert!(cycle["duration_ms"].is_u64(), "{cycle}");
    assert!(cycle["actions"].is_array(), "{cycle}");
    assert!(status["held"].is_array());
    assert!(is_time(&status["next_cycle_at"]), "{status:#}");
    for provider in ["railway", "digitalocean"] {
        assert!(status["budget"][provider]["remaining"].as_u64().is_some_and(|n| n > 0), "{}", status["budget"]);
    }
    let droplet = world.digitalocean.droplets().remove(0);
    assert_eq!(status["droplet"]["id"], droplet.id);
    assert_eq!(status["droplet"]["name"], droplet.name.as_str());
    assert_eq!(status["droplet"]["ip"], droplet.ip.to_string());
    assert_eq!(status["droplet"]["size"], "s-2vcpu-2gb");
    assert_eq!(status["droplet"]["price_monthly"], 18.0);
    served.stop().await;
    world.stop().await;
}

fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|t| t.parse::<jiff::Timestamp>().is_ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_before_the_first_cycle_has_the_same_keys() {
    let served = Served::with(Writes::NoToken, Vec::new(), false).await;
    let status: Value = served.ask(Method::GET, "/status").await.json().await.expect("JSON");
    let keys: Vec<_> = status.as_object().expect("an object").keys().map(String::as_str).collect();
    for key in
        ["healthy", "mode", "healthy_cycles", "conditions", "cycle", "held", "next_cycle_at", "budget", "droplet"]
    {
        assert!(keys.contains(&key), "{key} is missing in {keys:?}");
    }
    assert_eq!(status["healthy"], false);
    assert_eq!(status["mode"], "standby");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_and_metrics_answer_while_no_provider_does() {
    let mut served = Served::start(Writes::NoToken).await;
    served.until(|status| status["cycle"].is_object()).await;
    for (path, text) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let answer = served.ask(Method::GET, path).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.expect("text"), text);
        assert_eq!(served.ask(Method::HEAD, path).await.status(), 200);
    }
    let answer = served.ask(Method::GET, "/metrics").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.expect("text");
    assert!(text.lines().any(|l| !l.starts_with('#') && !l.is_empty()), "no series:\n{text}");
    for line in text.lines().filter(|l| !l.is_empty()) {
        assert!(is_exposition_line(line), "not Prometheus text: {line}");
    }
    let status: Value = served.ask(Method::GET, "/status").await.json().await.expect("JSON");
    assert_eq!(status["healthy"], false);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_routes_and_wrong_methods_are_problems() {
    let served = Served::start(Writes::WithToken(Secret::new(TOKEN))).await;
    for path in ["/", "/nothing", "/status/", "/status/x", "/x%2fstatus", "/cycles/1"] {
        problem(served.ask(Method::GET, path).await, StatusCode::NOT_FOUND, "not-found").await;
    }
    for path in ["/status", "/healthz", "/readyz", "/metrics"] {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
            let answer = served.ask(method, path).await;
            assert_eq!(answer.headers()["allow"], "GET,HEAD");
            problem(answer, StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed").await;
        }
    }
    for path in ["/cycles", "/pause", "/resume"] {
        let answer = served.ask(Method::GET, path).await;
        assert_eq!(answer.headers()["allow"], "POST");
        problem(answer, StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed").await;
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_huge_body_is_refused_as_a_problem() {
    let served = Served::start(Writes::WithToken(Secret::new(TOKEN))).await;
    let request = served.client.post(format!("http://{}/pause", served.address)).bearer_auth(TOKEN);
    let answer = request.body(vec![b'x'; 17 << 10]).send().await.expect("an answer");
    problem(answer, StatusCode::PAYLOAD_TOO_LARGE, "too-large").await;
    assert_eq!(served.controls.status.borrow().mode, Shown::Active);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_need_the_right_token() {
    let mut served = Served::start(Writes::WithToken(Secret::new(TOKEN))).await;
    let wrong = [
        None,
        Some(""),
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer wrong"),
        Some("Bearer a-token-for-write"),
        Some("Bearer a-token-for-writes2"),
        Some("Bearer A-TOKEN-FOR-WRITES"),
        Some("Basic a-token-for-writes"),
        Some(TOKEN),
    ];
    for path in ["/cycles", "/pause", "/resume"] {
        for authorization in wrong {
            let answer = served.write(path, authorization).await;
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
            let detail = problem(answer, StatusCode::UNAUTHORIZED, "unauthorized").await;
            assert!(detail.contains("API_TOKEN") && !detail.contains(TOKEN), "{detail}");
        }
    }
    assert_eq!(served.controls.status.borrow().mode, Shown::Active, "a refused pause pauses nothing");
    let right = format!("Bearer {TOKEN}");
    for (path, accepted) in [("/pause", "pause"), ("/resume", "resume"), ("/cycles", "cycle")] {
        let before = served.controls.status.borrow().cycle.as_ref().map_or(0, |c| c.number);
        let answer = served.write(path, Some(&right)).await;
        assert_eq!(answer.status(), 202);
        assert_eq!(answer.json::<Value>().await.expect("JSON")["accepted"], accepted);
        let mode = if path == "/pause" { "paused" } else { "active" };
        served.until(|s| s["mode"] == mode && s["cycle"]["number"].as_u64().is_some_and(|n| n > before)).await;
    }
    // The scheme's name is without regard to case.
    assert_eq!(served.write("/resume", Some(&format!("bearer {TOKEN}"))).await.status(), 202);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_token_and_on_other_addresses_only_reads_are_served() {
    for (writes, code, word) in
        [(Writes::NoToken, "no-api-token", "API_TOKEN"), (Writes::NotLocal(None), "reads-only", "LISTEN_ADDR")]
    {
        let served = Served::start(writes).await;
        for path in ["/cycles", "/pause", "/resume"] {
            for authorization in [None, Some("Bearer "), Some("Bearer a-token-for-writes")] {
                let detail = problem(served.write(path, authorization).await, StatusCode::FORBIDDEN, code).await;
                assert!(detail.contains(word), "{detail}");
            }
        }
        assert_eq!(served.ask(Method::GET, "/status").await.status(), 200);
        assert_eq!(served.controls.status.borrow().mode, Shown::Active);
        served.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_token_opens_nothing() {
    let served = Served::start(Writes::WithToken(Secret::new(""))).await;
    for authorization in [None, Some("Bearer "), Some("Bearer")] {
        problem(served.write("/pause", authorization).await, StatusCode::UNAUTHORIZED, "unauthorized").await;
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_refuses_writes_and_says_so() {
    let served = Served::with(Writes::WithToken(Secret::new(TOKEN)), Vec::new(), false).await;
    let answer = served.write("/pause", Some(&format!("Bearer {TOKEN}"))).await;
    problem(answer, StatusCode::CONFLICT, "standby").await;
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_requests_never_break_it() {
    let served = Served::start(Writes::WithToken(Secret::new(TOKEN))).await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(60_000));
    let header = format!("GET /status HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "b".repeat(600_000));
    let odd: Vec<Vec<u8>> = [
        "",
        "\r\n\r\n",
        "GET\r\n\r\n",
        "GET /status\r\n\r\n",
        "GET /status HTTP/9.9\r\n\r\n",
        "BREW /status HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET /status HTTP/1.1\r\n\r\n",
        "GET /%00%ff%2e%2e/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "GET http://elsewhere/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "GET /status?a=%zz&&&== HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
        "POST /pause HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "POST /pause HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        "POST /pause HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /pause HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "POST /cycles HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n",
        "POST /cycles HTTP/1.1\r\nhost: x\r\nauthorization: Bearer \u{fffd}\r\nconnection: close\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nhost: x\r\naccept: nothing/at-all\r\nconnection: close\r\n\r\n",
        &long,
        &header,
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([vec![0u8; 4096], vec![0xff; 4096], b"\x16\x03\x01\x02\x00\x01".to_vec()])
    .collect();
    for bytes in &odd {
        let answer = served.raw(bytes).await;
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert!(!answer.starts_with("HTTP/1.1 5") && !answer.starts_with("HTTP/1.0 5"), "{text:?}: {answer}");
        assert!(!answer.contains(TOKEN), "{text:?}");
    }
    // The same sequence in every run: methods, paths, queries and headers thrown together.
    let (methods, mut seed) = (["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "X"], 7u64);
    let paths = ["/status", "/healthz", "/readyz", "/metrics", "/cycles", "/pause", "/resume", "/", "//status", "/é"];
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).expect("31 bits") % below
    };
    for _ in 0..300 {
        let (method, path, junk) = (methods[next(methods.len())], paths[next(paths.len())], "%7f".repeat(next(40)));
        let body = "y".repeat(next(3) * 9000);
        let text = format!(
            "{method} {path}?{junk} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nauthorization: {junk}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = served.raw(text.as_bytes()).await;
        assert!(!answer.starts_with("HTTP/1.1 5"), "{method} {path}: {answer}");
    }
    assert_eq!(served.ask(Method::GET, "/healthz").await.status(), 200, "it still serves");
    assert_eq!(served.controls.status.borrow().mode, Shown::Active, "and nothing was changed");
    served.stop().await;
}
