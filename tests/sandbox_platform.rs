//! The simulated platform behaves like the real one where a controller could tell the difference.
//! Everything is asked over real HTTP and SQL.

use apollo_compiler::Schema;
use apollo_compiler::schema::ExtendedType;
use ops_controller::sandbox::faults::{Break, Faults};
use ops_controller::sandbox::postgres::{Cluster, ClusterOptions, down_for};
use ops_controller::sandbox::railway::{FUTURE_STATUS, Railway, RailwayOptions, SDL, Trouble};
use ops_controller::sandbox::webapp::{Webapp, WebappOptions};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(15);

struct Platform {
    railway: Railway,
    webapp: Webapp,
    cluster: Arc<Cluster>,
    faults: Faults,
    http: reqwest::Client,
}

impl Platform {
    async fn start() -> Platform {
        Platform::with(WebappOptions::default(), RailwayOptions::default()).await
    }

    async fn with(webapp: WebappOptions, railway: RailwayOptions) -> Platform {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster::create(ClusterOptions::default()).await.expect("cluster");
        let cluster = Arc::new(cluster);
        let webapp = Webapp::start(webapp, cluster.clone()).await.expect("webapp");
        webapp.ready().await.expect("a booted webapp");
        let faults = Faults::default();
        let railway = Railway::start(railway, faults.clone(), cluster.clone(), webapp.clone());
        let railway = railway.await.expect("railway");
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("client");
        Platform { railway, webapp, cluster, faults, http }
    }

    async fn post(&self, document: &str, variables: Value) -> reqwest::Result<reqwest::Response> {
        let body = json!({"query": document, "variables": variables});
        let token = &self.railway.options().account_token;
        self.http.post(self.railway.url()).bearer_auth(token).json(&body).send().await
    }

    async fn ask(&self, document: &str, variables: Value) -> Value {
        let response = self.post(document, variables).await.expect("an answer");
        assert_eq!(response.status(), 200);
        response.json().await.expect("JSON")
    }

    /// The data of an answer without errors.
    async fn data(&self, document: &str, variables: Value) -> Value {
        let answer = self.ask(document, variables).await;
        assert!(answer["errors"].is_null(), "{answer}");
        answer["data"].clone()
    }

    async fn sql(&self, query: &str) -> Option<String> {
        let mut connection = self.cluster.connect().await.ok()?;
        let query = sqlx::query_scalar(AssertSqlSafe(query.to_string()));
        query.fetch_one(&mut connection).await.ok()
    }

    async fn worker(&self, action: &str, token: &str, secret: &str, body: &str) -> (u16, String) {
        let url = format!("{}/engine/v1/worker-actions/{action}", self.webapp.url());
        let request = self.http.post(url).bearer_auth(token).body(body.to_string());
        let request = request.header("x-trigger-worker-instance-name", "droplet-1");
        let request = request.header("x-trigger-worker-managed-secret", secret);
        let response = request.send().await.expect("an answer");
        (response.status().as_u16(), response.text().await.expect("a body"))
    }

    /// Everything a deployment logged: messages and attribute values.
    async fn log_text(&self, deployment: &str) -> String {
        let data = self.data(LOGS, json!({"id": deployment, "limit": 500})).await;
        data["deploymentLogs"].to_string()
    }
}

const LOGS: &str = "query Logs($id: String!, $filter: String, $limit: Int, $endDate: DateTime) {
    deploymentLogs(deploymentId: $id, filter: $filter, limit: $limit, endDate: $endDate) {
        timestamp message severity tags { serviceId } attributes { key value } } }";
const RESTART: &str = "mutation Restart($id: String!) { deploymentRestart(id: $id) }";
const STATE: &str = "query State($id: String!) {
    deployment(id: $id) { id status statusUpdatedAt instances { id status } } }";

macro_rules! eventually {
    ($what:expr) => {{
        let deadline = Instant::now() + PATIENCE;
        while !$what {
            assert!(Instant::now() < deadline, "never came true: {}", stringify!($what));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }};
}

#[tokio::test]
async fn wal_level_changes_by_alter_system_and_a_restart_asked_of_railway() {
    let platform = Platform::start().await;
    assert_eq!(platform.sql("show wal_level").await.as_deref(), Some("replica"));
    let source = "select source from pg_settings where name = 'wal_level'";
    assert_eq!(platform.sql(source).await.as_deref(), Some("default"));
    let begun = "select pg_postmaster_start_time()::text";
    let before = platform.sql(begun).await.expect("a start time");

    platform.sql("alter system set wal_level = 'logical'").await;
    let postgres = platform.railway.deployment_ids("Postgres").remove(0);
    let state = platform.data(STATE, json!({"id": postgres})).await;
    let answer = platform.data(RESTART, json!({"id": postgres})).await;
    assert_eq!(answer["deploymentRestart"], true);

    let now = platform.data(STATE, json!({"id": postgres})).await;
    assert_eq!(now["deployment"]["status"], "SUCCESS");
    assert_eq!(now["deployment"]["instances"][0]["status"], "RESTARTING");
    eventually!(platform.sql("show wal_level").await.as_deref() == Some("logical"));
    assert_ne!(platform.sql(begun).await.expect("a start time"), before);
    eventually!(
        platform.data(STATE, json!({"id": postgres})).await["deployment"]["instances"][0]["status"] == "RUNNING"
    );
    let now = platform.data(STATE, json!({"id": postgres})).await;
    assert_ne!(now["deployment"]["statusUpdatedAt"], state["deployment"]["statusUpdatedAt"]);
    assert_eq!(platform.railway.postgres_restarts(), 1);
    let asked = platform.railway.restart_requests();
    assert_eq!((asked.len(), asked[0].service_name.as_str()), (1, "Postgres"));
}

#[tokio::test]
async fn a_setting_on_the_command_line_beats_alter_system() {
    let words = vec!["-c".to_string(), "wal_level=replica".to_string()];
    let options = ClusterOptions::default().extra_command_line(words);
    let cluster = Cluster::create(options).await.expect("cluster");
    let mut connection = cluster.connect().await.expect("a connection");
    sqlx::raw_sql("alter system set wal_level = 'logical'").execute(&mut connection).await.expect("alter");
    cluster.restart().await.expect("a restart");
    let mut connection = PgConnection::connect(&cluster.url()).await.expect("the url connects");
    let sql = "select setting, source from pg_settings where name = 'wal_level'";
    let row: (String, String) = sqlx::query_as(sql).fetch_one(&mut connection).await.expect("a row");
    assert_eq!(row, ("replica".to_string(), "command line".to_string()));
}

#[tokio::test]
async fn a_cluster_checks_passwords_refuses_privileges_and_can_be_away() {
    let cluster = Arc::new(Cluster::create(ClusterOptions::default()).await.expect("cluster"));
    let wrong = cluster.url_as("postgres", "wrong");
    assert!(PgConnection::connect(&wrong).await.is_err());
    cluster.create_role("plain", "p@ss/word").await.expect("a role");
    let url = cluster.url_as("plain", "p@ss/word");
    let mut plain = PgConnection::connect(&url).await.expect("the role connects");
    assert!(sqlx::raw_sql("alter system set wal_level = 'logical'").execute(&mut plain).await.is_err());

    let back = down_for(&cluster, Duration::from_millis(200));
    eventually!(!cluster.is_running());
    assert!(cluster.connect().await.is_err());
    back.await.expect("no panic").expect("it came back");
    assert!(cluster.connect().await.is_ok());
    assert_eq!(cluster.restarts(), 0);
}

#[tokio::test]
async fn the_token_stands_hashed_in_the_database_and_in_clear_only_in_the_old_deployment() {
    let platform = Platform::start().await;
    let token = platform.webapp.token();
    assert_eq!(token.len(), 47);
    let hash: String = Sha256::digest(token.as_bytes()).iter().map(|b| format!("{b:02x}")).collect();
    let sql = r#"select t."tokenHash" from "WorkerGroupToken" t join "WorkerInstanceGroup" g on g."tokenId" = t.id"#;
    assert_eq!(platform.sql(sql).await, Some(hash));

    let list = "query Deployments($input: DeploymentListInput!, $first: Int, $after: String) {
        deployments(input: $input, first: $first, after: $after) {
            edges { node { id status } } pageInfo { hasNextPage endCursor } } }";
    let service = platform.railway.service_id("trigger.dev");
    let input = json!({"environmentId": platform.railway.environment_id(), "serviceId": service});
    let first = platform.data(list, json!({"input": input, "first": 1})).await["deployments"].clone();
    assert_eq!(first["edges"][0]["node"]["status"], "SUCCESS");
    assert_eq!(first["pageInfo"]["hasNextPage"], true);
    let after = first["pageInfo"]["endCursor"].clone();
    let second = platform.data(list, json!({"input": input, "first": 1, "after": after})).await["deployments"].clone();
    assert_eq!(second["edges"][0]["node"]["status"], "REMOVED");
    assert_eq!(second["pageInfo"]["hasNextPage"], false);

    let id = |page: &Value| page["edges"][0]["node"]["id"].as_str().expect("an id").to_string();
    let (new, old) = (id(&first), id(&second));
    assert!(platform.log_text(&new).await.contains("Worker group bootstrap already exists"));
    assert!(!platform.log_text(&new).await.contains("tr_wgt_"));
    let filtered = platform.data(LOGS, json!({"id": old, "filter": "\"tr_wgt_\""})).await;
    let messages: Vec<&str> =
        filtered["deploymentLogs"].as_array().expect("a list").iter().filter_map(|l| l["message"].as_str()).collect();
    assert_eq!(messages, [token.clone(), format!("TRIGGER_WORKER_TOKEN={token}")]);
}

#[tokio::test]
async fn a_fresh_webapp_has_its_token_in_the_running_deployment() {
    let options = WebappOptions { token_in_old_deployment: false, ..WebappOptions::default() };
    let platform = Platform::with(options, RailwayOptions::default()).await;
    let ids = platform.railway.deployment_ids("trigger.dev");
    assert_eq!(ids.len(), 1);
    assert!(platform.log_text(&ids[0]).await.contains(&platform.webapp.token()));
}

#[tokio::test]
async fn a_worker_is_authenticated_before_its_body_is_read() {
    let platform = Platform::start().await;
    let (token, secret) = (platform.webapp.token(), platform.webapp.managed_secret());
    let refused = (401, r#"{"error":"Invalid or missing worker token"}"#.to_string());
    let wrong = format!("tr_wgt_{}", "x".repeat(40));
    assert_eq!(platform.worker("connect", &wrong, &secret, "{}").await, refused);
    assert_eq!(platform.worker("connect", &token, "wrong", "not json").await, refused);
    assert_eq!(platform.sql(r#"select count(*)::text from "WorkerInstance""#).await.as_deref(), Some("0"));

    let probe = platform.worker("connect", &token, &secret, "{}").await;
    let body: Value = serde_json::from_str(&probe.1).expect("JSON");
    assert_eq!((probe.0, &body["error"]), (400, &json!("Body Error")));
    assert_eq!(platform.worker("connect", &token, &secret, "not json").await.0, 500);
    assert_eq!(platform.sql(r#"select count(*)::text from "WorkerInstance""#).await.as_deref(), Some("1"));
    assert_eq!(
        platform.sql(r#"select coalesce(metadata::text, 'none') from "WorkerInstance""#).await.as_deref(),
        Some("none")
    );

    let log = platform.log_text(&platform.railway.deployment_ids("trigger.dev")[0]).await;
    assert!(log.contains(&wrong), "a rejected token is logged in clear");
    assert!(log.contains("Managed secret length mismatch"));
}

#[tokio::test]
async fn connect_writes_the_version_and_heartbeat_the_time_in_utc() {
    let platform = Platform::start().await;
    let (token, secret) = (platform.webapp.token(), platform.webapp.managed_secret());
    let (status, body) = platform.worker("connect", &token, &secret, r#"{"metadata":{"workerVersion":"4.5.6"}}"#).await;
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, body), (200, json!({"ok": true, "workerGroup": {"type": "MANAGED", "name": "bootstrap"}})));
    let version = r#"select metadata->>'workerVersion' from "WorkerInstance" where "resourceIdentifier" = 'droplet-1'"#;
    assert_eq!(platform.sql(version).await.as_deref(), Some("4.5.6"));

    let beat = r#"{"cpu":{"used":0.5,"available":0.5},"memory":{"used":0.5,"available":0.5},"tasks":[]}"#;
    assert_eq!(platform.worker("heartbeat", &token, &secret, beat).await, (200, r#"{"ok":true}"#.to_string()));
    assert_eq!(platform.worker("heartbeat", &token, &secret, "{}").await.0, 400);
    let fresh = r#"select (now() at time zone 'utc' - "lastHeartbeatAt" < interval '5 s')::text from "WorkerInstance""#;
    assert_eq!(platform.sql(fresh).await.as_deref(), Some("true"));
    let health = platform.http.get(format!("{}/healthcheck", platform.webapp.url())).send().await.expect("an answer");
    assert_eq!((health.status().as_u16(), health.text().await.expect("text").as_str()), (200, "OK"));
    assert_eq!(platform.webapp.dequeues(), 0);
}

#[tokio::test]
async fn a_rotated_token_is_true_and_in_no_log_while_poison_is_in_the_log_and_false() {
    let platform = Platform::start().await;
    let secret = platform.webapp.managed_secret();
    let old = platform.webapp.token();
    let new = platform.webapp.rotate_token_by_hand().await.expect("a rotation");
    assert_eq!(platform.webapp.token(), new);
    assert_eq!(platform.worker("connect", &old, &secret, "{}").await.0, 401);
    assert_eq!(platform.worker("connect", &new, &secret, "{}").await.0, 400);

    let poison = platform.webapp.poison_log();
    let running = platform.railway.deployment_ids("trigger.dev").remove(0);
    let found = platform.data(LOGS, json!({"id": running, "filter": "\"tr_wgt_\""})).await;
    let found = found["deploymentLogs"].as_array().expect("a list").clone();
    assert_eq!(found.len(), 1, "the filter sees messages, not attributes");
    assert!(found[0]["message"].as_str().is_some_and(|m| m.contains(&poison)));
    let all = platform.data(LOGS, json!({"id": running})).await;
    let hidden = json!({"key": "token", "value": format!("\"{poison}\"")});
    let lines = all["deploymentLogs"].as_array().expect("a list");
    assert!(lines.iter().any(|l| { l["attributes"].as_array().is_some_and(|a| a.contains(&hidden)) }));
    assert!(!all.to_string().contains(&new));
}

#[tokio::test]
async fn the_slot_streams_once_wal_is_logical_and_the_publication_exists_and_again_after_a_restart() {
    let options = WebappOptions {
        resubscribe: Duration::from_millis(100),
        resubscribe_at_most: Duration::from_millis(300),
        ..WebappOptions::default()
    };
    let platform = Platform::with(options, RailwayOptions::default()).await;
    let slots = "select count(*)::text from pg_replication_slots";
    platform.sql("alter system set wal_level = 'logical'").await;
    platform.cluster.restart().await.expect("a restart");
    assert_eq!(platform.sql(slots).await.as_deref(), Some("0"));
    platform.sql(r#"create publication task_runs_to_clickhouse_v1_publication for table "TaskRun""#).await;
    let active = "select active::text from pg_replication_slots where slot_name = 'task_runs_to_clickhouse_v1'";
    eventually!(platform.sql(active).await.as_deref() == Some("true"));
    let streaming = "select state from pg_stat_replication where application_name = 'runs-replication'";
    eventually!(platform.sql(streaming).await.as_deref() == Some("streaming"));

    let flushed = "select confirmed_flush_lsn::text from pg_replication_slots";
    let before = platform.sql(flushed).await;
    platform.sql(r#"insert into "TaskRun" (id, "friendlyId") values ('a', 'run_a')"#).await;
    eventually!(platform.sql(flushed).await != before);

    let begun = Instant::now();
    platform.cluster.restart().await.expect("a restart");
    assert!(begun.elapsed() < Duration::from_secs(3), "an active stream must not hold up a shutdown");
    eventually!(platform.sql(active).await.as_deref() == Some("true"));
}

#[tokio::test]
async fn an_older_webapp_gives_replication_up_until_it_is_restarted() {
    let options = WebappOptions { replication_retries: false, creates_publication: true, ..WebappOptions::default() };
    let platform = Platform::with(options, RailwayOptions::default()).await;
    let webapp = platform.railway.deployment_ids("trigger.dev").remove(0);
    eventually!(platform.log_text(&webapp).await.contains("Replication client error"));
    platform.sql("alter system set wal_level = 'logical'").await;
    platform.cluster.restart().await.expect("a restart");
    assert!(!platform.log_text(&webapp).await.contains("resubscribe"));
    assert_eq!(platform.sql("select count(*)::text from pg_replication_slots").await.as_deref(), Some("0"));

    platform.data(RESTART, json!({"id": webapp})).await;
    let active = "select active::text from pg_replication_slots where slot_name = 'task_runs_to_clickhouse_v1'";
    eventually!(platform.sql(active).await.as_deref() == Some("true"));
    let published = "select concat(pubinsert, pubupdate, pubdelete, pubtruncate) from pg_publication";
    assert_eq!(platform.sql(published).await.as_deref(), Some("tttf"));
}

#[tokio::test]
async fn a_redeploy_of_the_webapp_gives_a_new_deployment_and_keeps_the_old_logs() {
    let platform = Platform::start().await;
    let before = platform.railway.deployment_ids("trigger.dev");
    platform.railway.set_variable("trigger.dev", "MANAGED_WORKER_SECRET", "a-rotated-secret");
    let deploy = "mutation Deploy($service: String!, $environment: String!) {
        serviceInstanceDeployV2(serviceId: $service, environmentId: $environment) }";
    let service = platform.railway.service_id("trigger.dev");
    let variables = json!({"service": service, "environment": platform.railway.environment_id()});
    let answer = platform.data(deploy, variables).await;
    let new = answer["serviceInstanceDeployV2"].as_str().expect("an id").to_string();
    assert!(!before.contains(&new));
    eventually!(platform.data(STATE, json!({"id": new})).await["deployment"]["status"] == "SUCCESS");
    assert_eq!(platform.data(STATE, json!({"id": before[0]})).await["deployment"]["status"], "REMOVED");
    assert!(platform.log_text(&before[1]).await.contains(&platform.webapp.token()));
    assert_eq!(platform.webapp.managed_secret(), "a-rotated-secret");
}

#[tokio::test]
async fn one_query_shows_every_service_and_sealed_values_never() {
    let platform = Platform::start().await;
    let query = "query Services($id: String!, $project: String, $after: String) {
        environment(id: $id, projectId: $project) { id
            serviceInstances(first: 3, after: $after) {
                edges { node { serviceId serviceName deletedAt source { image repo }
                    latestDeployment { ...D } activeDeployments { ...D } } }
                pageInfo { hasNextPage endCursor } } } }
        fragment D on Deployment { id status meta instances { id status } }";
    let (mut names, mut after) = (Vec::new(), Value::Null);
    loop {
        let variables =
            json!({"id": platform.railway.environment_id(), "project": platform.railway.project_id(), "after": after});
        let page = platform.data(query, variables).await["environment"]["serviceInstances"].clone();
        names.extend(page["edges"].as_array().expect("edges").iter().map(|e| e["node"]["serviceName"].clone()));
        after = page["pageInfo"]["endCursor"].clone();
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    for name in ["Postgres", "trigger.dev", "registry", "redis"] {
        assert!(names.contains(&json!(name)), "{names:?}");
    }

    platform.railway.seal_variable("trigger.dev", "MANAGED_WORKER_SECRET");
    let query = "query Vars($p: String!, $e: String!, $s: String, $u: Boolean) {
        variables(projectId: $p, environmentId: $e, serviceId: $s, unrendered: $u)
        environment(id: $e) { variables { edges { node { name isSealed references serviceId } } } } }";
    let mut variables = json!({"p": platform.railway.project_id(), "e": platform.railway.environment_id()});
    variables["s"] = json!(platform.railway.service_id("trigger.dev"));
    let data = platform.data(query, variables.clone()).await;
    assert_eq!(data["variables"]["API_ORIGIN"], platform.webapp.url());
    assert_eq!(data["variables"]["DATABASE_URL"], platform.cluster.url());
    assert!(data["variables"].get("MANAGED_WORKER_SECRET").is_none());
    let kinds = data["environment"]["variables"]["edges"].as_array().expect("edges").clone();
    let kind = |name: &str| {
        kinds.iter().map(|e| &e["node"]).find(|n| n["name"] == name && n["serviceId"] == variables["s"]).cloned()
    };
    assert_eq!(kind("MANAGED_WORKER_SECRET").expect("its name")["isSealed"], true);
    assert_eq!(kind("DATABASE_URL").expect("its name")["references"], json!(["Postgres.DATABASE_URL"]));
    variables["u"] = json!(true);
    let data = platform.data(query, variables).await;
    assert_eq!(data["variables"]["DATABASE_URL"], "${{Postgres.DATABASE_URL}}");
}

#[tokio::test]
async fn unknown_fields_and_wrong_variables_are_errors_with_http_200() {
    let platform = Platform::start().await;
    let wrong = [
        ("{ deployment(id: \"x\") { id colour } }", json!({})),
        (STATE, json!({})),
        (STATE, json!({"id": 7})),
        ("query {", json!({})),
        (STATE, json!({"id": "nobody"})),
    ];
    for (document, variables) in wrong {
        let answer = platform.ask(document, variables).await;
        assert!(answer["errors"][0]["message"].is_string(), "{document}: {answer}");
        assert!(answer["data"].is_null(), "{document}: {answer}");
    }
}

#[tokio::test]
async fn each_kind_of_token_answers_for_itself_only() {
    let platform = Platform::start().await;
    let options = platform.railway.options().clone();
    let ask = async |header: &str, token: &str, query: &str| -> Value {
        let request = platform.http.post(platform.railway.url()).header(header, token);
        let response = request.json(&json!({"query": query})).send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        response.json().await.expect("JSON")
    };
    let project = "{ projectToken { projectId environmentId } }";
    let answer = ask("Project-Access-Token", &options.project_token, project).await;
    assert_eq!(answer["data"]["projectToken"]["environmentId"], options.environment_id);
    let account = "{ apiToken { workspaces { id name } } }";
    let bearer = format!("Bearer {}", options.account_token);
    assert!(ask("Authorization", &bearer, account).await["errors"].is_null());
    for (header, token, query, message) in [
        ("Project-Access-Token", options.project_token.as_str(), account, "Not Authorized"),
        ("Project-Access-Token", options.project_token.as_str(), "{ me { id } }", "Not Authorized"),
        ("Authorization", bearer.as_str(), project, "Project Token not found"),
        ("Authorization", "Bearer wrong", account, "Not Authorized"),
        ("Project-Access-Token", "wrong", project, "Project Token not found"),
    ] {
        assert_eq!(ask(header, token, query).await["errors"][0]["message"], message, "{query}");
    }
}

#[tokio::test]
async fn logs_come_newest_of_the_window_oldest_first_and_one_too_many() {
    let platform = Platform::start().await;
    let old = platform.railway.deployment_ids("trigger.dev").remove(1);
    let ask = async |variables: Value| -> Vec<Value> {
        let data = platform.data(LOGS, variables).await;
        data["deploymentLogs"].as_array().expect("a list").clone()
    };
    let all = ask(json!({"id": old})).await;
    let stamps: Vec<&str> = all.iter().filter_map(|l| l["timestamp"].as_str()).collect();
    assert!(stamps.is_sorted() && stamps[0].len() == "2026-01-01T00:00:00.000000000Z".len(), "{stamps:?}");
    assert_eq!(ask(json!({"id": old, "limit": 3})).await, all[all.len() - 4..]);
    let earlier = ask(json!({"id": old, "endDate": all[2]["timestamp"]})).await;
    assert_eq!(earlier, all[..3]);
    let both = ask(json!({"id": old, "filter": "\"Worker Token\" AND Bootstrap"})).await;
    assert_eq!(both.len(), 1);
    assert!(ask(json!({"id": old, "filter": "tr_wgt_.*"})).await.is_empty(), "no regular expressions");

    let spanning = "query E($e: String!, $f: String) { environmentLogs(environmentId: $e, filter: $f, beforeLimit: 100) { message } }";
    let filter = format!("@service:{} AND \"tr_wgt_\"", platform.railway.service_id("trigger.dev").expect("an id"));
    let found = platform.data(spanning, json!({"e": platform.railway.environment_id(), "f": filter})).await;
    assert_eq!(found["environmentLogs"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn ordered_trouble_happens_once() {
    let platform = Platform::start().await;
    let postgres = platform.railway.deployment_ids("Postgres").remove(0);
    let id = || json!({"id": postgres});

    platform.railway.inject(Trouble::TooManyRequests { retry_after: Duration::from_secs(7) });
    let answer = platform.post(STATE, id()).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().ok()), (429, Some("7")));
    platform.railway.inject(Trouble::Cloudflare1015);
    let answer = platform.post(STATE, id()).await.expect("an answer");
    assert!(answer.status() == 429 && answer.headers().get("retry-after").is_none());
    assert_eq!(answer.text().await.expect("text"), "error code: 1015");
    platform.faults.next_requests(Break::Html502, 1);
    let answer = platform.post(STATE, id()).await.expect("an answer");
    assert!(answer.status() == 502 && answer.text().await.expect("text").contains("<html>"));

    platform.railway.inject_for("Restart", Trouble::ErrorsBefore);
    platform.railway.inject_for("Restart", Trouble::ErrorsAfter);
    assert_eq!(platform.ask(STATE, id()).await["errors"], Value::Null);
    for applied in [0, 1] {
        let answer = platform.ask(RESTART, id()).await;
        assert_eq!(answer["errors"][0]["message"], "Problem processing request");
        assert_eq!(platform.railway.restart_requests().len(), applied);
    }
    platform.railway.inject(Trouble::DroppedAfter);
    assert!(platform.post(RESTART, id()).await.is_err());
    assert_eq!(platform.railway.restart_requests().len(), 2);
    eventually!(platform.railway.postgres_restarts() == 2);

    platform.railway.inject(Trouble::PartialData);
    let answer = platform.ask(STATE, id()).await;
    assert!(answer["errors"][0]["message"].is_string() && answer["data"]["deployment"]["id"] == postgres);
    platform.railway.set_webapp_deployment_status(FUTURE_STATUS);
    let webapp = platform.railway.deployment_ids("trigger.dev").remove(0);
    let answer = platform.data(STATE, json!({"id": webapp})).await;
    assert_eq!(answer["deployment"]["status"], FUTURE_STATUS);

    platform.railway.spend_rate_limit(u32::MAX);
    let answer = platform.post(STATE, id()).await.expect("an answer");
    assert!(answer.status() == 429 && answer.headers().contains_key("retry-after"));
    let remembered = platform.railway.requests();
    assert!(remembered.iter().any(|r| r.operation == "Restart" && r.variables["id"] == postgres));
}

#[tokio::test]
async fn every_answer_tells_what_is_left_of_the_hour() {
    let platform = Platform::start().await;
    let header = |answer: &reqwest::Response, name: &str| answer.headers()[name].to_str().expect("text").to_string();
    let first = platform.post("{ me { id } }", json!({})).await.expect("an answer");
    let second = platform.post("{ me { id } }", json!({})).await.expect("an answer");
    assert_eq!(header(&first, "x-ratelimit-limit"), "1000");
    assert_eq!(header(&first, "x-ratelimit-remaining"), "999");
    assert_eq!(header(&second, "x-ratelimit-remaining"), "998");
    assert_ne!(header(&first, "x-request-id"), header(&second, "x-request-id"));
    assert!(header(&first, "x-ratelimit-reset").parse::<u64>().is_ok());
}

#[tokio::test]
async fn standing_faults_reach_the_database_and_the_log() {
    let platform = Platform::start().await;
    platform.faults.next_requests(Break::PoisonedToken, 1);
    platform.faults.during(Break::DatabaseDown, Duration::from_millis(400));
    eventually!(!platform.cluster.is_running());
    eventually!(platform.sql("select 'back'").await.is_some());
    let running = platform.railway.deployment_ids("trigger.dev").remove(0);
    assert!(platform.log_text(&running).await.contains("No matching worker group found"));
    platform.railway.stop().await;
    platform.webapp.stop().await;
    assert!(platform.post("{ me { id } }", json!({})).await.is_err(), "a stopped simulator answers nobody");
}

fn contracts() -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/contracts");
    let folder = std::env::var_os("OPS_CONTRACTS").map_or_else(beside, PathBuf::from);
    if folder.join("railway.schema.graphql").is_file() {
        return Some(folder);
    }
    eprintln!("SKIPPED: no railway.schema.graphql in {} (set OPS_CONTRACTS)", folder.display());
    None
}

/// Each line says one thing about a type: a field with its type, an argument, an enum's value.
fn statements(kind: &ExtendedType) -> Vec<String> {
    match kind {
        ExtendedType::Object(object) => object
            .fields
            .values()
            .flat_map(|field| {
                let told = format!("{}: {}", field.name, field.ty);
                let argument =
                    |a: &apollo_compiler::ast::InputValueDefinition| format!("{}({}: {})", field.name, a.name, a.ty);
                std::iter::once(told).chain(field.arguments.iter().map(|a| argument(a))).collect::<Vec<_>>()
            })
            .collect(),
        ExtendedType::InputObject(input) => input.fields.values().map(|f| format!("{}: {}", f.name, f.ty)).collect(),
        ExtendedType::Enum(list) => list.values.keys().map(|value| value.to_string()).collect(),
        ExtendedType::Interface(interface) => {
            interface.fields.values().map(|f| format!("{}: {}", f.name, f.ty)).collect()
        }
        ExtendedType::Scalar(_) | ExtendedType::Union(_) => Vec::new(),
    }
}

#[test]
fn our_schema_says_nothing_that_the_official_one_does_not() {
    let Some(folder) = contracts() else { return };
    let official = std::fs::read_to_string(folder.join("railway.schema.graphql")).expect("readable");
    let official = Schema::parse(official, "official.graphql").unwrap_or_else(|e| e.partial);
    let ours = Schema::parse_and_validate(SDL, "ours.graphql").expect("valid");
    let mut compared = 0;
    for (name, kind) in ours.types.iter().filter(|(_, kind)| !kind.is_built_in()) {
        let real = official.types.get(name).unwrap_or_else(|| panic!("no official type {name}"));
        assert_eq!(std::mem::discriminant(kind), std::mem::discriminant(real), "{name}");
        let known = statements(real);
        for statement in statements(kind) {
            assert!(known.contains(&statement), "not official: {name}.{statement}");
            compared += 1;
        }
    }
    assert!(compared > 150, "only {compared} statements compared");
}

/// The operations of the folder, each with the fragments it may use.
fn operations(folder: &std::path::Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder.join("railway-operations")).expect("a folder").flatten() {
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        let blocks: Vec<&str> = text.split("\n\n").collect();
        let body = |block: &str| block.lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join("\n");
        let blocks: Vec<String> = blocks.into_iter().map(body).map(|b| b.trim().to_string()).collect();
        let fragments: Vec<&String> = blocks.iter().filter(|b| b.starts_with("fragment")).collect();
        for block in blocks.iter().filter(|b| b.starts_with("query") || b.starts_with("mutation")) {
            let name = block.split([' ', '(']).nth(1).unwrap_or_default().to_string();
            let used = fragments
                .iter()
                .filter(|f| f.split_whitespace().nth(1).is_some_and(|name| block.contains(&format!("...{name}"))));
            let document = used.fold(block.clone(), |document, fragment| format!("{document}\n{fragment}"));
            found.push((name, document));
        }
    }
    found
}

#[tokio::test]
async fn the_example_operations_are_answered_without_errors() {
    let Some(folder) = contracts() else { return };
    let platform = Platform::start().await;
    let railway = &platform.railway;
    let deployment = railway.deployment_ids("Postgres").remove(0);
    let variables = json!({
        "id": railway.project_id(), "projectId": railway.project_id(),
        "environmentId": railway.environment_id(), "serviceId": railway.service_id("Postgres"),
        "deploymentId": deployment, "input": {"serviceId": railway.service_id("trigger.dev"), "status": {"in": ["SUCCESS"]}},
    });
    let simulated = [
        "ApiTokenScope",
        "ProjectOverview",
        "EnvironmentServices",
        "ServiceInstanceState",
        "Variables",
        "DeployVariables",
        "VariableKinds",
        "Deployments",
        "DeploymentState",
        "DeploymentLogs",
        "EnvironmentLogs",
        "ServiceInstanceDeploy",
        "DeploymentRestart",
    ];
    let mut asked = Vec::new();
    for (name, document) in operations(&folder) {
        if !simulated.contains(&name.as_str()) {
            continue;
        }
        let mut variables = variables.clone();
        if name == "DeploymentState" {
            variables["id"] = json!(deployment);
        }
        // A restart follows a deploy that replaces the deployment: order of files decides.
        let answer = platform.ask(&document, variables).await;
        assert!(answer["errors"].is_null() && answer["data"].is_object(), "{name}: {answer}");
        asked.push(name);
    }
    asked.sort();
    let mut expected = simulated.to_vec();
    expected.sort_unstable();
    assert_eq!(asked, expected);
}
