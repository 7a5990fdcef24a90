//! What is sent and what the simulators answer, held against the providers' own schemas.
//!
//! The schemas lie outside the repository (`OPS_CONTRACTS`, or ../shared/contracts); without them
//! these tests say that they are skipped.

use apollo_compiler::executable::{Selection, SelectionSet};
use apollo_compiler::schema::ExtendedType;
use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, Schema};
use ops_controller::clients::railway::releases::Log;
use ops_controller::clients::railway::{self, DOCUMENTS};
use ops_controller::clients::{Fence, Readers, Seam};
use ops_controller::config::Config;
use ops_controller::controller::daemon::{Controls, Daemon, Request};
use ops_controller::controller::destroy::{self, Outcome};
use ops_controller::controller::status::Status;
use ops_controller::plan::secret::Secret;
use ops_controller::sandbox::digitalocean::Recorded;
use ops_controller::sandbox::{Options, Sandbox};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(90);

/// The text of a provider's schema; says so when it is not there.
fn contract(name: &str) -> Option<String> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/contracts");
    let path = std::env::var_os("OPS_CONTRACTS").map_or_else(beside, PathBuf::from).join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            eprintln!("SKIPPED: {} cannot be read ({error}); set OPS_CONTRACTS", path.display());
            None
        }
    }
}

// Railway

fn railway_schema() -> Option<Valid<Schema>> {
    let text = contract("railway.schema.graphql")?;
    Some(Schema::parse_and_validate(text, "railway.schema.graphql").expect("the official schema is valid"))
}

fn parsed(schema: &Valid<Schema>, name: &str, text: &str) -> Valid<ExecutableDocument> {
    ExecutableDocument::parse_and_validate(schema, text, name)
        .unwrap_or_else(|e| panic!("{name} does not fit Railway's schema:\n{}", e.errors))
}

#[test]
fn every_document_fits_railways_schema() {
    let Some(schema) = railway_schema() else { return };
    for (name, text) in DOCUMENTS {
        let document = parsed(&schema, name, text);
        assert!(document.operations.get(Some(name)).is_ok(), "the operation of {name} has another name");
        assert_eq!(document.operations.iter().count(), 1, "{name}");
    }
}

#[test]
fn no_document_uses_what_railway_will_remove() {
    let Some(schema) = railway_schema() else { return };
    let marked = schema.types.values().filter(|t| has_deprecated_field(t)).count();
    assert!(marked > 0, "the schema marks nothing as deprecated: the walk is broken");
    for (name, text) in DOCUMENTS {
        let document = parsed(&schema, name, text);
        let mut old = Vec::new();
        for operation in document.operations.iter() {
            deprecated(&operation.selection_set, &mut old);
        }
        for fragment in document.fragments.values() {
            deprecated(&fragment.selection_set, &mut old);
        }
        assert!(old.is_empty(), "{name} uses {old:?}");
    }
}

/// The walk itself: it sees a deprecated field, and one within a fragment.
#[test]
fn the_walk_sees_deprecated_fields() {
    let schema =
        "type Query { old: Int @deprecated(reason: \"x\") inner: Inner plain(a: Int, b: Int @deprecated): Int }
        type Inner { older: Int @deprecated }";
    let schema = Schema::parse_and_validate(schema, "schema").expect("a schema");
    for (text, expected) in [
        ("query Q { plain(a: 1) }", vec![]),
        ("query Q { old }", vec!["Query.old"]),
        ("query Q { inner { ...F } } fragment F on Inner { older }", vec!["Inner.older"]),
        ("query Q { ... on Query { plain(b: 1) } }", vec!["Query.plain(b:)"]),
    ] {
        let document = parsed(&schema, "Q", text);
        let mut old = Vec::new();
        document.operations.iter().for_each(|o| deprecated(&o.selection_set, &mut old));
        document.fragments.values().for_each(|f| deprecated(&f.selection_set, &mut old));
        assert_eq!(old, expected, "{text}");
    }
}

fn has_deprecated_field(kind: &ExtendedType) -> bool {
    matches!(kind, ExtendedType::Object(o) if o.fields.values().any(|f| f.directives.has("deprecated")))
}

fn deprecated(set: &SelectionSet, found: &mut Vec<String>) {
    for selection in &set.selections {
        match selection {
            Selection::Field(field) => {
                if field.definition.directives.has("deprecated") {
                    found.push(format!("{}.{}", set.ty, field.name));
                }
                for argument in &field.arguments {
                    let definition = field.definition.argument_by_name(&argument.name);
                    if definition.is_some_and(|d| d.directives.has("deprecated")) {
                        found.push(format!("{}.{}({}:)", set.ty, field.name, argument.name));
                    }
                }
                deprecated(&field.selection_set, found);
            }
            Selection::InlineFragment(inline) => deprecated(&inline.selection_set, found),
            // Walked on its own.
            Selection::FragmentSpread(_) => {}
        }
    }
}

/// Each field of an input object that was really sent exists and is not deprecated.
fn check_railway_variables(schema: &Valid<Schema>, world: &Sandbox) {
    let documents: BTreeMap<&str, &str> = DOCUMENTS.into_iter().collect();
    for request in world.railway.requests() {
        let text = documents.get(request.operation.as_str());
        let text = text.unwrap_or_else(|| panic!("{} is not among the documents", request.operation));
        assert_eq!(request.document, *text, "{} was sent in another form", request.operation);
        let document = parsed(schema, &request.operation, text);
        let operation = document.operations.get(Some(&request.operation)).expect("the operation");
        let sent = request.variables.as_object().cloned().unwrap_or_default();
        for (name, value) in &sent {
            let definition = operation.variables.iter().find(|v| v.name == name.as_str());
            let definition = definition.unwrap_or_else(|| panic!("{} declares no ${name}", request.operation));
            let kind = definition.ty.inner_named_type();
            if let (Some(input), Some(given)) = (schema.get_input_object(kind), value.as_object()) {
                for field in given.keys() {
                    let known = input.fields.get(field.as_str());
                    let known = known.unwrap_or_else(|| panic!("{kind} has no field {field}"));
                    assert!(!known.directives.has("deprecated"), "{kind}.{field} is deprecated");
                }
            }
        }
    }
}

#[tokio::test]
async fn every_request_of_a_release_fits_railways_schema() {
    let Some(schema) = railway_schema() else { return };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = Sandbox::start(Options::short_delays()).await.expect("a sandbox");
    let config = Config::from_pairs(world.environment()).expect("a configuration");
    let reader = Readers::new(&config, &Seam::default()).expect("clients").railway;
    let writer = railway::Writer::new(reader.clone(), &Fence::unguarded());
    let service = writer.create_service("app").await.expect("created");
    writer.set_image(&service, "ghcr.io/acme/app:1").await.expect("set");
    let values = BTreeMap::from([("NAME".to_owned(), Secret::new("value"))]);
    writer.set_variables(&service, &values).await.expect("set");
    let deployment = writer.deploy(&service).await.expect("deployed");
    assert!(reader.service_named("app").await.expect("an answer").is_some());
    assert!(reader.release(&deployment).await.expect("an answer").is_some());
    assert_eq!(reader.releases_since(&service, jiff::Timestamp::UNIX_EPOCH).await.expect("a list").len(), 1);
    for log in [Log::Build, Log::Deploy] {
        reader.log_tail(&deployment, log, 10).await.expect("a log");
    }
    check_railway_variables(&schema, &world);
    let asked: BTreeSet<String> = world.railway.requests().into_iter().map(|r| r.operation).collect();
    for (name, _) in DOCUMENTS.iter().skip(6) {
        assert!(asked.contains(*name), "{name} was not asked: {asked:?}");
    }
    world.stop().await;
}

// DigitalOcean

/// The official document, with what JSON Schema does not know translated.
struct OpenApi {
    document: Value,
}

fn openapi() -> Option<&'static OpenApi> {
    static OPENAPI: OnceLock<Option<OpenApi>> = OnceLock::new();
    let read = || {
        let text = contract("digitalocean.openapi.json")?;
        let mut document = serde_json::from_str(&text).expect("JSON");
        translate(&mut document);
        Some(OpenApi { document })
    };
    OPENAPI.get_or_init(read).as_ref()
}

/// `nullable` becomes a type; an escape that is none in a regular expression is taken out.
fn translate(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(translate),
        Value::Object(map) => {
            map.values_mut().for_each(translate);
            if let Some(Value::String(pattern)) = map.get_mut("pattern") {
                *pattern = pattern.replace("\\:", ":").replace("\\-\\", "\\-").replace("_\\-:", "_:\\-");
            }
            if map.get("nullable") == Some(&json!(true)) {
                map.remove("nullable");
                if let Some(Value::Array(allowed)) = map.get_mut("enum") {
                    allowed.push(Value::Null);
                }
                match map.get("type").cloned() {
                    Some(Value::String(one)) => drop(map.insert("type".to_owned(), json!([one, "null"]))),
                    _ => {
                        let inner = Value::Object(std::mem::take(map));
                        map.insert("anyOf".to_owned(), json!([{ "type": "null" }, inner]));
                    }
                }
            }
        }
        _ => {}
    }
}

impl OpenApi {
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str().and_then(|r| r.strip_prefix('#')) {
            Some(pointer) => self.resolve(self.document.pointer(pointer).expect("a reference that leads somewhere")),
            None => value,
        }
    }

    /// The template of a path and its operation; a literal segment wins over a parameter.
    fn operation(&self, method: &str, path: &str) -> Option<(&str, &Value)> {
        let fits = |template: &str| {
            let (a, b): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
            let same = |(t, p): (&&str, &&str)| t == p || (t.starts_with('{') && !p.is_empty());
            a.len() == b.len() && a.iter().zip(&b).all(same)
        };
        let paths = self.document["paths"].as_object().expect("paths");
        let mut fitting: Vec<_> = paths.iter().filter(|(template, _)| fits(template)).collect();
        fitting.sort_by_key(|(template, _)| template.matches('{').count());
        let (template, item) = fitting.first()?;
        let operation = item.get(method.to_lowercase())?;
        Some((template, operation))
    }

    fn errors(&self, schema: &Value, instance: &Value) -> Vec<String> {
        let root = json!({ "allOf": [schema], "components": self.document["components"] });
        let validator = jsonschema::options().with_draft(jsonschema::Draft::Draft7).build(&root).expect("a schema");
        validator.iter_errors(instance).map(|e| format!("{} at {}", e, e.instance_path)).collect()
    }

    /// The names of all properties that a schema knows at its top level.
    fn properties(&self, schema: &Value) -> BTreeSet<String> {
        let schema = self.resolve(schema);
        let mut names: BTreeSet<String> =
            schema["properties"].as_object().map(|p| p.keys().cloned().collect()).unwrap_or_default();
        for word in ["allOf", "anyOf", "oneOf"] {
            for part in schema[word].as_array().into_iter().flatten() {
                names.extend(self.properties(part));
            }
        }
        names
    }

    /// Everything that is wrong with a request.
    fn request_errors(&self, request: &Recorded) -> Vec<String> {
        let Some((_, operation)) = self.operation(&request.method, &request.path) else {
            return vec!["no such path with this method".to_owned()];
        };
        let mut errors = self.query_errors(operation, &request.query);
        let schema = &self.resolve(&operation["requestBody"])["content"]["application/json"]["schema"];
        match (schema.is_null(), request.body.is_null()) {
            (true, true) => {}
            (true, false) => errors.push("a body where none is known".to_owned()),
            (false, _) => {
                errors.extend(self.errors(schema, &request.body));
                let known = self.properties(schema);
                let sent = request.body.as_object().cloned().unwrap_or_default();
                errors.extend(sent.keys().filter(|k| !known.contains(*k)).map(|k| format!("unknown field {k}")));
            }
        }
        errors
    }

    fn query_errors(&self, operation: &Value, query: &str) -> Vec<String> {
        let parameters: BTreeMap<&str, &Value> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|p| self.resolve(p))
            .filter(|p| p["in"] == "query")
            .map(|p| (p["name"].as_str().expect("a name"), p))
            .collect();
        let mut errors = Vec::new();
        let given: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        for (name, text) in &given {
            let Some(parameter) = parameters.get(name.as_str()) else {
                errors.push(format!("unknown query parameter {name}"));
                continue;
            };
            let schema = self.resolve(&parameter["schema"]);
            let value = match schema["type"].as_str() {
                Some("integer") => text.parse::<i64>().map_or_else(|_| json!(text), |n| json!(n)),
                _ => json!(text),
            };
            errors.extend(self.errors(schema, &value).into_iter().map(|e| format!("{name}: {e}")));
        }
        let missing = parameters.iter().filter(|(n, p)| p["required"] == true && !given.iter().any(|(g, _)| g == *n));
        errors.extend(missing.map(|(name, _)| format!("the query parameter {name} is required")));
        errors
    }

    /// Everything that is wrong with an answer.
    fn answer_errors(&self, method: &str, path: &str, status: u16, body: &Value) -> Vec<String> {
        let Some((_, operation)) = self.operation(method, path) else { return vec!["no such path".to_owned()] };
        let response = self.resolve(&operation["responses"][status.to_string()]);
        if response.is_null() {
            return vec![format!("{status} is not among the documented answers")];
        }
        let schema = &response["content"]["application/json"]["schema"];
        if schema.is_null() {
            return if body.is_null() { Vec::new() } else { vec!["a body where none is documented".to_owned()] };
        }
        self.errors(schema, body)
    }
}

/// The validation itself: it refuses what the provider refuses.
#[test]
fn the_validation_sees_mistakes() {
    let Some(api) = openapi() else { return };
    let request = |method: &str, path: &str, query: &str, body: Value| Recorded {
        at: jiff::Timestamp::now(),
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        body,
        status: 200,
    };
    let droplet = json!({ "name": "a", "region": "nyc1", "size": "s-1vcpu-1gb", "image": "ubuntu-24-04-x64" });
    let with = |name: &str, value: Value| {
        let mut body: Map<String, Value> = droplet.as_object().expect("an object").clone();
        body.insert(name.to_owned(), value);
        Value::Object(body)
    };
    let good = [
        request("POST", "/v2/droplets", "", droplet.clone()),
        request("POST", "/v2/droplets", "", with("volumes", json!(["12e97116-7280-11ed-b3d0-0a58ac146812"]))),
        request("GET", "/v2/droplets", "tag_name=a%3Ab&page=1&per_page=200", Value::Null),
        request("POST", "/v2/tags", "", json!({ "name": "ops-controller:a_b" })),
        request("DELETE", "/v2/droplets/1", "", Value::Null),
    ];
    for request in good {
        assert_eq!(api.request_errors(&request), Vec::<String>::new(), "{request:?}");
    }
    let bad = [
        request("PATCH", "/v2/droplets/1", "", Value::Null),
        request("GET", "/v2/nothing", "", Value::Null),
        request("GET", "/v2/droplets", "tag=a", Value::Null),
        request("GET", "/v2/droplets", "per_page=500", Value::Null),
        request("POST", "/v2/droplets", "", json!({ "name": "a", "region": "nyc1", "size": "s" })),
        request("POST", "/v2/droplets", "", with("colour", json!("red"))),
        request("POST", "/v2/droplets", "", with("tags", json!("one"))),
        request("POST", "/v2/droplets", "", with("name", json!("bad_name!"))),
        request("POST", "/v2/droplets/1/actions", "", json!({ "type": "explode" })),
        request("POST", "/v2/firewalls", "", json!({ "name": "f" })),
        request("POST", "/v2/tags", "", json!({ "name": "two words" })),
        request("DELETE", "/v2/droplets/1", "", json!({})),
    ];
    for request in bad {
        assert!(!api.request_errors(&request).is_empty(), "nothing wrong is seen in {request:?}");
    }
    assert!(!api.answer_errors("GET", "/v2/account", 200, &json!({ "account": { "status": "odd" } })).is_empty());
    assert!(!api.answer_errors("GET", "/v2/account", 299, &Value::Null).is_empty());
}

/// A daemon in this process whose configuration can be changed once.
struct Running {
    controls: Controls,
    changed: Arc<AtomicBool>,
    done: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(config: Config, other: Config) -> Running {
        let changed = Arc::new(AtomicBool::new(false));
        let (flag, first) = (changed.clone(), config.clone());
        let reload = move || Ok(if flag.load(Ordering::SeqCst) { other.clone() } else { first.clone() });
        let daemon = Daemon::new(config, reload, Seam::default());
        let controls = daemon.controls();
        // The daemon's future may not move between threads, so it gets one of its own.
        let run = move || tokio::runtime::Handle::current().block_on(daemon.run(|_, _| {})).expect("a daemon");
        Running { controls, changed, done: tokio::task::spawn_blocking(run) }
    }

    async fn until(&mut self, what: &str, fits: impl Fn(&Status) -> bool) {
        let wait = async {
            while !fits(&self.controls.status.borrow_and_update().clone()) {
                self.controls.status.changed().await.expect("the daemon runs");
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("not within {PATIENCE:?}: {what}: {:#?}", self.controls.status.borrow().conditions);
        }
    }

    async fn stop(self) {
        self.controls.stop.cancel();
        tokio::time::timeout(PATIENCE, self.done).await.expect("it stops in time").expect("it does not panic");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_of_a_whole_life_fits_the_providers_schemas() {
    let (Some(api), Some(railway)) = (openapi(), railway_schema()) else { return };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = Sandbox::start(Options::short_delays()).await.expect("a sandbox");
    let mut pairs = world.environment();
    pairs.push(("SUPERVISOR_SSH_KEYS".to_owned(), "512190".to_owned()));
    pairs.push(("CHECK_INTERVAL".to_owned(), "1s".to_owned()));
    let config = Config::from_pairs(pairs.clone()).expect("a configuration");
    pairs.push(("SUPERVISOR_SIZE".to_owned(), "s-2vcpu-4gb".to_owned()));
    let larger = Config::from_pairs(pairs).expect("a configuration");

    let mut daemon = Running::start(config.clone(), larger.clone());
    daemon.until("healthy from nothing", |s| s.healthy).await;
    let first = world.digitalocean.droplets().remove(0);
    world.digitalocean.kill_supervisor(first.id).expect("a droplet");
    daemon.until("the death is seen", |s| !s.healthy).await;
    daemon.until("healthy after a reboot", |s| s.healthy).await;
    let firewall = world.digitalocean.firewalls().remove(0).name;
    world.digitalocean.edit_firewall_by_hand(&firewall, |f| f.inbound_rules.clear()).expect("a firewall");
    let repaired = || !world.digitalocean.firewalls()[0].inbound_rules.is_empty();
    daemon.until("the firewall is repaired", |_| repaired()).await;
    daemon.changed.store(true, Ordering::SeqCst);
    daemon.controls.ask(Request::Reload);
    let size = |s: &Status| s.droplet.as_ref().map(|d| d.size.clone());
    daemon
        .until("replaced by a larger one", |s| {
            s.healthy && size(s).as_deref() == Some("s-2vcpu-4gb") && world.digitalocean.droplet(first.id).is_none()
        })
        .await;
    daemon.stop().await;

    // Before everything goes: what the simulators answer to these very requests.
    let before = world.digitalocean.requests();
    check_answers(api, &world, &before).await;
    let own: Vec<Recorded> = {
        world.digitalocean.clear_requests();
        let writers = Readers::new(&larger, &Seam::default()).expect("clients").writers(&Fence::unguarded());
        let mut nothing_known = ops_controller::plan::state::State::new(larger.desired.identity_tag());
        let now = jiff::Timestamp::now();
        let done = destroy::take_down(&writers, &larger.desired, &mut nothing_known, now, |_| true).await;
        assert_eq!(done, Ok(Outcome::Destroyed));
        before.into_iter().chain(world.digitalocean.requests()).collect()
    };

    let mut kinds = BTreeSet::new();
    for request in &own {
        let errors = api.request_errors(request);
        assert!(errors.is_empty(), "{} {}?{}: {errors:#?}", request.method, request.path, request.query);
        let (template, _) = api.operation(&request.method, &request.path).expect("a known path");
        kinds.insert(format!("{} {template}", request.method));
    }
    for kind in [
        "GET /v2/account",
        "GET /v2/sizes",
        "GET /v2/droplets",
        "GET /v2/droplets/{droplet_id}",
        "POST /v2/droplets",
        "POST /v2/droplets/{droplet_id}/actions",
        "DELETE /v2/droplets/{droplet_id}",
        "GET /v2/firewalls",
        "POST /v2/firewalls",
        "PUT /v2/firewalls/{firewall_id}",
        "DELETE /v2/firewalls/{firewall_id}",
        "POST /v2/tags",
        "GET /v2/tags/{tag_id}",
        "DELETE /v2/tags/{tag_id}",
    ] {
        assert!(kinds.contains(kind), "{kind} was not asked in this life: {kinds:#?}");
    }
    assert_eq!(world.digitalocean.violations(), Vec::<String>::new());
    check_railway_variables(&railway, &world);
    assert!(world.railway.requests().iter().any(|r| r.operation == "DeploymentRestart"));
    world.stop().await;
}

/// One request of each kind again, on things of its own; every answer, refusals included, must be
/// such as the provider documents.
async fn check_answers(api: &OpenApi, world: &Sandbox, recorded: &[Recorded]) {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client");
    let environment: BTreeMap<String, String> = world.environment().into_iter().collect();
    let token = environment["DIGITALOCEAN_TOKEN"].as_str();
    let ask = async |method: &str, path: &str, token: &str, body: &Value, expected: u16| {
        let url = format!("{}{path}", world.digitalocean.base_url());
        let request = client.request(method.parse().expect("a method"), url).bearer_auth(token);
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a body");
        let json = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") };
        assert_eq!(status, expected, "{method} {path}: {text}");
        let plain = path.split('?').next().unwrap_or_default();
        let errors = api.answer_errors(method, plain, status, &json);
        assert!(errors.is_empty(), "the simulator's {status} to {method} {path}: {errors:#?}\n{json:#}");
        json
    };
    let body_of = |method: &str, path: &str| {
        let found = recorded.iter().find(|r| r.method == method && r.path == path);
        found.unwrap_or_else(|| panic!("no {method} {path}")).body.clone()
    };
    let none = Value::Null;
    for path in ["/v2/account", "/v2/sizes?per_page=200", "/v2/droplets?per_page=1", "/v2/firewalls"] {
        ask("GET", path, token, &none, 200).await;
        ask("GET", path, "wrong", &none, 401).await;
    }
    let tag = ask("POST", "/v2/tags", token, &json!({ "name": "contract" }), 201).await;
    assert_eq!(tag["tag"]["name"], "contract");
    let mut droplet = body_of("POST", "/v2/droplets");
    droplet["name"] = json!("contract");
    droplet["tags"] = json!(["contract"]);
    let made = ask("POST", "/v2/droplets", token, &droplet, 202).await;
    let id = made["droplet"]["id"].as_u64().expect("an id");
    let one = format!("/v2/droplets/{id}");
    let is_active = async || {
        while ask("GET", &one, token, &none, 200).await["droplet"]["status"] != "active" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_active()).await.expect("active in time");
    ask("POST", &format!("{one}/actions"), token, &json!({ "type": "reboot" }), 201).await;
    let mut firewall = body_of("POST", "/v2/firewalls");
    firewall["name"] = json!("contract");
    firewall["tags"] = json!(["contract"]);
    let made = ask("POST", "/v2/firewalls", token, &firewall, 202).await;
    let its = format!("/v2/firewalls/{}", made["firewall"]["id"].as_str().expect("an id"));
    ask("PUT", &its, token, &firewall, 200).await;
    ask("DELETE", &its, token, &none, 204).await;
    ask("DELETE", &its, token, &none, 404).await;
    let gone = async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        ask("DELETE", &one, token, &none, 204).await;
    };
    gone().await;
    ask("GET", "/v2/droplets/1", token, &none, 404).await;
    ask("DELETE", "/v2/droplets/1", token, &none, 404).await;
    ask("DELETE", "/v2/tags/contract", token, &none, 204).await;
}
