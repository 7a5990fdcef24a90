//! Requests made from the OpenAPI document itself, valid and spoilt: whatever comes, the answer is one that
//! the document has, none is a fault of the server, and nothing is written but what was accepted.

use crate::dice::Dice;
use crate::world::{Answer, World};
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::sync::Arc;

const WORKERS: u64 = 4;
const REQUESTS: usize = 800;

const WORDS: [&str; 14] = [
    "mail",
    "shop",
    "bank",
    "dev",
    "prod",
    "staging",
    "abc123",
    "0123456789abcdef",
    "main",
    "refs/heads/x",
    "queued",
    "a reason",
    "key-1",
    "2031-01-31T12:00:00Z",
];
const ODD: [&str; 14] = [
    "",
    " ",
    "\u{0}",
    "a\u{0}b",
    "'; drop table ops.runs; --",
    "\u{202e}\u{feff}",
    "\u{1F600}\u{301}",
    "../../etc/passwd",
    "%00",
    "$(id)",
    "\u{7f}\u{1b}[2J",
    "null",
    "-1",
    "\u{fffe}\u{10ffff}",
];

struct Fuzz {
    world: Arc<World>,
    dice: Dice,
    /// Runs that paths may name; the first can never change any more.
    runs: Vec<String>,
}

impl Fuzz {
    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.dice.below(from.len())].clone()
    }

    fn resolved(&self, schema: &Value) -> Value {
        match schema["$ref"].as_str().and_then(|at| at.strip_prefix('#')) {
            Some(at) => self.world.document.api.pointer(at).expect("it leads somewhere").clone(),
            None => schema.clone(),
        }
    }

    fn any(&mut self, depth: usize) -> Value {
        match self.dice.below(if depth > 3 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => json!(self.dice.chance(50)),
            2 => json!(self.dice.within(-10, 300)),
            3 => json!(i64::MIN),
            4 => json!(1e300),
            5 => json!(self.pick(&ODD)),
            6 => (0..self.dice.below(4)).map(|_| self.any(depth + 1)).collect(),
            _ => Value::Object((0..self.dice.below(4)).map(|n| (format!("k{n}"), self.any(depth + 1))).collect()),
        }
    }

    /// A value that the schema allows.
    fn valid(&mut self, schema: &Value) -> Value {
        let schema = self.resolved(schema);
        if let Some(one) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
            let one = self.pick(one);
            return self.valid(&one);
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => kind.as_str().into_iter().collect(),
        };
        let kind = if kinds.is_empty() { "object" } else { self.pick(&kinds) };
        match kind {
            "null" => Value::Null,
            "boolean" => json!(self.dice.chance(50)),
            "integer" => {
                let bound = |name: &str, or: i64| schema[name].as_i64().unwrap_or(or);
                json!(self.dice.within(bound("minimum", -5), bound("maximum", 500) + 1))
            }
            "string" => self.valid_text(&schema),
            _ if schema["properties"].is_object() => self.valid_object(&schema),
            _ => json!({"a": self.dice.below(10), "b": {"c": ["x", null]}}),
        }
    }

    fn valid_object(&mut self, schema: &Value) -> Value {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut object = Map::new();
        for (name, schema) in schema["properties"].as_object().expect("properties") {
            if required.contains(&name.as_str()) || self.dice.chance(40) {
                object.insert(name.clone(), self.valid(schema));
            }
        }
        Value::Object(object)
    }

    fn valid_text(&mut self, schema: &Value) -> Value {
        let validator = self.world.document.validator(schema);
        let mut words: Vec<Value> =
            WORDS.iter().map(|word| json!(word)).chain(self.runs.iter().map(|run| json!(run))).collect();
        words.retain(|word| validator.is_valid(word));
        self.pick(&words)
    }

    /// The same, with something wrong in it.
    fn spoilt(&mut self, mut value: Value) -> Value {
        let Some(object) = value.as_object_mut() else { return self.any(0) };
        let names: Vec<String> = object.keys().cloned().collect();
        let name = if names.is_empty() { "reason".to_owned() } else { self.pick(&names) };
        match self.dice.below(7) {
            0 => drop(object.remove(&name)),
            1 => drop(object.insert(name, self.any(0))),
            2 => drop(object.insert(self.pick(&ODD).to_owned(), self.any(0))),
            3 => drop(object.insert(name, json!(self.pick(&ODD)))),
            4 => drop(object.insert(name, json!("x".repeat(self.pick(&[64, 256, 5_000, 1_200_000]))))),
            5 => drop(object.insert(name, json!({"deep": {"er": "a\u{0}b"}, "\u{0}": 1}))),
            _ => drop(object.insert(name, json!(-self.dice.within(1, 1 << 40)))),
        }
        value
    }

    /// One request: of which operation, and how it was answered.
    async fn step(&mut self) -> (String, u16) {
        let world = self.world.clone();
        let paths: Vec<(&String, &Value)> = world.document.api["paths"].as_object().expect("paths").iter().collect();
        let (template, item) = self.pick(&paths);
        let methods: Vec<&String> = item.as_object().expect("methods").keys().collect();
        let method = self.pick(&methods);
        let operation = &item[method];
        let (mut path, mut query, mut headers) = (template.clone(), Vec::new(), Vec::new());
        let mut is_sound = true;
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().expect("a name");
            let spoilt = self.dice.chance(15);
            is_sound &= !spoilt;
            let value = match (name, spoilt) {
                ("run_id", false) if template.ends_with("/stream") => json!(self.runs[0]),
                ("run_id", false) => json!(self.runs[self.dice.below(self.runs.len())]),
                ("kind", false) => json!("mail"),
                (_, false) => self.valid(&parameter["schema"]),
                (_, true) => json!(self.pick(&ODD)),
            };
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            match parameter["in"].as_str().expect("a place") {
                "path" => path = path.replace(&format!("{{{name}}}"), &encoded(&text)),
                // What may be left out is, half of the time; null is no parameter.
                _ if value.is_null() || self.dice.chance(50) => {}
                "query" => query.push((name.to_owned(), text)),
                _ => headers.push((name.to_owned(), text)),
            }
        }
        let mut request =
            world.as_admin(method.to_uppercase().parse::<Method>().expect("a method"), &path).query(&query);
        for (name, value) in headers {
            // What is no header at all cannot even be sent.
            if let Ok(value) = reqwest::header::HeaderValue::from_bytes(value.as_bytes()) {
                request = request.header(name, value);
            }
        }
        let mut body = None;
        if operation["requestBody"].is_object() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let valid = self.valid(schema);
            let value = if self.dice.chance(60) { self.spoilt(valid) } else { valid };
            body = Some(self.world.document.validator(schema).is_valid(&value));
            request = request.json(&value);
        }
        let what = format!("{method} {path} {query:?} body {body:?}");
        // Whatever the answer is: it is one of the document.
        let answer: Answer = self.world.send(request).await;
        assert!(answer.status < 500, "{what}: {}", answer.text());
        if body == Some(false) {
            assert!((400..500).contains(&answer.status), "{what} was taken: {}", answer.text());
        }
        if is_sound && body != Some(false) {
            // The document's rules are the program's: only what it cannot say is refused (a place that is
            // not there, or half of one, a kind that nobody knows, a character that the database cannot store).
            let detail = answer.text();
            let is_of_the_world = answer.status != 422
                || ["does not exist", "not found for", "is required with", "must be known", "cannot be stored"]
                    .iter()
                    .any(|why| detail.contains(why));
            assert!(!matches!(answer.status, 400 | 413 | 415) && is_of_the_world, "{what} is refused: {detail}");
        }
        (format!("{method} {template}"), answer.status)
    }
}

/// In a path, whatever it is; a dot alone would be taken for the folder.
fn encoded(text: &str) -> String {
    let hex: String = text
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b == b'-' { char::from(b).to_string() } else { format!("%{b:02x}") })
        .collect();
    if hex.is_empty() { "%20".to_owned() } else { hex }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_requests_are_answered_as_documented_and_leave_nothing_half_written() {
    let world = Arc::new(World::start().await);
    let done = world.finished("success").await;
    let runs = vec![done, world.finished("failed").await, world.running().await, world.queued().await];
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let mut fuzz = Fuzz { world: world.clone(), dice: Dice(7 + worker), runs: runs.clone() };
            tokio::spawn(async move {
                let mut seen = Vec::new();
                for _ in 0..REQUESTS {
                    seen.push(fuzz.step().await);
                }
                seen
            })
        })
        .collect();
    let mut seen = Vec::new();
    for worker in workers {
        seen.extend(worker.await.expect("no answer was wrong"));
    }
    // Every route was reached, and every one of them did what it is for.
    let operations = world.document.api["paths"].as_object().expect("paths");
    for (path, item) in operations {
        for method in item.as_object().expect("methods").keys() {
            let of: Vec<u16> = seen.iter().filter(|(o, _)| *o == format!("{method} {path}")).map(|(_, s)| *s).collect();
            let can_succeed = !matches!(path.as_str(), "/metrics" | "/cycles" | "/pause" | "/resume")
                && (method.as_str(), path.as_str()) != ("post", "/functions/v1/ops-runner");
            assert!(of.len() > 20, "{method} {path}: {}", of.len());
            assert!(!can_succeed || of.iter().any(|s| *s < 300), "{method} {path} never succeeds: {of:?}");
        }
    }
    let made = seen.iter().filter(|(_, status)| *status == 201).count() + runs.len();
    let db = &world.db;
    assert_eq!(db.ask("select count(*) from ops.runs").await, made.to_string());
    let told = "select count(*) from ops.run_events where message = 'Run queued'";
    assert_eq!(db.ask(told).await, made.to_string(), "each run was queued once, with its event");
    let orphans =
        "select count(*) from ops.run_events e where not exists (select from ops.runs r where r.run_id = e.run_id)";
    assert_eq!(db.ask(orphans).await, "0");
    let cancelled = "select count(*) from ops.audit_log where action = 'run.cancelled'";
    let words = "select count(*) from ops.run_events where message in ('Run cancelled', 'Cancellation requested')";
    assert_eq!(db.ask(cancelled).await, db.ask(words).await, "every cancellation has its event and its audit");
}
